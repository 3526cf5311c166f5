//! Calls one memory function again and again, for benches/aarch64/run, which counts the instructions.
//!
//! usage: counted FUNCTION LENGTH CALLS     FUNCTION: `none` for the loop alone, else see [`call`]

#[cfg(feature = "ours")]
extern crate fast_mem as _;

use std::hint::black_box;
use std::process::ExitCode;

/// The second text begins here: the two are aligned differently.
const OFFSET: usize = 3;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let number = |text: Option<String>| text.and_then(|text| text.parse::<usize>().ok());
    let function = args.next();
    let (Some(function), Some(length), Some(calls)) = (function, number(args.next()), number(args.next())) else {
        eprintln!("usage: counted FUNCTION LENGTH CALLS");
        return ExitCode::from(2);
    };
    let Some(mut call) = call(&function, length) else {
        eprintln!("counted: no function {function} of {length} bytes");
        return ExitCode::from(2);
    };
    for _ in 0..calls {
        black_box(call());
    }
    ExitCode::SUCCESS
}

/// One call, through what Rust makes of slices of a length that is not known before. `memmove` overlaps itself by all but
/// three bytes.
fn call(function: &str, length: usize) -> Option<Box<dyn FnMut() -> usize>> {
    let mut first = vec![b'a'; length + OFFSET];
    let second = first.clone();
    Some(match function {
        "none" => Box::new(move || black_box(length)),
        "memcmp" => Box::new(move || {
            let n = black_box(length);
            usize::from(first[..n].cmp(&second[OFFSET..OFFSET + n]).is_lt())
        }),
        "bcmp" => Box::new(move || {
            let n = black_box(length);
            usize::from(first[..n] == second[OFFSET..OFFSET + n])
        }),
        "memcpy" => Box::new(move || {
            let n = black_box(length);
            first[..n].copy_from_slice(&second[OFFSET..OFFSET + n]);
            n
        }),
        "memmove-down" => Box::new(move || {
            let n = black_box(length);
            first.copy_within(OFFSET..OFFSET + n, 0);
            n
        }),
        "memmove-up" => Box::new(move || {
            let n = black_box(length);
            first.copy_within(..n, OFFSET);
            n
        }),
        #[cfg(feature = "ours")]
        "json_stops_32" if length == 32 => {
            Box::new(move || first.first_chunk().map_or(0, |chunk| fast_mem::json_stops_32(chunk) as usize))
        }
        #[cfg(feature = "ours")]
        "equal_bytes" if length == 32 => Box::new(move || {
            let pair = first.first_chunk().zip(second.last_chunk());
            pair.map_or(0, |(left, right)| fast_mem::equal_bytes(left, right) as usize)
        }),
        _ => return None,
    })
}
