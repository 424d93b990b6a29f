//! Which event types a filter wants.
//!
//! A pattern is an exact event type (`orders.created`), a prefix and everything beneath it
//! (`orders.*`: `orders.created` and `orders.items.added`, but not `orders`), or `*`, everything but
//! hookwright's own [operational](crate::notice) events: those are asked for by name.
//! So the patterns that match an event type are few and can be listed ([`candidates`]): matching is
//! a lookup of each, not a walk over all filters.

use crate::notice;

/// The longest event type, and the longest pattern, in bytes.
pub const MAX_EVENT_TYPE: usize = 256;

/// Checks an event type: 1 to 256 bytes, segments of `A-Z a-z 0-9 _ -`, a dot between them.
///
/// # Errors
/// Names the value and says what would be right.
pub fn check_event_type(event_type: &str) -> Result<(), String> {
    if is_event_type(event_type) {
        return Ok(());
    }
    Err(format!(
        "\"{}\" is not an event type: 1 to {MAX_EVENT_TYPE} characters, segments of A-Z, a-z, 0-9, _ and - \
         with a dot between them, such as orders.created",
        shortened(event_type)
    ))
}

/// Checks a pattern: an event type, a prefix ending in `.*`, or `*`.
///
/// # Errors
/// Names the value and says what would be right.
pub fn check(pattern: &str) -> Result<(), String> {
    let prefix = pattern.strip_suffix(".*").unwrap_or(pattern);
    if pattern == "*" || (pattern.len() <= MAX_EVENT_TYPE && is_event_type(prefix)) {
        return Ok(());
    }
    Err(format!(
        "\"{}\" is not an event pattern: give an event type such as orders.created, a prefix ending in .* \
         such as orders.*, or * for every event; at most {MAX_EVENT_TYPE} characters, segments of A-Z, a-z, \
         0-9, _ and -",
        shortened(pattern)
    ))
}

/// Whether `pattern`, which has passed [`check`], wants events of `event_type`.
#[must_use]
pub fn matches(pattern: &str, event_type: &str) -> bool {
    if pattern == "*" {
        return !notice::is_operational(event_type);
    }
    match pattern.strip_suffix(".*") {
        Some(prefix) => event_type
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with('.')),
        None => pattern == event_type,
    }
}

/// Every pattern that matches `event_type`, the most exact first and `*` last: for `a.b.c` these
/// are `a.b.c`, `a.b.*`, `a.*` and `*`. An operational event's do not end with `*`.
#[must_use]
pub fn candidates(event_type: &str) -> Vec<String> {
    let prefixes = event_type
        .rmatch_indices('.')
        .map(|(dot, _)| format!("{}.*", &event_type[..dot]));
    std::iter::once(event_type.to_owned())
        .chain(prefixes)
        .chain((!notice::is_operational(event_type)).then(|| "*".to_owned()))
        .collect()
}

fn is_event_type(text: &str) -> bool {
    text.len() <= MAX_EVENT_TYPE
        && text.split('.').all(|segment| {
            !segment.is_empty()
                && segment
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        })
}

/// Enough of a wrong value to recognise it by.
fn shortened(value: &str) -> String {
    const SHOWN: usize = 80;
    let mut text: String = value.chars().take(SHOWN).collect();
    if text.len() < value.len() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_prefix_covers_what_is_beneath_it_but_not_itself() {
        let table = [
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", true),
            ("a.*", "a", false),
            ("a.*", "ab.c", false),
            ("a.b.*", "a.b.c", true),
            ("a.b.*", "a.bc.d", false),
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.b", "A.b", false),
            ("*", "a", true),
            ("*", "a.b.c", true),
            ("*", "hookwright", true),
            ("*", "hookwright.target.disabled", false),
            ("hookwright.*", "hookwright.target.disabled", true),
            ("hookwright.target.*", "hookwright.target.disabled", true),
            ("hookwright.target.disabled", "hookwright.target.disabled", true),
        ];
        for (pattern, event_type, expected) in table {
            assert_eq!(matches(pattern, event_type), expected, "{pattern} {event_type}");
        }
    }

    #[test]
    fn candidates_go_from_the_most_exact_to_everything() {
        assert_eq!(candidates("a.b.c"), ["a.b.c", "a.b.*", "a.*", "*"]);
        assert_eq!(candidates("a"), ["a", "*"]);
        assert_eq!(candidates("hookwright.a"), ["hookwright.a", "hookwright.*"]);
    }

    #[test]
    fn event_types_are_segments_with_dots_between() {
        for good in ["a", "core.orders.created.v1", "A-b_9", "0", &"x".repeat(256)] {
            assert_eq!(check_event_type(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a b",
            "a/b",
            "a.*",
            "*",
            "é",
            "a\n",
            &"x".repeat(257),
        ] {
            assert!(check_event_type(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_are_exact_types_prefixes_or_everything() {
        for good in ["a", "a.b", "a.*", "a.b.*", "*", &format!("{}.*", "x".repeat(254))] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            ".*",
            "**",
            "*.a",
            "a*",
            "a.*.b",
            "a.b*",
            "a.*.*",
            "a..*",
            &format!("{}.*", "x".repeat(255)),
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_error_shows_the_beginning_of_a_long_value_only() {
        let message = check(&"é".repeat(10_000)).unwrap_err();
        assert!(message.len() < 600, "{message}");
        assert!(message.starts_with("\"éé"), "{message}");
    }

    proptest! {
        #[test]
        fn a_pattern_matches_exactly_when_it_is_a_candidate(
            // Few letters, so that matches are common.
            pattern in r"[ab](\.[ab]){0,3}(\.\*)?|\*",
            event_type in r"[ab]{1,2}(\.[ab]){0,4}",
        ) {
            prop_assert_eq!(check(&pattern), Ok(()));
            prop_assert_eq!(check_event_type(&event_type), Ok(()));
            let listed = candidates(&event_type).contains(&pattern);
            prop_assert_eq!(matches(&pattern, &event_type), listed);
        }

        #[test]
        fn every_candidate_is_a_valid_pattern(event_type in r"[A-Za-z0-9_-]{1,8}(\.[A-Za-z0-9_-]{1,8}){0,6}") {
            for pattern in candidates(&event_type) {
                prop_assert_eq!(check(&pattern), Ok(()));
                prop_assert!(matches(&pattern, &event_type));
            }
        }
    }
}
