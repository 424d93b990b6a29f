//! What may not be dialled is not, on whatever way it comes.

use crate::names::{Always, Book};
use crate::sink::{Sink, answer};
use crate::{config, open};
use dispatcher::client::HttpClient;
use dispatcher::guard::Guard;
use dispatcher::resolver::{Names, SystemNames};
use dispatcher::tls::machine_roots;
use futures_util::FutureExt;
use http::{Request, Uri};
use http_body_util::Full;
use schemas::egress::EgressRules;
use schemas::egress::ranges::{RANGES, Reach};
use schemas::outcome::AttemptError;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tower_service::Service;

const BYPASSES: &str = include_str!("../../../schemas/testdata/bypasses.txt");
const BLOCKED: Result<(), AttemptError> = Err(AttemptError::Blocked);

async fn dial(rules: EgressRules, names: Arc<dyn Names>, uri: &Uri) -> Result<(), AttemptError> {
    let mut guard = Guard::new(&config(rules), names);
    guard.call(uri.clone()).await.map(drop).map_err(|error| error.0)
}

async fn post(client: &HttpClient, url: &str) -> Result<u16, AttemptError> {
    let request = Request::post(url).body(Full::default()).unwrap();
    let answer = client.post(request, None, Duration::from_secs(20)).await;
    answer.map(|answer| answer.status)
}

#[tokio::test]
async fn no_known_bypass_is_dialled_whatever_its_name_resolves_to() {
    let mut tried = 0;
    for line in BYPASSES
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        // What is not a URI cannot be dialled, and a URI has no fragment.
        let Ok(uri) = line.split('#').next().unwrap_or(line).parse::<Uri>() else {
            continue;
        };
        if uri.host() == Some("example.com") && line.contains('#') {
            continue;
        }
        for resolved in ["127.0.0.1", "169.254.169.254", "1.1.1.1"] {
            let names = Arc::new(Always(resolved.parse().unwrap()));
            assert_eq!(
                dial(EgressRules::default(), names, &uri).await,
                BLOCKED,
                "{line} {resolved}"
            );
        }
        tried += 1;
    }
    assert!(tried > 150, "{tried}");
}

#[tokio::test]
async fn no_special_address_is_dialled_neither_as_it_stands_nor_as_the_answer_for_a_name() {
    let ranges = RANGES.iter().filter(|range| range.reach != Reach::Public);
    // The unallocated part of IPv6 holds all others, the public one among them.
    let addresses = ranges
        .filter(|range| range.network.prefix_len() > 0)
        .flat_map(|range| [range.network.network(), range.network.broadcast()])
        .filter(|address| address.to_string() != "::ffff:255.255.255.255");
    for address in addresses {
        let host = match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        let public: IpAddr = "198.41.0.4".parse().unwrap();
        let book = Book::default();
        book.set("evil.example", vec![vec![address; 3]]);
        let book = Arc::new(book);
        for rules in [open(&[]), open(&["192.0.2.77/32"])] {
            let named = Uri::from_static("http://evil.example:8080/");
            assert_eq!(
                dial(rules.clone(), book.clone(), &named).await,
                BLOCKED,
                "{address}"
            );
            for port in ["", ":80", ":8443"] {
                let literal = format!("http://{host}{port}/").parse().unwrap();
                let names = Arc::new(Always(public));
                assert_eq!(dial(rules.clone(), names, &literal).await, BLOCKED, "{literal}");
            }
        }
        assert_eq!(book.lookups(), 2);
    }
}

#[tokio::test]
async fn of_the_addresses_of_a_name_only_those_allowed_are_dialled() {
    let sink = Sink::start("127.0.0.2", |stream| async move { drop(stream) }).await;
    let port = sink.address.port();
    let beside = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let uri: Uri = format!("http://mixed.example:{port}/").parse().unwrap();
    let answer: &[&str] = &[
        "169.254.169.254",
        "127.0.0.1",
        "::ffff:127.0.0.1",
        "::1",
        "127.0.0.2",
        "10.0.0.1",
    ];
    let book = Arc::new(Book::of(&[("mixed.example", &[answer])]));
    assert_eq!(dial(open(&["127.0.0.2/32"]), book.clone(), &uri).await, Ok(()));
    assert!(beside.accept().now_or_never().is_none(), "127.0.0.1 was dialled");
    assert_eq!(dial(open(&["127.0.0.3/32"]), book, &uri).await, BLOCKED);
}

#[tokio::test]
async fn a_name_that_changes_between_two_attempts_is_judged_at_each() {
    let ok = |stream| answer(stream, b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
    let sink = Sink::start("127.0.0.2", ok).await;
    let port = sink.address.port();
    let beside = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let answers: &[&[&str]] = &[
        &["127.0.0.2"],
        &["127.0.0.1"],
        &["169.254.169.254"],
        &["127.0.0.2"],
        &[],
    ];
    let book = Arc::new(Book::of(&[("rebind.example", answers)]));
    let client = HttpClient::with(&config(open(&["127.0.0.2/32"])), machine_roots(), book.clone());
    let url = format!("http://rebind.example:{port}/");
    let told = [
        Ok(204),
        Err(AttemptError::Blocked),
        Err(AttemptError::Blocked),
        Ok(204),
        Err(AttemptError::Dns),
    ];
    for (n, expected) in told.into_iter().enumerate() {
        assert_eq!(post(&client, &url).await, expected, "attempt {n}");
        // The address that was judged is the one that was dialled: nobody asked twice.
        assert_eq!(book.lookups(), n + 1);
    }
    assert!(beside.accept().now_or_never().is_none(), "127.0.0.1 was dialled");
}

#[tokio::test]
async fn nothing_tells_an_open_port_inside_from_a_closed_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open_port = listener.local_addr().unwrap().port();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed_port = closed.local_addr().unwrap().port();
    drop(closed);
    for port in [open_port, closed_port, 22, 65_535] {
        for host in [
            "127.0.0.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "10.255.255.1",
            "169.254.169.254",
        ] {
            let uri: Uri = format!("http://{host}:{port}/").parse().unwrap();
            // Decided at once, before anything could have been asked of the network.
            let told = dial(open(&[]), Arc::new(SystemNames), &uri).now_or_never();
            assert_eq!(told, Some(BLOCKED), "{uri}");
        }
        let named: Uri = format!("http://inside.example:{port}/").parse().unwrap();
        let names = Arc::new(Always("127.0.0.1".parse().unwrap()));
        assert_eq!(dial(open(&[]), names, &named).await, BLOCKED);
    }
    assert!(listener.accept().now_or_never().is_none(), "it was dialled");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let inside = Sink::start("127.0.0.1", |stream| answer(stream, b"HTTP/1.1 200 OK\r\n\r\n")).await;
    for status in [301, 302, 303, 307, 308] {
        let location = inside.url("http");
        let redirect = move |stream| {
            let text = format!("HTTP/1.1 {status} Go\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
            async move { answer(stream, text.as_bytes()).await }
        };
        let sink = Sink::start("127.0.0.1", redirect).await;
        let client = HttpClient::new(&config(open(&["127.0.0.0/8"])));
        assert_eq!(post(&client, &sink.url("http")).await, Ok(status));
    }
    assert_eq!(inside.accepted(), 0);
}

#[tokio::test]
async fn only_the_form_that_is_stored_is_dialled_and_only_by_the_rules_of_now() {
    let names = || Arc::new(Always("127.0.0.1".parse().unwrap()));
    let sink = Sink::start("127.0.0.1", |stream| async move { drop(stream) }).await;
    let port = sink.address.port();
    let loopback = || open(&["127.0.0.0/8"]);
    for (host, expected) in [
        ("127.0.0.1", Ok(())),
        ("a.example", Ok(())),
        ("localhost", Ok(())),
        ("127.1", BLOCKED),
        ("0x7f.1", BLOCKED),
        ("2130706433", BLOCKED),
        ("A.example", BLOCKED),
        ("a.example.", BLOCKED),
        ("a.internal", BLOCKED),
        ("user@127.0.0.1", BLOCKED),
    ] {
        let uri: Uri = format!("http://{host}:{port}/").parse().unwrap();
        assert_eq!(dial(loopback(), names(), &uri).await, expected, "{uri}");
        let https_only = EgressRules {
            allow_http: false,
            ..loopback()
        };
        assert_eq!(dial(https_only, names(), &uri).await, BLOCKED, "{uri}");
    }
    let denied = EgressRules {
        deny_networks: vec!["127.0.0.1/32".parse().unwrap()],
        ..loopback()
    };
    let uri: Uri = format!("http://a.example:{port}/").parse().unwrap();
    assert_eq!(dial(denied, names(), &uri).await, BLOCKED);
    let odd_port = Uri::from_static("http://a.example:22/");
    assert_eq!(dial(loopback(), names(), &odd_port).await, BLOCKED);
}

#[tokio::test]
async fn a_host_an_operator_names_is_reached_at_a_private_address_and_not_at_loopback() {
    let rules = EgressRules {
        allow_hosts: vec!["hooks.corp.internal".to_owned().try_into().unwrap()],
        ..open(&[])
    };
    let inside = Uri::from_static("http://hooks.corp.internal:1/");
    for (address, expected) in [
        ("127.0.0.1", Err(AttemptError::Blocked)),
        ("169.254.169.254", Err(AttemptError::Blocked)),
        // Multicast: the kernel refuses it without a packet; but it was dialled.
        ("224.0.0.1", Err(AttemptError::Connect)),
    ] {
        let names = Arc::new(Always(address.parse().unwrap()));
        let mut config = config(rules.clone());
        config.connect_timeout = Duration::from_millis(50);
        let told = Guard::new(&config, names).call(inside.clone()).await;
        assert_eq!(told.map(drop).map_err(|error| error.0), expected, "{address}");
    }
}
