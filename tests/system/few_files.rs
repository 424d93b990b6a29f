//! No file may be opened any more, so no connection either: which is ours, and no affair of the targets.

use crate::product::{Product, Setup};
use crate::sink::{Behaviour, Sink};
use crate::{eventually, secs};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

fn proc(product: &Product, what: &str) -> PathBuf {
    Path::new("/proc").join(product.pid()).join(what)
}

/// Lets a product open so many files in all.
fn limit_open_files(product: &Product, most: usize) {
    let set = Command::new("prlimit")
        .args(["--pid", &product.pid(), &format!("--nofile={most}:")])
        .status();
    assert!(set.is_ok_and(|status| status.success()), "prlimit {most}");
}

/// The soft and the hard limit on a product's open files.
fn limits(product: &Product) -> [String; 2] {
    let limits = std::fs::read_to_string(proc(product, "limits")).expect("its limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let words: Vec<&str> = line.expect("the limit").split_whitespace().collect();
    [words[3].to_owned(), words[4].to_owned()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_finds_no_socket_waits_and_is_no_attempt() {
    let (setup, sink) = (Setup::new(), Sink::start().await);
    let product = setup.dev().await;
    let paths: Vec<String> = (0..20).map(|number| format!("/{number}")).collect();
    for (number, path) in paths.iter().enumerate() {
        // A lookup opens files too, and does not say why it finds nothing.
        let host = ["127.0.0.1", "localhost"][number % 2];
        let url = sink.url(path).replace("127.0.0.1", host);
        let body = json!({"url": url, "events": ["core.*"]});
        product.post("/webhooks/endpoints", body).await.expect(201);
        sink.answer(path, Behaviour::default().after(Duration::from_millis(500)));
    }
    let open = std::fs::read_dir(proc(&product, "fd"))
        .expect("its files")
        .count();
    // Some for the connections that the test asks by.
    limit_open_files(&product, open + 8);
    let event = product.publish("core.orders.created.v1", json!("for 20")).await;
    eventually(secs(20), "a delivery finds no socket", async || {
        product.stderr().contains("open files").then_some(())
    })
    .await;
    limit_open_files(&product, 1_024);
    eventually(secs(60), "all 20 are delivered", async || {
        (sink.of(&event).len() >= paths.len()).then_some(())
    })
    .await;
    for delivery in sink.of(&event) {
        assert_eq!(delivery.attempt, 1, "{}", delivery.path);
        let story = product.delivery_with(&delivery.delivery_id, "delivered").await;
        let attempts = story["attempts"].as_array().expect("attempts");
        assert_eq!(attempts.len(), 1, "{story}");
    }
    product.stop().await;
}

#[tokio::test]
async fn it_takes_as_many_files_as_it_may_have_and_says_when_they_are_few() {
    let setup = Setup::new().through_shell("ulimit -Sn 256");
    let product = setup.dev().await;
    let [soft, hard] = limits(&product);
    assert_eq!(soft, hard);
    assert!(!product.stderr().contains("few files"), "{}", product.stderr());
    product.stop().await;

    let setup = setup.through_shell("ulimit -n 512");
    let product = setup.dev().await;
    assert_eq!(limits(&product), ["512", "512"]);
    let told = "this process may open few files for its delivery.concurrency";
    assert!(product.stderr().contains(told), "{}", product.stderr());
    product.stop().await;
}
