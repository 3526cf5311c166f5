//! One function for memcpy and memmove: short lengths are loaded whole before anything is stored, so overlap does not
//! matter; long ones go forwards or backwards.

use piece::{Piece, load, store, store_aligned};

/// Copies `n` bytes; the two may overlap.
///
/// # Safety
/// `n` readable bytes at `src`, `n` writable ones at `dest`.
#[inline(always)]
pub(crate) unsafe fn copy(dest: *mut u8, src: *const u8, n: usize) {
    // SAFETY: every branch reads and writes within the first `n` bytes: a length of at least W takes W bytes from the
    // front and W that end at `n`.
    unsafe {
        if n <= 16 {
            if n >= 8 {
                both_ends::<u64>(dest, src, n);
            } else if n >= 4 {
                both_ends::<u32>(dest, src, n);
            } else if n >= 2 {
                both_ends::<u16>(dest, src, n);
            } else if n == 1 {
                *dest = *src;
            }
        } else if n <= 32 {
            let (head, tail) = (load(src), load(src.add(n - 16)));
            store(dest, head);
            store(dest.add(n - 16), tail);
        } else if n <= 64 {
            let (a, b) = (load(src), load(src.add(16)));
            let (c, d) = (load(src.add(n - 32)), load(src.add(n - 16)));
            store(dest, a);
            store(dest.add(16), b);
            store(dest.add(n - 32), c);
            store(dest.add(n - 16), d);
        } else if n <= 128 {
            let front = load4(src);
            let back = load4(src.add(n - 64));
            store4(dest, front);
            store4(dest.add(n - 64), back);
        } else {
            long(dest, src, n);
        }
    }
}

/// More than 128 bytes.
///
/// # Safety
/// As [`copy`].
#[inline(always)]
unsafe fn long(dest: *mut u8, src: *const u8, n: usize) {
    // Going forwards harms nothing unless `dest` begins within `src`: then the front would be overwritten unread.
    let forwards = (dest as usize).wrapping_sub(src as usize) >= n;
    // SAFETY: `at` and `end` stay within `n`; whole pieces of 64 are moved while more than 64 are left, and the last or
    // first 64, loaded before anything was stored, fill the rest. Stores within the loops are aligned to 16 by choice
    // of the first place.
    unsafe {
        if forwards {
            let (head, tail) = (load(src), load4(src.add(n - 64)));
            let mut at = 16 - (dest as usize & 15);
            while at < n - 64 {
                let piece = load4(src.add(at));
                store4_aligned(dest.add(at), piece);
                at += 64;
            }
            store4(dest.add(n - 64), tail);
            store(dest, head);
        } else {
            let (head, tail) = (load4(src), load(src.add(n - 16)));
            let mut end = n - ((dest as usize).wrapping_add(n) & 15);
            while end > 64 {
                end -= 64;
                let piece = load4(src.add(end));
                store4_aligned(dest.add(end), piece);
            }
            store4(dest, head);
            store(dest.add(n - 16), tail);
        }
    }
}

/// `T` at the front and `T` at the back, which may overlap.
///
/// # Safety
/// As [`copy`], with `n` of at least the size of `T`.
#[inline(always)]
unsafe fn both_ends<T: Copy>(dest: *mut u8, src: *const u8, n: usize) {
    let last = n - size_of::<T>();
    // SAFETY: as demanded of the caller.
    unsafe {
        let head = src.cast::<T>().read_unaligned();
        let tail = src.add(last).cast::<T>().read_unaligned();
        dest.cast::<T>().write_unaligned(head);
        dest.add(last).cast::<T>().write_unaligned(tail);
    }
}

/// # Safety
/// 64 readable bytes.
#[inline(always)]
unsafe fn load4(from: *const u8) -> [Piece; 4] {
    // SAFETY: as demanded of the caller.
    unsafe { [load(from), load(from.add(16)), load(from.add(32)), load(from.add(48))] }
}

/// # Safety
/// 64 writable bytes.
#[inline(always)]
unsafe fn store4(to: *mut u8, [a, b, c, d]: [Piece; 4]) {
    // SAFETY: as demanded of the caller.
    unsafe {
        store(to, a);
        store(to.add(16), b);
        store(to.add(32), c);
        store(to.add(48), d);
    }
}

/// # Safety
/// 64 writable bytes, aligned to 16.
#[inline(always)]
unsafe fn store4_aligned(to: *mut u8, [a, b, c, d]: [Piece; 4]) {
    // SAFETY: as demanded of the caller.
    unsafe {
        store_aligned(to, a);
        store_aligned(to.add(16), b);
        store_aligned(to.add(32), c);
        store_aligned(to.add(48), d);
    }
}

/// Sixteen bytes at a time: SSE2, which is part of every x86_64.
#[cfg(target_arch = "x86_64")]
mod piece {
    use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_store_si128, _mm_storeu_si128};

    pub(super) type Piece = __m128i;

    /// # Safety
    /// 16 readable bytes.
    #[inline(always)]
    pub(super) unsafe fn load(from: *const u8) -> Piece {
        // SAFETY: as demanded of the caller; any alignment will do.
        unsafe { _mm_loadu_si128(from.cast()) }
    }

    /// # Safety
    /// 16 writable bytes.
    #[inline(always)]
    pub(super) unsafe fn store(to: *mut u8, value: Piece) {
        // SAFETY: as demanded of the caller; any alignment will do.
        unsafe { _mm_storeu_si128(to.cast(), value) }
    }

    /// # Safety
    /// 16 writable bytes, aligned to 16.
    #[inline(always)]
    pub(super) unsafe fn store_aligned(to: *mut u8, value: Piece) {
        // SAFETY: as demanded of the caller.
        unsafe { _mm_store_si128(to.cast(), value) }
    }
}

/// Sixteen bytes at a time: Neon, which is part of every aarch64 that runs Linux.
#[cfg(target_arch = "aarch64")]
mod piece {
    use core::arch::aarch64::{uint8x16_t, vld1q_u8, vst1q_u8};

    pub(super) type Piece = uint8x16_t;

    /// # Safety
    /// 16 readable bytes.
    #[inline(always)]
    pub(super) unsafe fn load(from: *const u8) -> Piece {
        // SAFETY: as demanded of the caller; any alignment will do.
        unsafe { vld1q_u8(from) }
    }

    /// # Safety
    /// 16 writable bytes.
    #[inline(always)]
    pub(super) unsafe fn store(to: *mut u8, value: Piece) {
        // SAFETY: as demanded of the caller; any alignment will do.
        unsafe { vst1q_u8(to, value) }
    }

    /// There is no instruction of its own for it.
    pub(super) use store as store_aligned;
}
