//! The limit of the queue: bare SDK loops that send, and that receive and delete, with nothing between.

use super::Context;
use crate::ledger::now_ns;
use crate::payload::Template;
use crate::proc::Proc;
use crate::report::Row;
use crate::world::sqs_client;
use anyhow::{Context as _, Result, bail};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    DeleteMessageBatchRequestEntry, MessageAttributeValue, SendMessageBatchRequestEntry,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Calls in flight.
const IN_FLIGHT: usize = 32;

/// Messages of a batch: SQS's most.
const BATCH: u64 = 10;

/// How long nothing may come before the queue counts as having lost something.
const SILENCE: Duration = Duration::from_secs(30);

/// `messages` (rounded to whole batches) sent, then received and deleted: a row for each, on a queue
/// made for it and removed again.
pub async fn run(context: &Context, messages: u64) -> Result<[Row; 2]> {
    let (payload, messages) = (context.payload, messages.next_multiple_of(BATCH));
    on_a_queue(async |client, url| {
        let sent = send_all(client, url, payload, messages).await?;
        let received = take_all(client, url, messages).await?;
        Ok([sent, received])
    })
    .await
}

/// Messages per second, of so many bytes of payload, sent to a queue made for it and removed again.
pub async fn send_rate(payload: usize, messages: u64) -> Result<f64> {
    let messages = messages.next_multiple_of(BATCH);
    let sent = on_a_queue(async |client, url| send_all(client, url, payload, messages).await).await?;
    sent.per_second.context("no rate")
}

async fn on_a_queue<T>(measure: impl AsyncFnOnce(&Client, &str) -> Result<T>) -> Result<T> {
    let client = sqs_client().await?;
    let name = format!(
        "bench-raw-{}-{}",
        std::process::id(),
        now_ns() / 1_000_000 % 1_000_000
    );
    let made = client.create_queue().queue_name(&name).send().await;
    let url = made
        .map_err(aws_sdk_sqs::Error::from)
        .with_context(|| format!("create queue {name}"))?
        .queue_url
        .context("a queue without a URL")?;
    let measured = measure(&client, &url).await;
    let removed = client.delete_queue().queue_url(&url).send().await;
    let measured = measured?;
    removed
        .map_err(aws_sdk_sqs::Error::from)
        .with_context(|| format!("delete queue {name}"))?;
    Ok(measured)
}

async fn send_all(client: &Client, url: &str, payload: usize, messages: u64) -> Result<Row> {
    let body = String::from_utf8(Template::new(payload).payload(0, now_ns()))?;
    let left = Arc::new(AtomicU64::new(messages / BATCH));
    let (seconds, cpu) = timed(|workers| {
        for _ in 0..IN_FLIGHT {
            workers.spawn(send(client.clone(), url.to_owned(), body.clone(), left.clone()));
        }
    })
    .await?;
    let mut sent = Row::new("limit: SQS send");
    fill(&mut sent, messages, seconds, cpu, messages / BATCH);
    Ok(sent)
}

async fn take_all(client: &Client, url: &str, messages: u64) -> Result<Row> {
    let (taken, requests) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (seconds, cpu) = timed(|workers| {
        for _ in 0..IN_FLIGHT {
            workers.spawn(take(
                client.clone(),
                url.to_owned(),
                messages,
                taken.clone(),
                requests.clone(),
            ));
        }
    })
    .await?;
    let mut received = Row::new("limit: SQS receive and delete");
    fill(
        &mut received,
        messages,
        seconds,
        cpu,
        requests.load(Ordering::Relaxed),
    );
    Ok(received)
}

/// An entry with all that the product's have: an attribute about as long, a group, a delay.
pub fn entry(id: impl Into<String>, body: &str) -> Result<SendMessageBatchRequestEntry> {
    let attribute = MessageAttributeValue::builder()
        .data_type("String")
        .string_value("x".repeat(256))
        .build()?;
    Ok(SendMessageBatchRequestEntry::builder()
        .id(id)
        .message_body(body)
        .message_attributes("hookwright", attribute)
        .message_group_id("bench:1")
        .delay_seconds(0)
        .build()?)
}

fn fill(row: &mut Row, messages: u64, seconds: f64, cpu: f64, requests: u64) {
    let thousands = messages as f64 / 1000.0;
    row.per_second = Some(messages as f64 / seconds);
    row.cpu_per_1000 = Some(cpu / thousands);
    row.sqs_per_1000 = Some(requests as f64 / thousands);
    row.note(format!(
        "{messages} messages, {IN_FLIGHT} calls in flight, batches of {BATCH}; CPU-s/1k is this client's"
    ));
}

/// Runs the workers to their end: seconds and processor seconds.
async fn timed(start: impl FnOnce(&mut JoinSet<Result<()>>)) -> Result<(f64, f64)> {
    let (clock, cpu) = (Instant::now(), Proc::own().cpu_seconds()?);
    let mut workers = JoinSet::new();
    start(&mut workers);
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    Ok((clock.elapsed().as_secs_f64(), Proc::own().cpu_seconds()? - cpu))
}

async fn send(client: Client, url: String, body: String, left: Arc<AtomicU64>) -> Result<()> {
    while left
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
        .is_ok()
    {
        let mut batch = client.send_message_batch().queue_url(&url);
        for id in 0..BATCH {
            batch = batch.entries(entry(id.to_string(), &body)?);
        }
        let answer = batch.send().await.map_err(aws_sdk_sqs::Error::from)?;
        if let Some(failed) = answer.failed.first() {
            bail!("an entry was not sent: {}", failed.code);
        }
    }
    Ok(())
}

/// Receives and deletes until `messages` have been taken by all workers together.
async fn take(
    client: Client,
    url: String,
    messages: u64,
    taken: Arc<AtomicU64>,
    requests: Arc<AtomicU64>,
) -> Result<()> {
    let mut last = Instant::now();
    while taken.load(Ordering::Relaxed) < messages {
        requests.fetch_add(1, Ordering::Relaxed);
        let answer = client
            .receive_message()
            .queue_url(&url)
            .max_number_of_messages(BATCH as i32)
            .message_attribute_names("All")
            .wait_time_seconds(0)
            .send()
            .await
            .map_err(aws_sdk_sqs::Error::from)?;
        let batch = answer.messages.unwrap_or_default();
        if batch.is_empty() {
            if last.elapsed() > SILENCE {
                bail!(
                    "the queue gave only {} of {messages} messages",
                    taken.load(Ordering::Relaxed)
                );
            }
            continue;
        }
        last = Instant::now();
        let mut delete = client.delete_message_batch().queue_url(&url);
        for (id, message) in batch.iter().enumerate() {
            delete = delete.entries(
                DeleteMessageBatchRequestEntry::builder()
                    .id(id.to_string())
                    .receipt_handle(message.receipt_handle.as_deref().unwrap_or_default())
                    .build()?,
            );
        }
        requests.fetch_add(1, Ordering::Relaxed);
        let answer = delete.send().await.map_err(aws_sdk_sqs::Error::from)?;
        if let Some(failed) = answer.failed.first() {
            bail!("an entry was not deleted: {}", failed.code);
        }
        taken.fetch_add(batch.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}
