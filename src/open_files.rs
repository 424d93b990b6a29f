//! How many files this process may have open: each connection is one.

/// Files beside connections to targets: lookups of names, the API's connections, queues, stores and logs.
const BESIDE: u64 = 1_024;

/// Raises what a shell or systemd gives a process at first, mostly 1,024, to what it may have: how many that is.
pub fn raise() -> u64 {
    // Without an answer there is no limit that we could raise or tell of.
    rlimit::increase_nofile_limit(u64::MAX).unwrap_or(u64::MAX)
}

/// Warns when so many attempts at once may want more. What finds no place then waits, without an attempt being counted.
pub fn warn_if_few(concurrency: usize) {
    let (may, wanted) = (raise(), wanted(concurrency));
    if may < wanted {
        tracing::warn!(
            may,
            wanted,
            "this process may open few files for its delivery.concurrency: deliveries wait when they are used up; \
             raise their number (`ulimit -Hn`, LimitNOFILE)"
        );
    }
}

/// Attempts that run have a connection each, and as many connections are kept for the next one.
fn wanted(concurrency: usize) -> u64 {
    u64::try_from(concurrency)
        .unwrap_or(u64::MAX)
        .saturating_mul(2)
        .saturating_add(BESIDE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_of_512_attempts_wants_2_048_files() {
        assert_eq!(wanted(512), 2_048);
        assert_eq!(wanted(usize::MAX), u64::MAX);
    }
}
