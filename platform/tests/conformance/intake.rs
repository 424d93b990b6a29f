//! Taking messages from a queue whose receives wait long: what becomes of one at shutdown.

use async_trait::async_trait;
use bytes::Bytes;
use platform::delivery_queue::intake::Intake;
use platform::delivery_queue::{
    DeliveryQueue, Depth, InMessage, MAX_RECEIVE, OutMessage, QueueError, QueueLimits, QueueName, Receipt,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const WAIT: Duration = Duration::from_secs(20);

/// A queue whose one receive ends when the test says so.
#[derive(Default)]
struct LongPoll {
    receiving: Notify,
    answered: Notify,
    extended: Mutex<Vec<(Receipt, Duration)>>,
}

#[async_trait]
impl DeliveryQueue for LongPoll {
    async fn send(&self, _: QueueName, batch: &[OutMessage]) -> Vec<Result<(), QueueError>> {
        vec![Ok(()); batch.len()]
    }

    async fn receive(
        &self,
        _: QueueName,
        _: usize,
        wait: Duration,
        _: Duration,
    ) -> Result<Vec<InMessage>, QueueError> {
        assert_eq!(wait, WAIT);
        self.receiving.notify_one();
        self.answered.notified().await;
        Ok(vec![InMessage {
            body: Bytes::from_static(b"body"),
            attribute: String::new(),
            receipt: Receipt::Handle("late".to_owned()),
            receive_count: 1,
        }])
    }

    async fn delete(&self, _: QueueName, receipts: &[Receipt]) -> Vec<Result<(), QueueError>> {
        vec![Ok(()); receipts.len()]
    }

    async fn extend(&self, _: QueueName, entries: &[(Receipt, Duration)]) -> Vec<Result<(), QueueError>> {
        self.extended.lock().unwrap().extend_from_slice(entries);
        vec![Ok(()); entries.len()]
    }

    async fn depth(&self, _: QueueName) -> Result<Depth, QueueError> {
        Ok(Depth::default())
    }

    fn limits(&self) -> QueueLimits {
        QueueLimits {
            receive_entries: MAX_RECEIVE,
            batch_entries: 10,
            batch_bytes: 1 << 20,
            linger: Duration::ZERO,
            concurrency: 1,
            receive_wait: WAIT,
            drop_receive: false,
        }
    }

    async fn provision(&self) -> Result<(), QueueError> {
        Ok(())
    }

    async fn check(&self) -> Result<(), QueueError> {
        Ok(())
    }
}

/// An intake in the middle of a receive, told to stop.
async fn stopping(queue: &Arc<LongPoll>) -> tokio::task::JoinHandle<()> {
    let intake = Intake {
        queue: queue.clone(),
        name: QueueName::Dispatch,
        permits: Arc::new(Semaphore::new(1)),
        visibility: Duration::from_secs(120),
    };
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let handle = async |_, _| panic!("nothing is handled after the shutdown");
    let running = tokio::spawn(async move { intake.run(handle, stop).await });
    queue.receiving.notified().await;
    shutdown.cancel();
    running
}

#[tokio::test(start_paused = true)]
async fn what_is_received_after_the_shutdown_is_made_visible_again() {
    let queue = Arc::new(LongPoll::default());
    let running = stopping(&queue).await;
    // Long polls are not dropped: what they bring would stay hidden.
    tokio::time::advance(WAIT - Duration::from_secs(1)).await;
    assert!(!running.is_finished());
    queue.answered.notify_one();
    running.await.unwrap();
    let late = (Receipt::Handle("late".to_owned()), Duration::ZERO);
    assert_eq!(*queue.extended.lock().unwrap(), [late]);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_never_answers_does_not_hold_the_shutdown_up() {
    let queue = Arc::new(LongPoll::default());
    let begun = Instant::now();
    let ended = tokio::time::timeout(3 * WAIT, stopping(&queue).await).await;
    ended.expect("it ends").unwrap();
    let took = begun.elapsed();
    assert!(took >= WAIT && took <= WAIT + Duration::from_secs(2), "{took:?}");
}
