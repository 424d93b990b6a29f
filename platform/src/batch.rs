//! Many small requests into few large ones.
//!
//! Callers submit one item each and wait for its result; a task packs what is waiting into batches
//! by count and bytes, and runs several batches at once. Without a linger nothing ever waits for a
//! timer: a batch is what came in while the ones before it ran.

use crate::delivery_queue::QueueLimits;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
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
    answers: Arc<Mutex<Answers<R>>>,
    /// Its place among those that were submitted with it.
    place: usize,
}

/// The results of items that were submitted together. Whoever waits is told once, when the last has come:
/// or, by its being dropped, that not all of them will.
struct Answers<R> {
    results: Vec<Option<R>>,
    missing: usize,
    done: Option<oneshot::Sender<Vec<Option<R>>>>,
}

impl<R> Answers<R> {
    fn note(&mut self, place: usize, result: R) {
        self.results[place] = Some(result);
        self.missing -= 1;
        if self.missing == 0
            && let Some(done) = self.done.take()
        {
            // Whoever no longer waits does not need them.
            drop(done.send(std::mem::take(&mut self.results)));
        }
    }
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
        let results = self.submit_all(vec![(value, bytes)]).await?;
        results.into_iter().next().ok_or(Stopped)
    }

    /// Submits items, each with its bytes, and waits for the results of all: one for each, in order. They
    /// share batches with others' as if they had been submitted one by one.
    ///
    /// # Errors
    /// [`Stopped`] when the batching task has ended.
    pub async fn submit_all(&self, items: Vec<(T, usize)>) -> Result<Vec<R>, Stopped> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let (done, results) = oneshot::channel();
        let answers = Arc::new(Mutex::new(Answers {
            results: items.iter().map(|_| None).collect(),
            missing: items.len(),
            done: Some(done),
        }));
        for (place, (value, bytes)) in items.into_iter().enumerate() {
            let item = Item {
                value,
                bytes,
                answers: answers.clone(),
                place,
            };
            self.items.send(item).await.map_err(|_| Stopped)?;
        }
        // By those that are submitted alone: when none is left, nobody will answer.
        drop(answers);
        let results = results.await.map_err(|_| Stopped)?;
        Ok(results.into_iter().flatten().collect())
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
            let (values, answers): (Vec<_>, Vec<_>) = batch
                .into_iter()
                .map(|item| (item.value, (item.answers, item.place)))
                .unzip();
            for ((answers, place), result) in answers.into_iter().zip(send(values).await) {
                let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
                answers.note(place, result);
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
    async fn items_submitted_together_are_split_over_batches_and_answered_in_order() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = seen.clone();
        let (batcher, task) = Batcher::new(limits(4, 100, 50, 2), move |batch: Vec<usize>| {
            record.lock().unwrap().push(batch.len());
            async move { batch.into_iter().map(|n| n * 2).collect() }
        });
        let task = tokio::spawn(task);
        let all = |from: usize| (from..from + 6).map(|n| (n, 1)).collect();
        let (first, second) = tokio::join!(batcher.submit_all(all(0)), batcher.submit_all(all(10)));
        assert_eq!(first.unwrap(), [0, 2, 4, 6, 8, 10]);
        assert_eq!(second.unwrap(), [20, 22, 24, 26, 28, 30]);
        assert_eq!(batcher.submit_all(Vec::new()).await, Ok(Vec::new()));
        drop(batcher);
        task.await.unwrap();
        assert_eq!(
            *seen.lock().unwrap(),
            [4, 4, 4],
            "batches are full whoever submitted"
        );
    }

    #[tokio::test]
    async fn a_stopped_batcher_says_so() {
        let (batcher, task) = Batcher::new(limits(1, 1, 0, 1), |batch: Vec<u8>| async move { batch });
        drop(task);
        assert_eq!(batcher.submit(1, 1).await, Err(Stopped));
    }

    #[tokio::test]
    async fn who_waits_for_several_hears_that_some_will_not_be_answered() {
        let (batcher, task) = Batcher::new(limits(1, 1, 0, 1), |batch: Vec<u8>| async move {
            if batch == [2] {
                std::future::pending::<()>().await;
            }
            batch
        });
        let task = tokio::spawn(task);
        let waiting = tokio::spawn({
            let batcher = batcher.clone();
            async move { batcher.submit_all(vec![(1, 1), (2, 1), (3, 1)]).await }
        });
        assert_eq!(batcher.submit(0, 1).await, Ok(0));
        task.abort();
        assert_eq!(waiting.await.unwrap(), Err(Stopped));
    }
}
