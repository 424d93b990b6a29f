use super::super::{LogEvent, Partition};
use super::*;
use bytes::Bytes;
use schemas::time::Millis;
use tempfile::TempDir;

const HOUR: Duration = Duration::from_secs(3_600);
const SOON: Duration = Duration::from_secs(30);

fn open(dir: &TempDir) -> EmbeddedLog {
    EmbeddedLog::open(dir.path(), sqlite::Sync::Normal, Clock::system(), HOUR).unwrap()
}

fn numbered(numbers: std::ops::Range<i64>) -> Vec<NewRecord> {
    numbers
        .map(|number| NewRecord {
            value: Bytes::from(number.to_string()),
            ..NewRecord::default()
        })
        .collect()
}

fn at(offset: i64) -> Position {
    Position {
        topic: Arc::from("a"),
        partition: 0,
        offset,
    }
}

fn partition() -> Partition {
    (Arc::from("a"), 0)
}

async fn append(log: &EmbeddedLog, numbers: std::ops::Range<i64>) {
    let positions = log.append("a", numbered(numbers.clone())).await.unwrap();
    assert!(positions.iter().map(|position| position.offset).eq(numbers));
}

async fn subscribe(log: &EmbeddedLog, group: &str) -> Box<dyn LogReader> {
    log.subscribe(group, &["a".to_owned()]).await.unwrap()
}

/// The offsets of the next so many records.
async fn read(reader: &mut dyn LogReader, count: usize) -> Vec<i64> {
    let mut offsets = Vec::new();
    while offsets.len() < count {
        let event = tokio::time::timeout(SOON, reader.next()).await.expect("records");
        if let LogEvent::Records(records) = event.unwrap() {
            for record in records {
                assert_eq!(record.value, record.position.offset.to_string());
                offsets.push(record.position.offset);
            }
        }
    }
    offsets
}

#[tokio::test]
async fn who_is_far_behind_reads_the_file_and_then_goes_on_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir);
    append(&log, 0..20_000).await;
    let mut reader = subscribe(&log, "g").await;
    let mut offsets = read(&mut *reader, 5_000).await;
    append(&log, 20_000..21_000).await;
    let left = 21_000 - offsets.len();
    offsets.extend(read(&mut *reader, left).await);
    assert!(offsets.into_iter().eq(0..21_000));
}

#[tokio::test]
async fn records_are_found_by_their_place_wherever_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir);
    append(&log, 0..20_000).await;
    // Neighbours, far apart, back and forth; on disk, read along with others, and in memory.
    let scattered = (0..500).map(|step| (step * 7_919) % 20_000);
    for offset in (300..1_300).chain(scattered).chain([0, 19_999, 1_300, 1_299]) {
        let found = log.read_at(&at(offset)).await.unwrap().unwrap();
        assert_eq!(
            (found.position, found.value),
            (at(offset), Bytes::from(offset.to_string()))
        );
    }
    for nowhere in [-1, 20_000, i64::MAX, i64::MIN] {
        assert_eq!(log.read_at(&at(nowhere)).await.unwrap(), None, "{nowhere}");
    }
    let mut elsewhere = at(0);
    elsewhere.partition = 1;
    assert_eq!(log.read_at(&elsewhere).await.unwrap(), None);
    elsewhere.topic = Arc::from("unknown");
    assert_eq!(log.read_at(&elsewhere).await.unwrap(), None);
}

#[tokio::test]
async fn what_waits_at_once_shares_a_commit() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(open(&dir));
    log.provision(&["a".to_owned()]).await.unwrap();
    let before = log.commits();
    let appending: Vec<_> = (0..400)
        .map(|_| {
            let log = log.clone();
            tokio::spawn(async move { log.append("a", numbered(0..1)).await.unwrap() })
        })
        .collect();
    for one in appending {
        one.await.unwrap();
    }
    let commits = log.commits() - before;
    assert!(commits < 200, "{commits} commits for 400 appends");
}

#[tokio::test]
async fn a_full_disk_refuses_for_the_time_being_and_nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.db");
    let db = sqlite::open(&path, sqlite::Sync::Normal).unwrap();
    db.pragma_update(None, "max_page_count", 64).unwrap();
    let log = EmbeddedLog::with(db, &path, Clock::system(), HOUR).unwrap();
    append(&log, 0..10).await;
    let large = NewRecord {
        value: Bytes::from(vec![0; 300 << 10]),
        ..NewRecord::default()
    };
    let mut reader = subscribe(&log, "g").await;
    for _ in 0..3 {
        let failed = log.append("a", vec![NewRecord::default(), large.clone()]).await;
        assert!(
            matches!(&failed, Err(LogError::Unavailable(why)) if why.contains("full")),
            "{failed:?}"
        );
        assert!(matches!(log.check(&[]).await, Err(LogError::Unavailable(_))));
    }
    // A smaller one still fits, and follows without a gap.
    append(&log, 10..11).await;
    log.check(&[]).await.unwrap();
    assert!(read(&mut *reader, 11).await.into_iter().eq(0..11));
    reader.close().await;
    drop(log);
    assert!(
        read(&mut *subscribe(&open(&dir), "g").await, 11)
            .await
            .into_iter()
            .eq(0..11)
    );
}

#[tokio::test]
async fn old_records_go_as_new_ones_come_and_offsets_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::driven(Millis(1_000_000));
    let open = || EmbeddedLog::open(dir.path(), sqlite::Sync::Normal, clock.clone(), HOUR).unwrap();
    let log = open();
    append(&log, 0..100).await;
    clock.advance(HOUR + Duration::from_secs(1));
    append(&log, 100..200).await;
    drop(log);
    let log = open();
    assert_eq!(log.read_at(&at(99)).await.unwrap(), None);
    assert!(log.read_at(&at(100)).await.unwrap().is_some());
    assert_eq!(read(&mut *subscribe(&log, "late").await, 100).await[0], 100);

    clock.advance(3 * HOUR);
    append(&log, 200..201).await;
    append(&log, 201..202).await;
    drop(log);
    append(&open(), 202..203).await;
}

#[tokio::test]
async fn records_a_group_has_not_finished_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::driven(Millis(1_000_000));
    let log = EmbeddedLog::open(dir.path(), sqlite::Sync::Normal, clock.clone(), HOUR).unwrap();
    append(&log, 0..100).await;
    let mut reader = subscribe(&log, "g").await;
    read(&mut *reader, 100).await;
    reader.store(&partition(), 40);
    reader.close().await;
    clock.advance(2 * HOUR);
    for number in 100..110 {
        append(&log, number..number + 1).await;
    }
    drop(log);
    let log = EmbeddedLog::open(dir.path(), sqlite::Sync::Normal, clock, HOUR).unwrap();
    assert_eq!(log.read_at(&at(39)).await.unwrap(), None);
    assert!(
        read(&mut *subscribe(&log, "g").await, 70)
            .await
            .into_iter()
            .eq(40..110)
    );
}

#[tokio::test]
async fn of_one_group_one_member_reads_and_the_next_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir);
    append(&log, 0..10).await;
    let mut first = subscribe(&log, "g").await;
    let mut second = subscribe(&log, "g").await;
    read(&mut *first, 10).await;
    let waiting = tokio::time::timeout(Duration::from_millis(50), second.next()).await;
    assert!(waiting.is_err(), "{waiting:?}");
    // It has nothing, so it can store nothing.
    second.store(&partition(), 9);
    first.store(&partition(), 6);
    assert_eq!(first.lag(), [(partition(), 4)]);
    assert_eq!(second.lag(), []);

    let waiting = tokio::spawn(async move {
        let assigned = second.next().await.unwrap();
        assert!(matches!(assigned, LogEvent::Assigned(partitions) if partitions == [partition()]));
        read(&mut *second, 4).await
    });
    tokio::task::yield_now().await;
    first.close().await;
    let rest = tokio::time::timeout(SOON, waiting).await.expect("its turn");
    assert_eq!(rest.unwrap(), [6, 7, 8, 9]);
}

#[tokio::test]
async fn a_stored_offset_is_durable_soon_also_without_a_close() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir);
    append(&log, 0..10).await;
    let mut reader = subscribe(&log, "g").await;
    read(&mut *reader, 10).await;
    let before = log.commits();
    reader.store(&partition(), 7);
    tokio::time::timeout(SOON, async {
        while log.commits() == before {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("a commit of its own");
    // As after a crash: another process would see it in the file.
    let db = Connection::open(dir.path().join("log.db")).unwrap();
    let stored: i64 = db
        .query_row("SELECT next FROM offsets", [], |row| row.get(0))
        .unwrap();
    assert_eq!(stored, 7);
}

#[tokio::test]
async fn what_can_never_be_taken_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir);
    for name in ["", "a b", "a/b", "a\"; DROP TABLE topics", "é", &"x".repeat(250)] {
        let refused = log.append(name, numbered(0..1)).await;
        assert!(
            matches!(refused, Err(LogError::Refused(_))),
            "{name}: {refused:?}"
        );
    }
    let huge = NewRecord {
        value: Bytes::from(vec![0; MAX_RECORD + 1]),
        ..NewRecord::default()
    };
    let refused = log.append("a", vec![huge]).await;
    assert!(
        matches!(&refused, Err(LogError::Refused(why)) if why.starts_with("record 0 has 67108865 bytes"))
    );
    append(&log, 0..1).await;
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("log.db"),
        "this is not a database, and long enough to tell",
    )
    .unwrap();
    for folder in [dir.path().to_owned(), dir.path().join("missing")] {
        let error = EmbeddedLog::open(&folder, sqlite::Sync::Normal, Clock::system(), HOUR).unwrap_err();
        let path = folder.join("log.db").display().to_string();
        assert!(
            matches!(&error, LogError::Unavailable(why) if why.contains(&path)),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_is_found_by_offset_and_one_whose_records_are_deleted_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let start = Millis(1_795_000_000_000);
    let clock = Clock::driven(start);
    let day = Duration::from_secs(24 * 3600);
    let log = EmbeddedLog::open(dir.path(), sqlite::Sync::Normal, clock.clone(), 40 * day).unwrap();
    // Ten records a day, from offset 0 on.
    for first in 0..30 {
        append(&log, first * 10..first * 10 + 10).await;
        clock.advance(day);
    }
    let after = |days: u32| start.plus(day * days);
    let span = |next: i64, end: i64| {
        Some(vec![Span {
            partition: 0,
            next,
            end,
        }])
    };
    assert_eq!(
        log.find("a", Millis(0), Millis(i64::MAX)).await.unwrap(),
        span(0, 300)
    );
    assert_eq!(log.find("a", after(3), after(5)).await.unwrap(), span(30, 60));
    let hour = Duration::from_secs(3600);
    let between = log.find("a", after(3).plus(hour), after(5).plus(hour)).await;
    assert_eq!(between.unwrap(), span(40, 60));
    assert_eq!(
        log.find("a", after(3).plus(hour), after(3).plus(2 * hour))
            .await
            .unwrap(),
        Some(Vec::new())
    );
    assert_eq!(
        log.find("a", after(40), after(50)).await.unwrap(),
        Some(Vec::new())
    );
    assert_eq!(
        log.find("other", after(0), after(1)).await.unwrap(),
        Some(Vec::new())
    );

    // Those of the first days go as new ones come.
    clock.advance(day * 13);
    append(&log, 300..301).await;
    assert_eq!(
        log.find("a", after(2), after(5)).await.unwrap(),
        None,
        "records of that time are gone"
    );
    assert_eq!(
        log.find("a", after(3).plus(hour), after(5)).await.unwrap(),
        span(40, 60)
    );
    for (next, held) in [(29, false), (30, true)] {
        let scan = log.scan_spans("a", &span(next, 32).unwrap()).await.unwrap();
        assert_eq!(scan.is_some(), held, "{next}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_deleted_under_a_reader_of_a_stretch_are_an_error_and_not_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::driven(Millis(1_795_000_000_000));
    let hour = Duration::from_secs(3600);
    let log = EmbeddedLog::open(dir.path(), sqlite::Sync::Normal, clock.clone(), hour).unwrap();
    // More than two batches.
    append(&log, 0..1_200).await;
    let stretch = Span {
        partition: 0,
        next: 0,
        end: 1_200,
    };
    let mut whole = log.scan("a").await.unwrap();
    let mut scan = log.scan_spans("a", &[stretch]).await.unwrap().unwrap();
    assert_eq!(scan.next().await.unwrap().len(), 512);
    assert_eq!(whole.next().await.unwrap().len(), 512);
    clock.advance(2 * hour);
    append(&log, 1_200..2_000).await;
    let error = scan.next().await.unwrap_err();
    assert!(matches!(error, LogError::Unavailable(_)), "{error}");
    let rest = Span { next: 512, ..stretch };
    assert!(log.scan_spans("a", &[rest]).await.unwrap().is_none());
    // Who reads a topic as it stands goes on with what is left of it.
    whole.next().await.unwrap();
}
