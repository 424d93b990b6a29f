//! Every check on its seeds, on what fuzzing has found, and on all of it cut short.

use fuzz_checks::{TARGETS, check, seeds};
use std::path::Path;
use std::time::{Duration, Instant};

/// The inputs of a target that are files: `fuzz/corpus/<target>`.
fn files(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../corpus")
        .join(target);
    let Ok(files) = std::fs::read_dir(&folder) else {
        return Vec::new();
    };
    files
        .map(|file| file.unwrap().path())
        .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
        .collect()
}

/// The most address space the process has had, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    line.unwrap().trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// One test, for memory is counted for the whole process.
#[test]
fn what_must_hold_holds_for_every_known_input() {
    // The first use of each target sets up what is kept for good.
    for (target, _) in TARGETS {
        check(target, b"");
    }
    let before = peak();
    for (target, _) in TARGETS {
        let begun = Instant::now();
        let seeds = seeds::of(target);
        assert!(seeds.len() > 4, "{target} has seeds");
        let mut inputs: Vec<_> = seeds
            .into_iter()
            .map(|seed| ("a seed".to_owned(), seed))
            .collect();
        inputs.extend(files(target));
        for (name, input) in &inputs {
            let held = std::panic::catch_unwind(|| {
                check(target, input);
                for length in 0..input.len().min(200) {
                    check(target, &input[..length]);
                }
            });
            assert!(held.is_ok(), "{target}: {name}: {}", input.escape_ascii());
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{target} takes {:?}",
            begun.elapsed()
        );
    }
    // A length that is believed shows as address space, even where the memory is never touched.
    let grown = peak().saturating_sub(before);
    assert!(grown < 256 << 10, "{grown} KiB more");
}
