//! Each odd target ends within the deadline as a known outcome, and takes no more than it may. What is told of
//! each is the table of docs/outcomes.md.

use crate::certificates::{Authority, NAME};
use crate::names::Book;
use crate::sink::Sink;
use crate::{config, h2_targets, http1_targets, open, tls_targets};
use dispatcher::Config;
use dispatcher::client::{Answer, HttpClient};
use dispatcher::resolver::Names;
use http::Request;
use http_body_util::Full;
use schemas::outcome::{AttemptError, Outcome, judge};
use schemas::time::Millis;
use std::fmt::Write as _;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::net::{TcpSocket, TcpStream};

/// The deadline of an attempt here.
const DEADLINE: Duration = Duration::from_secs(5);
/// That of a connection, and of TLS.
const CONNECT: Duration = Duration::from_secs(2);
/// What a busy machine may add to it.
const SLACK: Duration = Duration::from_secs(10);
/// What a target can get rid of before nobody reads on: our limit, and the buffers of both kernels.
const MOST_TAKEN: usize = 16 << 20;

type Serve = Box<dyn Fn(TcpStream) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// A target, and what is told of an attempt at it.
pub struct Case {
    what: &'static str,
    told: &'static str,
    serve: Serve,
}

/// A target that does this to each connection.
pub fn case<S, F>(what: &'static str, told: &'static str, serve: S) -> Case
where
    S: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let serve: Serve = Box::new(move |stream| Box::pin(serve(stream)));
    Case { what, told, serve }
}

/// Knows the target, and does not answer for one name.
struct Partly(Book);

impl Names for Partly {
    #[allow(
        clippy::disallowed_methods,
        reason = "a lookup that blocks its thread is what is tested"
    )]
    fn lookup(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        if name == "dead.example." {
            // The thread ends with the test.
            let (_silent, answer) = std::sync::mpsc::sync_channel::<()>(1);
            assert!(answer.recv_timeout(DEADLINE).is_err());
        }
        self.0.lookup(name)
    }
}

fn settings() -> Config {
    Config {
        concurrency: 64,
        connect_timeout: CONNECT,
        ..config(open(&["127.0.0.0/8"]))
    }
}

fn client(authority: &Authority) -> Arc<HttpClient> {
    let book = Book::of(&[
        (NAME, &[&["127.0.0.1"]]),
        ("inside.example", &[&["10.0.0.1", "169.254.169.254"]]),
    ]);
    Arc::new(HttpClient::with(
        &settings(),
        authority.trusted(),
        Arc::new(Partly(book)),
    ))
}

/// One attempt; checks that it ends in time.
async fn attempt(client: &HttpClient, what: &str, url: &str) -> Result<Answer, AttemptError> {
    let request = Request::post(url).body(Full::from("{}")).unwrap();
    let begun = Instant::now();
    let told = client.post(request, None, DEADLINE).await;
    assert!(
        begun.elapsed() < DEADLINE + SLACK,
        "{what}: {:?}",
        begun.elapsed()
    );
    told
}

fn word(told: &Result<Answer, AttemptError>) -> String {
    match told {
        Ok(answer) => answer.status.to_string(),
        Err(error) => error.word().to_owned(),
    }
}

/// What happens after an attempt, as the documentation says it.
fn then(told: &Result<Answer, AttemptError>) -> String {
    let seen = told
        .as_ref()
        .map(|it| (it.status, it.retry_after.as_deref()))
        .map_err(|error| *error);
    match judge(seen, Millis(784_111_717_000), Duration::from_secs(3600)) {
        Outcome::Delivered => "delivered".to_owned(),
        Outcome::Retry { after: None } => "tried again by the schedule".to_owned(),
        Outcome::Retry { after: Some(after) } => {
            format!("tried again by the schedule, not before {} s", after.as_secs())
        }
        Outcome::Gone => "canceled, and the target is disabled".to_owned(),
        Outcome::Rejected => "given up".to_owned(),
        Outcome::NotAsked => "put off for seconds, which is no attempt".to_owned(),
    }
}

/// A row of the table, and what should have been told.
#[derive(Clone, Debug)]
pub struct Row {
    what: &'static str,
    told: String,
    expected: &'static str,
    then: String,
}

impl Row {
    fn new(what: &'static str, expected: &'static str, answer: &Result<Answer, AttemptError>) -> Self {
        Self {
            what,
            told: word(answer),
            expected,
            then: then(answer),
        }
    }
}

/// Tries all at once; a row for each, in their order.
pub async fn rows(client: &Arc<HttpClient>, scheme: &str, host: &str, cases: Vec<Case>) -> Vec<Row> {
    let mut running = Vec::new();
    for Case { what, told, serve } in cases {
        let sink = Sink::start("127.0.0.1", serve).await;
        let url = format!("{scheme}://{host}:{}/hook", sink.address.port());
        let client = client.clone();
        running.push(tokio::spawn(async move {
            let answer = attempt(&client, what, &url).await;
            drop(sink);
            Row::new(what, told, &answer)
        }));
    }
    let mut rows = Vec::new();
    for one in running {
        rows.push(one.await.unwrap());
    }
    rows
}

/// What goes wrong before there is a connection.
async fn unreachable(client: &HttpClient) -> Vec<Row> {
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    // A queue for one connection, which is in it.
    let full = TcpSocket::new_v4().unwrap();
    full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = full.listen(0).unwrap();
    let _waiting = TcpStream::connect(full.local_addr().unwrap()).await.unwrap();
    let urls = [
        (
            "has a name that does not exist",
            "http://nobody.example:8080/".to_owned(),
            "dns",
        ),
        (
            "has a name whose name servers do not answer",
            "http://dead.example:8080/".to_owned(),
            "dns",
        ),
        (
            "has a name with addresses that may not be dialled, and no other",
            "http://inside.example:8080/".to_owned(),
            "blocked",
        ),
        (
            "is an address that may not be dialled",
            "http://169.254.169.254/".to_owned(),
            "blocked",
        ),
        (
            "refuses the connection",
            format!("http://{}/", closed.local_addr().unwrap()),
            "connect",
        ),
        (
            "does not answer to the connection",
            format!("http://{}/", full.local_addr().unwrap()),
            "connect",
        ),
    ];
    let mut rows = Vec::new();
    for (what, url, told) in urls {
        let answer = attempt(client, what, &url).await;
        rows.push(Row::new(what, told, &answer));
    }
    rows
}

#[tokio::test]
async fn every_odd_target_ends_in_time_as_the_documentation_says() {
    let authority = Authority::new();
    let client = client(&authority);
    let taken = [Arc::default(), Arc::default()];
    let poured = Arc::default();
    let by_address = "127.0.0.1";
    let (answers, unreachable, tls, http1, http2) = tokio::join!(
        rows(&client, "http", by_address, http1_targets::answers()),
        unreachable(&client),
        rows(&client, "https", NAME, tls_targets::cases(&authority)),
        rows(&client, "http", by_address, http1_targets::cases(&taken)),
        rows(&client, "https", NAME, h2_targets::cases(&authority, &poured)),
    );
    for bytes in taken.iter().chain([&poured]) {
        let bytes = bytes.load(Ordering::SeqCst);
        assert!(bytes > 0 && bytes < MOST_TAKEN, "{bytes} bytes were taken");
    }
    let mut table = String::from("| the target | told as | the delivery is |\n|---|---|---|\n");
    let lost = Row::new(
        "is not asked: the payload is no longer kept",
        "payload_missing",
        &Err(AttemptError::PayloadMissing),
    );
    let not_asked = Row::new(
        "is not asked: no file is left for a connection, or no thread for a lookup",
        "not_asked",
        &Err(AttemptError::NotAsked),
    );
    let rows = [answers, unreachable, tls, http1, http2, vec![lost, not_asked]].concat();
    let other: Vec<&Row> = rows.iter().filter(|row| row.told != row.expected).collect();
    assert!(other.is_empty(), "{other:#?}");
    for Row { what, told, then, .. } in rows {
        writeln!(table, "| {what} | `{told}` | {then} |").unwrap();
    }
    documented(&table);
    // Nothing of all that stays open.
    let begun = Instant::now();
    while client.connections() > 0 {
        assert!(
            begun.elapsed() < SLACK * 4,
            "{} connections are open",
            client.connections()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Compares the table of docs/outcomes.md; with `UPDATE_DOCS` set, writes it there.
fn documented(table: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/outcomes.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (open, close) = ("<!-- outcomes -->\n", "<!-- /outcomes -->");
    let (before, rest) = text.split_once(open).unwrap();
    let (there, after) = rest.split_once(close).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{open}{table}{close}{after}")).unwrap();
    } else {
        assert_eq!(
            there, table,
            "docs/outcomes.md is out of date: run this test with UPDATE_DOCS=1"
        );
    }
}
