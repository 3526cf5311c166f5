//! memcmp and bcmp on whole words, the last of which may overlap the one before.

use core::ffi::c_int;

/// Below, at or above 0, as the first differing byte of `left` is below or above that of `right`.
///
/// # Safety
/// `n` readable bytes at each.
#[inline(always)]
pub(crate) unsafe fn order(left: *const u8, right: *const u8, n: usize) -> c_int {
    // SAFETY: each word begins within the first `n` bytes and at least its own size before their end.
    unsafe {
        if n >= 8 {
            let mut at = 0;
            while at < n - 8 {
                let (l, r) = (word::<u64>(left, at), word::<u64>(right, at));
                if l != r {
                    return sign(u64::from_be(l), u64::from_be(r));
                }
                at += 8;
            }
            let (l, r) = (word::<u64>(left, n - 8), word::<u64>(right, n - 8));
            sign(u64::from_be(l), u64::from_be(r))
        } else if n >= 4 {
            let ends = |of: *const u8| {
                let (head, tail) = (word::<u32>(of, 0), word::<u32>(of, n - 4));
                u64::from(u32::from_be(head)) << 32 | u64::from(u32::from_be(tail))
            };
            sign(ends(left), ends(right))
        } else {
            let mut at = 0;
            while at < n {
                let (l, r) = (*left.add(at), *right.add(at));
                if l != r {
                    return c_int::from(l) - c_int::from(r);
                }
                at += 1;
            }
            0
        }
    }
}

/// 0 when the bytes are equal, else 1.
///
/// # Safety
/// `n` readable bytes at each.
#[inline(always)]
pub(crate) unsafe fn differ(left: *const u8, right: *const u8, n: usize) -> c_int {
    // SAFETY: as in `order`.
    unsafe {
        if n >= 16 {
            let mut at = 0;
            while at < n - 16 {
                if pair(left, right, at) != 0 {
                    return 1;
                }
                at += 16;
            }
            c_int::from(pair(left, right, n - 16) != 0)
        } else if n >= 8 {
            c_int::from(ends_differ::<u64>(left, right, n))
        } else if n >= 4 {
            c_int::from(ends_differ::<u32>(left, right, n))
        } else if n >= 2 {
            c_int::from(ends_differ::<u16>(left, right, n))
        } else if n == 1 {
            c_int::from(*left != *right)
        } else {
            0
        }
    }
}

/// The bits in which 16 bytes differ, all in one.
///
/// # Safety
/// 16 readable bytes from `at` on at each.
#[inline(always)]
unsafe fn pair(left: *const u8, right: *const u8, at: usize) -> u64 {
    // SAFETY: as demanded of the caller.
    unsafe {
        let first = word::<u64>(left, at) ^ word::<u64>(right, at);
        let second = word::<u64>(left, at + 8) ^ word::<u64>(right, at + 8);
        first | second
    }
}

/// # Safety
/// `n` readable bytes at each, at least the size of `T`.
#[inline(always)]
unsafe fn ends_differ<T: Copy + PartialEq>(left: *const u8, right: *const u8, n: usize) -> bool {
    let last = n - size_of::<T>();
    // SAFETY: as demanded of the caller.
    unsafe { (word::<T>(left, 0) != word::<T>(right, 0)) | (word::<T>(left, last) != word::<T>(right, last)) }
}

/// # Safety
/// A readable `T` at `at`, of any alignment.
#[inline(always)]
unsafe fn word<T: Copy>(from: *const u8, at: usize) -> T {
    // SAFETY: as demanded of the caller.
    unsafe { from.add(at).cast::<T>().read_unaligned() }
}

/// The order of two numbers.
#[inline(always)]
fn sign(left: u64, right: u64) -> c_int {
    c_int::from(left > right) - c_int::from(left < right)
}
