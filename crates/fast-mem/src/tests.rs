//! The functions under their own names, so that these tests run on any C library.

extern crate std;

use std::vec::Vec;

use super::compare::{differ, order};

/// Bytes that do not repeat within the lengths tested.
fn noise(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|at| ((at * 2_654_435_761 + seed * 97) >> 5) as u8).collect()
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod copies {
    use super::*;
    use crate::copy::copy;

    /// Lengths around every branch, and around multiples of the loop's step.
    fn lengths() -> impl Iterator<Item = usize> {
        (0..=300).chain([511, 512, 513, 1000, 4095, 4096, 4097, 70_000])
    }

    #[test]
    fn apart() {
        for n in lengths() {
            for (from, to) in (0..17).flat_map(|from| [0, 1, 7, 15].map(|to| (from, to))) {
                let source = noise(n + 32, n);
                let mut target = noise(n + 32, n + 1);
                let before = target.clone();
                // SAFETY: both hold 32 bytes more than `n`, and the offsets are below 17.
                unsafe { copy(target.as_mut_ptr().add(to), source.as_ptr().add(from), n) };
                assert_eq!(target[to..to + n], source[from..from + n], "{n} bytes from {from} to {to}");
                assert_eq!(target[..to], before[..to], "{n} bytes from {from} to {to}: written before");
                assert_eq!(target[to + n..], before[to + n..], "{n} bytes from {from} to {to}: written behind");
            }
        }
    }

    #[test]
    fn overlapping() {
        for n in lengths() {
            for distance in (0..=20).chain([31, 32, 33, 63, 64, 65, 127, 128, 129, 200, n / 2, n]) {
                for (from, to) in [(distance, 0), (0, distance), (distance + 3, 3), (3, distance + 3)] {
                    let mut bytes = noise(n + distance + 8, n);
                    let mut expected = bytes.clone();
                    expected.copy_within(from..from + n, to);
                    let start = bytes.as_mut_ptr();
                    // SAFETY: `from` and `to` are at most distance + 3, and the buffer is longer than that plus `n`.
                    unsafe { copy(start.add(to), start.add(from), n) };
                    assert_eq!(bytes, expected, "{n} bytes from {from} to {to}");
                }
            }
        }
    }
}

#[test]
fn comparisons() {
    for n in 0..=300_usize {
        for (left_at, right_at) in [(0, 0), (0, 1), (3, 0), (7, 15), (16, 5)] {
            let text = noise(n, n);
            let mut left = noise(left_at, 3);
            left.extend(&text);
            let mut right = noise(right_at, 5);
            right.extend(&text);
            // What lies behind must not count.
            left.push(1);
            right.push(2);
            let check = |left: &[u8], right: &[u8]| {
                // SAFETY: both hold `n` bytes from their offset on.
                let (ordered, differing) = unsafe {
                    let (l, r) = (left.as_ptr().add(left_at), right.as_ptr().add(right_at));
                    (order(l, r, n), differ(l, r, n))
                };
                let expected = left[left_at..left_at + n].cmp(&right[right_at..right_at + n]);
                assert_eq!(ordered.cmp(&0), expected, "{n} bytes at {left_at} and {right_at}");
                assert_eq!(differing != 0, expected.is_ne(), "{n} bytes at {left_at} and {right_at}");
            };
            check(&left, &right);
            for at in 0..n {
                let kept = right[right_at + at];
                // The sign bit too: bytes are compared unsigned.
                for flip in [1, 0x80, 0xFF] {
                    right[right_at + at] = kept ^ flip;
                    check(&left, &right);
                    // A later difference the other way round must not outweigh it.
                    if at + 1 < n {
                        let later = right[right_at + n - 1];
                        right[right_at + n - 1] = later ^ 0x55;
                        check(&left, &right);
                        right[right_at + n - 1] = later;
                    }
                }
                right[right_at + at] = kept;
            }
        }
    }
}
