//! What is acknowledged survives `kill -9`: a child process works and says what was acknowledged,
//! is killed at some moment, and everything it said is checked.

use crate::support::random;
use bytes::Bytes;
use platform::clock::Clock;
use platform::data_dir::DataDir;
use platform::delivery_queue::embedded::EmbeddedQueue;
use platform::delivery_queue::{DeliveryQueue, MAX_RECEIVE, OutMessage, QueueName};
use platform::event_log::embedded::EmbeddedLog;
use platform::event_log::{EventLog, NewRecord};
use platform::sqlite::Sync;
use schemas::event::Position;
use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const FOLDER: &str = "HOOKWRIGHT_TEST_CHILD_FOLDER";
const TOPIC: &str = "events";
const LONG: Duration = Duration::from_secs(3_600);

fn open(folder: &Path) -> (DataDir, Arc<EmbeddedLog>, Arc<EmbeddedQueue>) {
    let dir = DataDir::open(folder).unwrap();
    let log = EmbeddedLog::open(folder, Sync::Normal, Clock::system(), LONG).unwrap();
    let queue = EmbeddedQueue::open(folder, Sync::Normal, Clock::system()).unwrap();
    (dir, Arc::new(log), Arc::new(queue))
}

/// Writes a line at once, so that it is out when the process is killed.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

#[test]
fn what_is_acknowledged_survives_being_killed() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "durability::the_child", "--ignored", "--nocapture"])
            .env(FOLDER, folder.path())
            .env("ROUND", round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said: Vec<String> = Vec::new();
        let enough = 200 + random() % 2_000;
        for line in lines.by_ref().map_while(Result::ok) {
            said.push(line);
            if said.len() as u64 >= enough {
                break;
            }
        }
        child.kill().unwrap();
        // What it said before it died counts too.
        said.extend(lines.map_while(Result::ok));
        let died = child.wait().unwrap();
        assert_eq!(died.code(), None, "the child ended by itself: {said:?}");
        check(folder.path(), &said);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn check(folder: &Path, said: &[String]) {
    let (_dir, log, queue) = open(folder);
    let of = |what: &str| -> HashSet<String> {
        said.iter()
            .filter_map(|line| line.strip_prefix(what))
            .map(str::to_owned)
            .collect()
    };
    let (appended, sent, deleted) = (of("appended "), of("sent "), of("deleted "));
    assert!(!appended.is_empty() && !sent.is_empty() && !deleted.is_empty());

    for line in &appended {
        let (offset, value) = line.split_once(' ').unwrap();
        let position = Position {
            topic: Arc::from(TOPIC),
            partition: 0,
            offset: offset.parse().unwrap(),
        };
        let found = log.read_at(&position).await.unwrap();
        assert_eq!(
            found.map(|record| record.value),
            Some(Bytes::from(value.to_owned()))
        );
    }

    let mut waiting = HashSet::new();
    loop {
        let messages = queue
            .receive(QueueName::Dispatch, MAX_RECEIVE, Duration::ZERO, LONG)
            .await
            .unwrap();
        if messages.is_empty() {
            break;
        }
        let receipts: Vec<_> = messages.iter().map(|message| message.receipt.clone()).collect();
        assert!(
            queue
                .delete(QueueName::Dispatch, &receipts)
                .await
                .iter()
                .all(Result::is_ok)
        );
        waiting.extend(messages.into_iter().map(|message| message.attribute));
    }
    for message in &deleted {
        assert!(!waiting.contains(message), "{message} was deleted and came back");
    }
    // A deletion may have been done and not yet acknowledged when the child died: at most one per
    // worker.
    let gone = sent
        .difference(&deleted)
        .filter(|message| !waiting.contains(*message));
    assert!(gone.count() <= WORKERS, "messages were lost");
}

const WORKERS: usize = 4;

#[test]
#[ignore = "run, and killed, by what_is_acknowledged_survives_being_killed"]
fn the_child() {
    let folder = std::env::var_os(FOLDER).expect("run by its parent");
    let round = std::env::var("ROUND").expect("run by its parent");
    work(Path::new(&folder), &round);
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn work(folder: &Path, round: &str) {
    let (_dir, log, queue) = open(folder);
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| tokio::spawn(work_on(log.clone(), queue.clone(), format!("{round}-{worker}"))))
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
}

async fn work_on(log: Arc<EmbeddedLog>, queue: Arc<EmbeddedQueue>, who: String) {
    for number in 0.. {
        let name = format!("{who}-{number}");
        let record = NewRecord {
            value: Bytes::from(name.clone()),
            ..NewRecord::default()
        };
        let at = log.append(TOPIC, vec![record]).await.unwrap();
        say(&format!("appended {} {name}", at[0].offset));

        let message = OutMessage {
            body: Bytes::from_static(b"-"),
            attribute: name.clone(),
            group: String::new(),
            delay: Duration::ZERO,
        };
        assert_eq!(queue.send(QueueName::Dispatch, &[message]).await, [Ok(())]);
        say(&format!("sent {name}"));

        if number % 3 == 0 {
            let got = queue
                .receive(QueueName::Dispatch, 1, Duration::ZERO, LONG)
                .await
                .unwrap();
            for message in got {
                assert_eq!(
                    queue.delete(QueueName::Dispatch, &[message.receipt]).await,
                    [Ok(())]
                );
                say(&format!("deleted {}", message.attribute));
            }
        }
    }
}
