//! Connections are kept, but not too many, and none is left behind.

use crate::certificates::{Authority, Fault, NAME};
use crate::names::Always;
use crate::sink::{Sink, request};
use crate::{config, open};
use dispatcher::client::HttpClient;
use http::Request;
use http_body_util::Full;
use schemas::outcome::AttemptError;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Answers every request of a connection.
async fn keeps_alive(mut stream: TcpStream) {
    while !request(&mut stream).await.is_empty() {
        drop(stream.write_all(OK).await);
    }
}

async fn post(client: &HttpClient, url: &str) -> Result<u16, AttemptError> {
    let request = Request::post(url).body(Full::default()).unwrap();
    let answer = client.post(request, None, Duration::from_secs(20)).await;
    answer.map(|answer| answer.status)
}

/// Waits until so many connections are open.
async fn settles(client: &HttpClient, open: usize) {
    let begun = Instant::now();
    while client.connections() != open {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{} connections are open, not {open}",
            client.connections()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn connections_are_used_again_and_bounded_over_all_targets() {
    let mut config = config(open(&["127.0.0.0/8"]));
    config.concurrency = 3;
    let client = HttpClient::new(&config);
    let mut sinks = Vec::new();
    for _ in 0..8 {
        sinks.push(Sink::start("127.0.0.1", keeps_alive).await);
    }
    for round in 1..=3 {
        for sink in &sinks {
            assert_eq!(post(&client, &sink.url("http")).await, Ok(200));
            assert!(
                client.connections() <= config.concurrency + 1,
                "{}",
                client.connections()
            );
        }
        settles(&client, config.concurrency).await;
        let accepted: Vec<usize> = sinks.iter().map(Sink::accepted).collect();
        // The first three kept theirs; the others had one for each request.
        assert_eq!(accepted[..3], [1, 1, 1]);
        assert_eq!(accepted[3..], [round; 5]);
    }
}

#[tokio::test]
async fn a_connection_that_nobody_waits_for_any_more_is_given_up_in_time() {
    let authority = Authority::new();
    let acceptor = authority.acceptor(Fault::None, &[b"http/1.1"]);
    let (first, slow) = (
        Arc::new(tokio::sync::Notify::new()),
        Arc::new(std::sync::atomic::AtomicUsize::new(0)),
    );
    let told = first.clone();
    // The first connection works, and answers its first request once a second one has been opened, which
    // hangs within TLS: its request finds the first free again, and nobody waits for the second.
    let sink = Sink::start("127.0.0.1", move |stream| {
        let (acceptor, told, slow) = (acceptor.clone(), told.clone(), slow.clone());
        async move {
            if slow.fetch_add(1, std::sync::atomic::Ordering::SeqCst) > 0 {
                told.notify_one();
                std::future::pending::<()>().await;
            }
            let mut stream = acceptor.accept(stream).await.unwrap();
            request(&mut stream).await;
            told.notified().await;
            stream.write_all(OK).await.unwrap();
            while !request(&mut stream).await.is_empty() {
                drop(stream.write_all(OK).await);
            }
        }
    })
    .await;
    let mut config = config(open(&["127.0.0.0/8"]));
    config.connect_timeout = Duration::from_secs(1);
    let names = Arc::new(Always("127.0.0.1".parse().unwrap()));
    let client = HttpClient::with(&config, authority.trusted(), names);
    let url = format!("https://{NAME}:{}/", sink.address.port());
    let one = post(&client, &url);
    let other = async {
        while sink.accepted() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        post(&client, &url).await
    };
    assert_eq!(tokio::join!(one, other), (Ok(200), Ok(200)));
    assert_eq!(sink.accepted(), 2);
    settles(&client, 1).await;
}
