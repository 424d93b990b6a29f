//! Targets that prove that they want deliveries, each in its way, to the real product.

use crate::eventually;
use crate::product::{Product, Setup};
use crate::secs;
use crate::server::{Answered, Server};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use schemas::signature::parse_secret;
use schemas::verification::crc_answer;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};

const ORIGIN: &str = "hooks.example.com";

/// A receiver: what it knows, and what has come.
#[derive(Default)]
struct Receiver {
    /// The secret, once its owner has been told.
    secret: Mutex<Option<String>>,
    /// Path and origin of each delivery.
    delivered: Mutex<Vec<(String, String)>>,
}

impl Receiver {
    fn told(&self, secret: &Value) {
        let secret = secret.as_str().expect("a secret").to_owned();
        *self.secret.lock().unwrap_or_else(PoisonError::into_inner) = Some(secret);
    }

    fn delivered(&self, path: &str) -> Vec<String> {
        let all = self.delivered.lock().unwrap_or_else(PoisonError::into_inner);
        let here = all.iter().filter(|(at, _)| at == path);
        here.map(|(_, origin)| origin.clone()).collect()
    }

    async fn answer(&self, request: Request<Incoming>) -> Answered {
        let (head, body) = request.into_parts();
        let body = body
            .collect()
            .await
            .map(|body| body.to_bytes())
            .unwrap_or_default();
        let path = head.uri.path().to_owned();
        let header = |name: &str| {
            let value = head.headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let mut response = Response::new(Full::default());
        match (head.method, path.as_str()) {
            (Method::GET, "/crc") => {
                let token = head
                    .uri
                    .query()
                    .and_then(|query| query.strip_prefix("crc_token="));
                let secret = self.secret.lock().unwrap_or_else(PoisonError::into_inner).clone();
                match (token, secret) {
                    (Some(token), Some(secret)) => {
                        let key = parse_secret(&secret).expect("a secret");
                        let answer = json!({"response_token": crc_answer(&key, token)});
                        *response.body_mut() = Full::new(Bytes::from(answer.to_string()));
                    }
                    _ => *response.status_mut() = StatusCode::NOT_FOUND,
                }
            }
            (Method::OPTIONS, "/cloudevents") => {
                let origin = header("webhook-request-origin");
                let headers = response.headers_mut();
                headers.insert("webhook-allowed-origin", origin.parse().expect("a value"));
                headers.insert("webhook-allowed-rate", "*".parse().expect("a value"));
            }
            (Method::POST, "/echo") if header("webhook-event-type") == "webhook.verification" => {
                assert!(header("webhook-signature").starts_with("v1,"));
                let asked: Value = serde_json::from_slice(&body).expect("JSON");
                let answer = asked["challenge"].as_str().expect("a challenge").to_owned();
                *response.body_mut() = Full::new(Bytes::from(answer));
            }
            (Method::POST, _) => {
                let mut delivered = self.delivered.lock().unwrap_or_else(PoisonError::into_inner);
                delivered.push((path, header("webhook-request-origin")));
            }
            _ => *response.status_mut() = StatusCode::NOT_FOUND,
        }
        Ok(response)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_gets_deliveries_once_it_has_proved_itself() {
    let receiver = Arc::<Receiver>::default();
    let server = {
        let receiver = receiver.clone();
        Server::start(move |request| {
            let receiver = receiver.clone();
            async move { receiver.answer(request).await }
        })
        .await
    };
    let setup = Setup::new().set("delivery.origin", ORIGIN);
    let product = setup.dev().await;
    let make = async |method: &str| {
        let url = format!("{}/{method}", server.url());
        let made = product
            .post("/webhooks/targets", json!({"url": url, "verification": method}))
            .await
            .expect(201);
        let filter = json!({"name": method, "events": ["core.*"]});
        let filter = product.post("/webhooks/filters", filter).await.expect(201);
        let subscription = json!({"targetId": made["id"], "filterId": filter["id"]});
        product
            .post("/webhooks/subscriptions", subscription)
            .await
            .expect(201);
        made
    };
    // Those that need no secret prove themselves as they are made.
    for method in ["echo", "cloudevents"] {
        assert_eq!(make(method).await["state"], "active", "{method}");
    }
    let crc = make("crc").await;
    assert_eq!(crc["state"], "unverified");
    let verify = format!("/webhooks/targets/{}/verify", crc["id"]);
    product.post(&verify, json!({})).await.expect(409);
    product.publish("core.orders.created.v1", json!(1)).await;
    let come = async |path: &str, count: usize| {
        eventually(secs(20), "it is delivered", async || {
            let delivered = receiver.delivered(path);
            (delivered.len() == count).then_some(delivered)
        })
        .await
    };
    assert_eq!(come("/echo", 1).await, [""]);
    assert_eq!(come("/cloudevents", 1).await, [ORIGIN]);
    assert!(receiver.delivered("/crc").is_empty(), "it is unverified");

    receiver.told(&crc["secret"]);
    assert_eq!(
        product.post(&verify, json!({})).await.expect(200)["state"],
        "active"
    );
    product.publish("core.orders.created.v1", json!(2)).await;
    assert_eq!(come("/crc", 1).await, [""]);

    // At an address that answers nothing it is unverified again, and waits.
    let target = format!("/webhooks/targets/{}", crc["id"]);
    let moved = json!({"url": format!("{}/elsewhere", server.url())});
    let moved = product.patch(&target, moved).await.expect(200);
    assert_eq!(moved["state"], "unverified");
    let why = "the target answered the challenge with status 404";
    assert_eq!(moved["notProved"], why);

    let test = product
        .post(&format!("{target}/test"), json!({}))
        .await
        .expect(200);
    assert_eq!(
        (&test["delivered"], &test["statusCode"]),
        (&json!(true), &json!(200))
    );
    assert_eq!(come("/elsewhere", 1).await, [""]);
    product.stop().await;
}

#[tokio::test]
async fn the_receiver_that_comes_along_answers_each_challenge() {
    let setup = Setup::new().set("delivery.origin", ORIGIN);
    let product = setup.dev().await;
    let address = |receiver: &Product| {
        let text = receiver.stdout();
        let url = text.split_whitespace().find(|word| word.starts_with("http://"))?;
        Some(url.to_owned())
    };
    let listening = async |arguments: &[&str]| {
        let receiver = setup.spawn(arguments);
        let url = eventually(secs(10), "listen says where", async || address(&receiver)).await;
        (receiver, url)
    };
    let (first, url) = listening(&["listen", "--addr", "127.0.0.1:0"]).await;
    let make = async |method: &str| {
        let body = json!({"url": url, "verification": method});
        product.post("/webhooks/targets", body).await.expect(201)
    };
    assert_eq!(make("echo").await["state"], "active");
    assert_eq!(make("cloudevents").await["state"], "active");
    // It does not know the secret yet.
    let crc = make("crc").await;
    assert_eq!(crc["state"], "unverified");
    let said = first.stdout();
    assert!(said.contains("cannot be answered without --secret"), "{said}");
    let secret = crc["secret"].as_str().expect("a secret");
    let (_second, url) = listening(&["listen", "--addr", "127.0.0.1:0", "--secret", secret]).await;
    let moved = product
        .patch(&format!("/webhooks/targets/{}", crc["id"]), json!({"url": url}))
        .await
        .expect(200);
    assert_eq!(moved["state"], "active");
    product.stop().await;
}
