//! Who may be attempted now: the gates of all targets, and the shares of tenants and of retries.
//!
//! All of it stands in this process's memory and is forgotten when idle. The decisions are those of [`gate`](crate::gate);
//! here are the lock, the clock, and those who wait for a place for a moment.

use crate::gate::line::Line;
use crate::gate::load::Load;
use crate::gate::{Ask, Began, Gate, PATIENCE, Rules, Sign, Together, Verdict, Why};
use platform::telemetry::names;
use schemas::ids::{TargetId, Tenant};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Idle targets and tenants are forgotten when there are as many as this; about 700 bytes each.
const REMEMBERED: usize = 10_000;
/// A tenant that had nothing attempted for so long is not there to take turns with.
const GONE: Duration = Duration::from_secs(60);
/// Retries leave room for first attempts while there was one of these within this time.
const FRESH: Duration = Duration::from_secs(10);
/// How long a delivery is put off at least and at most when something of ours is away, and the pace of those
/// that come back: 500 a second, however much waits.
const OURS_LEAST: Duration = Duration::from_secs(5);
const OURS_WITHIN: Duration = Duration::from_secs(300);
const OURS_PACE: Duration = Duration::from_millis(2);

/// How much of all attempts some may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Attempts at once of one tenant, while there are others.
    pub tenant: usize,
    /// Retries at once in the dispatch lane, while there are first attempts.
    pub retries: usize,
}

/// A delivery that wants to be attempted.
#[derive(Clone, Copy, Debug)]
pub struct Entrant<'a> {
    /// Where it goes.
    pub target: TargetId,
    /// Whose it is.
    pub tenant: &'a Tenant,
    /// Whether it is its first attempt.
    pub first: bool,
    /// What its target's gate needs to know.
    pub ask: Ask,
}

/// What becomes of it.
#[derive(Debug)]
pub enum Entry {
    /// It may be attempted, while this is held.
    In(Permit),
    /// To the slow lane, for so long.
    Slow(Why, Duration),
    /// To the retry queue, for so long.
    Later(Why, Duration),
}

/// The permits of all targets.
#[derive(Debug)]
pub struct Permits {
    rules: Rules,
    shares: Shares,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    targets: HashMap<TargetId, Place>,
    tenants: HashMap<Tenant, Load>,
    retries: Load,
    first_seen: Option<Instant>,
    ours: Line,
}

#[derive(Debug)]
struct Place {
    gate: Gate,
    /// How many wait for a place for a moment: who comes after them does not overtake them.
    waiting: usize,
    free: Arc<Notify>,
}

enum Look {
    Done(Entry),
    Wait(Arc<Notify>),
}

/// Now, by the clock that tests can drive.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Permits {
    /// Permits by these rules.
    #[must_use]
    pub fn new(rules: Rules, shares: Shares) -> Arc<Self> {
        Arc::new(Self {
            rules,
            shares,
            inner: Mutex::new(Inner {
                targets: HashMap::new(),
                tenants: HashMap::new(),
                retries: Load::new(now()),
                first_seen: None,
                ours: Line::default(),
            }),
        })
    }

    /// A permit for one attempt, within a moment; or where to wait for one, and how long.
    pub async fn enter(self: &Arc<Self>, entrant: Entrant<'_>) -> Entry {
        let free = match self.look(entrant, Turn::New) {
            Look::Done(entry) => return entry,
            Look::Wait(free) => free,
        };
        let _waiter = Waiter {
            permits: self,
            target: entrant.target,
        };
        let patience = tokio::time::sleep(PATIENCE);
        tokio::pin!(patience);
        loop {
            let told = free.notified();
            tokio::pin!(told);
            // From here on nothing that becomes free is missed.
            told.as_mut().enable();
            let turn = tokio::select! {
                biased;
                () = &mut told => Turn::Waited,
                () = &mut patience => Turn::Last,
            };
            if let Look::Done(entry) = self.look(entrant, turn) {
                return entry;
            }
        }
    }

    /// Whether `count` deliveries of a target that wait together may come, each to ask for itself.
    pub fn together(&self, target: TargetId, ask: &Ask, count: u32) -> Together {
        let now = now();
        let mut inner = self.lock();
        inner.make_room(&self.rules, now);
        inner
            .targets
            .entry(target)
            .or_insert_with(|| Place::new(&self.rules, now))
            .gate
            .ask_together(&self.rules, now, ask, count)
    }

    /// How long to put off what something of ours is away for.
    pub fn ours_is_away(&self, chance: f64) -> Duration {
        let least = OURS_LEAST.mul_f64(1.0 + chance / 5.0);
        put_off(Why::Ours, 1);
        self.lock()
            .ours
            .place(now(), least, OURS_PACE, OURS_WITHIN, chance)
    }

    /// Forgets what is idle.
    pub fn forget_idle(&self) {
        self.lock().forget_idle(&self.rules, now());
    }

    fn look(self: &Arc<Self>, entrant: Entrant<'_>, turn: Turn) -> Look {
        let (now, ask) = (now(), entrant.ask);
        let mut inner = self.lock();
        inner.make_room(&self.rules, now);
        let Inner {
            targets,
            tenants,
            retries,
            first_seen,
            ..
        } = &mut *inner;
        let place = targets
            .entry(entrant.target)
            .or_insert_with(|| Place::new(&self.rules, now));
        if entrant.first && !ask.slow {
            *first_seen = Some(now);
        }
        let before = match turn {
            Turn::New => place.waiting,
            Turn::Waited | Turn::Last => 0,
        };
        let entry = match place.gate.ask(&self.rules, now, &ask, before) {
            Verdict::Wait if turn == Turn::Last => {
                Entry::Slow(Why::Target, place.gate.slow(&self.rules, now, &ask))
            }
            Verdict::Wait => {
                place.waiting += usize::from(turn == Turn::New);
                return Look::Wait(place.free.clone());
            }
            Verdict::Slow(why, wait) => Entry::Slow(why, wait),
            Verdict::Later(why, wait) => Entry::Later(why, wait),
            Verdict::Go(probe) => {
                let retry = !entrant.first && !ask.slow;
                let put_off = |load: &mut Load, share, why| {
                    let least = Duration::from_secs_f64(1.0 + ask.chance);
                    let most = Duration::from_secs(300);
                    Look::Done(Entry::Slow(
                        why,
                        load.put_off(now, share, least, most, ask.chance),
                    ))
                };
                if retry
                    && retries.running() >= self.shares.retries
                    && first_seen.is_some_and(|at| now - at < FRESH)
                {
                    return put_off(retries, self.shares.retries, Why::Retries);
                }
                let alone = |tenants: &HashMap<Tenant, Load>| {
                    let others = tenants.iter().filter(|(tenant, _)| *tenant != entrant.tenant);
                    others.into_iter().all(|(_, load)| load.is_idle(now, GONE))
                };
                let full = tenants
                    .get(entrant.tenant)
                    .is_some_and(|tenant| tenant.running() >= self.shares.tenant);
                if full && !alone(tenants) {
                    let tenant = tenants
                        .entry(entrant.tenant.clone())
                        .or_insert_with(|| Load::new(now));
                    return put_off(tenant, self.shares.tenant, Why::Tenant);
                }
                place.gate.begin(now, &ask, probe);
                tenants
                    .entry(entrant.tenant.clone())
                    .or_insert_with(|| Load::new(now))
                    .begin(now);
                if retry {
                    retries.begin(now);
                }
                Entry::In(Permit {
                    permits: self.clone(),
                    target: entrant.target,
                    tenant: entrant.tenant.clone(),
                    retry,
                    began: Began {
                        at: now,
                        slow: ask.slow,
                        probe,
                    },
                    said: (Sign::Nothing, None),
                })
            }
        };
        Look::Done(entry)
    }

    fn ended(&self, permit: &Permit) {
        let now = now();
        let (sign, asks) = permit.said;
        let took = (sign != Sign::Nothing).then(|| now - permit.began.at);
        let mut inner = self.lock();
        if let Some(tenant) = inner.tenants.get_mut(&permit.tenant) {
            tenant.end(now, took);
        }
        if permit.retry {
            inner.retries.end(now, took);
        }
        if let Some(place) = inner.targets.get_mut(&permit.target) {
            let was_open = place.gate.is_open();
            place.gate.end(&self.rules, now, permit.began, sign, asks);
            match (was_open, place.gate.is_open()) {
                (false, true) => metrics::gauge!(names::BREAKERS_OPEN).increment(1.0),
                (true, false) => metrics::gauge!(names::BREAKERS_OPEN).decrement(1.0),
                (true, true) | (false, false) => {}
            }
            for _ in 0..place.waiting.min(place.gate.free()) {
                place.free.notify_one();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose turn it is at a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// One that has just come.
    New,
    /// One that waited and was told of a free place.
    Waited,
    /// One that waits no longer.
    Last,
}

impl Place {
    fn new(rules: &Rules, now: Instant) -> Self {
        Self {
            gate: Gate::new(rules, now),
            waiting: 0,
            free: Arc::new(Notify::new()),
        }
    }

    fn is_used(&self) -> bool {
        self.gate.is_running() || self.waiting > 0
    }
}

impl Inner {
    fn forget_idle(&mut self, rules: &Rules, now: Instant) {
        self.keep(|place| place.is_used() || !place.gate.is_idle(rules, now));
        self.tenants.retain(|_, tenant| !tenant.is_idle(now, GONE));
    }

    /// Makes room where there is none: what is idle goes, then what nobody uses at the moment.
    fn make_room(&mut self, rules: &Rules, now: Instant) {
        if self.targets.len() < REMEMBERED && self.tenants.len() < REMEMBERED {
            return;
        }
        self.forget_idle(rules, now);
        if self.targets.len() >= REMEMBERED * 3 / 4 {
            self.keep(|place| place.is_used() || place.gate.is_open());
        }
        if self.targets.len() >= REMEMBERED * 3 / 4 {
            self.keep(Place::is_used);
        }
        if self.tenants.len() >= REMEMBERED * 3 / 4 {
            self.tenants.retain(|_, tenant| tenant.running() > 0);
        }
    }

    fn keep(&mut self, wanted: impl Fn(&Place) -> bool) {
        self.targets.retain(|_, place| {
            let keep = wanted(place);
            if !keep && place.gate.is_open() {
                metrics::gauge!(names::BREAKERS_OPEN).decrement(1.0);
            }
            keep
        });
    }
}

/// Somebody waiting at a gate.
struct Waiter<'a> {
    permits: &'a Permits,
    target: TargetId,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.permits.lock().targets.get_mut(&self.target) {
            place.waiting = place.waiting.saturating_sub(1);
        }
    }
}

/// The right to one attempt; the place is free again when it is dropped.
#[derive(Debug)]
pub struct Permit {
    permits: Arc<Permits>,
    target: TargetId,
    tenant: Tenant,
    retry: bool,
    began: Began,
    said: (Sign, Option<Duration>),
}

impl Permit {
    /// The attempt has ended, and this is what it said of the target; `asks` is for how long the target wants to
    /// be left alone, capped. A permit that is only dropped says that there was no attempt.
    pub fn end(mut self, sign: Sign, asks: Option<Duration>) {
        self.said = (sign, asks);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.ended(self);
    }
}

/// Counts deliveries that have to wait.
pub fn put_off(why: Why, count: u32) {
    metrics::counter!(names::DELIVERIES_POSTPONED, "why" => why.word()).increment(u64::from(count));
}

#[cfg(test)]
mod tests;
