//! SQS and S3 as a test looks at them: plain requests to LocalStack, which checks no signature.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

/// Where the queues and the bucket are: LocalStack keeps regions apart.
pub const REGION: &str = "us-east-1";

/// What each operation's `x-amz-target` begins with.
pub const TARGET: &str = "AmazonSQS.";

/// The SQS and S3 at one address.
#[derive(Clone)]
pub struct Aws {
    endpoint: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Aws {
    /// At an address such as `http://127.0.0.1:4566`.
    pub fn new(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    /// Sends a request as it is; its path and query are those given.
    pub async fn send(&self, request: Request<Bytes>) -> Result<hyper::Response<Bytes>, String> {
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = format!("{}{path}", self.endpoint).parse().expect("a URI");
        let answer = self
            .client
            .request(Request::from_parts(head, Full::new(body)))
            .await
            .map_err(|error| format!("{}: {error:?}", self.endpoint))?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?;
        Ok(hyper::Response::from_parts(head, body.to_bytes()))
    }

    /// An operation of SQS; an error is what SQS answered.
    pub async fn try_sqs(&self, operation: &str, input: &Value) -> Result<Value, String> {
        let request = Request::post("/")
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", format!("{TARGET}{operation}"))
            .header("authorization", authorization("sqs"))
            .body(Bytes::from(input.to_string()))
            .expect("a request");
        let answer = self.send(request).await?;
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        if answer.status() != StatusCode::OK {
            return Err(format!("{operation}: {}: {text}", answer.status()));
        }
        // Some operations answer with nothing.
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// An operation of SQS that must succeed.
    pub async fn sqs(&self, operation: &str, input: Value) -> Value {
        self.try_sqs(operation, &input)
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// The messages of a queue that are visible, up to ten; they stay visible.
    pub async fn peek(&self, queue: &str) -> Vec<Value> {
        let url = self.sqs("GetQueueUrl", json!({"QueueName": queue})).await["QueueUrl"].clone();
        let input = json!({
            "QueueUrl": url, "MaxNumberOfMessages": 10, "VisibilityTimeout": 0, "MessageAttributeNames": ["All"],
        });
        let answer = self.sqs("ReceiveMessage", input).await;
        answer["Messages"].as_array().cloned().unwrap_or_default()
    }

    /// The keys of a bucket's objects.
    pub async fn objects(&self, bucket: &str) -> Result<Vec<String>, String> {
        let listed = self.s3(Method::GET, &format!("/{bucket}?list-type=2")).await?;
        let text = String::from_utf8_lossy(listed.body()).into_owned();
        // Keys hold nothing that XML escapes.
        let keys = text.split("<Key>").skip(1);
        Ok(keys
            .filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned()))
            .collect())
    }

    /// An object's bytes.
    pub async fn object(&self, bucket: &str, key: &str) -> Bytes {
        let answer = self.s3(Method::GET, &format!("/{bucket}/{key}")).await;
        answer.unwrap_or_else(|error| panic!("{error}")).into_body()
    }

    /// Puts an object.
    pub async fn put_object(&self, bucket: &str, key: &str, bytes: Bytes) {
        let request = Request::put(format!("/{bucket}/{key}"))
            .header("authorization", authorization("s3"))
            .body(bytes)
            .expect("a request");
        let answer = self.send(request).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(answer.status(), StatusCode::OK, "{key}");
    }

    /// Deletes a bucket with all that is in it; one that is not there is none to delete.
    pub async fn delete_bucket(&self, bucket: &str) -> Result<(), String> {
        // A list holds a thousand at most.
        while let Ok(keys) = self.objects(bucket).await {
            if keys.is_empty() {
                return self.s3(Method::DELETE, &format!("/{bucket}")).await.map(drop);
            }
            for key in keys {
                self.s3(Method::DELETE, &format!("/{bucket}/{key}")).await?;
            }
        }
        Ok(())
    }

    async fn s3(&self, method: Method, path: &str) -> Result<hyper::Response<Bytes>, String> {
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header("authorization", authorization("s3"))
            .body(Bytes::new())
            .expect("a request");
        let answer = self.send(request).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(format!("{method} {path}: {}", answer.status()))
    }
}

/// By this LocalStack knows service, account and region.
fn authorization(service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=0"
    )
}
