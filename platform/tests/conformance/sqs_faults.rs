//! What emulators cannot show of SQS: batches that fail in part, and calls that fail as a whole.
//! The endpoint here is a server of our own that speaks just enough of the protocol.

use crate::support::soon;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Json;
use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusBuilder;
use platform::aws::{self, AwsSettings};
use platform::delivery_queue::sqs::SqsQueue;
use platform::delivery_queue::{DeliveryQueue, OutMessage, QueueError, QueueName, Receipt};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;

type Answer = (StatusCode, Json<Value>);

/// What the server answers: the operation and its input go in.
type Script = dyn Fn(&str, &Value) -> Answer + Send + Sync;

struct Shared {
    script: Box<Script>,
    /// Operations and inputs, but for the look-up of URLs.
    calls: Mutex<Vec<(String, Value)>>,
}

/// An SQS of one script.
struct Fake {
    shared: Arc<Shared>,
    queue: SqsQueue,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn ok(value: Value) -> Answer {
    (StatusCode::OK, Json(value))
}

fn fault(status: u16, code: &str) -> Answer {
    let body = json!({"__type": format!("com.amazonaws.sqs#{code}"), "message": format!("this is {code}")});
    (StatusCode::from_u16(status).unwrap(), Json(body))
}

async fn answer(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Answer {
    let target = headers["x-amz-target"].to_str().unwrap();
    let operation = target.strip_prefix("AmazonSQS.").unwrap();
    let input: Value = serde_json::from_slice(&body).unwrap();
    if operation == "GetQueueUrl" && input["QueueName"] != "missing-dispatch" {
        return ok(json!({"QueueUrl": format!("http://queue/{}", input["QueueName"].as_str().unwrap())}));
    }
    let answer = (shared.script)(operation, &input);
    shared.calls.lock().unwrap().push((operation.to_owned(), input));
    answer
}

async fn fake(prefix: &str, script: impl Fn(&str, &Value) -> Answer + Send + Sync + 'static) -> Fake {
    let shared = Arc::new(Shared {
        script: Box::new(script),
        calls: Mutex::default(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(answer).with_state(shared.clone());
    let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    Fake {
        shared,
        queue: SqsQueue::new(&config(&endpoint).await, prefix),
        server,
    }
}

async fn config(endpoint: &str) -> aws_config::SdkConfig {
    let settings = AwsSettings {
        endpoint: Some(endpoint.to_owned()),
        region: Some("us-east-1".to_owned()),
    };
    let test = aws_credential_types::Credentials::new("test", "test", None, None, "test");
    let config = aws::load(&settings).await.into_builder();
    config
        .credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(
            test,
        ))
        .build()
}

fn messages(count: usize) -> Vec<OutMessage> {
    (0..count)
        .map(|number| OutMessage {
            body: Bytes::from(format!("message {number}")),
            attribute: "{}".to_owned(),
            group: "default:1".to_owned(),
            delay: Duration::ZERO,
        })
        .collect()
}

fn ids(input: &Value) -> Vec<&str> {
    let entries = input["Entries"].as_array().unwrap();
    entries
        .iter()
        .map(|entry| entry["Id"].as_str().unwrap())
        .collect()
}

fn taken(id: &str) -> Value {
    json!({"Id": id, "MessageId": "m", "MD5OfMessageBody": "d"})
}

fn failed(id: &str, code: &str, sender_fault: bool) -> Value {
    json!({"Id": id, "Code": code, "Message": format!("this is {code}"), "SenderFault": sender_fault})
}

#[tokio::test]
async fn an_entry_that_fails_has_the_result_of_its_own_fault_and_the_others_are_sent() {
    let fake = fake("q", |_, input| {
        assert_eq!(ids(input), ["0", "1", "2", "3", "4"]);
        ok(json!({
            "Successful": [taken("4"), taken("0")],
            "Failed": [
                failed("2", "InternalError", false),
                failed("1", "InvalidMessageContents", true),
                failed("3", "RequestThrottled", true),
            ],
        }))
    })
    .await;
    let results = soon("send", fake.queue.send(QueueName::Dispatch, &messages(5))).await;
    assert_eq!(
        results,
        [
            Ok(()),
            Err(QueueError::Refused(
                "InvalidMessageContents: this is InvalidMessageContents".to_owned()
            )),
            Err(QueueError::Unavailable(
                "InternalError: this is InternalError".to_owned()
            )),
            // Whoever's fault SQS says it is, it passes.
            Err(QueueError::Unavailable(
                "RequestThrottled: this is RequestThrottled".to_owned()
            )),
            Ok(()),
        ]
    );
    assert_eq!(
        fake.shared.calls.lock().unwrap().len(),
        1,
        "the SDK does not repeat entries"
    );
}

#[tokio::test]
async fn each_request_is_counted_by_queue_and_call() {
    // Of this thread, on which the test runs.
    let recorder = PrometheusBuilder::new().build_recorder();
    let _here = metrics::set_default_local_recorder(&recorder);
    let fake = fake("q", |operation, _| match operation {
        "SendMessageBatch" => ok(json!({"Successful": [taken("0"), taken("1")], "Failed": []})),
        "ReceiveMessage" => ok(json!({"Messages": []})),
        other => panic!("{other}"),
    })
    .await;
    for _ in 0..2 {
        soon("send", fake.queue.send(QueueName::Dispatch, &messages(2))).await;
    }
    let receive = fake
        .queue
        .receive(QueueName::Retry, 10, Duration::ZERO, Duration::from_secs(30));
    soon("receive", receive).await.unwrap();
    let text = recorder.handle().render();
    let counted = |queue: &str, call: &str| {
        let name = format!("hookwright_queue_requests_total{{queue=\"{queue}\",call=\"{call}\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        value.map(str::to_owned)
    };
    for (queue, call, expected) in [
        ("dispatch", "get_url", "1"),
        ("dispatch", "send", "2"),
        ("retry", "get_url", "1"),
        ("retry", "receive", "1"),
    ] {
        assert_eq!(
            counted(queue, call).as_deref(),
            Some(expected),
            "{queue} {call} in\n{text}"
        );
    }
}

#[tokio::test]
async fn an_entry_without_a_result_may_be_tried_again() {
    let fake = fake("q", |_, _| {
        ok(json!({"Successful": [taken("0"), taken("7")], "Failed": []}))
    })
    .await;
    let results = soon("send", fake.queue.send(QueueName::Dispatch, &messages(2))).await;
    assert_eq!(results[0], Ok(()));
    assert!(
        matches!(results[1], Err(QueueError::Unavailable(_))),
        "{:?}",
        results[1]
    );
}

#[tokio::test]
async fn of_a_batch_that_is_too_long_only_what_fails_alone_is_refused() {
    let fake = fake("q", |_, input| {
        let bodies = input["Entries"].to_string();
        if ids(input).len() > 1 || bodies.contains("message 1") {
            fault(400, "BatchRequestTooLong")
        } else {
            ok(json!({"Successful": [taken("0")], "Failed": []}))
        }
    })
    .await;
    let results = soon("send", fake.queue.send(QueueName::Retry, &messages(3))).await;
    assert_eq!(results[0], Ok(()));
    assert!(
        matches!(results[1], Err(QueueError::Refused(_))),
        "{:?}",
        results[1]
    );
    assert_eq!(results[2], Ok(()));
    assert_eq!(fake.shared.calls.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn a_call_that_fails_as_a_whole_leaves_every_entry_to_be_tried_again() {
    let fake = fake("q", |_, _| fault(500, "InternalFailure")).await;
    let results = soon("send", fake.queue.send(QueueName::Dispatch, &messages(2))).await;
    assert_eq!(results.len(), 2);
    for result in results {
        let Err(QueueError::Unavailable(why)) = result else {
            panic!("{result:?}");
        };
        assert!(why.contains("InternalFailure"), "{why}");
    }
    assert_eq!(fake.shared.calls.lock().unwrap().len(), 3, "attempts of the SDK");
}

#[tokio::test]
async fn a_message_that_cannot_be_sent_does_not_keep_the_others() {
    let fake = fake("q", |_, input| {
        assert_eq!(ids(input), ["0", "4"]);
        ok(json!({"Successful": [taken("0"), taken("4")], "Failed": []}))
    })
    .await;
    let mut batch = messages(5);
    batch[1].body = Bytes::from_static(b"\xff");
    batch[2].body = Bytes::new();
    batch[3].delay = Duration::from_secs(901);
    let results = soon("send", fake.queue.send(QueueName::Dispatch, &batch)).await;
    assert!(results[0].is_ok() && results[4].is_ok(), "{results:?}");
    for refused in &results[1..4] {
        assert!(matches!(refused, Err(QueueError::Refused(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn a_message_carries_its_group_its_attribute_and_its_delay_in_whole_seconds() {
    let fake = fake("q", |_, _| ok(json!({"Successful": [taken("0")], "Failed": []}))).await;
    let message = OutMessage {
        delay: Duration::from_millis(1_001),
        ..messages(1).remove(0)
    };
    assert_eq!(
        soon("send", fake.queue.send(QueueName::Slow, &[message])).await,
        [Ok(())]
    );
    let calls = fake.shared.calls.lock().unwrap();
    assert_eq!(
        calls[0],
        (
            "SendMessageBatch".to_owned(),
            json!({
                "QueueUrl": "http://queue/q-slow",
                "Entries": [{
                    "Id": "0",
                    "MessageBody": "message 0",
                    "DelaySeconds": 2,
                    "MessageGroupId": "default:1",
                    "MessageAttributes": {"hookwright": {"DataType": "String", "StringValue": "{}"}},
                }],
            })
        )
    );
}

#[tokio::test]
async fn a_delete_and_an_extension_have_a_result_for_each_receipt() {
    let fake = fake("q", |_, input| {
        assert_eq!(ids(input), ["0", "2", "3"]);
        ok(json!({
            "Successful": [{"Id": "3"}],
            "Failed": [failed("0", "ReceiptHandleIsInvalid", true), failed("2", "InternalError", false)],
        }))
    })
    .await;
    let handle = |name: &str| Receipt::Handle(name.to_owned());
    let receipts = [handle("a"), Receipt::Claim(1, 1), handle("b"), handle("c")];
    let extensions: Vec<(Receipt, Duration)> = receipts
        .iter()
        .map(|receipt| (receipt.clone(), Duration::from_secs(9)))
        .collect();
    for results in [
        soon("delete", fake.queue.delete(QueueName::Dispatch, &receipts)).await,
        soon("extend", fake.queue.extend(QueueName::Dispatch, &extensions)).await,
    ] {
        assert_eq!(results[0], Err(QueueError::Expired));
        assert!(
            matches!(results[1], Err(QueueError::Refused(_))),
            "{:?}",
            results[1]
        );
        assert!(
            matches!(results[2], Err(QueueError::Unavailable(_))),
            "{:?}",
            results[2]
        );
        assert_eq!(results[3], Ok(()));
    }
}

#[tokio::test]
async fn a_queue_that_does_not_exist_is_named_with_what_to_do() {
    let fake = fake("missing", |_, _| fault(400, "QueueDoesNotExist")).await;
    let why = soon("check", fake.queue.check()).await.unwrap_err().to_string();
    assert!(
        why.contains("queue missing-dispatch does not exist at http://127.0.0.1:"),
        "{why}"
    );
    assert!(why.ends_with("run hookwright provision"), "{why}");
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_named_with_the_reason() {
    let queue = SqsQueue::new(&config("http://127.0.0.1:1").await, "q");
    let why = soon("check", queue.check()).await.unwrap_err().to_string();
    assert!(
        why.starts_with("cannot reach http://127.0.0.1:1 (connection refused"),
        "{why}"
    );
}

/// Finds no credentials.
#[derive(Debug)]
struct Nothing;

impl ProvideCredentials for Nothing {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("no providers in chain")))
    }
}

#[tokio::test]
async fn missing_credentials_are_called_so() {
    let config = config("http://127.0.0.1:1").await.into_builder();
    let provider = aws_credential_types::provider::SharedCredentialsProvider::new(Nothing);
    let queue = SqsQueue::new(&config.credentials_provider(provider).build(), "q");
    let why = soon("check", queue.check()).await.unwrap_err().to_string();
    assert!(
        why.contains("no AWS credentials") && why.contains("AWS_ACCESS_KEY_ID"),
        "{why}"
    );
}
