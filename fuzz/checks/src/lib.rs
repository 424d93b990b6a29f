//! What must hold for any bytes that come from outside: one function for each fuzz target.
//!
//! A check panics where something does not hold. `fuzz/` runs them on bytes that a fuzzer makes up; `tests/replay.rs`
//! runs the same functions on [`seeds`] and on what fuzzing has found, with every other test.
//!
//! Parts of an input are divided by the byte `FF`, which no UTF-8 holds.

pub mod seeds;

mod accepted;
mod foreign;
mod known;
mod library;
mod message;
mod url;

use bytes::Bytes;

/// A check: it must come back from any bytes.
pub type Check = fn(&[u8]);

/// Every fuzz target, by its name in `fuzz/fuzz_targets`, `fuzz/corpus` and `make fuzz`.
pub const TARGETS: [(&str, Check); 8] = [
    ("raw", known::raw),
    ("single_object", known::single_object),
    ("confluent", foreign::confluent),
    ("header", foreign::header),
    ("mapped", foreign::mapped),
    ("accept", accepted::accept),
    ("wire", message::wire),
    ("url", url::url),
];

/// Runs the check of this name.
///
/// # Panics
/// When there is none, or when what must hold does not.
pub fn check(target: &str, data: &[u8]) {
    let found = TARGETS.iter().find(|(name, _)| *name == target);
    // Unwrap safety: the names are those of the files in fuzz/fuzz_targets; another is a mistake of ours.
    let (_, check) = found.expect("a target of this name");
    check(data);
}

/// What is before the first `FF`, and what is behind it.
fn divided(data: &[u8]) -> (Bytes, Bytes) {
    let at = data.iter().position(|b| *b == 0xFF).unwrap_or(data.len());
    let behind = data.get(at + 1..).unwrap_or_default();
    (
        Bytes::copy_from_slice(&data[..at]),
        Bytes::copy_from_slice(behind),
    )
}
