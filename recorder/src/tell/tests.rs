//! Owners are told: by events and by mail, over restarts, and with what they are told by away.

use super::*;
use async_trait::async_trait;
use platform::announce::Writing;
use platform::catalog::{HealthChange, NewTarget};
use platform::config::{MailServer, MailTls};
use platform::event_log::{EventLog, LogError, LogReader, LogScan, NewRecord, Record, Span};
use platform::secrets::Sealer;
use schemas::avro;
use schemas::event::Position;
use schemas::ids::Tenant;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

const HOUR: Duration = Duration::from_secs(3600);

/// A log that keeps what is appended, unless it is away.
#[derive(Default)]
struct Log {
    away: AtomicBool,
    records: Mutex<Vec<NewRecord>>,
}

impl Log {
    /// Type and id of each event.
    fn events(&self) -> Vec<(String, String)> {
        let records = self.records.lock().unwrap();
        let event = |record: &NewRecord| {
            let event = avro::decode_raw(&record.value).unwrap();
            let id = String::from_utf8(record.headers[0].1.to_vec()).unwrap();
            assert_eq!(&record.headers[1].1[..], b"acme");
            (event.event_type.to_string(), id)
        };
        records.iter().map(event).collect()
    }
}

#[async_trait]
impl EventLog for Log {
    async fn append(&self, _: &str, records: Vec<NewRecord>) -> Result<Vec<Position>, LogError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(LogError::Unavailable("away".to_owned()));
        }
        self.records.lock().unwrap().extend(records);
        Ok(Vec::new())
    }

    async fn read_at(&self, _: &Position) -> Result<Option<Record>, LogError> {
        Ok(None)
    }

    async fn scan(&self, _: &str) -> Result<Box<dyn LogScan>, LogError> {
        unreachable!("nobody reads")
    }

    async fn find(&self, _: &str, _: Millis, _: Millis) -> Result<Option<Vec<Span>>, LogError> {
        unreachable!("nobody reads")
    }

    async fn scan_spans(&self, _: &str, _: &[Span]) -> Result<Option<Box<dyn LogScan>>, LogError> {
        unreachable!("nobody reads")
    }

    async fn subscribe(&self, _: &str, _: &[String]) -> Result<Box<dyn LogReader>, LogError> {
        unreachable!("nobody reads")
    }

    async fn provision(&self, _: &[String]) -> Result<(), LogError> {
        Ok(())
    }

    async fn check(&self, _: &[String]) -> Result<(), LogError> {
        Ok(())
    }
}

/// A mail server that keeps the texts it takes.
struct Post {
    port: u16,
    taken: Arc<Mutex<Vec<String>>>,
}

impl Post {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let keep = taken.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let keep = keep.clone();
                tokio::spawn(async move {
                    let (from, mut to) = socket.into_split();
                    let mut lines = BufReader::new(from).lines();
                    let (mut text, mut in_text) = (String::new(), false);
                    let mut answer = Some("220 ready");
                    loop {
                        if let Some(answer) = answer
                            && to.write_all(format!("{answer}\r\n").as_bytes()).await.is_err()
                        {
                            return;
                        }
                        let Ok(Some(line)) = lines.next_line().await else {
                            return;
                        };
                        answer = match &*line {
                            "." if in_text => {
                                in_text = false;
                                keep.lock().unwrap().push(std::mem::take(&mut text));
                                Some("250 taken")
                            }
                            line if in_text => {
                                text.push_str(line);
                                text.push('\n');
                                None
                            }
                            "DATA" => {
                                in_text = true;
                                Some("354 go on")
                            }
                            "QUIT" => return,
                            _ => Some("250 fine"),
                        };
                    }
                });
            }
        });
        Self { port, taken }
    }

    fn subjects(&self) -> Vec<String> {
        let taken = self.taken.lock().unwrap();
        let subject = |mail: &String| {
            let line = mail.lines().find(|line| line.starts_with("Subject: "));
            line.unwrap().split_once(": ").unwrap().1.to_owned()
        };
        taken.iter().map(subject).collect()
    }
}

struct World {
    catalog: Catalog,
    clock: Clock,
    log: Arc<Log>,
    target: TargetId,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new(contact: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("hookwright.db").display());
        let clock = Clock::driven(Millis(1_795_000_000_000));
        let catalog = Catalog::open(&url, Sealer::random().0, clock.clone())
            .await
            .unwrap();
        catalog.migrate().await.unwrap();
        let tenant = Tenant::new("acme").unwrap();
        catalog.create_tenant(&tenant).await.unwrap();
        let new = NewTarget {
            contact: contact.map(str::to_owned),
            ..NewTarget::at("https://example.com/hooks")
        };
        let target = catalog.create_target(&tenant, new).await.unwrap().0.id;
        Self {
            catalog,
            clock,
            log: Arc::default(),
            target,
            _folder: folder,
        }
    }

    /// A teller as a process that has just started.
    fn teller(&self, port: Option<u16>) -> Teller {
        let log: Arc<dyn EventLog> = self.log.clone();
        let server = |port| MailServer {
            host: "127.0.0.1".to_owned(),
            port,
            tls: MailTls::Offered,
            credentials: None,
        };
        Teller {
            catalog: self.catalog.clone(),
            announcer: Some(Announcer::new(
                log,
                "events".to_owned(),
                Writing::Raw,
                self.clock.clone(),
            )),
            mailer: port.map(|port| Mailer::new(&server(port), "us@example.com").unwrap()),
            clock: self.clock.clone(),
        }
    }

    async fn tell(&self, port: Option<u16>) {
        self.teller(port).round().await.unwrap();
    }

    async fn given_up(&self, times: u32) {
        let now = self.clock.now();
        let change = HealthChange::GivenUp(times, now, now, "http_503".to_owned());
        self.catalog
            .change_health(&[(self.target, change)])
            .await
            .unwrap();
    }

    async fn disable(&self) {
        let disabled = self.catalog.disable_target(self.target, "gone").await.unwrap();
        assert!(disabled);
    }

    /// Whether anything is left to tell, however long one waits.
    async fn is_told(&self) -> bool {
        self.clock.advance(HOUR * 24);
        self.catalog.due_news(10).await.unwrap().is_empty()
    }
}

#[tokio::test]
async fn a_disabled_target_is_told_of_once_by_event_and_mail() {
    let (world, post) = (World::new(Some("ops@example.com")).await, Post::open().await);
    world.disable().await;
    world.tell(Some(post.port)).await;
    world.tell(Some(post.port)).await;
    let events = world.log.events();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].0, "hookwright.target.disabled");
    assert_eq!(
        post.subjects(),
        [format!("Webhook target {}: is disabled", world.target)]
    );
    assert!(world.is_told().await);
}

#[tokio::test]
async fn without_a_contact_or_a_mail_server_there_is_the_event_alone() {
    let post = Post::open().await;
    for (contact, port) in [(None, Some(post.port)), (Some("ops@example.com"), None)] {
        let world = World::new(contact).await;
        world.disable().await;
        world.given_up(3).await;
        world.clock.advance(HOUR);
        world.tell(port).await;
        assert_eq!(world.log.events().len(), 1);
        assert!(world.is_told().await);
    }
    assert!(post.subjects().is_empty());
}

#[tokio::test]
async fn of_many_given_up_there_is_one_mail_an_hour_with_all_of_them() {
    let (world, post) = (World::new(Some("ops@example.com")).await, Post::open().await);
    let minute = Duration::from_secs(60);
    // Three hours of failing, a few each minute, and a look each minute.
    for _ in 0..180 {
        world.given_up(5).await;
        world.clock.advance(minute);
        world.tell(Some(post.port)).await;
    }
    let subjects = post.subjects();
    assert!((3..=4).contains(&subjects.len()), "{subjects:?}");
    world.clock.advance(HOUR);
    world.tell(Some(post.port)).await;
    let total: u32 = post
        .subjects()
        .iter()
        .map(|subject| {
            let count = subject.split(": ").nth(1).unwrap().split(' ').next().unwrap();
            count.parse::<u32>().unwrap()
        })
        .sum();
    assert_eq!(total, 900, "each is told of once: {:?}", post.subjects());
    assert!(world.is_told().await);
}

#[tokio::test]
async fn while_the_mail_server_is_away_mail_waits_and_then_is_dropped() {
    let world = World::new(Some("ops@example.com")).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = free.local_addr().unwrap().port();
    drop(free);
    world.disable().await;
    for _ in 0..6 {
        world.tell(Some(nobody)).await;
        world.clock.advance(HOUR);
    }
    assert_eq!(world.log.events().len(), 1, "events do not wait for mail");
    let due = world.catalog.due_news(10).await.unwrap();
    assert_eq!(due, [world.target], "it is tried on");
    // Back in time.
    let post = Post::open().await;
    world.tell(Some(post.port)).await;
    assert_eq!(post.subjects().len(), 1);

    // Not back in time.
    world.given_up(1).await;
    world.clock.advance(HOUR * 7);
    world.tell(Some(nobody)).await;
    world.tell(Some(post.port)).await;
    assert_eq!(post.subjects().len(), 1);
    assert!(world.is_told().await);
}

#[tokio::test]
async fn while_the_log_is_away_the_event_waits_for_it() {
    let (world, post) = (World::new(Some("ops@example.com")).await, Post::open().await);
    world.disable().await;
    world.log.away.store(true, Ordering::SeqCst);
    world.tell(Some(post.port)).await;
    assert!(post.subjects().is_empty());
    world.log.away.store(false, Ordering::SeqCst);
    world.clock.advance(HOUR);
    world.tell(Some(post.port)).await;
    assert_eq!((world.log.events().len(), post.subjects().len()), (1, 1));
    assert!(world.is_told().await);
}

#[tokio::test]
async fn killed_after_any_step_it_is_told_again_by_the_same_id_and_never_not() {
    let (world, post) = (World::new(Some("ops@example.com")).await, Post::open().await);
    world.disable().await;
    // Killed with the news claimed, and nothing told.
    let claimed = world.catalog.claim_news(world.target, LEASE).await.unwrap();
    assert!(claimed.is_some());
    let other = world.catalog.claim_news(world.target, LEASE).await.unwrap();
    assert_eq!(other, None, "nobody else tells meanwhile");
    world.clock.advance(LEASE);
    // Killed with the event in the log, and that not noted.
    let teller = world.teller(None);
    let claimed = world
        .catalog
        .claim_news(world.target, LEASE)
        .await
        .unwrap()
        .unwrap();
    let notice = notice(world.target, &claimed.news[0]).unwrap();
    let announcer = teller.announcer.unwrap();
    announcer.publish(&claimed.tenant, &notice).await.unwrap();
    world.clock.advance(LEASE);
    world.tell(Some(post.port)).await;
    let events = world.log.events();
    assert_eq!(events.len(), 2);
    assert_eq!(events[0], events[1], "one event to receivers");
    assert_eq!(post.subjects().len(), 1);
    assert!(world.is_told().await);
}

#[tokio::test]
async fn what_comes_while_a_mail_is_sent_is_told_by_the_next() {
    let world = World::new(Some("ops@example.com")).await;
    world.given_up(3).await;
    world.clock.advance(HOUR);
    let claimed = world
        .catalog
        .claim_news(world.target, LEASE)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(claimed.news[0].times, 3);
    world.given_up(2).await;
    let now = world.clock.now();
    world.catalog.news_done(&claimed, Some(now)).await.unwrap();
    world.clock.advance(HOUR);
    let rest = world
        .catalog
        .claim_news(world.target, LEASE)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((rest.news[0].times, rest.mailed_at), (2, Some(now)));
}
