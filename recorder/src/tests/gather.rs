//! Records that come one by one share transactions.

use super::killed::{LONG, TOPIC, append, topic};
use super::*;
use platform::history::types::EventQuery;
use std::path::Path;

/// Transactions in SQLite's write-ahead log: frames that say how many pages the file has after them end one.
fn transactions(wal: &Path) -> usize {
    let bytes = std::fs::read(wal).unwrap();
    let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let page = word(8) as usize;
    (32..bytes.len())
        .step_by(24 + page)
        .filter(|frame| word(frame + 4) > 0)
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_come_one_by_one_share_transactions() {
    const RECORDS: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    let log = topic(folder.path()).await;
    let file = folder.path().join("hookwright.db");
    let url = format!("sqlite:{}", file.display());
    let catalog = Catalog::open(&url, Sealer::random().0, Clock::system())
        .await
        .unwrap();
    catalog.migrate().await.unwrap();
    let (history, tenant) = (History::new(&catalog), Tenant::new("default").unwrap());
    let config = Config {
        group: "recorder".to_owned(),
        topic: TOPIC.to_owned(),
        keep: LONG,
        disable_after: None,
    };
    let parts = Parts {
        log: log.clone(),
        history: history.clone(),
        catalog,
        announcer: None,
        mailer: None,
        clock: Clock::system(),
    };
    let wal = folder.path().join("hookwright.db-wal");
    let before = transactions(&wal);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(run(config, parts, || (), shutdown.clone()));
    let begun = Instant::now();
    for number in 0..RECORDS {
        append(&log, &[HistoryRecord::Event(event_record(number))]).await;
    }
    let all = EventQuery {
        limit: u32::MAX,
        ..EventQuery::default()
    };
    soon("all records", async {
        while history.events(&tenant, &all).await.unwrap().len() < RECORDS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let most = 2 + begun.elapsed().div_duration_f64(GATHER) as usize;
    let made = transactions(&wal) - before;
    assert!(made <= most, "{made} transactions, and not at most {most}");
    shutdown.cancel();
    soon("its end", running).await.unwrap().unwrap();
}
