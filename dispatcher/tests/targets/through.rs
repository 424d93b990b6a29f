//! Through a proxy, and by none that the environment names.

use crate::certificates::{Authority, Fault, NAME};
use crate::names::Book;
use crate::sink::{Sink, answer, request};
use crate::{config, open};
use dispatcher::Config;
use dispatcher::client::HttpClient;
use dispatcher::proxy::Proxy;
use http::Request;
use http_body_util::Full;
use schemas::egress::EgressRules;
use schemas::outcome::AttemptError;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const NO_CONTENT: &[u8] = b"HTTP/1.1 204 No Content\r\nlocation: /x\r\nconnection: close\r\n\r\n";

/// A proxy that opens tunnels to one place whatever it is asked for, and keeps what it is asked.
async fn proxy(to: SocketAddr, asked: Arc<Mutex<Vec<String>>>) -> Sink {
    Sink::start("127.0.0.1", move |mut stream| {
        let asked = asked.clone();
        async move {
            let head = request(&mut stream).await;
            asked.lock().unwrap().push(head);
            let mut target = TcpStream::connect(to).await.unwrap();
            drop(
                stream
                    .write_all(b"HTTP/1.1 200 Connection established\r\nvia: 1.1 p\r\n\r\n")
                    .await,
            );
            drop(tokio::io::copy_bidirectional(&mut stream, &mut target).await);
        }
    })
    .await
}

fn through(proxy: &Sink) -> Config {
    Config {
        connect_timeout: Duration::from_secs(2),
        // The proxy's own address is not a target's, and may be any.
        rules: open(&[]),
        proxy: Some(Proxy {
            host: proxy.address.ip().to_string(),
            port: proxy.address.port(),
        }),
        ..config(EgressRules::default())
    }
}

async fn post(client: &HttpClient, url: &str) -> Result<u16, AttemptError> {
    let request = Request::post(url).body(Full::from("{}")).unwrap();
    let answer = client.post(request, None, Duration::from_secs(20)).await;
    answer.map(|answer| answer.status)
}

#[tokio::test]
async fn every_target_is_reached_through_a_tunnel_and_the_proxy_resolves() {
    let authority = Authority::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let acceptor = authority.acceptor(Fault::None, &[b"http/1.1"]);
    let heads = seen.clone();
    let target = Sink::start("127.0.0.1", move |stream| {
        let (acceptor, heads) = (acceptor.clone(), heads.clone());
        async move {
            let mut first = [0];
            stream.peek(&mut first).await.unwrap();
            if first == [22] {
                let mut stream = acceptor.accept(stream).await.unwrap();
                let head = request(&mut stream).await;
                heads.lock().unwrap().push(head);
                drop(stream.write_all(NO_CONTENT).await);
                drop(stream.shutdown().await);
            } else {
                let mut stream = stream;
                let head = request(&mut stream).await;
                heads.lock().unwrap().push(head);
                drop(stream.write_all(NO_CONTENT).await);
            }
        }
    })
    .await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let proxy = proxy(target.address, asked.clone()).await;
    let book = Arc::new(Book::default());
    let client = HttpClient::with(&through(&proxy), authority.trusted(), book.clone());
    assert_eq!(post(&client, "http://target.example/a?b=c").await, Ok(204));
    assert_eq!(post(&client, &format!("https://{NAME}/d")).await, Ok(204));
    assert_eq!(
        post(&client, "http://[2606:4700:4700::1111]:8080/").await,
        Ok(204)
    );
    assert_eq!(
        *asked.lock().unwrap(),
        [
            "CONNECT target.example:80 HTTP/1.1\r\nhost: target.example:80\r\n\r\n",
            "CONNECT target.example:443 HTTP/1.1\r\nhost: target.example:443\r\n\r\n",
            "CONNECT [2606:4700:4700::1111]:8080 HTTP/1.1\r\nhost: [2606:4700:4700::1111]:8080\r\n\r\n",
        ]
    );
    let seen = seen.lock().unwrap();
    assert!(seen[0].starts_with("POST /a?b=c HTTP/1.1\r\n") && seen[0].contains("host: target.example\r\n"));
    assert!(seen[1].starts_with("POST /d HTTP/1.1\r\n"));
    assert_eq!(book.lookups(), 0);
}

#[tokio::test]
async fn an_address_that_stands_in_the_url_is_judged_before_the_proxy_hears_of_it() {
    let proxy = Sink::start("127.0.0.1", |stream| async move { drop(stream) }).await;
    let client = HttpClient::new(&through(&proxy));
    for host in [
        "169.254.169.254",
        "127.0.0.1",
        "[::1]",
        "[64:ff9b::7f00:1]",
        "db.internal",
        "localhost",
    ] {
        let told = post(&client, &format!("http://{host}/")).await;
        assert_eq!(told, Err(AttemptError::Blocked), "{host}");
    }
    assert_eq!(proxy.accepted(), 0);
}

#[tokio::test]
async fn what_a_proxy_refuses_is_blocked_and_a_proxy_that_fails_is_no_connection() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(64 * 1024));
    for (says, told) in [
        ("HTTP/1.1 403 Forbidden\r\n\r\n", AttemptError::Blocked),
        (
            "HTTP/1.1 407 Request rejected by proxy\r\nx-smokescreen-error: no\r\n\r\n",
            AttemptError::Blocked,
        ),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", AttemptError::Connect),
        ("SSH-2.0-OpenSSH\r\n\r\n", AttemptError::Connect),
        ("HTTP/1.1 200 OK\r\n", AttemptError::Connect),
        ("", AttemptError::Connect),
        (&long, AttemptError::Connect),
    ] {
        let bytes: Arc<[u8]> = says.as_bytes().into();
        let proxy = Sink::start("127.0.0.1", move |stream| {
            let bytes = bytes.clone();
            async move { answer(stream, &bytes).await }
        })
        .await;
        let client = HttpClient::new(&through(&proxy));
        let shown = &says[..says.len().min(40)];
        assert_eq!(
            post(&client, "http://target.example/").await,
            Err(told),
            "{shown}"
        );
    }
    // One that says nothing is given up in time.
    let silent = Sink::start("127.0.0.1", |mut stream| async move {
        while stream.read_u8().await.is_ok() {}
    })
    .await;
    let mut config = through(&silent);
    config.connect_timeout = Duration::from_millis(100);
    let client = HttpClient::new(&config);
    assert_eq!(
        post(&client, "http://target.example/").await,
        Err(AttemptError::Connect)
    );
}

#[tokio::test]
async fn an_answers_headers_are_kept_as_far_as_history_wants_them() {
    let long = "a".repeat(1000);
    let text = format!(
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/{long}\r\nserver: nginx\r\nServer: other\r\n\
         content-type: text/html\r\nset-cookie: secret=1\r\nretry-after: 7\r\nx-own: 1\r\ncontent-length: 2\r\n\r\nno"
    );
    let sink = Sink::start("127.0.0.1", move |stream| {
        let text = text.clone();
        async move { answer(stream, text.as_bytes()).await }
    })
    .await;
    let client = HttpClient::new(&config(open(&["127.0.0.0/8"])));
    let request = Request::post(sink.url("http")).body(Full::default()).unwrap();
    let told = client.post(request, None, Duration::from_secs(20)).await.unwrap();
    let kept: Vec<(&str, &str)> = told
        .headers
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    let location = format!("http://127.0.0.1/{}", &long[..256 - 17]);
    assert_eq!(
        kept,
        [
            ("content-type", "text/html"),
            ("location", location.as_str()),
            ("retry-after", "7"),
            ("server", "nginx"),
        ]
    );
    assert_eq!((told.status, told.excerpt.as_deref()), (302, Some("no")));
}
