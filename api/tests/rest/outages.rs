//! What the log says while a dependency is away.

use crate::world::World;
use platform::event_log::LogError;
use serde_json::json;
use std::io::Write;
use std::sync::{Arc, Mutex};

/// The log's lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn with(&self, words: &str) -> usize {
        self.text().lines().filter(|line| line.contains(words)).count()
    }
}

/// Collects what this thread logs, the server's tasks included: the runtime has no other.
fn collect() -> (Lines, tracing::subscriber::DefaultGuard) {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    (lines, tracing::subscriber::set_default(subscriber))
}

#[tokio::test]
async fn a_database_that_is_away_is_one_line_however_many_ask() {
    let (lines, _guard) = collect();
    let world = World::start().await;
    world.get("/webhooks/targets").await.expect(200);
    world.catalog.pool().close().await;
    for _ in 0..5 {
        world.get("/webhooks/targets").await.problem(503);
    }
    assert_eq!(lines.with("dependency is away"), 1, "{}", lines.text());
    assert_eq!(lines.with(" WARN "), 1, "{}", lines.text());
    world.stop().await;
}

#[tokio::test]
async fn an_event_log_that_is_away_and_back_is_a_line_each() {
    let (lines, _guard) = collect();
    let world = World::start().await;
    let event = json!({"type": "a.b", "payload": 1});
    *world.log.fault.lock().unwrap() = Some(LogError::Unavailable("gone".to_owned()));
    world.post("/webhooks/events", event.clone()).await.problem(503);
    world.post("/webhooks/events", event.clone()).await.problem(503);
    *world.log.fault.lock().unwrap() = None;
    world.post("/webhooks/events", event.clone()).await.expect(202);
    world.post("/webhooks/events", event).await.expect(202);
    assert_eq!(lines.with("dependency is away"), 1, "{}", lines.text());
    assert_eq!(lines.with("dependency is back"), 1, "{}", lines.text());
    assert_eq!(lines.with(" WARN "), 1, "{}", lines.text());
    world.stop().await;
}
