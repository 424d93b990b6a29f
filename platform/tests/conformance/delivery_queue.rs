//! The contract of `DeliveryQueue`.

use crate::support::{PATIENCE, World, soon};
use async_trait::async_trait;
use bytes::Bytes;
use platform::delivery_queue::{
    DeliveryQueue, Depth, InMessage, MAX_DELAY, MAX_RECEIVE, OutMessage, QueueError, QueueName, Receipt,
};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A world with its own four queues, provisioned and empty.
#[async_trait]
pub trait QueueWorld: World {
    /// Opens the queues. A case that calls it again has dropped what it got before.
    async fn open(&self) -> Arc<dyn DeliveryQueue>;
}

/// One test for each case, over the world of `$world`.
macro_rules! delivery_queue_suite {
    ($world:expr) => {
        suite!(
            $world,
            $crate::delivery_queue,
            a_message_comes_back_as_it_was,
            a_body_of_many_scripts_comes_back,
            a_large_message_comes_back,
            a_full_batch_is_taken_and_received_and_deleted,
            each_entry_of_a_batch_has_its_own_result,
            a_queue_does_not_show_the_messages_of_another,
            an_empty_queue_answers_nothing,
            a_receive_gives_no_more_than_was_asked,
            a_waiting_receiver_is_woken,
            a_delayed_message_is_not_seen_before_its_time,
            a_message_not_deleted_is_seen_again,
            a_message_deleted_is_not_seen_again,
            deleting_twice_is_no_error,
            an_extended_message_stays_hidden,
            a_message_extended_by_nothing_is_visible_at_once,
            an_extension_with_an_old_receipt_does_not_hide_the_message,
            messages_survive_the_queue_being_opened_again,
            many_sending_and_receiving_at_once_lose_nothing,
            the_depth_counts_what_waits,
        );
    };
}

type TheWorld = Arc<dyn QueueWorld>;

const QUEUE: QueueName = QueueName::Dispatch;
/// Longer than any case takes.
const LONG: Duration = Duration::from_secs(300);

fn message(body: impl Into<Bytes>) -> OutMessage {
    OutMessage {
        body: body.into(),
        attribute: r#"{"attempt":1}"#.to_owned(),
        group: "default:1".to_owned(),
        delay: Duration::ZERO,
    }
}

fn numbered(count: usize) -> Vec<OutMessage> {
    (0..count)
        .map(|number| message(format!("message {number}")))
        .collect()
}

async fn send(queue: &dyn DeliveryQueue, name: QueueName, messages: &[OutMessage]) {
    for batch in messages.chunks(queue.limits().batch_entries) {
        let results = soon("send", queue.send(name, batch)).await;
        assert_eq!(results, vec![Ok(()); batch.len()]);
    }
}

/// Receives until there are so many.
async fn receive(
    queue: &dyn DeliveryQueue,
    name: QueueName,
    count: usize,
    visibility: Duration,
) -> Vec<InMessage> {
    let mut received = Vec::new();
    soon("messages", async {
        while received.len() < count {
            let max = (count - received.len()).min(MAX_RECEIVE);
            let wait = Duration::from_secs(5);
            received.extend(queue.receive(name, max, wait, visibility).await.unwrap());
        }
    })
    .await;
    received
}

async fn delete(queue: &dyn DeliveryQueue, name: QueueName, messages: &[InMessage]) {
    let receipts: Vec<Receipt> = messages.iter().map(|message| message.receipt.clone()).collect();
    for batch in receipts.chunks(queue.limits().batch_entries) {
        assert_eq!(
            soon("delete", queue.delete(name, batch)).await,
            vec![Ok(()); batch.len()]
        );
    }
}

/// Nothing is received for so long.
async fn nothing(queue: &dyn DeliveryQueue, name: QueueName, wait: Duration) {
    let received = queue.receive(name, MAX_RECEIVE, wait, LONG).await.unwrap();
    assert_eq!(received, []);
}

pub async fn a_message_comes_back_as_it_was(world: TheWorld) {
    let queue = world.open().await;
    let sent = OutMessage {
        body: Bytes::from_static(b"{\"a\":\t\"b\\n\"}\r\n"),
        attribute: r#"{"tenant":"default","eventType":"core.orders.created.v1","é":"🦀"}"#.to_owned(),
        ..message("")
    };
    send(&*queue, QUEUE, std::slice::from_ref(&sent)).await;
    let received = receive(&*queue, QUEUE, 1, LONG).await.remove(0);
    assert_eq!(received.body, sent.body);
    assert_eq!(received.attribute, sent.attribute);
    assert_eq!(received.receive_count, 1);
    delete(&*queue, QUEUE, &[received]).await;
}

pub async fn a_body_of_many_scripts_comes_back(world: TheWorld) {
    let queue = world.open().await;
    let body = "\t\n\r ~ \u{e9} \u{434}\u{430} \u{65e5}\u{672c} \u{d7ff}\u{e000}\u{fffd} \u{10000}\u{1f980}\u{10ffff} <&>\"'";
    send(&*queue, QUEUE, &[message(body)]).await;
    let received = receive(&*queue, QUEUE, 1, LONG).await;
    assert_eq!(std::str::from_utf8(&received[0].body).unwrap(), body);
    delete(&*queue, QUEUE, &received).await;
}

pub async fn a_large_message_comes_back(world: TheWorld) {
    let queue = world.open().await;
    let large = OutMessage {
        attribute: format!("{{\"long\":\"{}\"}}", "y".repeat(8 << 10)),
        ..message("x".repeat(256 << 10))
    };
    send(&*queue, QUEUE, std::slice::from_ref(&large)).await;
    let received = receive(&*queue, QUEUE, 1, LONG).await;
    assert!(received[0].body == large.body && received[0].attribute == large.attribute);
    delete(&*queue, QUEUE, &received).await;
}

pub async fn a_full_batch_is_taken_and_received_and_deleted(world: TheWorld) {
    let queue = world.open().await;
    let entries = queue.limits().batch_entries;
    assert_eq!(
        soon("send", queue.send(QUEUE, &numbered(entries))).await,
        vec![Ok(()); entries]
    );
    let received = receive(&*queue, QUEUE, entries, LONG).await;
    let bodies: HashSet<Bytes> = received.iter().map(|message| message.body.clone()).collect();
    assert_eq!(
        bodies,
        numbered(entries)
            .into_iter()
            .map(|message| message.body)
            .collect()
    );
    delete(&*queue, QUEUE, &received).await;
}

pub async fn each_entry_of_a_batch_has_its_own_result(world: TheWorld) {
    let queue = world.open().await;
    let mut batch = numbered(3);
    batch[1].delay = MAX_DELAY + Duration::from_secs(1);
    let results = soon("send", queue.send(QUEUE, &batch)).await;
    assert_eq!(results[0], Ok(()));
    assert!(
        matches!(results[1], Err(QueueError::Refused(_))),
        "{:?}",
        results[1]
    );
    assert_eq!(results[2], Ok(()));
    let received = receive(&*queue, QUEUE, 2, LONG).await;
    assert!(received.iter().all(|message| message.body != "message 1"));
    delete(&*queue, QUEUE, &received).await;
}

pub async fn a_queue_does_not_show_the_messages_of_another(world: TheWorld) {
    let queue = world.open().await;
    for name in QueueName::ALL {
        send(&*queue, name, &[message(name.suffix())]).await;
    }
    for name in QueueName::ALL {
        let received = receive(&*queue, name, 1, LONG).await;
        assert_eq!(received[0].body, name.suffix());
        delete(&*queue, name, &received).await;
    }
}

pub async fn an_empty_queue_answers_nothing(world: TheWorld) {
    let queue = world.open().await;
    nothing(&*queue, QUEUE, Duration::ZERO).await;
    let started = Instant::now();
    nothing(&*queue, QUEUE, Duration::from_secs(1)).await;
    assert!(started.elapsed() > Duration::from_millis(900), "it did not wait");
}

pub async fn a_receive_gives_no_more_than_was_asked(world: TheWorld) {
    let queue = world.open().await;
    send(&*queue, QUEUE, &numbered(5)).await;
    let wait = Duration::from_secs(5);
    let received = soon("receive", queue.receive(QUEUE, 2, wait, LONG))
        .await
        .unwrap();
    assert!((1..=2).contains(&received.len()));
}

pub async fn a_waiting_receiver_is_woken(world: TheWorld) {
    let queue = world.open().await;
    let started = Instant::now();
    let waiting = {
        let queue = queue.clone();
        tokio::spawn(async move {
            queue
                .receive(QUEUE, 1, Duration::from_secs(20), LONG)
                .await
                .unwrap()
        })
    };
    tokio::task::yield_now().await;
    send(&*queue, QUEUE, &numbered(1)).await;
    assert_eq!(soon("message", waiting).await.unwrap().len(), 1);
    assert!(started.elapsed() < Duration::from_secs(15), "it slept on");
}

pub async fn a_delayed_message_is_not_seen_before_its_time(world: TheWorld) {
    let queue = world.open().await;
    let delayed = OutMessage {
        delay: Duration::from_secs(3),
        ..message("later")
    };
    let started = Instant::now();
    send(&*queue, QUEUE, &[delayed, message("now")]).await;
    assert_eq!(receive(&*queue, QUEUE, 1, LONG).await[0].body, "now");
    assert_eq!(receive(&*queue, QUEUE, 1, LONG).await[0].body, "later");
    // Some count in whole seconds, from the second the message came in.
    assert!(
        started.elapsed() > Duration::from_secs(2),
        "after {:?}",
        started.elapsed()
    );
}

pub async fn a_message_not_deleted_is_seen_again(world: TheWorld) {
    let queue = world.open().await;
    send(&*queue, QUEUE, &numbered(1)).await;
    let first = receive(&*queue, QUEUE, 1, Duration::from_secs(2)).await;
    nothing(&*queue, QUEUE, Duration::ZERO).await;
    let second = receive(&*queue, QUEUE, 1, LONG).await;
    assert_eq!(second[0].body, first[0].body);
    assert_eq!(second[0].attribute, first[0].attribute);
    assert_eq!(second[0].receive_count, 2);
    delete(&*queue, QUEUE, &second).await;
}

pub async fn a_message_deleted_is_not_seen_again(world: TheWorld) {
    let queue = world.open().await;
    send(&*queue, QUEUE, &numbered(2)).await;
    let received = receive(&*queue, QUEUE, 2, Duration::from_secs(2)).await;
    delete(&*queue, QUEUE, &received[..1]).await;
    let again = receive(&*queue, QUEUE, 1, LONG).await;
    assert_eq!(again[0].body, received[1].body);
    nothing(&*queue, QUEUE, Duration::from_secs(2)).await;
}

pub async fn deleting_twice_is_no_error(world: TheWorld) {
    let queue = world.open().await;
    send(&*queue, QUEUE, &numbered(1)).await;
    let received = receive(&*queue, QUEUE, 1, LONG).await;
    delete(&*queue, QUEUE, &received).await;
    delete(&*queue, QUEUE, &received).await;
}

pub async fn an_extended_message_stays_hidden(world: TheWorld) {
    let queue = world.open().await;
    send(&*queue, QUEUE, &numbered(1)).await;
    let received = receive(&*queue, QUEUE, 1, Duration::from_secs(2)).await;
    let entry = (received[0].receipt.clone(), LONG);
    assert_eq!(soon("extend", queue.extend(QUEUE, &[entry])).await, [Ok(())]);
    nothing(&*queue, QUEUE, Duration::from_secs(4)).await;
    delete(&*queue, QUEUE, &received).await;
}

pub async fn a_message_extended_by_nothing_is_visible_at_once(world: TheWorld) {
    let queue = world.open().await;
    send(&*queue, QUEUE, &numbered(1)).await;
    let received = receive(&*queue, QUEUE, 1, LONG).await;
    let waiting = {
        let queue = queue.clone();
        tokio::spawn(async move { receive(&*queue, QUEUE, 1, LONG).await })
    };
    tokio::task::yield_now().await;
    let entry = (received[0].receipt.clone(), Duration::ZERO);
    assert_eq!(soon("extend", queue.extend(QUEUE, &[entry])).await, [Ok(())]);
    assert_eq!(waiting.await.unwrap()[0].body, received[0].body);
}

pub async fn an_extension_with_an_old_receipt_does_not_hide_the_message(world: TheWorld) {
    let queue = world.open().await;
    send(&*queue, QUEUE, &numbered(1)).await;
    let first = receive(&*queue, QUEUE, 1, Duration::from_secs(1)).await;
    let second = receive(&*queue, QUEUE, 1, LONG).await;
    delete(&*queue, QUEUE, &second).await;
    let entry = (first[0].receipt.clone(), LONG);
    let results = soon("extend", queue.extend(QUEUE, &[entry])).await;
    assert!(matches!(results[0], Err(QueueError::Expired)), "{:?}", results[0]);
}

pub async fn messages_survive_the_queue_being_opened_again(world: TheWorld) {
    let queue = world.open().await;
    let delayed = OutMessage {
        delay: Duration::from_secs(4),
        ..message("delayed")
    };
    let sent = Instant::now();
    send(&*queue, QUEUE, &[message("kept"), message("deleted"), delayed]).await;
    for received in receive(&*queue, QUEUE, 2, Duration::from_secs(2)).await {
        if received.body == "deleted" {
            delete(&*queue, QUEUE, &[received]).await;
        }
    }
    drop(queue);
    let queue = world.open().await;
    assert_eq!(receive(&*queue, QUEUE, 1, LONG).await[0].body, "kept");
    assert_eq!(receive(&*queue, QUEUE, 1, LONG).await[0].body, "delayed");
    assert!(
        sent.elapsed() > Duration::from_secs(3),
        "after {:?}",
        sent.elapsed()
    );
    nothing(&*queue, QUEUE, Duration::ZERO).await;
}

pub async fn many_sending_and_receiving_at_once_lose_nothing(world: TheWorld) {
    const SENDERS: usize = 8;
    const EACH: usize = 30;
    let queue = world.open().await;
    let sending: Vec<_> = (0..SENDERS)
        .map(|who| {
            let queue = queue.clone();
            tokio::spawn(async move {
                for number in 0..EACH {
                    send(&*queue, QUEUE, &[message(format!("{who} {number}"))]).await;
                }
            })
        })
        .collect();
    let (told, mut seen) = tokio::sync::mpsc::channel(64);
    let receiving: Vec<_> = (0..4)
        .map(|_| {
            let (queue, told) = (queue.clone(), told.clone());
            tokio::spawn(async move {
                loop {
                    let wait = Duration::from_secs(1);
                    let received = queue.receive(QUEUE, MAX_RECEIVE, wait, LONG).await.unwrap();
                    delete(&*queue, QUEUE, &received).await;
                    for message in received {
                        if told.send(message.body).await.is_err() {
                            return;
                        }
                    }
                    if told.is_closed() {
                        return;
                    }
                }
            })
        })
        .collect();
    let mut bodies = HashSet::new();
    soon("all messages", async {
        while bodies.len() < SENDERS * EACH {
            bodies.extend(seen.recv().await);
        }
    })
    .await;
    drop(seen);
    for task in sending.into_iter().chain(receiving) {
        task.await.unwrap();
    }
}

pub async fn the_depth_counts_what_waits(world: TheWorld) {
    let queue = world.open().await;
    let delayed = OutMessage {
        delay: LONG,
        ..message("later")
    };
    send(&*queue, QUEUE, &numbered(5)).await;
    send(&*queue, QUEUE, &[delayed]).await;
    receive(&*queue, QUEUE, 2, LONG).await;
    let expected = Depth {
        visible: 3,
        delayed: 1,
        in_flight: 2,
    };
    // The count may lag behind on a service of many machines.
    let started = Instant::now();
    loop {
        let depth = soon("depth", queue.depth(QUEUE)).await.unwrap();
        if depth == expected {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "still {depth:?}");
        tokio::task::yield_now().await;
    }
}
