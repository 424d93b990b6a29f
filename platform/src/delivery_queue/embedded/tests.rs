use super::waiting::CROWDED;
use super::*;
use bytes::Bytes;
use tempfile::TempDir;

const QUEUE: QueueName = QueueName::Dispatch;
const MINUTE: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(30);

fn open(dir: &TempDir, clock: &Clock) -> EmbeddedQueue {
    EmbeddedQueue::open(dir.path(), sqlite::Sync::Normal, clock.clone()).unwrap()
}

fn message(attribute: impl Into<String>, delay: Duration) -> OutMessage {
    OutMessage {
        body: Bytes::from_static(b"-"),
        attribute: attribute.into(),
        group: String::new(),
        delay,
    }
}

async fn send(queue: &EmbeddedQueue, messages: &[OutMessage]) {
    assert!(queue.send(QUEUE, messages).await.iter().all(Result::is_ok));
}

/// Receives at once what there is; the attributes.
async fn receive(queue: &EmbeddedQueue) -> Vec<InMessage> {
    queue
        .receive(QUEUE, RECEIVE, Duration::ZERO, MINUTE)
        .await
        .unwrap()
}

fn names(messages: &[InMessage]) -> Vec<&str> {
    messages.iter().map(|message| &*message.attribute).collect()
}

async fn delete(queue: &EmbeddedQueue, message: &InMessage) -> Result<(), QueueError> {
    queue
        .delete(QUEUE, std::slice::from_ref(&message.receipt))
        .await
        .remove(0)
}

/// A receiver that waits; it waits when this returns.
async fn waiting(queue: &Arc<EmbeddedQueue>) -> tokio::task::JoinHandle<Vec<InMessage>> {
    let receiving = tokio::spawn({
        let queue = queue.clone();
        async move { queue.receive(QUEUE, 1, SOON, MINUTE).await.unwrap() }
    });
    // Tests run on one thread: it goes on until it waits.
    tokio::task::yield_now().await;
    receiving
}

async fn came(receiving: tokio::task::JoinHandle<Vec<InMessage>>) -> InMessage {
    let mut came = tokio::time::timeout(SOON / 2, receiving)
        .await
        .expect("woken")
        .unwrap();
    came.remove(0)
}

#[tokio::test]
async fn a_delay_ends_to_the_millisecond() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::driven(Millis(1_000));
    let queue = Arc::new(open(&dir, &clock));
    send(&queue, &[message("later", Duration::from_millis(1_500))]).await;
    clock.advance(Duration::from_millis(1_499));
    assert_eq!(names(&receive(&queue).await), [""; 0]);
    let receiving = waiting(&queue).await;
    clock.advance(Duration::from_millis(1));
    queue.poke();
    assert_eq!(came(receiving).await.attribute, "later");
}

#[tokio::test]
async fn a_delay_survives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::driven(Millis(1_000));
    send(
        &open(&dir, &clock),
        &[message("later", MINUTE / 2), message("now", Duration::ZERO)],
    )
    .await;
    let queue = open(&dir, &clock);
    assert_eq!(names(&receive(&queue).await), ["now"]);
    clock.advance(MINUTE / 2);
    assert_eq!(names(&receive(&queue).await), ["later"]);
}

#[tokio::test]
async fn a_claim_ends_with_its_visibility_and_counts() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::driven(Millis(1_000));
    let queue = open(&dir, &clock);
    send(&queue, &[message("m", Duration::ZERO)]).await;
    for count in 1..5 {
        let received = receive(&queue).await;
        assert_eq!(names(&received), ["m"]);
        assert_eq!(received[0].receive_count, count);
        clock.advance(MINUTE - Duration::from_millis(1));
        assert_eq!(receive(&queue).await, []);
        clock.advance(Duration::from_millis(1));
    }
}

#[tokio::test]
async fn a_receipt_deletes_until_another_has_received_the_message() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::driven(Millis(1_000));
    let queue = open(&dir, &clock);
    send(&queue, &[message("m", Duration::ZERO)]).await;
    let first = receive(&queue).await.remove(0);
    clock.advance(MINUTE);
    let second = receive(&queue).await.remove(0);
    assert_eq!(delete(&queue, &first).await, Err(QueueError::Expired));
    let extended = queue.extend(QUEUE, &[(first.receipt, MINUTE)]).await;
    assert_eq!(extended, [Err(QueueError::Expired)]);
    // The second one's time is over too, but nobody else has the message.
    clock.advance(MINUTE);
    assert_eq!(queue.depth(QUEUE).await.unwrap().visible, 1);
    assert_eq!(delete(&queue, &second).await, Ok(()));
    assert_eq!(delete(&queue, &second).await, Ok(()));
    assert_eq!(receive(&queue).await, []);
    assert_eq!(queue.depth(QUEUE).await.unwrap(), Depth::default());
}

#[tokio::test]
async fn a_receipt_of_an_earlier_process_deletes_too() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let queue = open(&dir, &clock);
    send(&queue, &[message("m", Duration::ZERO)]).await;
    let received = receive(&queue).await.remove(0);
    drop(queue);
    let queue = open(&dir, &clock);
    assert_eq!(delete(&queue, &received).await, Ok(()));
    assert_eq!(receive(&queue).await, []);
    assert_eq!(queue.depth(QUEUE).await.unwrap(), Depth::default());
    let foreign = Receipt::Handle("AQEB".to_owned());
    let refused = queue.delete(QUEUE, &[foreign]).await;
    assert!(matches!(refused[0], Err(QueueError::Refused(_))));
}

#[tokio::test]
async fn a_sleeping_receiver_hears_of_a_shorter_delay_or_claim() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Arc::new(open(&dir, &Clock::system()));
    let short = Duration::from_millis(30);

    let receiving = waiting(&queue).await;
    send(&queue, &[message("delayed", short)]).await;
    assert_eq!(came(receiving).await.attribute, "delayed");

    send(&queue, &[message("claimed", Duration::ZERO)]).await;
    let claimed = queue.receive(QUEUE, 1, Duration::ZERO, MINUTE).await.unwrap();
    let receiving = waiting(&queue).await;
    let extended = queue.extend(QUEUE, &[(claimed[0].receipt.clone(), short)]).await;
    assert_eq!(extended, [Ok(())]);
    assert_eq!(came(receiving).await.attribute, "claimed");

    // Two sleep; one is woken and leaves its message to expire: the other one must hear of it.
    let (one, other) = (waiting(&queue).await, waiting(&queue).await);
    send(&queue, &[message("dropped", Duration::ZERO)]).await;
    let dropped = came(one).await;
    assert_eq!(dropped.attribute, "dropped");
    let extended = queue.extend(QUEUE, &[(dropped.receipt, short)]).await;
    assert_eq!(extended, [Ok(())]);
    assert_eq!(came(other).await.attribute, "dropped");
}

#[tokio::test]
async fn a_batch_wakes_as_many_receivers_as_it_feeds() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Arc::new(open(&dir, &Clock::system()));
    let mut receiving = Vec::new();
    for _ in 0..5 {
        receiving.push(waiting(&queue).await);
    }
    let batch: Vec<_> = (0..5)
        .map(|number| message(number.to_string(), Duration::ZERO))
        .collect();
    send(&queue, &batch).await;
    let mut attributes = Vec::new();
    for one in receiving {
        attributes.push(came(one).await.attribute);
    }
    attributes.sort();
    assert_eq!(attributes, ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn what_waits_at_once_shares_a_commit() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Arc::new(open(&dir, &Clock::system()));
    let sending: Vec<_> = (0..400)
        .map(|number: i32| {
            let queue = queue.clone();
            tokio::spawn(async move { send(&queue, &[message(number.to_string(), Duration::ZERO)]).await })
        })
        .collect();
    for one in sending {
        one.await.unwrap();
    }
    assert!(queue.commits() < 200, "{} commits for 400 sends", queue.commits());
    assert_eq!(queue.depth(QUEUE).await.unwrap().visible, 400);
}

#[tokio::test]
async fn two_hundred_thousand_waiting_messages_take_little_memory_and_a_quick_start() {
    const COUNT: usize = 200_000;
    let dir = tempfile::tempdir().unwrap();
    let queue = open(&dir, &Clock::system());
    let batch: Vec<_> = (0..250)
        .map(|_| message("a".repeat(500), Duration::ZERO))
        .collect();
    for _ in 0..COUNT / batch.len() {
        send(&queue, &batch).await;
    }
    assert!(queue.resident() <= 4_096, "{} in memory", queue.resident());
    assert_eq!(queue.depth(QUEUE).await.unwrap().visible, COUNT as u64);
    drop(queue);

    let started = Instant::now();
    let queue = open(&dir, &Clock::system());
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(queue.depth(QUEUE).await.unwrap().visible, COUNT as u64);
    assert_eq!(queue.resident(), 0);
    let received = receive(&queue).await;
    assert_eq!(received.len(), RECEIVE);
    assert!(
        received
            .iter()
            .all(|message| message.attribute == "a".repeat(500))
    );
}

#[tokio::test]
async fn a_full_disk_refuses_for_the_time_being_and_nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("queue.db");
    let db = sqlite::open(&path, sqlite::Sync::Normal).unwrap();
    db.pragma_update(None, "max_page_count", 64).unwrap();
    let queue = EmbeddedQueue::with(db, &path, Clock::system()).unwrap();
    send(&queue, &[message("small", Duration::ZERO)]).await;
    for _ in 0..3 {
        let large = [
            message("a".repeat(300 << 10), Duration::ZERO),
            message("with it", Duration::ZERO),
        ];
        for failed in queue.send(QUEUE, &large).await {
            assert!(
                matches!(&failed, Err(QueueError::Unavailable(why)) if why.contains("full")),
                "{failed:?}"
            );
        }
        assert!(matches!(queue.check().await, Err(QueueError::Unavailable(_))));
    }
    send(&queue, &[message("another", Duration::ZERO)]).await;
    queue.check().await.unwrap();
    let received = receive(&queue).await;
    assert_eq!(names(&received), ["small", "another"]);
    assert_eq!(delete(&queue, &received[0]).await, Ok(()));
    drop(queue);
    assert_eq!(names(&receive(&open(&dir, &Clock::system())).await), ["another"]);
}

#[tokio::test]
async fn what_can_never_be_taken_is_refused_by_entry() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(&dir, &Clock::system());
    let mut empty = message("empty", Duration::ZERO);
    empty.body = Bytes::new();
    let batch = [
        empty,
        message("good", MAX_DELAY),
        message("late", MAX_DELAY + Duration::from_millis(1)),
    ];
    let results = queue.send(QUEUE, &batch).await;
    assert!(matches!(&results[0], Err(QueueError::Refused(why)) if why.contains("0 bytes")));
    assert_eq!(results[1], Ok(()));
    assert!(
        matches!(&results[2], Err(QueueError::Refused(why)) if why.contains("900.001s")),
        "{results:?}"
    );
    assert_eq!(queue.depth(QUEUE).await.unwrap().delayed, 1);
}

#[tokio::test]
async fn a_crowded_queue_says_so_takes_more_all_the_same_and_tells_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Arc::new(open(&dir, &Clock::system()));
    let batch = vec![message("a", Duration::ZERO); CROWDED - 1];
    send(&queue, &batch).await;
    assert!(!queue.is_crowded(QUEUE));
    queue.room(QUEUE).await;
    // What is not visible yet crowds nobody.
    send(&queue, &[message("a", MINUTE)]).await;
    assert!(!queue.is_crowded(QUEUE));
    send(&queue, &[message("a", Duration::ZERO)]).await;
    assert!(queue.is_crowded(QUEUE));
    assert!(!queue.is_crowded(QueueName::Retry));

    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.room(QUEUE).await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    send(&queue, &[message("a", Duration::ZERO)]).await;
    assert_eq!(queue.depth(QUEUE).await.unwrap().visible, CROWDED as u64 + 1);
    receive(&queue).await;
    tokio::time::timeout(SOON, waiting).await.expect("told").unwrap();
    assert!(!queue.is_crowded(QUEUE));
}

#[tokio::test]
async fn a_deletion_that_makes_room_tells_too() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::driven(Millis(1_000_000));
    let queue = Arc::new(open(&dir, &clock));
    send(&queue, &vec![message("a", Duration::ZERO); CROWDED]).await;
    let late = receive(&queue).await;
    assert!(!queue.is_crowded(QUEUE));
    // Their visibility ends; nobody has received them again.
    clock.advance(MINUTE);
    assert_eq!(queue.depth(QUEUE).await.unwrap().visible, CROWDED as u64);
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.room(QUEUE).await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    assert_eq!(delete(&queue, &late[0]).await, Ok(()));
    tokio::time::timeout(SOON, waiting).await.expect("told").unwrap();
}
