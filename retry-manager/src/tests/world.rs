//! The world: clock, queue and store, a process that can be killed, and what was attempted.

use super::memory::{Death, MemoryLog, MemoryQueue, MemoryStore};
use crate::exits::Exits;
use crate::gather::Gathering;
use crate::given_up::Obituaries;
use crate::packs::Packs;
use bytes::Bytes;
use platform::announce::{Announcer, Writing};
use platform::clock::Clock;
use platform::config::Prices;
use platform::delivery_queue::{InMessage, MAX_DELAY, OutMessage, QueueName};
use platform::report::Reporter;
use schemas::delivery::{Delivery, Payload};
use schemas::event::Position;
use schemas::ids::{EventId, TargetId, Tenant};
use schemas::pack::{Out, Pack};
use schemas::schedule::{Next, RetryPolicy, chance_of, hop, next_attempt};
use schemas::time::Millis;
use schemas::wire;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub(super) const ACCEPTED: Millis = Millis(1_767_225_599_123);

/// A process: gone when dropped, with all it had under way.
struct Process {
    exits: Exits,
    gathering: Gathering,
    _tasks: JoinSet<()>,
}

/// An attempt that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) event: EventId,
    pub(super) number: u32,
    /// When it was due; the first at once.
    pub(super) due: Option<Millis>,
    pub(super) at: Millis,
}

/// The world of one test.
pub(super) struct World {
    pub(super) clock: Clock,
    pub(super) queue: Arc<MemoryQueue>,
    pub(super) policy: RetryPolicy,
    /// What each failing answer asks for.
    pub(super) retry_after: Option<Duration>,
    pub(super) made: Vec<Made>,
    pub(super) store: Arc<MemoryStore>,
    pub(super) log: Arc<MemoryLog>,
    /// Whether attempts succeed.
    pub(super) takes: bool,
    /// What the dispatcher says of a pack that asks: which may leave, and when the others ask again.
    pub(super) says: fn(&Pack, Millis) -> (Option<Out>, Millis),
    /// How often packs asked.
    pub(super) asked: usize,
    prices: Option<Prices>,
    began: Instant,
    process: Process,
}

impl World {
    /// A world where every attempt fails, with one process that may be about to die.
    pub(super) fn new(policy: RetryPolicy, death: Option<Death>) -> Self {
        Self::with(policy, death, None)
    }

    /// The same, where deliveries that wait long are packed.
    pub(super) fn packing(policy: RetryPolicy, death: Option<Death>) -> Self {
        let prices = Prices {
            queue: 0.40,
            put: 5.00,
            get: 0.40,
            storage: 0.023,
        };
        Self::with(policy, death, Some(prices))
    }

    fn with(policy: RetryPolicy, death: Option<Death>, prices: Option<Prices>) -> Self {
        let clock = Clock::driven(ACCEPTED);
        let queue = Arc::new(MemoryQueue::new(clock.clone(), death));
        let store = Arc::new(MemoryStore::new(queue.clone()));
        let log = Arc::new(MemoryLog::new(queue.clone()));
        let process = start(&queue, &store, &log, prices, &clock);
        Self {
            clock,
            queue,
            policy,
            retry_after: None,
            made: Vec::new(),
            store,
            log,
            takes: false,
            says: |_, now| (Some(Out::ALL), now),
            asked: 0,
            prices,
            began: Instant::now(),
            process,
        }
    }

    /// An event is accepted, and matched by one target.
    pub(super) fn accept(&self, event: &str) {
        let delivery = delivery(event, self.clock.now());
        self.queue
            .put(QueueName::Dispatch, &OutMessage::of(&delivery, Duration::ZERO));
    }

    /// A delivery waits in the retry queue, and is seen at once.
    pub(super) fn waits(&self, event: &str, target: i64, due_at: Millis) {
        self.waits_since(ACCEPTED, event, target, due_at);
    }

    /// The same, of an event accepted then.
    pub(super) fn waits_since(&self, accepted_at: Millis, event: &str, target: i64, due_at: Millis) {
        let waiting = Delivery {
            target: TargetId(target),
            attempt: 2,
            due_at: Some(due_at),
            ..delivery(event, accepted_at)
        };
        self.queue
            .put(QueueName::Retry, &OutMessage::of(&waiting, Duration::ZERO));
    }

    /// Goes on until nothing waits any more. Answers how many calls the process made.
    pub(super) async fn run_to_the_end(&mut self) -> usize {
        self.run_until(Millis(i64::MAX)).await
    }

    /// The same, but no further than this moment.
    pub(super) async fn run_until(&mut self, end: Millis) -> usize {
        loop {
            if let Some(message) = self.queue.take(QueueName::Dispatch) {
                self.dispatch(&message);
            } else if let Some(message) = self.queue.take(QueueName::Retry) {
                let held = tokio::select! {
                    held = self.process.exits.message(message) => held,
                    () = self.queue.died.notified() => {
                        self.restart();
                        continue;
                    }
                };
                if let Some(held) = held {
                    let now = self.instant(self.clock.now());
                    let closed = self.process.gathering.add(held, now);
                    assert!(closed.is_empty(), "a test's groups are small");
                }
            } else {
                // What comes next: a group that closes, or a message that is visible.
                let closes = self.process.gathering.next_close();
                let visible = self.queue.next_visible();
                let first = |at: Millis| closes.is_none_or(|closes| self.instant(at) < closes);
                match (closes, visible) {
                    (_, Some(at)) if first(at) => {
                        if at > end {
                            return self.queue.calls();
                        }
                        self.clock.advance(at.since(self.clock.now()));
                    }
                    (Some(at), _) => {
                        self.clock
                            .advance(at.saturating_duration_since(self.instant(self.clock.now())));
                        self.close().await;
                    }
                    (None, _) => return self.queue.calls(),
                }
            }
        }
    }

    /// Closes the oldest group.
    async fn close(&mut self) {
        if let Some(group) = self.process.gathering.close_oldest() {
            tokio::select! {
                () = self.process.exits.close(group) => {}
                () = self.queue.died.notified() => self.restart(),
            }
        }
    }

    /// A moment of the driven clock.
    fn instant(&self, at: Millis) -> Instant {
        self.began + at.since(ACCEPTED)
    }

    /// The process is dead, and another starts.
    fn restart(&mut self) {
        self.process = start(&self.queue, &self.store, &self.log, self.prices, &self.clock);
    }

    /// The dispatcher: tries in vain, and has the next attempt wait.
    fn dispatch(&mut self, message: &InMessage) {
        let now = self.clock.now();
        self.queue.remove(QueueName::Dispatch, &message.receipt);
        if let Ok(mut pack) = Pack::from_attribute(&message.attribute) {
            self.asked += 1;
            (pack.out, pack.due_at) = (self.says)(&pack, now);
            let delay = pack
                .out
                .map_or(hop(now, pack.due_at, MAX_DELAY), |_| Duration::ZERO);
            return self
                .queue
                .put(QueueName::Retry, &OutMessage::of_pack(&pack, delay));
        }
        let mut delivery = wire::decode(message.body.clone(), &message.attribute).unwrap();
        self.made.push(Made {
            event: delivery.event_id.clone(),
            number: delivery.attempt,
            due: delivery.due_at,
            at: now,
        });
        if self.takes {
            return;
        }
        let chance = chance_of(&delivery.id(), delivery.attempt);
        let (number, accepted) = (delivery.attempt, delivery.accepted_at);
        delivery.reason = Some("http_503".to_owned());
        let delay = match next_attempt(&self.policy, number, accepted, now, self.retry_after, chance) {
            Next::At(due) => {
                delivery.attempt += 1;
                delivery.due_at = Some(due);
                hop(now, due, MAX_DELAY)
            }
            Next::Exhausted => {
                delivery.due_at = None;
                Duration::ZERO
            }
        };
        self.queue
            .put(QueueName::Retry, &OutMessage::of(&delivery, delay));
    }

    /// How often a message was sent to wait once more.
    pub(super) fn hops(&self) -> usize {
        self.queue.hops()
    }
}

fn start(
    queue: &Arc<MemoryQueue>,
    store: &Arc<MemoryStore>,
    log: &Arc<MemoryLog>,
    prices: Option<Prices>,
    clock: &Clock,
) -> Process {
    // History's task does not run: what is told there is lost, as it may be.
    let (reporter, _) = Reporter::new(log.clone(), "attempts".to_owned());
    let announcer = Announcer::new(log.clone(), "events".to_owned(), Writing::Raw, clock.clone());
    let (exits, tasks) = Exits::new(
        queue.clone(),
        Packs::new(store.clone(), prices),
        Obituaries::new(Some(announcer)),
        reporter,
        clock.clone(),
    );
    Process {
        exits,
        gathering: Gathering::default(),
        _tasks: tasks,
    }
}

fn delivery(event: &str, accepted_at: Millis) -> Delivery {
    Delivery {
        event_id: EventId::new(event).unwrap(),
        original_id: None,
        tenant: Tenant::new("acme").unwrap(),
        target: TargetId(1),
        event_type: "orders.created".into(),
        content_type: "application/json".into(),
        accepted_at,
        traceparent: None,
        position: Position {
            topic: "t".into(),
            partition: 0,
            offset: 0,
        },
        attempt: 1,
        due_at: None,
        reason: None,
        resend: None,
        payload: Payload::Inline(Bytes::from_static(b"{}")),
    }
}
