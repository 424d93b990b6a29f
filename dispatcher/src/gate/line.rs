//! Whoever has to wait stands in line: each gets a moment of its own to come back at. Pure.

use std::time::{Duration, Instant};

/// Moments to come back at, one behind the other, so that what waits together does not come back together
/// and no oftener than it has a prospect.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// The first moment that nobody has.
    next: Option<Instant>,
}

impl Line {
    /// How long the next one waits: at least `least`, and `pace` longer than the one before it. Nobody waits for
    /// more than `least` and `most`: where the line is as long as that, `chance` (0 to 1) picks a moment in the later
    /// three quarters, and the line grows no longer. Not in the first quarter, since a delivery's chance is the same each
    /// time: one that came back early would do so for ever.
    pub fn place(
        &mut self,
        now: Instant,
        least: Duration,
        pace: Duration,
        most: Duration,
        chance: f64,
    ) -> Duration {
        let first = now + least;
        let at = self.next.map_or(first, |next| next.max(first));
        if at > first + most {
            return least + most.mul_f64(0.25 + 0.75 * chance.clamp(0.0, 1.0));
        }
        self.next = Some(at + pace);
        at - now
    }

    /// Whether somebody is still to come back.
    #[must_use]
    pub fn is_waiting(&self, now: Instant) -> bool {
        self.next.is_some_and(|next| next > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn each_waits_a_pace_longer_than_the_one_before() {
        let (mut line, now) = (Line::default(), Instant::now());
        let mut place = |at| line.place(now + ms(at), ms(1_000), ms(100), ms(60_000), 0.5);
        assert_eq!([place(0), place(0), place(0)], [ms(1_000), ms(1_100), ms(1_200)]);
        assert_eq!(place(50), ms(1_250), "time passes for those in line too");
        assert_eq!(place(10_000), ms(1_000), "and a line that has gone home is empty");
        assert!(line.is_waiting(now + ms(11_050)));
        assert!(!line.is_waiting(now + ms(11_100)));
    }

    #[test]
    fn much_more_than_a_line_holds_comes_back_little_oftener_than_it_must() {
        let (mut line, now) = (Line::default(), Instant::now());
        let mut place = |at, of: u32| {
            let chance = f64::from(of) / 100_000.0;
            let wait = line.place(now + at, ms(10_000), ms(20), ms(900_000), chance);
            (Reverse(at + wait), of)
        };
        let mut away: BinaryHeap<_> = (0..100_000).map(|of| place(Duration::ZERO, of)).collect();
        let mut came = 0;
        while let Some((Reverse(at), of)) = away.pop()
            && at < ms(3_600_000)
        {
            came += 1;
            away.push(place(at, of));
        }
        // Each at least once in 910 s is 110 a second.
        assert!((110..160).contains(&(came / 3_600)), "{} a second", came / 3_600);
    }

    proptest! {
        #[test]
        fn nobody_waits_too_short_or_too_long_and_few_come_back_at_once(
            arrivals in prop::collection::vec(0..500_u64, 1..200),
            (least, pace, most) in (0..2_000_u64, 1..500_u64, 0..20_000_u64),
            chance in 0.0..1.0_f64,
        ) {
            let (mut line, mut now) = (Line::default(), Instant::now());
            let mut last = None;
            for passes in arrivals {
                now += ms(passes);
                let end = now + ms(least) + ms(most);
                let before = line.next;
                let wait = line.place(now, ms(least), ms(pace), ms(most), chance);
                prop_assert!(wait >= ms(least) && wait <= ms(least) + ms(most));
                let full = before.is_some_and(|next| next > end);
                if full {
                    prop_assert_eq!(line.next, before, "a full line grows no longer");
                } else {
                    if let Some(last) = last {
                        prop_assert!(now + wait >= last + ms(pace), "in order, a pace apart");
                    }
                    last = Some(now + wait);
                }
            }
        }
    }
}
