//! What a test has said of calls to come.

use super::Call;
use crate::{eventually, secs};
use serde_json::Value;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::watch;

/// What is done to a call that a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing before the rule is lifted; SQS has not seen it.
    Hold,
    /// It is passed on at once, its answer not before the rule is lifted.
    Withhold,
    /// The matching entries fail, the others are passed on.
    Refuse,
}

type Like = dyn Fn(&Value) -> bool + Send + Sync;

/// What is done to which calls, until it is lifted.
pub(super) struct Rule {
    operation: &'static str,
    queue: &'static str,
    pub(super) fault: Fault,
    /// Which entries; a call is meant when one of its entries is.
    like: Box<Like>,
    /// How many calls that it is about pass before it counts.
    passing: AtomicUsize,
    /// How many calls it has met: at the point where a test kills the product.
    met: watch::Sender<usize>,
    lifted: watch::Sender<bool>,
}

/// A rule in force, until it is lifted.
pub struct Trap {
    what: String,
    met: watch::Receiver<usize>,
    lifted: watch::Sender<bool>,
}

impl Trap {
    /// Waits until a call is in it: held, or answered by SQS and withheld, or refused.
    pub async fn sprung(&self) {
        eventually(secs(30), &self.what, async || {
            (*self.met.borrow() > 0).then_some(())
        })
        .await;
    }

    /// Ends the rule: what is held goes on.
    pub fn lift(&self) {
        self.lifted.send_replace(true);
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        self.lift();
    }
}

impl Rule {
    /// A rule and the trap by which a test holds it. The `n`th call that it is about is the first that it
    /// catches.
    pub(super) fn new(
        operation: &'static str,
        queue: &'static str,
        fault: Fault,
        n: usize,
        like: impl Fn(&Value) -> bool + Send + Sync + 'static,
    ) -> (Self, Trap) {
        let (met, seen) = watch::channel(0);
        let (lifted, _) = watch::channel(false);
        let trap = Trap {
            what: format!("{operation} to {queue} meets {fault:?}"),
            met: seen,
            lifted: lifted.clone(),
        };
        let rule = Self {
            operation,
            queue,
            fault,
            like: Box::new(like),
            passing: AtomicUsize::new(n.saturating_sub(1)),
            met,
            lifted,
        };
        (rule, trap)
    }

    /// Whether it is about a call, and counts by now.
    pub(super) fn catches(&self, call: &Call) -> bool {
        let less = |left: usize| left.checked_sub(1);
        call.is(self.operation, self.queue)
            && call.entries().iter().any(|entry| (self.like)(entry))
            && self
                .passing
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
                .is_err()
    }

    /// Tells the test that a call is in it.
    pub(super) fn meet(&self) {
        self.met.send_modify(|met| *met += 1);
    }

    pub(super) fn is_lifted(&self) -> bool {
        *self.lifted.borrow()
    }

    /// Waits until it is lifted.
    pub(super) async fn end(&self) {
        // Fails only without a sender, and there is one in `self`.
        let _ = self.lifted.subscribe().wait_for(|lifted| *lifted).await;
    }

    /// Takes those entries out of a batch that it is about.
    pub(super) fn take_entries(&self, input: &mut Value) -> Vec<Value> {
        let Some(Value::Array(entries)) = input.get_mut("Entries") else {
            return Vec::new();
        };
        let (taken, left) = std::mem::take(entries)
            .into_iter()
            .partition(|entry| (self.like)(entry));
        *entries = left;
        taken
    }
}
