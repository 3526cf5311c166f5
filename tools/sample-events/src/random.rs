//! Pseudo-random numbers that depend on nothing but (seed, index): SplitMix64.

/// A stream of numbers.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// The stream of this place.
    pub(crate) fn new(seed: u64, index: u64) -> Self {
        Self(mix(mix(seed).wrapping_add(index)))
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `limit`, which must not be 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        // Multiply and shift: its bias is immeasurable for limits this small.
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of the choices.
    pub(crate) fn pick<T: Copy, const N: usize>(&mut self, choices: &[T; N]) -> T {
        choices[self.below(N as u64) as usize]
    }

    /// `words` times 16 hexadecimal digits.
    pub(crate) fn hex(&mut self, words: usize) -> String {
        let mut out = String::with_capacity(16 * words);
        for _ in 0..words {
            push_hex(&mut out, self.next(), 16);
        }
        out
    }

    /// A version 4 UUID.
    pub(crate) fn uuid(&mut self) -> String {
        let (high, low) = (self.next(), self.next());
        let mut out = String::with_capacity(36);
        push_hex(&mut out, high >> 32, 8);
        out.push('-');
        push_hex(&mut out, high >> 16, 4);
        out.push_str("-4");
        push_hex(&mut out, high, 3);
        out.push('-');
        push_hex(&mut out, low >> 48 & 0x3fff | 0x8000, 4);
        out.push('-');
        push_hex(&mut out, low, 12);
        out
    }
}

/// SplitMix64's finisher: a bijection, so different places have different streams.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn push_hex(out: &mut String, value: u64, digits: u32) {
    for place in (0..digits).rev() {
        let nibble = (value >> (4 * place)) as u8 & 0xf;
        out.push(char::from(if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }));
    }
}
