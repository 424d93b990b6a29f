//! Schedules as users meet them, their edges, and what holds for every policy.

use super::*;
use crate::ids::{EventId, TargetId};
use proptest::prelude::*;

const ACCEPTED: Millis = Millis(1_767_225_599_123);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The moments of all retries, in milliseconds after the event was accepted, when every attempt
/// fails as soon as it is due.
fn retries(policy: &RetryPolicy, chance: impl Fn(u32) -> f64) -> Vec<i64> {
    let mut now = ACCEPTED;
    let mut moments = Vec::new();
    for failed in 1.. {
        match next_attempt(policy, failed, ACCEPTED, now, None, chance(failed)) {
            Next::At(due) => {
                moments.push(due.0 - ACCEPTED.0);
                now = due;
            }
            Next::Exhausted => break,
        }
    }
    moments
}

#[test]
fn the_default_policy_retries_thirteen_times_in_a_day() {
    let seconds: Vec<i64> = retries(&RetryPolicy::default(), |_| 0.0)
        .iter()
        .map(|ms| ms / 1000)
        .collect();
    assert_eq!(
        seconds,
        [
            5, 20, 65, 200, 605, 1820, 5465, 16_400, 30_800, 45_200, 59_600, 74_000, 86_400
        ]
    );
}

#[test]
fn a_list_of_pauses_is_followed_to_its_end_and_then_the_window_to_its_own() {
    let listed = |pauses: &[u64]| RetryPolicy {
        schedule: pauses.iter().copied().map(secs).collect(),
        ..RetryPolicy::default()
    };
    let seconds = |policy: &RetryPolicy, chance: f64| -> Vec<i64> {
        let moments = retries(policy, |_| chance);
        moments.iter().map(|ms| ms / 1000).collect()
    };
    let table: [(&[u64], &[i64]); 5] = [
        (&[5, 300, 1800], &[5, 305, 2105, 86_400]),
        (&[60], &[60, 86_400]),
        // Shorter ones may follow longer ones.
        (&[3600, 1], &[3600, 3601, 86_400]),
        (&[86_399], &[86_399]),
        (&[50_000, 50_000, 50_000], &[50_000, 86_400]),
    ];
    for (pauses, expected) in table {
        assert_eq!(seconds(&listed(pauses), 0.0), expected, "{pauses:?}");
        assert_eq!(listed(pauses).check(), Ok(()));
    }
    assert_eq!(
        seconds(&listed(&[10, 100]), 1.0),
        [12, 132, 86_400],
        "with jitter"
    );
    // `Retry-After` reaches beyond a pause, and is not undercut by the window's end.
    let after = |asked_for| next_attempt(&listed(&[5]), 1, ACCEPTED, ACCEPTED, asked_for, 0.0);
    assert_eq!(after(Some(secs(60))), Next::At(ACCEPTED.plus(secs(60))));
    assert_eq!(after(Some(secs(86_401))), Next::Exhausted);
}

#[test]
fn a_list_is_kept_as_the_other_fields_are_and_none_leaves_no_trace() {
    let plain = RetryPolicy::default();
    let text = serde_json::to_string(&plain).unwrap();
    assert!(!text.contains("schedule"), "{text}");
    assert_eq!(serde_json::from_str::<RetryPolicy>(&text).unwrap(), plain);
    let listed = RetryPolicy {
        schedule: vec![secs(5), Duration::from_millis(250)],
        ..plain
    };
    let text = serde_json::to_string(&listed).unwrap();
    assert_eq!(serde_json::from_str::<RetryPolicy>(&text).unwrap(), listed);
}

#[test]
fn jitter_only_lengthens_a_pause() {
    let policy = RetryPolicy::default();
    let due = |chance| next_attempt(&policy, 2, ACCEPTED, ACCEPTED, None, chance);
    assert_eq!(due(0.0), Next::At(ACCEPTED.plus(secs(15))));
    assert_eq!(due(0.5), Next::At(ACCEPTED.plus(Duration::from_millis(16_500))));
    assert_eq!(due(1.0), Next::At(ACCEPTED.plus(secs(18))));
    assert_eq!(due(f64::NAN), Next::At(ACCEPTED.plus(secs(4 * 3600))));
    assert_eq!(due(-5.0), due(0.0));
    assert_eq!(due(5.0), due(1.0));
}

#[test]
fn what_a_target_asked_for_is_never_undercut() {
    let policy = RetryPolicy::default();
    let day = 24 * 3600;
    // Seconds after acceptance, what was asked for, seconds after acceptance of the next.
    let table = [
        (0, None, Some(5)),
        (0, Some(3), Some(5)),
        (0, Some(60), Some(60)),
        (0, Some(day), Some(day)),
        (0, Some(day + 1), None),
        (day - 100, None, Some(day - 95)),
        (day - 4, None, Some(day)),
        (day - 4, Some(4), Some(day)),
        (day - 4, Some(5), None),
        (day - 2, None, Some(day)),
        (day - 1, None, None),
        (day, None, None),
        (day + 7, None, None),
        (0, Some(u64::MAX), None),
    ];
    for (after, asked_for, expected) in table {
        let next = next_attempt(
            &policy,
            1,
            ACCEPTED,
            ACCEPTED.plus(secs(after)),
            asked_for.map(secs),
            0.0,
        );
        let expected = expected.map_or(Next::Exhausted, |at| Next::At(ACCEPTED.plus(secs(at))));
        assert_eq!(next, expected, "{after} {asked_for:?}");
    }
}

#[test]
fn nothing_overflows() {
    let policy = RetryPolicy {
        factor: 100.0,
        ..RetryPolicy::default()
    };
    let four_hours = Next::At(ACCEPTED.plus(secs(4 * 3600)));
    for failed in [0, 1000, u32::MAX] {
        let next = next_attempt(&policy, failed, ACCEPTED, ACCEPTED, None, 0.0);
        assert_eq!(
            next,
            if failed == 0 {
                Next::At(ACCEPTED.plus(secs(5)))
            } else {
                four_hours
            }
        );
    }
    let endless = Millis(i64::MAX);
    assert_eq!(
        next_attempt(&policy, 1, endless, endless, None, 0.0),
        Next::Exhausted
    );
}

#[test]
fn a_hop_is_whole_seconds_and_never_early() {
    let limit = secs(900);
    let table = [
        (0, secs(0)),
        (-5, secs(0)),
        (1, secs(1)),
        (999, secs(1)),
        (1000, secs(1)),
        (1001, secs(2)),
        (899_001, secs(900)),
        (900_001, limit),
        (i64::MAX - ACCEPTED.0, limit),
    ];
    for (left, expected) in table {
        assert_eq!(
            hop(ACCEPTED, Millis(ACCEPTED.0 + left), limit),
            expected,
            "{left}"
        );
    }
}

#[test]
fn chance_is_the_same_each_time_and_spread_over_its_range() {
    let delivery = DeliveryId::derive(&EventId::new("evt_1").unwrap(), TargetId(7));
    let chances: Vec<f64> = (1..=1000).map(|attempt| chance_of(&delivery, attempt)).collect();
    assert_eq!(chance_of(&delivery, 1).to_bits(), chances[0].to_bits());
    assert!(chances.iter().all(|chance| (0.0..1.0).contains(chance)));
    for tenth in 0..10 {
        let range = f64::from(tenth) / 10.0..f64::from(tenth + 1) / 10.0;
        let share = chances.iter().filter(|chance| range.contains(chance)).count();
        assert!((50..=150).contains(&share), "{share} of 1000 in {range:?}");
    }
}

#[test]
fn a_policy_that_makes_no_sense_is_refused_by_field() {
    let good = RetryPolicy::default();
    assert_eq!(good.check(), Ok(()));
    let table = [
        (
            "window",
            RetryPolicy {
                window: Duration::ZERO,
                ..good.clone()
            },
        ),
        (
            "window",
            RetryPolicy {
                window: MAX_WINDOW + secs(1),
                ..good.clone()
            },
        ),
        (
            "first",
            RetryPolicy {
                first: Duration::ZERO,
                ..good.clone()
            },
        ),
        (
            "max",
            RetryPolicy {
                max: secs(4),
                ..good.clone()
            },
        ),
        (
            "factor",
            RetryPolicy {
                factor: 0.9,
                ..good.clone()
            },
        ),
        (
            "factor",
            RetryPolicy {
                factor: 100.1,
                ..good.clone()
            },
        ),
        (
            "factor",
            RetryPolicy {
                factor: f64::NAN,
                ..good.clone()
            },
        ),
        (
            "factor",
            RetryPolicy {
                factor: f64::INFINITY,
                ..good.clone()
            },
        ),
        (
            "jitter",
            RetryPolicy {
                jitter: -0.1,
                ..good.clone()
            },
        ),
        (
            "jitter",
            RetryPolicy {
                jitter: 1.1,
                ..good.clone()
            },
        ),
        (
            "schedule",
            RetryPolicy {
                schedule: vec![secs(5), Duration::ZERO],
                ..good.clone()
            },
        ),
        (
            "schedule",
            RetryPolicy {
                schedule: vec![MAX_WINDOW + secs(1)],
                ..good.clone()
            },
        ),
        (
            "schedule",
            RetryPolicy {
                schedule: vec![secs(1); MAX_PAUSES + 1],
                ..good.clone()
            },
        ),
        (
            "jitter",
            RetryPolicy {
                jitter: f64::NAN,
                ..good.clone()
            },
        ),
    ];
    for (field, policy) in table {
        let message = policy.check().unwrap_err();
        assert!(message.starts_with(&format!("{field}: ")), "{message}");
    }
}

prop_compose! {
    /// Policies of at most a few thousand attempts.
    fn any_policy()(
        window_ms in 1_u64..=MAX_WINDOW.as_millis() as u64,
        attempts in 1_u64..2000,
        max_share in 1_u64..1000,
        factor in 1.0..=100.0_f64,
        jitter in 0.0..=1.0_f64,
        pauses in prop_oneof![
            2 => Just(Vec::new()),
            1 => prop::collection::vec(1_u64..=MAX_WINDOW.as_millis() as u64, 1..=MAX_PAUSES),
        ],
    ) -> RetryPolicy {
        let first = Duration::from_millis((window_ms / attempts).max(1));
        RetryPolicy {
            window: Duration::from_millis(window_ms),
            first,
            factor,
            max: first.saturating_mul(u32::try_from(max_share).unwrap()),
            jitter,
            schedule: pauses.into_iter().map(Duration::from_millis).collect(),
        }
    }
}

proptest! {
    #[test]
    fn retries_come_later_and_later_and_end_with_the_window(policy in any_policy(), chance in 0.0..1.0_f64) {
        prop_assert_eq!(policy.check(), Ok(()));
        let moments = retries(&policy, |_| chance);
        let window = i64::try_from(policy.window.as_millis()).unwrap();
        prop_assert!(moments.len() <= 2001, "{}", moments.len());
        prop_assert!(moments.is_sorted_by(|earlier, later| earlier < later));
        match moments.last() {
            // The last falls at the end, or so near to it that it was as good as the end.
            Some(last) => prop_assert!((window - 1000..=window).contains(last)),
            None => prop_assert!(window <= 1000),
        }
    }

    #[test]
    fn no_retry_is_earlier_than_asked_for_or_later_than_the_window(
        policy in any_policy(),
        failed in any::<u32>(),
        since in -1_000_000..700_000_000_i64,
        asked_for in prop::option::of(0..700_000_000_u64),
        chance in 0.0..1.0_f64,
    ) {
        let now = Millis(ACCEPTED.0 + since);
        let asked_for = asked_for.map(Duration::from_millis);
        if let Next::At(due) = next_attempt(&policy, failed, ACCEPTED, now, asked_for, chance) {
            prop_assert!(due > now);
            prop_assert!(due >= now.plus(asked_for.unwrap_or_default()));
            prop_assert!(due <= ACCEPTED.plus(policy.window));
        }
    }

    #[test]
    fn hops_add_up_to_the_wait(left in 0..100_000_000_i64) {
        let due = Millis(ACCEPTED.0 + left);
        let mut now = ACCEPTED;
        while now < due {
            let delay = hop(now, due, Duration::from_secs(900));
            prop_assert!(delay >= Duration::from_secs(1) && delay.subsec_nanos() == 0);
            now = now.plus(delay);
        }
        prop_assert!(now.since(due) < Duration::from_secs(1));
    }
}
