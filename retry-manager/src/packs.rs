//! Packs: written, sent on, and unpacked when they are due.
//!
//! The object is put, then its message is sent, then the messages in it are deleted; at the end its
//! deliveries are sent, then its message is deleted, then the object. Killed anywhere between, what was
//! there is still there: some deliveries come twice, none is lost. While the store is away, messages hop
//! by themselves. When the first is due, the dispatcher says which may leave: none of a target that is
//! left alone. Where only some leave, a message that counts them follows theirs, and the object stays.

use crate::exits::Exits;
use crate::gather::{Group, Held};
use crate::price::Cost;
use futures_util::future::join_all;
use platform::config::Prices;
use platform::delivery_queue::sender::SendError;
use platform::delivery_queue::{InMessage, MAX_DELAY, OutMessage, QueueName};
use platform::payload_store::{PayloadError, PayloadStore};
use platform::secrets::random_bytes;
use platform::telemetry::{Outage, names};
use schemas::delivery::PayloadPointer;
use schemas::pack::{self, Out, Pack};
use schemas::schedule::hop;
use schemas::time::Millis;
use schemas::wire::{self, WireMessage};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// How long a put may take. Less than the grace of a process that stops.
const PUT: Duration = Duration::from_secs(10);
/// How long nothing is packed after a put that failed.
const REST: Duration = Duration::from_secs(60);
/// A group that has waited so long to be written hops instead: the visibility of what is in it runs out.
const TOO_OLD: Duration = Duration::from_secs(90);
/// Packs unpacked at once: each may have 8 MiB in memory.
const UNPACKED_AT_ONCE: usize = 4;
/// How long a pack waits for others to be unpacked.
const QUEUE_UP: Duration = Duration::from_secs(2);
/// How long a pack waits for a store that is away.
const AWAY: Duration = Duration::from_secs(30);

static STORE: Outage = Outage::new("payload store (packs)");

/// What packing needs.
pub struct Packs {
    store: Arc<dyn PayloadStore>,
    /// Without prices nothing is packed; what is packed is unpacked all the same.
    prices: Option<Prices>,
    unpacking: Semaphore,
    rests_until: Mutex<Option<Instant>>,
}

impl Packs {
    /// Packs in `store`, where that is cheaper by `prices`.
    #[must_use]
    pub fn new(store: Arc<dyn PayloadStore>, prices: Option<Prices>) -> Self {
        Self {
            store,
            prices,
            unpacking: Semaphore::new(UNPACKED_AT_ONCE),
            rests_until: Mutex::default(),
        }
    }

    /// Whether messages that wait long are gathered at all now.
    #[must_use]
    pub fn gathers(&self) -> bool {
        self.prices.is_some() && self.lock().is_none_or(|until| Instant::now() >= until)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.rests_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a pack of a group's messages.
    async fn put(&self, group: &Group) -> Result<Pack, PayloadError> {
        let mut members: Vec<&Held> = group.members.iter().collect();
        members.sort_by_key(|held| held.since);
        let messages: Vec<WireMessage> = members.iter().map(|held| held.message.clone()).collect();
        let due_at = group.due_at();
        // Each its own: two packs of the same messages, after a crash, go their ways apart.
        let number = u64::from_be_bytes(random_bytes());
        let key = format!(
            "packs/{}/{}/{}-{number:016x}",
            group.tenant, group.target, due_at.0
        );
        let put = self.store.put(&key, pack::write(&messages));
        let object = match tokio::time::timeout(PUT, put).await {
            Ok(put) => put?,
            Err(_) => return Err(PayloadError::Unavailable(format!("no answer within {PUT:?}"))),
        };
        Ok(Pack {
            tenant: group.tenant.clone(),
            target: group.target,
            due_at,
            count: u32::try_from(messages.len()).unwrap_or(u32::MAX),
            object,
            since: members.first().map_or(Millis(0), |held| held.since),
            left: 0,
            out: None,
        })
    }
}

impl Exits {
    /// A group's messages go on together, or each by itself where a pack does not pay or cannot be had.
    pub(crate) async fn close(&self, group: Group) {
        let wait = group.due_at().since(self.clock.now());
        let pays =
            |prices: &Prices| Cost::of(prices, group.members.len(), group.bytes, wait).favours_packing();
        let packs = &self.packs;
        if !packs.gathers() || group.opened.elapsed() > TOO_OLD || !packs.prices.as_ref().is_some_and(pays) {
            return self.hop_apart(group.members).await;
        }
        let pack = match packs.put(&group).await {
            Ok(pack) => pack,
            Err(error) => {
                STORE.failed(&error);
                *packs.lock() = Some(Instant::now() + REST);
                return self.hop_apart(group.members).await;
            }
        };
        STORE.works();
        let delay = hop(self.clock.now(), pack.due_at, MAX_DELAY);
        match self.retry.send(OutMessage::of_pack(&pack, delay)).await {
            Ok(()) => {
                metrics::counter!(names::PACKS).increment(1);
                metrics::counter!(names::PACKED_DELIVERIES).increment(u64::from(pack.count));
                let deleted = group
                    .members
                    .into_iter()
                    .map(|held| self.deleter.delete(held.receipt));
                join_all(deleted).await;
            }
            Err(SendError::Refused(why)) => {
                tracing::error!(%why, "the queue refuses a pack's message; its deliveries go on by themselves");
                self.hop_apart(group.members).await;
            }
            Err(SendError::Stopped(_)) => {}
        }
    }

    /// Each message for itself to its next step.
    async fn hop_apart(&self, members: Vec<Held>) {
        join_all(members.into_iter().map(|held| self.hop_on(held))).await;
    }

    /// A message that was to be gathered hops instead.
    pub(crate) async fn hop_on(&self, held: Held) {
        if self.waits_on(held.message).await {
            self.deleter.delete(held.receipt).await;
        }
    }

    /// The message of a pack: sent on while it is not due; then the dispatcher is asked, which knows how its
    /// target is; and what that lets out leaves it.
    pub(crate) async fn pack(&self, pack: Pack, received: InMessage) {
        let now = self.clock.now();
        match pack.out {
            Some(out) => self.let_out(pack, out, received).await,
            None if pack.due_at > now => {
                self.pack_on(&pack, hop(now, pack.due_at, MAX_DELAY), received)
                    .await
            }
            None => {
                let asks = self.dispatch.send(OutMessage::of_pack(&pack, Duration::ZERO));
                self.moved(asks.await, received).await;
            }
        }
    }

    /// Those of a pack that may leave it leave it, and the rest goes on.
    async fn let_out(&self, pack: Pack, out: Out, received: InMessage) {
        let Ok(_slot) = self.packs.unpacking.try_acquire() else {
            return self.pack_on(&pack, QUEUE_UP, received).await;
        };
        let object = match self.packs.store.get(&pack.object).await {
            Ok(object) => object,
            Err(error @ PayloadError::Unavailable(_)) => {
                STORE.failed(&error);
                return self.pack_on(&pack, AWAY, received).await;
            }
            Err(error @ (PayloadError::Missing { .. } | PayloadError::Damaged { .. })) => {
                // Unpacked before, if its message was seen once more; else it is for people to look at.
                tracing::error!(%error, deliveries = pack.waiting(), "a pack cannot be unpacked");
                return self.bury(received).await;
            }
        };
        STORE.works();
        let messages = match pack::read(&object) {
            Ok(messages) => messages,
            Err(error) => {
                tracing::error!(%error, deliveries = pack.waiting(), "a pack cannot be unpacked");
                return self.bury(received).await;
            }
        };
        let Parted { out, rest } = part(pack, out, messages);
        if !self.all_sent(out, &received).await {
            return;
        }
        match rest {
            Rest::Goes(rest) => {
                let delay = hop(self.clock.now(), rest.due_at, MAX_DELAY);
                self.pack_on(&rest, delay, received).await;
            }
            Rest::Empty(object) => {
                self.deleter.delete(received.receipt).await;
                if let Err(error) = self.packs.store.delete(&object).await {
                    tracing::debug!(%error, "an unpacked pack stays until it expires");
                }
            }
        }
    }

    /// Sends a pack's deliveries to their next step; whether each has one now.
    async fn all_sent(&self, messages: Vec<WireMessage>, received: &InMessage) -> bool {
        let mut sending = std::pin::pin!(join_all(messages.into_iter().map(|one| self.waits_on(one))));
        let mut beat = tokio::time::interval(crate::VISIBILITY / 2);
        beat.reset();
        loop {
            tokio::select! {
                sent = &mut sending => return sent.iter().all(|sent| *sent),
                // A queue that is slow: nobody else is to begin the same.
                _ = beat.tick() => {
                    let longer = [(received.receipt.clone(), crate::VISIBILITY)];
                    drop(self.queue.extend(QueueName::Retry, &longer).await);
                }
            }
        }
    }

    /// Sends a pack's message again, and deletes the one received.
    async fn pack_on(&self, pack: &Pack, delay: Duration, received: InMessage) {
        let sent = self.retry.send(OutMessage::of_pack(pack, delay)).await;
        self.moved(sent, received).await;
    }

    /// Deletes the message of a pack that has been sent elsewhere.
    async fn moved(&self, sent: Result<(), SendError>, received: InMessage) {
        match sent {
            Ok(()) => self.deleter.delete(received.receipt).await,
            Err(SendError::Refused(why)) => {
                tracing::error!(%why, "the queue refuses a pack's message; the one it has stays");
            }
            Err(SendError::Stopped(_)) => {}
        }
    }
}

/// A pack's deliveries that leave it, and what is left of it.
struct Parted {
    out: Vec<WireMessage>,
    rest: Rest,
}

/// What is left of a pack.
enum Rest {
    /// Some.
    Goes(Pack),
    /// Nothing but its object.
    Empty(PayloadPointer),
}

/// Who leaves a pack that holds `messages`. Pure.
fn part(pack: Pack, out: Out, messages: Vec<WireMessage>) -> Parted {
    let mut waiting = messages
        .into_iter()
        .skip(usize::try_from(pack.left).unwrap_or(usize::MAX))
        .peekable();
    let mut leaves = Vec::new();
    let mut left = pack.left;
    while leaves.len() < usize::try_from(out.most).unwrap_or(usize::MAX)
        && let Some(one) = waiting.next_if(|one| since(one) <= out.until)
    {
        leaves.push(one);
        left += 1;
    }
    let rest = match waiting.peek() {
        None => Rest::Empty(pack.object),
        Some(oldest) => Rest::Goes(Pack {
            since: since(oldest),
            left,
            out: None,
            ..pack
        }),
    };
    Parted { out: leaves, rest }
}

/// When a delivery's retry window began; what cannot be read leaves first.
fn since(message: &WireMessage) -> Millis {
    wire::decode(message.body.clone(), &message.attribute)
        .map_or(Millis(0), |delivery| delivery.window_start())
}
