//! A disk that is full: nothing half made, and all goes on when there is room.

use crate::product::{Product, Setup};
use crate::secs;
use crate::sink::Sink;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// A size that no file of these tests reaches: some room for the few lines of log.
const ROOM: u64 = 96 << 10;

/// The largest file below a folder, in bytes.
fn largest(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("the folder");
    let sizes = entries.map(|entry| {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => largest(&path),
            false => path.metadata().map_or(0, |about| about.len()),
        }
    });
    sizes.max().unwrap_or(0)
}

/// Lets none of a product's files grow beyond so many bytes, or lets them again.
fn limit_files(product: &Product, bytes: Option<u64>) {
    let soft = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
    let limit = format!("--fsize={soft}:unlimited");
    let set = Command::new("prlimit")
        .args(["--pid", &product.pid(), &limit])
        .status();
    assert!(set.is_ok_and(|status| status.success()), "prlimit {limit}");
}

fn ids(list: &Value) -> BTreeSet<i64> {
    let items = list["items"].as_array().expect("a list").iter();
    items.map(|item| item["id"].as_i64().expect("an id")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_answered_with_503_and_all_goes_on_when_there_is_room() {
    // A file that may not grow takes a write no more than a full disk does, once its signal is ignored.
    let (setup, sink) = (Setup::new().through_shell("trap '' XFSZ"), Sink::start().await);
    let product = setup.dev().await;
    let steady = product.endpoint(&sink, "/steady", &["core.*"]).await;
    let first = product.publish("core.orders.created.v1", json!("before")).await;
    sink.accepted(secs(20), &first).await;

    limit_files(&product, Some(largest(&setup.data()) + ROOM));
    let mut made = BTreeSet::from([steady]);
    let mut refused = 0;
    for number in 0..2_000 {
        let body = json!({"url": sink.url(&format!("/{number}")), "events": ["never.a", "never.b"]});
        let answer = product.post("/webhooks/endpoints", body).await;
        if answer.status == 201 {
            made.insert(answer.expect(201)["id"].as_i64().expect("an id"));
        } else {
            assert_eq!(answer.headers["retry-after"], "1");
            let problem = answer.problem(503);
            assert!(problem.detail.contains("nothing was changed"), "{problem:?}");
            refused += 1;
        }
        if refused == 5 || made.len() == 240 {
            break;
        }
    }
    assert_eq!(refused, 5, "{} were made and the disk is not full", made.len());
    // Reading goes on, and what was refused is not there in part.
    for kind in ["targets", "endpoints"] {
        let path = format!("/webhooks/{kind}?limit=250");
        assert_eq!(ids(&product.get(&path).await.expect(200)), made, "{kind}");
    }
    for kind in ["filters", "subscriptions"] {
        let path = format!("/webhooks/{kind}?limit=250");
        assert_eq!(
            ids(&product.get(&path).await.expect(200)).len(),
            made.len(),
            "{kind}"
        );
    }
    let path = format!("/webhooks/targets/{steady}");

    // The event log has the same room and comes to its end too.
    let (mut accepted, mut full) = (Vec::new(), false);
    for number in 0..200 {
        let id = format!("full-{number}");
        let payload = "x".repeat(8 << 10);
        let body = json!({"type": "core.orders.created.v1", "id": id, "payload": payload});
        let answer = product.post("/webhooks/events", body).await;
        if answer.status == 202 {
            accepted.push(id);
        } else {
            let problem = answer.problem(503);
            assert!(problem.detail.contains("no event of this request"), "{problem:?}");
            full = true;
            break;
        }
    }
    assert!(
        full,
        "{} events were taken and the disk is not full",
        accepted.len()
    );

    limit_files(&product, None);
    product
        .patch(&path, json!({"description": "there is room"}))
        .await
        .expect(200);
    let new = product.endpoint(&sink, "/new", &["core.*"]).await;
    made.insert(new);
    let last = product.publish("core.orders.created.v1", json!("after")).await;
    for event in accepted.iter().chain([&last]) {
        sink.accepted(secs(60), event).await;
    }
    let all = product.get("/webhooks/targets?limit=250").await.expect(200);
    assert_eq!(ids(&all), made);
    product.stop().await;
}
