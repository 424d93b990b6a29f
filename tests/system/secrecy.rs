//! What is secret shows nowhere: not in the data folder, not in the log at its most talkative, not in answers.

use crate::product::{Product, Setup};
use crate::secs;
use crate::sink::{Behaviour, Sink};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use hyper::Method;
use schemas::signature::parse_secret;
use serde_json::{Value, json};
use std::path::Path;

/// Something that must not be found, by a name that may be shown.
struct Hidden {
    name: String,
    forms: Vec<Vec<u8>>,
}

impl Hidden {
    /// Bytes: as they are, and in base64 and hex, alone or in the middle of something.
    fn bytes(name: &str, bytes: &[u8]) -> Self {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut forms = vec![bytes.to_vec(), hex.to_uppercase().into(), hex.into()];
        for before in 0..3 {
            let whole = [&[0; 3][..before], bytes].concat();
            for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
                let text = engine.encode(&whole);
                // What the neighbours have a part in says nothing.
                let from = if before == 0 { 0 } else { 4 };
                forms.push(text.as_bytes()[from..text.len() - 2].to_vec());
            }
        }
        Self {
            name: name.to_owned(),
            forms,
        }
    }

    fn text(name: &str, text: &str) -> Self {
        Self::bytes(name, text.as_bytes())
    }

    fn is_in(&self, place: &[u8]) -> bool {
        let holds = |form: &Vec<u8>| place.windows(form.len()).any(|part| part == form);
        self.forms.iter().any(holds)
    }
}

/// A target's secret: its text, and the key that it stands for.
fn whsec(name: &str, made: &Value) -> [Hidden; 2] {
    let text = made["secret"].as_str().expect("a secret");
    [
        Hidden::text(name, text.strip_prefix("whsec_").expect("its prefix")),
        Hidden::bytes(name, parse_secret(text).expect("a secret").as_bytes()),
    ]
}

/// A certificate of nobody's, and its key.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["client.example".to_owned()]).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// Everything below a folder but the files that are there to keep keys.
fn files(folder: &Path, into: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            files(&path, into);
        } else if !["api-key", "admin-key", "secrets-key"].contains(&name.as_str()) {
            into.push((name, std::fs::read(&path).expect("a file")));
        }
    }
}

/// Requests that are refused, with secrets in them; what they are answered.
async fn refusals(product: &Product, target: i64, hidden: &str, key: &str) -> Vec<(String, Vec<u8>)> {
    let patch = format!("/webhooks/targets/{target}");
    let bent = format!("{}\n", &key[..key.len() / 2]);
    let attempts = [
        (
            Method::PATCH,
            patch.clone(),
            json!({"tls": {"clientKey": key}}).to_string(),
        ),
        (
            Method::PATCH,
            patch.clone(),
            json!({"tls": {"clientKey": [key]}}).to_string(),
        ),
        (
            Method::PATCH,
            patch.clone(),
            json!({"tls": {"clientKey": bent}}).to_string(),
        ),
        (
            Method::PATCH,
            patch.clone(),
            json!({"headers": {"authorization": format!("{hidden}\u{7f}")}}).to_string(),
        ),
        (
            Method::PATCH,
            patch.clone(),
            json!({"headers": {"host": hidden}}).to_string(),
        ),
        (
            Method::PATCH,
            patch,
            format!("{{\"tls\": {{\"clientKey\": {}", json!(key)),
        ),
        (
            Method::POST,
            "/webhooks/events".to_owned(),
            json!({"type": "a b", "payload": {"hush": hidden}}).to_string(),
        ),
    ];
    let mut answers = Vec::new();
    for (method, path, body) in attempts {
        let answer = product.call(method, &path, body).await;
        assert!(answer.status.is_client_error(), "{path}: {}", answer.text());
        answers.push((format!("answer to {path}"), answer.body.to_vec()));
    }
    let url = format!("{}/v1/webhooks/targets", product.root());
    let wrong = hyper::Request::get(url).header("authorization", format!("Bearer hk_live_{hidden}"));
    let answer = product
        .send(wrong.body(Default::default()).expect("a request"))
        .await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, 401);
    answers.push(("answer to a wrong key".to_owned(), answer.body.to_vec()));
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_show_nowhere_in_no_form() {
    let (setup, sink) = (Setup::new().set("log.level", "trace"), Sink::start().await);
    let setup = setup.set("aws.region", "us-east-1");
    let product = setup.dev().await;
    let (pem, key) = certificate();
    let header = "Basic c2VjcmV0LWhlYWRlcg-of-a-target";
    let payload = "a-payload-that-nobody-logs";
    let body = json!({
        "url": sink.url("/hook"), "signature": ["v1", "v1a"], "headers": {"authorization": header},
        "tls": {"clientCertificate": pem, "clientKey": key},
        "retryPolicy": {"first": "100ms", "factor": 1.0, "jitter": 0.0},
    });
    let made = product.post("/webhooks/targets", body).await.expect(201);
    let target = made["id"].as_i64().expect("an id");
    let filter = json!({"name": "all", "events": ["*"]});
    let filter = product.post("/webhooks/filters", filter).await.expect(201);
    let both = json!({"targetId": target, "filterId": filter["id"]});
    product.post("/webhooks/subscriptions", both).await.expect(201);
    let path = format!("/webhooks/targets/{target}/secret");
    let rotated = product.post(&path, json!({})).await.expect(200);
    let kept = |name: &str| std::fs::read_to_string(setup.data().join(name)).expect("a key");
    let (admin, seal) = (kept("admin-key"), kept("secrets-key"));

    // Delivered at once, after a failure, and tried as a test.
    sink.answer("/hook", Behaviour::failing(1, 503));
    let mut events = Vec::new();
    for _ in 0..3 {
        events.push(product.publish("core.orders.created.v1", json!(payload)).await);
    }
    for event in &events {
        sink.accepted(secs(20), event).await;
    }
    let path = format!("/webhooks/targets/{target}/test");
    product.post(&path, json!({})).await.expect(200);
    let signatures = sink.look(|all| -> Vec<String> {
        let all = all
            .iter()
            .flat_map(|one| one.header("webhook-signature").split(' '));
        all.map(str::to_owned).collect()
    });
    assert!(signatures.len() > 8 && signatures.iter().any(|one| one.starts_with("v1a,")));

    let mut hidden = vec![
        Hidden::text("the admin key", admin.trim()),
        Hidden::text("the key that seals, as text", seal.trim()),
        Hidden::bytes(
            "the key that seals",
            &STANDARD.decode(seal.trim()).expect("base64"),
        ),
        Hidden::text("the API key", &product.key["hk_live_".len()..]),
    ];
    hidden.extend(whsec("the first secret", &made));
    hidden.extend(whsec("the rotated secret", &rotated));
    let lines = key.lines().filter(|line| !line.starts_with('-'));
    hidden.extend(lines.map(|line| Hidden::text("the client key", line.trim())));
    let der: String = key.lines().filter(|line| !line.starts_with('-')).collect();
    hidden.push(Hidden::bytes(
        "the client key",
        &STANDARD.decode(der).expect("base64"),
    ));

    let mut places = refusals(&product, target, "s3cr3t-of-a-request-body", &key).await;
    for path in [
        "/webhooks/targets",
        "/webhooks/deliveries",
        "/webhooks/events",
        "/webhooks/stats",
    ] {
        let answer = product.get(path).await;
        places.push((format!("answer to {path}"), answer.body.to_vec()));
    }
    places.push(("metrics".to_owned(), product.metrics().await.into_bytes()));
    // Not in answers, log or metrics only: the database has headers, the log of events payloads.
    let mut told = vec![
        Hidden::text("a header's value", header),
        Hidden::text("a payload", payload),
        Hidden::text("what a refused request held", "s3cr3t-of-a-request-body"),
    ];
    let signed = signatures.iter().map(|one| one.split_once(',').expect("v1,…").1);
    told.extend(signed.map(|one| Hidden::text("a signature", one)));
    product.get("/webhooks/targets").await.expect(200);
    files(&setup.data(), &mut places);
    let log = ("the log".to_owned(), product.stderr().into_bytes());
    assert!(log.1.windows(5).any(|part| part == b"DEBUG"), "it is talkative");
    for hidden in &told {
        assert!(!hidden.is_in(&log.1), "{} is in the log", hidden.name);
    }
    places.push(log);
    let names: Vec<&str> = places.iter().map(|(name, _)| name.as_str()).collect();
    for name in [
        "hookwright.db",
        "hookwright.db-wal",
        "log.db",
        "log.db-wal",
        "queue.db",
        "queue.db-wal",
    ] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    let url = sink.url("/hook").into_bytes();
    let shown = |bytes: &[u8]| bytes.windows(url.len()).any(|part| part == url);
    assert!(
        places.iter().any(|(_, bytes)| shown(bytes)),
        "the search finds what is there"
    );
    for hidden in &hidden {
        for (place, bytes) in &places {
            assert!(!hidden.is_in(bytes), "{} is in {place}", hidden.name);
        }
    }
    for (place, bytes) in places.iter().filter(|(place, _)| place.starts_with("answer")) {
        let refused = &told[2];
        assert!(!refused.is_in(bytes), "{} is in {place}", refused.name);
    }
    product.stop().await;
}
