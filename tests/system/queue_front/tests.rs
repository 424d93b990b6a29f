//! The front is held to its word, so that what the others find at it is the product's doing.

use super::QueueFront;
use crate::aws::Aws;
use crate::eventually;
use crate::secs;
use crate::world::World;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const BODY: &str = "MessageBody";

/// A queue of LocalStack behind a front, and a caller of it.
struct Caller {
    front: QueueFront,
    aws: Aws,
    queue: Value,
    _world: World,
}

async fn caller() -> Caller {
    let world = World::new().await;
    let front = QueueFront::start(&world.sqs).await;
    let aws = Aws::new(&front.url());
    // By the name of one of the product's queues, so that the world deletes it.
    let name = json!({"QueueName": world.queue("dispatch")});
    let queue = aws.sqs("CreateQueue", name).await["QueueUrl"].clone();
    Caller {
        front,
        aws,
        queue,
        _world: world,
    }
}

impl Caller {
    fn input(&self, more: Value) -> Value {
        let mut input = more;
        input["QueueUrl"] = self.queue.clone();
        input
    }

    async fn send(&self, bodies: &[&str]) -> Value {
        self.aws.sqs("SendMessageBatch", self.batch(bodies)).await
    }

    fn batch(&self, bodies: &[&str]) -> Value {
        let entry = |(id, body): (usize, &&str)| json!({"Id": id.to_string(), BODY: body});
        let entries: Vec<Value> = bodies.iter().enumerate().map(entry).collect();
        self.input(json!({"Entries": entries}))
    }

    /// Sends beside the test.
    fn sending(&self, bodies: &[&str]) -> JoinHandle<Value> {
        let (aws, input) = (self.aws.clone(), self.batch(bodies));
        tokio::spawn(async move { aws.sqs("SendMessageBatch", input).await })
    }

    /// The bodies that are visible now; they are hidden for long.
    async fn receive(&self) -> Vec<String> {
        let input = self.input(json!({"MaxNumberOfMessages": 10, "VisibilityTimeout": 600}));
        let answer = self.aws.sqs("ReceiveMessage", input).await;
        let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
        let mut bodies: Vec<String> = messages
            .iter()
            .map(|message| message["Body"].as_str().expect("a body").to_owned())
            .collect();
        bodies.sort_unstable();
        bodies
    }
}

fn is(body: &'static str) -> impl Fn(&Value) -> bool + Send + Sync + 'static {
    move |entry| entry[BODY] == body
}

#[tokio::test]
async fn everything_passes_and_is_written_down() {
    let caller = caller().await;
    assert_eq!(
        caller.send(&["a", "b"]).await["Successful"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    assert_eq!(caller.receive().await, ["a", "b"]);
    let calls = caller.front.calls();
    let operations: Vec<&str> = calls.iter().map(|call| call.operation.as_str()).collect();
    assert_eq!(operations, ["CreateQueue", "SendMessageBatch", "ReceiveMessage"]);
    assert!(calls[1].is("SendMessageBatch", "dispatch") && !calls[1].is("SendMessageBatch", "slow"));
    assert_eq!(calls[1].taken().len(), 2);
    assert!(
        calls[1]
            .answer
            .as_ref()
            .is_some_and(|(_, at)| *at >= calls[1].arrived)
    );
}

#[tokio::test]
async fn a_held_call_reaches_sqs_only_when_it_is_let_go() {
    let caller = caller().await;
    let trap = caller.front.hold("SendMessageBatch", "dispatch", 2, is("a"));
    caller.send(&["b"]).await;
    caller.send(&["a"]).await;
    let held = caller.sending(&["a", "c"]);
    trap.sprung().await;
    caller.send(&["d"]).await;
    assert_eq!(
        caller.receive().await,
        ["a", "b", "d"],
        "the first of them passes, and others do"
    );
    assert!(!held.is_finished());
    trap.lift();
    held.await.expect("it is answered");
    assert_eq!(caller.receive().await, ["a", "c"]);
}

#[tokio::test]
async fn a_call_whose_answer_is_withheld_is_done() {
    let caller = caller().await;
    let trap = caller.front.withhold("SendMessageBatch", "dispatch", 1, is("a"));
    let waiting = caller.sending(&["a"]);
    trap.sprung().await;
    assert_eq!(caller.receive().await, ["a"]);
    assert!(!waiting.is_finished());
    trap.lift();
    waiting.await.expect("it is answered");
}

#[tokio::test]
async fn what_is_held_of_the_dead_is_never_sent() {
    let caller = caller().await;
    let trap = caller.front.hold("SendMessageBatch", "dispatch", 1, is("a"));
    let held = caller.sending(&["a"]);
    trap.sprung().await;
    caller.front.visibility_passes().await;
    trap.lift();
    caller.send(&["marker"]).await;
    assert_eq!(caller.receive().await, ["marker"]);
    assert!(!held.is_finished());
    held.abort();
}

#[tokio::test]
async fn refused_entries_fail_and_the_others_are_taken() {
    let caller = caller().await;
    let trap = caller.front.refuse("SendMessageBatch", "dispatch", is("b"));
    let answer = caller.send(&["a", "b", "c"]).await;
    trap.sprung().await;
    assert_eq!(
        (
            &answer["Failed"][0]["Id"],
            answer["Failed"].as_array().map(Vec::len)
        ),
        (&json!("1"), Some(1))
    );
    assert_eq!(caller.receive().await, ["a", "c"]);
    assert_eq!(
        caller.send(&["b"]).await["Successful"],
        json!([]),
        "again, and alone"
    );
    trap.lift();
    caller.send(&["b"]).await;
    assert_eq!(caller.receive().await, ["b"]);
}

#[tokio::test]
async fn when_visibility_passes_what_was_not_deleted_is_seen_again() {
    let caller = caller().await;
    caller.send(&["a", "b"]).await;
    let input = caller.input(json!({"MaxNumberOfMessages": 10, "VisibilityTimeout": 600}));
    let received = caller.aws.sqs("ReceiveMessage", input).await;
    let gone = received["Messages"]
        .as_array()
        .expect("both")
        .iter()
        .find(|one| one["Body"] == "a");
    let entry = json!({"Id": "0", "ReceiptHandle": gone.expect("it is there")["ReceiptHandle"]});
    caller
        .aws
        .sqs("DeleteMessageBatch", caller.input(json!({"Entries": [entry]})))
        .await;
    assert_eq!(caller.front.claimed(), 1);
    assert!(caller.receive().await.is_empty());

    // A receive that the dead still had waiting takes a message that comes later, and gives it back.
    let (aws, input) = (
        caller.aws.clone(),
        caller.input(json!({"WaitTimeSeconds": 20, "VisibilityTimeout": 600})),
    );
    let waiting = tokio::spawn(async move { aws.sqs("ReceiveMessage", input).await });
    eventually(secs(10), "it waits", async || {
        let calls = caller.front.calls();
        calls
            .last()
            .is_some_and(|call| call.input["WaitTimeSeconds"] == 20)
            .then_some(())
    })
    .await;
    caller.front.visibility_passes().await;
    waiting.await.expect("it has an answer");
    eventually(secs(10), "b is seen again", async || {
        (caller.receive().await == ["b"]).then_some(())
    })
    .await;
}
