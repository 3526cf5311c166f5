//! Exact decimal numbers and integers of 16 and 32 bytes, straight from their digits: little-endian two's complement
//! of value × 10^scale.

use std::num::{IntErrorKind, ParseIntError};
use std::ops::Range;

use thiserror::Error;

use super::{Sink, of_width};

/// `Decimal(P, S)`, `Int128`, `UInt128`, `Int256`, `UInt256`.
#[derive(Debug)]
pub struct Decimals {
    width: usize,
    /// Digits behind the point.
    scale: usize,
    limit: Limit,
    data: Vec<u8>,
}

/// What a column can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// So many decimal digits, of either sign.
    Digits(usize),
    /// All bits, one of them for the sign.
    Signed,
    /// All bits.
    Unsigned,
}

/// Why a text cannot go into the column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecimalFault {
    /// Not a decimal number.
    #[error("not a number")]
    Unreadable,
    /// A decimal number of more digits than are read.
    #[error("more than {MAX_TEXT} digits")]
    TooLong,
    /// More digits behind the point than the column keeps.
    #[error("more than {0} digits behind the point")]
    Lossy(usize),
    /// Too large, or negative in an unsigned column.
    #[error("beyond what the column can hold")]
    OutOfRange,
}

impl Decimals {
    pub(super) fn new(width: usize, scale: usize, limit: Limit) -> Self {
        Self { width, scale, limit, data: Vec::new() }
    }

    /// Appends the number that a text like `-12.50` or `1e3` means.
    pub fn push(&mut self, text: &str) -> Result<(), DecimalFault> {
        let number = Digits::read(text)?;
        let limbs = self.fit(&number)?;
        let bytes = limbs.iter().flat_map(|limb| limb.to_le_bytes());
        self.data.extend(bytes.take(self.width));
        Ok(())
    }

    /// Appends the number that a text means, rounded to the column's scale (half away from zero), if what that changes is at
    /// most one unit in the last place of the float of eight bytes that is nearest to the number: then it is what arithmetic
    /// with such floats left behind (0.1 + 0.2 is 0.30000000000000004). Otherwise as [`Decimals::push`].
    pub fn push_nearest(&mut self, text: &str) -> Result<(), DecimalFault> {
        let number = Digits::read(text)?;
        match number.rounded(self.scale, text) {
            Some(rounded) => self.push(&rounded),
            None => Err(DecimalFault::Lossy(self.scale)),
        }
    }

    fn fit(&self, number: &Digits<'_>) -> Result<[u64; 4], DecimalFault> {
        let significant = number.significant();
        if significant.is_empty() {
            return Ok([0; 4]);
        }
        // How many digits the scaled number has; those that are not written are zeros.
        let scale = i64::try_from(self.scale).unwrap_or(i64::MAX);
        let length = usize::try_from(number.point().saturating_add(scale)).unwrap_or(0);
        if significant.len() > length {
            return Err(DecimalFault::Lossy(self.scale));
        }
        let most = if let Limit::Digits(digits) = self.limit { digits } else { MAX_DIGITS };
        if length > most {
            return Err(DecimalFault::OutOfRange);
        }
        let mut limbs = [0_u64; 4];
        for at in 0..length {
            let digit = significant.get(at).map_or(0, |digit| digit - b'0');
            let mut carry = u128::from(digit);
            for limb in &mut limbs {
                let product = u128::from(*limb) * 10 + carry;
                *limb = product as u64;
                carry = product >> 64;
            }
            if carry > 0 {
                return Err(DecimalFault::OutOfRange);
            }
        }
        self.signed(limbs, number.negative)
    }

    /// Two's complement, if the magnitude leaves room for the sign.
    fn signed(&self, mut limbs: [u64; 4], negative: bool) -> Result<[u64; 4], DecimalFault> {
        let used = self.width.div_ceil(8);
        let in_width = limbs.iter().skip(used).all(|limb| *limb == 0);
        // The bit that means minus, in the last limb of the width.
        let sign = 1_u64 << ((self.width * 8 - 1) % 64);
        let top = limbs.get(used - 1).copied().unwrap_or(0);
        let least = top == sign && limbs.iter().take(used - 1).all(|limb| *limb == 0);
        let fits = match self.limit {
            Limit::Unsigned => !negative,
            Limit::Signed | Limit::Digits(_) => top < sign || (negative && least),
        };
        if !in_width || !fits {
            return Err(DecimalFault::OutOfRange);
        }
        if negative {
            let mut carry = true;
            for limb in &mut limbs {
                (*limb, carry) = (!*limb).overflowing_add(u64::from(carry));
            }
        }
        Ok(limbs)
    }

    /// Holds integers, not `Decimal(P, S)`.
    pub fn is_integer(&self) -> bool {
        !matches!(self.limit, Limit::Digits(_))
    }

    pub(super) fn push_missing(&mut self) {
        self.data.resize(self.data.len() + self.width, 0);
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn len(&self) -> usize {
        self.data.len() / self.width
    }

    pub(super) fn bytes(&self) -> usize {
        self.data.len()
    }

    pub(super) fn room(&self) -> usize {
        self.data.capacity()
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        self.data.truncate(rows * self.width);
    }

    pub(super) fn clear(&mut self) {
        self.data.clear();
    }

    pub(super) fn encode(&self, rows: Range<usize>, sink: Sink<'_>) {
        sink(of_width(&self.data, self.width, rows));
    }
}

/// The integer that a text like `5`, `5.00` or `1e3` means, exactly.
pub fn whole(text: &str) -> Result<i128, DecimalFault> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let number = Digits::read(text)?;
    let [low, high, ..] = Decimals::new(16, 0, Limit::Signed).fit(&number)?;
    Ok(((u128::from(high) << 64) | u128::from(low)) as i128)
}

/// An exponent. One beyond four bytes counts as the nearest of these: with either the number is 0, too large, or too small.
fn power(exponent: &str) -> Option<i32> {
    exponent.parse().map_or_else(
        |cause: ParseIntError| match cause.kind() {
            IntErrorKind::PosOverflow => Some(i32::MAX),
            IntErrorKind::NegOverflow => Some(i32::MIN),
            _ => None,
        },
        Some,
    )
}

/// A whole number in decimal digits and one more.
fn successor(digits: &[u8]) -> Vec<u8> {
    let mut digits = [b"0", digits].concat();
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            break;
        }
        *digit = b'0';
    }
    digits
}

/// What is missing from digits to a one with as many zeros as there are digits.
fn complement(digits: &[u8]) -> Vec<u8> {
    successor(&digits.iter().map(|digit| b'0' + b'9' - digit).collect::<Vec<_>>())
}

/// Digits of 2^256.
const MAX_DIGITS: usize = 78;
/// Digits that are read at most, zeros included: nothing longer is a number that someone meant.
const MAX_TEXT: usize = 400;

/// A decimal number taken apart.
struct Digits<'a> {
    negative: bool,
    whole: &'a [u8],
    /// Whole part and fraction, one after another.
    all: Vec<u8>,
    exponent: i64,
}

impl<'a> Digits<'a> {
    fn read(text: &'a str) -> Result<Self, DecimalFault> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, power(exponent).ok_or(DecimalFault::Unreadable)?),
            None => (text, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((_, "")) => return Err(DecimalFault::Unreadable),
            Some(parts) => parts,
            None => (mantissa, ""),
        };
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return Err(DecimalFault::Unreadable);
        }
        if mantissa.len() > MAX_TEXT {
            return Err(DecimalFault::TooLong);
        }
        let all = [whole.as_bytes(), fraction.as_bytes()].concat();
        Ok(Self { negative, whole: whole.as_bytes(), all, exponent: i64::from(exponent) })
    }

    fn leading_zeros(&self) -> usize {
        self.all.iter().take_while(|digit| **digit == b'0').count()
    }

    /// The digits without zeros at either end.
    fn significant(&self) -> &[u8] {
        let end = self.all.iter().rposition(|digit| *digit != b'0').map_or(0, |at| at + 1);
        self.all.get(self.leading_zeros()..end).unwrap_or(&[])
    }

    /// The number with no more digits after the point than `scale`, as text, if rounding changes it by at most a unit in the
    /// last place of the float nearest to it.
    fn rounded(&self, scale: usize, text: &str) -> Option<String> {
        let significant = self.significant();
        let places = i64::try_from(scale).ok()?;
        let kept = self.point().checked_add(places)?;
        // Fewer than no digits kept: what is dropped begins with zeros, which are not written.
        let zeros = usize::try_from(kept.min(0).unsigned_abs()).ok()?;
        let (kept, dropped) = significant.split_at_checked(usize::try_from(kept.max(0)).ok()?)?;
        let up = zeros == 0 && dropped.first().is_some_and(|digit| *digit >= b'5');
        let (kept, change) =
            if up { (successor(kept), complement(dropped)) } else { (kept.to_vec(), dropped.to_vec()) };
        let (kept, change) = (String::from_utf8(kept).ok()?, String::from_utf8(change).ok()?);
        // Read as floats: the nearest to the change is as good as itself here.
        let change: f64 = format!("{change}e-{}", scale + zeros + dropped.len()).parse().ok()?;
        let float: f64 = text.parse().ok()?;
        let last_place = float.abs().next_up() - float.abs();
        // What would become 0 loses all of it, however near to 0 it is.
        if change > last_place || kept.bytes().all(|digit| digit == b'0') {
            return None;
        }
        let sign = if self.negative { "-" } else { "" };
        Some(format!("{sign}0{kept}e-{scale}"))
    }

    /// How many of the significant digits stand before the point.
    fn point(&self) -> i64 {
        let length = |digits: usize| i64::try_from(digits).unwrap_or(i64::MAX);
        length(self.whole.len()) - length(self.leading_zeros()) + self.exponent
    }
}
