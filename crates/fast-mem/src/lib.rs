//! The memory functions of a static musl binary, and looks at JSON many bytes at a time: what needs `unsafe`.
//!
//! musl's own `memcpy` is `rep movsq` for every length, its `memmove` copies overlapping bytes one at a time, and its
//! `memcmp` compares one byte a turn. Rust code calls all of them all the time with short lengths; here they cost a few
//! loads and stores.
//!
//! - x86_64 needs all of `memcpy`, `memmove`, `memcmp` and `bcmp`: musl's `memmove` lies in one object file with a part
//!   of its `memcpy`, so taking over `memcpy` alone does not link.
//! - aarch64 has a good `memcpy` in musl, which its `memmove` calls unless the two overlap: `memmove`, `memcmp` and `bcmp`.
//! - Other C libraries are left alone.
//!
//! A binary must say `extern crate fast_mem as _;`, otherwise the linker silently takes musl's functions.
//! `dev/check-binary` looks whether it did not.
//!
//! These run before `main` and in signal handlers: no panic, no bounds check, no thread-local, no detection of the
//! processor. Nothing beyond the architecture's baseline is used.

#![no_std]
// The compiler would turn a loop that copies bytes into a call of memcpy, which is this very function.
#![no_builtins]

#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod sse2;
mod stops;
mod text;
#[cfg(any(
    test,
    not(any(
        all(target_arch = "x86_64", target_feature = "sse2"),
        all(target_arch = "aarch64", target_feature = "neon")
    ))
))]
mod words;

pub use stops::{equal_bytes, json_stops_32};
pub use text::text;

#[cfg(any(test, target_env = "musl"))]
mod compare;
#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), any(test, target_env = "musl")))]
mod copy;

#[cfg(all(target_env = "musl", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod exported_copy {
    use core::ffi::c_void;

    /// C's memcpy.
    ///
    /// # Safety
    /// `n` readable bytes at `src`, `n` writable ones at `dest`.
    #[cfg(target_arch = "x86_64")]
    #[unsafe(no_mangle)]
    pub(crate) unsafe extern "C" fn memcpy(dest: *mut c_void, src: *const c_void, n: usize) -> *mut c_void {
        // SAFETY: as demanded of the caller.
        unsafe { super::copy::copy(dest.cast(), src.cast(), n) };
        dest
    }

    /// C's memmove.
    ///
    /// # Safety
    /// As memcpy; the two may overlap.
    #[unsafe(no_mangle)]
    pub(crate) unsafe extern "C" fn memmove(dest: *mut c_void, src: *const c_void, n: usize) -> *mut c_void {
        // SAFETY: as demanded of the caller.
        unsafe { super::copy::copy(dest.cast(), src.cast(), n) };
        dest
    }
}

#[cfg(all(target_env = "musl", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod exported_compare {
    use core::ffi::{c_int, c_void};

    /// C's memcmp.
    ///
    /// # Safety
    /// `n` readable bytes at each.
    #[unsafe(no_mangle)]
    pub(crate) unsafe extern "C" fn memcmp(left: *const c_void, right: *const c_void, n: usize) -> c_int {
        // SAFETY: as demanded of the caller.
        unsafe { super::compare::order(left.cast(), right.cast(), n) }
    }

    /// BSD's bcmp: 0 for equal bytes, else anything. What the compiler makes of `==` between slices.
    ///
    /// # Safety
    /// `n` readable bytes at each.
    #[unsafe(no_mangle)]
    pub(crate) unsafe extern "C" fn bcmp(left: *const c_void, right: *const c_void, n: usize) -> c_int {
        // SAFETY: as demanded of the caller.
        unsafe { super::compare::differ(left.cast(), right.cast(), n) }
    }
}

#[cfg(test)]
mod tests;
