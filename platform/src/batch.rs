//! Many small requests into few large ones.
//!
//! Callers submit one item each and wait for its result; a task packs what is waiting into batches
//! by count and bytes, and runs several batches at once. Without a linger nothing ever waits for a
//! timer: a batch is what came in while the ones before it ran.

use crate::delivery_queue::QueueLimits;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

/// What one batch may hold, and how many run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Items of one batch.
    pub entries: usize,
    /// Bytes of one batch; an item larger than this goes alone.
    pub bytes: usize,
    /// How long to wait for a batch to fill.
    pub linger: Duration,
    /// How many batches run at once.
    pub concurrency: usize,
}

impl From<QueueLimits> for BatchLimits {
    fn from(limits: QueueLimits) -> Self {
        Self {
            entries: limits.batch_entries,
            bytes: limits.batch_bytes,
            linger: limits.linger,
            concurrency: limits.concurrency,
        }
    }
}

struct Item<T, R> {
    value: T,
    bytes: usize,
    answer: oneshot::Sender<R>,
}

/// Hands items to the batching task. Cloned freely; the task ends when all clones are gone.
pub struct Batcher<T, R> {
    items: mpsc::Sender<Item<T, R>>,
}

impl<T, R> Clone for Batcher<T, R> {
    fn clone(&self) -> Self {
        Self {
            items: self.items.clone(),
        }
    }
}

/// The batching task is gone: the process is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the batcher has stopped")]
pub struct Stopped;

impl<T: Send + 'static, R: Send + 'static> Batcher<T, R> {
    /// A batcher and the task that must be run for it. `send` gets the items of one batch and
    /// answers with one result per item, in order.
    pub fn new<F, Fut>(limits: BatchLimits, send: F) -> (Self, impl Future<Output = ()> + Send + 'static)
    where
        F: Fn(Vec<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Vec<R>> + Send + 'static,
    {
        let (items, queue) = mpsc::channel(limits.entries.max(64) * 2);
        (Self { items }, run(queue, limits, Arc::new(send)))
    }

    /// Submits an item and waits for its result.
    ///
    /// # Errors
    /// [`Stopped`] when the batching task has ended.
    pub async fn submit(&self, value: T, bytes: usize) -> Result<R, Stopped> {
        let (answer, result) = oneshot::channel();
        self.items
            .send(Item { value, bytes, answer })
            .await
            .map_err(|_| Stopped)?;
        result.await.map_err(|_| Stopped)
    }
}

async fn run<T, R, F, Fut>(mut queue: mpsc::Receiver<Item<T, R>>, limits: BatchLimits, send: Arc<F>)
where
    T: Send + 'static,
    R: Send + 'static,
    F: Fn(Vec<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Vec<R>> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(limits.concurrency.max(1)));
    let mut running = JoinSet::new();
    let mut held: Option<Item<T, R>> = None;
    loop {
        // A slot first: while all are busy, items gather, and batches grow with the load.
        let Ok(slot) = slots.clone().acquire_owned().await else {
            break;
        };
        let Some(batch) = fill(&mut queue, limits, &mut held).await else {
            break;
        };
        while running.try_join_next().is_some() {}
        let send = send.clone();
        running.spawn(async move {
            let (values, answers): (Vec<_>, Vec<_>) =
                batch.into_iter().map(|item| (item.value, item.answer)).unzip();
            for (answer, result) in answers.into_iter().zip(send(values).await) {
                // Whoever no longer waits for the result does not need it.
                drop(answer.send(result));
            }
            drop(slot);
        });
    }
    while running.join_next().await.is_some() {}
}

/// Waits for the first item, then takes what else is there, or comes within the linger.
async fn fill<T, R>(
    queue: &mut mpsc::Receiver<Item<T, R>>,
    limits: BatchLimits,
    held: &mut Option<Item<T, R>>,
) -> Option<Vec<Item<T, R>>> {
    let first = match held.take() {
        Some(item) => item,
        None => queue.recv().await?,
    };
    let mut bytes = first.bytes;
    let mut batch = vec![first];
    let deadline = tokio::time::Instant::now() + limits.linger;
    while batch.len() < limits.entries {
        let next = match queue.try_recv() {
            Ok(item) => item,
            Err(mpsc::error::TryRecvError::Disconnected) => break,
            Err(mpsc::error::TryRecvError::Empty) if limits.linger.is_zero() => break,
            Err(mpsc::error::TryRecvError::Empty) => {
                match tokio::time::timeout_at(deadline, queue.recv()).await {
                    Ok(Some(item)) => item,
                    Ok(None) | Err(_) => break,
                }
            }
        };
        if bytes + next.bytes > limits.bytes {
            *held = Some(next);
            break;
        }
        bytes += next.bytes;
        batch.push(next);
    }
    Some(batch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn limits(entries: usize, bytes: usize, linger_ms: u64, concurrency: usize) -> BatchLimits {
        BatchLimits {
            entries,
            bytes,
            linger: Duration::from_millis(linger_ms),
            concurrency,
        }
    }

    #[tokio::test]
    async fn batches_keep_to_count_and_bytes_and_answer_each_item() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = seen.clone();
        let (batcher, task) = Batcher::new(limits(3, 100, 50, 1), move |batch: Vec<usize>| {
            record.lock().unwrap().push(batch.clone());
            async move { batch.into_iter().map(|n| n * 2).collect() }
        });
        let task = tokio::spawn(task);
        let mut waiting = JoinSet::new();
        for n in 0..10usize {
            let batcher = batcher.clone();
            waiting.spawn(async move { (n, batcher.submit(n, if n == 4 { 500 } else { 30 }).await) });
        }
        while let Some(joined) = waiting.join_next().await {
            let (n, result) = joined.unwrap();
            assert_eq!(result, Ok(n * 2));
        }
        drop(batcher);
        task.await.unwrap();
        let seen = seen.lock().unwrap();
        assert_eq!(seen.iter().map(Vec::len).sum::<usize>(), 10);
        for batch in seen.iter() {
            assert!(batch.len() <= 3);
            assert!(
                !batch.contains(&4) || batch.len() == 1,
                "an oversize item goes alone: {batch:?}"
            );
        }
    }

    #[tokio::test]
    async fn items_gather_while_all_slots_are_busy() {
        let gate = Arc::new(Semaphore::new(0));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (record, wait) = (seen.clone(), gate.clone());
        let (batcher, task) = Batcher::new(limits(100, usize::MAX, 0, 1), move |batch: Vec<u8>| {
            record.lock().unwrap().push(batch.len());
            let wait = wait.clone();
            async move {
                wait.acquire().await.unwrap().forget();
                batch
            }
        });
        let task = tokio::spawn(task);
        let mut waiting = JoinSet::new();
        for n in 0..50u8 {
            let batcher = batcher.clone();
            waiting.spawn(async move { batcher.submit(n, 1).await });
        }
        // All 50 are submitted before the first batch may finish.
        while batcher.items.capacity()
            > batcher.items.max_capacity() - 49 + seen.lock().unwrap().first().copied().unwrap_or(1) - 1
        {
            tokio::task::yield_now().await;
        }
        gate.add_permits(100);
        while waiting.join_next().await.is_some() {}
        drop(batcher);
        task.await.unwrap();
        assert!(seen.lock().unwrap().len() <= 3, "{:?}", seen.lock().unwrap());
    }

    #[tokio::test]
    async fn a_stopped_batcher_says_so() {
        let (batcher, task) = Batcher::new(limits(1, 1, 0, 1), |batch: Vec<u8>| async move { batch });
        drop(task);
        assert_eq!(batcher.submit(1, 1).await, Err(Stopped));
    }
}
