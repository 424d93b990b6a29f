//! The gate as a whole, by a driven clock.

use super::*;
use proptest::prelude::*;
use schemas::rate::{Period, RateLimit};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const RULES: Rules = Rules {
    bounds: Bounds {
        min: 1,
        start: 4,
        max: 16,
    },
    slow: 2,
    breaker: BreakerPolicy {
        min_attempts: 10,
        share: 0.7,
        window: secs(300),
        open: secs(30),
        open_max: secs(300),
    },
};

const ASK: Ask = Ask {
    rate: None,
    slow: false,
    returned: false,
    left: secs(86_400),
    chance: 0.5,
};

/// A gate and its clock, and what runs.
struct Driven {
    gate: Gate,
    now: Instant,
    running: Vec<Began>,
}

impl Driven {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            gate: Gate::new(&RULES, now),
            now,
            running: Vec::new(),
        }
    }

    fn ask(&mut self, ask: &Ask) -> Verdict {
        let verdict = self.gate.ask(&RULES, self.now, ask, 0);
        if let Verdict::Go(probe) = verdict {
            self.gate.begin(self.now, ask, probe);
            self.running.push(Began {
                at: self.now,
                slow: ask.slow,
                probe,
            });
        }
        verdict
    }

    fn end(&mut self, sign: Sign, asks: Option<Duration>) {
        let began = self.running.remove(0);
        self.gate.end(&RULES, self.now, began, sign, asks);
    }
}

#[test]
fn an_answer_says_this_of_its_target() {
    let table = [
        (Ok(200), Sign::Good, Health::Good),
        (Ok(204), Sign::Good, Health::Good),
        (Ok(302), Sign::Failed, Health::Bad),
        (Ok(404), Sign::Failed, Health::Bad),
        (Ok(429), Sign::Busy, Health::Busy),
        (Ok(500), Sign::Failed, Health::Bad),
        (Ok(503), Sign::Overloaded, Health::Bad),
        (Err(AttemptError::Timeout), Sign::Overloaded, Health::Bad),
        (Err(AttemptError::Connect), Sign::Failed, Health::Bad),
        (Err(AttemptError::Dns), Sign::Failed, Health::Bad),
        (Err(AttemptError::PayloadMissing), Sign::Nothing, Health::Unknown),
        (Err(AttemptError::NotAsked), Sign::Nothing, Health::Unknown),
    ];
    for (seen, sign, health) in table {
        assert_eq!(Sign::of(seen), sign, "{seen:?}");
        assert_eq!(sign.health(), health, "{seen:?}");
    }
}

#[test]
fn what_waits_together_asks_once_for_all_and_one_of_them_goes_first() {
    let mut target = Driven::new();
    let together = |target: &mut Driven| target.gate.ask_together(&RULES, target.now, &ASK, 1_000);
    assert_eq!(
        together(&mut target),
        Together::Come,
        "nothing bad is known of it"
    );
    for _ in 0..10 {
        assert!(matches!(target.ask(&ASK), Verdict::Go(_)));
        target.end(Sign::Failed, None);
    }
    // A thousand take a thousand places in line.
    for wait in [30, 50, 70] {
        assert_eq!(together(&mut target), Together::Later(Why::Breaker, secs(wait)));
    }
    let Verdict::Later(Why::Breaker, wait) = target.ask(&ASK) else {
        panic!("its breaker is open")
    };
    assert_eq!(wait, secs(90), "one that comes alone is behind them");

    target.now += secs(30);
    assert_eq!(
        together(&mut target),
        Together::One(Why::Breaker, secs(60) + RETURN)
    );
    assert!(
        matches!(target.ask(&ASK), Verdict::Go(Probe { breaker: true, .. })),
        "asking was no probe"
    );
    assert!(matches!(together(&mut target), Together::Later(Why::Breaker, _)));
    target.end(Sign::Good, None);
    assert_eq!(together(&mut target), Together::Come);

    assert!(matches!(target.ask(&ASK), Verdict::Go(_)));
    target.end(Sign::Busy, Some(secs(300)));
    assert!(matches!(together(&mut target), Together::Later(Why::RetryAfter, wait) if wait >= secs(300)));
    target.now += secs(300);
    assert!(matches!(together(&mut target), Together::One(Why::RetryAfter, _)));
    assert!(!target.gate.is_running());
}

#[test]
fn a_hanging_target_gets_less_and_less_and_what_waits_for_it_comes_back_ever_later() {
    let mut target = Driven::new();
    for _ in 0..4 {
        assert!(matches!(target.ask(&ASK), Verdict::Go(_)));
    }
    assert_eq!(target.ask(&ASK), Verdict::Wait, "nothing bad is known of it yet");
    target.now += secs(8);
    let mut last = Duration::ZERO;
    for _ in 0..5_000 {
        let Verdict::Slow(Why::Target, wait) = target.ask(&ASK) else {
            panic!("nobody waits for it in the lane")
        };
        last = last.max(wait);
    }
    assert!(
        last >= secs(290),
        "a place in 2 s each: the longest comes back after {last:?}"
    );
    target.now += secs(7);
    for _ in 0..4 {
        target.end(Sign::Overloaded, None);
    }
    assert_eq!(target.gate.limit.get(), 2);
    // Round by round, until its breaker opens.
    let mut failures = 4;
    while !target.gate.is_open() {
        while matches!(target.ask(&ASK), Verdict::Go(_)) {}
        target.now += secs(15);
        while !target.running.is_empty() {
            target.end(Sign::Overloaded, None);
            failures += 1;
        }
    }
    assert_eq!(failures, 10);
    let Verdict::Later(Why::Breaker, wait) = target.ask(&ASK) else {
        panic!("nothing is attempted while it is open")
    };
    assert_eq!(wait, secs(30));
}

#[test]
fn what_waits_for_an_open_breaker_comes_back_spread_however_much_it_is() {
    let mut target = Driven::new();
    for _ in 0..10 {
        target.ask(&ASK);
        target.end(Sign::Failed, None);
    }
    let mut waits = Vec::new();
    for number in 0..100_000 {
        let ask = Ask {
            chance: f64::from(number % 1_000) / 1_000.0,
            ..ASK
        };
        match target.ask(&ask) {
            Verdict::Later(Why::Breaker, wait) => waits.push(wait.as_secs()),
            other => panic!("{other:?}"),
        }
    }
    waits.sort_unstable();
    assert!(waits[0] >= 30 && waits[99_999] <= 930);
    let most = waits.chunk_by(|a, b| a == b).map(<[u64]>::len).max();
    assert!(
        most <= Some(200),
        "{most:?} of 100,000 come back within one second"
    );
}

#[test]
fn after_retry_after_one_probe_goes_and_the_rest_waits_for_its_answer() {
    let mut target = Driven::new();
    target.ask(&ASK);
    target.ask(&ASK);
    target.end(Sign::Busy, Some(secs(60)));
    target.end(Sign::Good, None);
    assert_eq!(target.ask(&ASK), Verdict::Later(Why::RetryAfter, secs(60)));
    target.now += secs(60);
    assert!(matches!(target.ask(&ASK), Verdict::Go(probe) if probe.quiet));
    assert!(matches!(target.ask(&ASK), Verdict::Later(Why::RetryAfter, _)));
    target.end(Sign::Good, None);
    assert!(matches!(target.ask(&ASK), Verdict::Go(probe) if !probe.quiet));
    // What asks with any other status asks for its own delivery only.
    target.end(Sign::Failed, Some(secs(60)));
    assert!(matches!(target.ask(&ASK), Verdict::Go(_)));
}

#[test]
fn a_rate_limit_gives_turns_in_order_and_who_is_told_to_come_back_is_not_overtaken() {
    let rate = Rate::share(RateLimit::new(30, Period::Minute).unwrap(), 1);
    let new = Ask {
        rate: Some(rate),
        ..ASK
    };
    let returned = Ask {
        returned: true,
        ..new
    };
    let mut target = Driven::new();
    assert!(matches!(target.ask(&new), Verdict::Go(_)));
    target.end(Sign::Good, None);
    for turn in 1..=100 {
        assert_eq!(target.ask(&new), Verdict::Later(Why::Rate, secs(2 * turn)));
    }
    target.now += secs(2);
    assert_eq!(
        target.ask(&new),
        Verdict::Later(Why::Rate, secs(200)),
        "there is a token, but not for those who come now"
    );
    assert!(matches!(target.ask(&returned), Verdict::Go(_)));
    assert!(
        matches!(target.ask(&returned), Verdict::Later(Why::Rate, _)),
        "one token, one attempt"
    );
    // The limit is taken away: nobody waits by it any more.
    assert!(matches!(target.ask(&ASK), Verdict::Go(_)));
}

#[test]
fn the_slow_lane_gives_one_target_few_places() {
    let slow = Ask { slow: true, ..ASK };
    let mut target = Driven::new();
    assert!(matches!(target.ask(&slow), Verdict::Go(_)));
    assert!(matches!(target.ask(&slow), Verdict::Go(_)));
    assert!(matches!(target.ask(&slow), Verdict::Slow(Why::Target, _)));
    assert!(
        matches!(target.ask(&ASK), Verdict::Go(_)),
        "the dispatch lane has places left"
    );
    target.end(Sign::Good, None);
    assert!(matches!(target.ask(&slow), Verdict::Go(_)));
}

#[test]
fn an_idle_target_is_forgotten_after_its_window_and_not_while_it_is_left_alone() {
    let mut target = Driven::new();
    target.ask(&ASK);
    assert!(!target.gate.is_idle(&RULES, target.now + secs(3_600)), "it runs");
    target.end(Sign::Busy, Some(secs(3_600)));
    assert!(!target.gate.is_idle(&RULES, target.now + secs(3_600)));
    assert!(target.gate.is_idle(&RULES, target.now + secs(3_900)));
}

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Ask { slow: bool, returned: bool },
    End(Sign, Option<u64>),
}

fn step() -> impl Strategy<Value = Step> {
    let sign = prop_oneof![
        Just(Sign::Good),
        Just(Sign::Good),
        Just(Sign::Busy),
        Just(Sign::Overloaded),
        Just(Sign::Failed),
        Just(Sign::Nothing)
    ];
    prop_oneof![
        (0..20_000_u64).prop_map(Step::Pass),
        (any::<bool>(), any::<bool>()).prop_map(|(slow, returned)| Step::Ask { slow, returned }),
        (any::<bool>(), any::<bool>()).prop_map(|(slow, returned)| Step::Ask { slow, returned }),
        (sign, prop::option::of(1..100_u64)).prop_map(|(sign, asks)| Step::End(sign, asks)),
    ]
}

proptest! {
    #[test]
    fn never_more_than_the_limits_never_while_left_alone_and_always_a_way_on(
        steps in prop::collection::vec(step(), 0..300),
        rate in prop::option::of(1..20_u32),
    ) {
        let rate = rate.map(|count| Rate::share(RateLimit::new(count, Period::Second).unwrap(), 1));
        let mut target = Driven::new();
        let mut left_alone = target.now;
        let mut begun: Vec<Instant> = Vec::new();
        for step in steps {
            match step {
                Step::Pass(millis) => target.now += ms(millis),
                Step::Ask { slow, returned } => {
                    let limit = target.gate.limit.get();
                    match target.ask(&Ask { slow, returned, rate, ..ASK }) {
                        Verdict::Go(_) => {
                            prop_assert!(target.running.len() <= limit.max(1));
                            prop_assert!(target.running.iter().filter(|one| one.slow).count() <= RULES.slow);
                            prop_assert!(target.now >= left_alone, "the target asked for silence");
                            begun.push(target.now);
                        }
                        Verdict::Later(_, wait) | Verdict::Slow(_, wait) => prop_assert!(!wait.is_zero()),
                        Verdict::Wait => {}
                    }
                }
                Step::End(sign, asks) => if !target.running.is_empty() {
                    let asks = asks.map(secs);
                    target.end(sign, asks);
                    if let (Sign::Busy | Sign::Overloaded, Some(asks)) = (sign, asks) {
                        left_alone = left_alone.max(target.now + asks);
                    }
                },
            }
            prop_assert!((1..=16).contains(&target.gate.limit.get()));
        }
        if let Some(rate) = rate {
            for (index, from) in begun.iter().enumerate() {
                let within = begun[index..].iter().filter(|at| **at < *from + secs(1)).count();
                prop_assert!(within <= 2 * rate.burst as usize, "{within} within a second");
            }
        }
        // Whatever has happened: once all has ended and time has passed, one may go, and a success heals it.
        while !target.running.is_empty() {
            target.end(Sign::Nothing, None);
        }
        target.now += secs(100_000);
        let returned = Ask { returned: true, rate, ..ASK };
        prop_assert!(matches!(target.ask(&returned), Verdict::Go(_)));
        target.end(Sign::Good, None);
        target.now += secs(1);
        prop_assert!(matches!(target.ask(&returned), Verdict::Go(_)));
        prop_assert!(!target.gate.is_open());
    }
}
