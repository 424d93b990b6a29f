//! Slow clients: whatever they take their time with has an end, and others do not wait for it.

use crate::world::{World, config};
use api::Patience;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const MS: Duration = Duration::from_millis(1);
/// Longer than all bounds of these tests.
const LIMIT: Duration = Duration::from_secs(20);
/// Longer than these tests take, for what is not to end.
const LONG: Duration = Duration::from_secs(600);

const PATIENCE: Patience = Patience {
    head: LONG,
    idle: LONG,
    body: LONG,
    answer: LONG,
    connections: 100,
};

async fn world(patience: Patience) -> World {
    World::start_with(api::Config { patience, ..config() }).await
}

async fn connect(world: &World) -> TcpStream {
    let address = world.root.strip_prefix("http://").unwrap();
    TcpStream::connect(address).await.unwrap()
}

/// Sends this a byte at a time, `pace` apart, until the server answers or ends; what it says until its end.
async fn trickle(stream: TcpStream, text: &str, pace: Duration) -> String {
    let (mut from, mut to) = stream.into_split();
    let send = async {
        let mut ticks = tokio::time::interval(pace);
        for byte in text.bytes() {
            ticks.tick().await;
            if to.write_all(&[byte]).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let mut said = Vec::new();
    tokio::select! {
        () = send => unreachable!("it waits for ever"),
        // A reset is an end too.
        read = tokio::time::timeout(LIMIT, from.read_to_end(&mut said)) => drop(read.expect("an end")),
    }
    String::from_utf8_lossy(&said).into_owned()
}

fn get(world: &World, path: &str) -> String {
    format!(
        "GET /v1{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        world.key
    )
}

/// Reads one answer's head and body, of a known length.
async fn answer(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.unwrap().parse().unwrap() {
                return text;
            }
        }
        let mut part = [0; 4096];
        let bytes = tokio::time::timeout(LIMIT, stream.read(&mut part))
            .await
            .unwrap()
            .unwrap();
        assert!(bytes > 0, "it ended after {text}");
        read.extend_from_slice(&part[..bytes]);
    }
}

#[tokio::test]
async fn who_sends_nothing_or_a_head_byte_by_byte_is_cut_off() {
    let world = world(Patience {
        head: 500 * MS,
        ..PATIENCE
    })
    .await;
    let head = get(&world, "/webhooks/targets");
    // The last but one may be the beginning of either version.
    for sent in ["", "GET", "PRI * HT", head.as_str()] {
        let began = Instant::now();
        let said = trickle(connect(&world).await, sent, 20 * MS).await;
        assert_eq!(said, "", "{sent}");
        assert!(began.elapsed() >= 500 * MS, "{sent}: {:?}", began.elapsed());
    }
    // HTTP/2, and nothing asked.
    let mut stream = connect(&world).await;
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    stream.write_all(settings).await.unwrap();
    assert!(!trickle(stream, "", MS).await.is_empty(), "its own settings");
    world.get("/webhooks/targets").await.expect(200);
    world.stop().await;
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request_and_not_for_ever() {
    let world = world(Patience {
        head: 500 * MS,
        idle: 500 * MS,
        answer: 300 * MS,
        ..PATIENCE
    })
    .await;
    let mut stream = connect(&world).await;
    for _ in 0..3 {
        let request = get(&world, "/webhooks/targets");
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
    }
    let began = Instant::now();
    // Neither does a head that does not end keep it.
    assert_eq!(
        trickle(stream, &get(&world, "/webhooks/targets"), 50 * MS).await,
        ""
    );
    assert!(began.elapsed() >= 400 * MS, "{:?}", began.elapsed());
    world.stop().await;
}

fn post(world: &World, path: &str, length: usize, headers: &str) -> String {
    format!(
        "POST /v1{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n{headers}\r\n",
        world.key
    )
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_answered_with_408_and_nothing_is_done() {
    let world = world(Patience {
        body: 300 * MS,
        ..PATIENCE
    })
    .await;
    let body = r#"{"name":"a","events":["*"]}"#;
    for (path, headers) in [
        ("/webhooks/filters", ""),
        ("/webhooks/filters", "idempotency-key: k\r\n"),
        ("/webhooks/events", ""),
    ] {
        let mut stream = connect(&world).await;
        stream
            .write_all(post(&world, path, 1000, headers).as_bytes())
            .await
            .unwrap();
        let said = trickle(stream, body, 30 * MS).await.to_lowercase();
        assert!(said.starts_with("http/1.1 408"), "{path} {said}");
        assert!(said.contains("application/problem+json"), "{said}");
        assert!(said.contains("came too slowly"), "{said}");
    }
    let filters = world.get("/webhooks/filters").await.expect(200);
    assert_eq!(filters["items"], json!([]));
    // The key is as new.
    let again = Request::post(format!("{}/v1/webhooks/filters", world.root))
        .header("authorization", format!("Bearer {}", world.key))
        .header("idempotency-key", "k")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    world.send(again).await.expect(201);
    world.stop().await;
}

#[tokio::test]
async fn a_large_body_has_longer() {
    let world = world(Patience {
        body: 100 * MS,
        ..PATIENCE
    })
    .await;
    let (begin, end) = (r#"{"name":"a","#, r#""events":["*"]}"#);
    let filler = vec![b' '; 8 * 1024];
    let parts = 20;
    let length = begin.len() + parts * filler.len() + end.len();
    let mut stream = connect(&world).await;
    let head = post(&world, "/webhooks/filters", length, "") + begin;
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut ticks = tokio::time::interval(30 * MS);
    for _ in 0..parts {
        // Three times as long as a small one may take, and much faster than the least rate.
        stream.write_all(&filler).await.unwrap();
        ticks.tick().await;
    }
    stream.write_all(end.as_bytes()).await.unwrap();
    let said = answer(&mut stream).await;
    assert!(said.starts_with("HTTP/1.1 201"), "{said}");
    world.stop().await;
}

#[tokio::test]
async fn who_does_not_read_answers_is_cut_off() {
    let world = world(Patience {
        head: 1000 * MS,
        idle: 1000 * MS,
        answer: 500 * MS,
        ..PATIENCE
    })
    .await;
    for _ in 0..30 {
        let name = "n".repeat(200);
        let filter = json!({"name": name, "events": ["core.orders.created.v1"]});
        world.post("/webhooks/filters", filter).await.expect(201);
    }
    let request = get(&world, "/webhooks/filters");
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address = world.root.strip_prefix("http://").unwrap().parse().unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let cut_off = async { while stream.write_all(request.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(LIMIT, cut_off).await.expect("an end");

    // HTTP/2, whose client takes the head and leaves no room for the body.
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .http2_initial_stream_window_size(0)
        .build_http();
    let request = Request::get(format!("{}/v1/webhooks/filters", world.root))
        .header("authorization", format!("Bearer {}", world.key))
        .body(Full::default())
        .unwrap();
    let response = client.request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let body = tokio::time::timeout(LIMIT, response.into_body().collect()).await;
    assert!(body.expect("an end").is_err());
    world.stop().await;
}

#[tokio::test]
async fn more_connections_than_there_may_be_wait_for_one_to_end() {
    let world = world(Patience {
        connections: 1,
        ..PATIENCE
    })
    .await;
    let request = get(&world, "/webhooks/targets");
    let mut first = connect(&world).await;
    first.write_all(request.as_bytes()).await.unwrap();
    answer(&mut first).await;
    let mut second = connect(&world).await;
    second.write_all(request.as_bytes()).await.unwrap();
    let early = tokio::time::timeout(200 * MS, second.read_u8()).await;
    assert!(early.is_err(), "{early:?}");
    drop(first);
    let said = answer(&mut second).await;
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    drop(second);
    world.stop().await;
}

#[tokio::test]
async fn at_the_end_what_runs_is_answered_and_nobody_else_is_waited_for() {
    let world = world(PATIENCE).await;
    let idle = {
        let mut stream = connect(&world).await;
        stream
            .write_all(get(&world, "/webhooks/targets").as_bytes())
            .await
            .unwrap();
        answer(&mut stream).await;
        stream
    };
    let silent = connect(&world).await;
    {
        let hold = world.answers.hold.lock().await;
        let body = r#"{"url":"https://example.com/","verification":"echo"}"#;
        let running = world.call(&world.key, Method::POST, "/webhooks/targets", body);
        let mut running = std::pin::pin!(running);
        tokio::select! {
            _ = &mut running => panic!("it is held"),
            permit = world.answers.reached.0.acquire() => permit.unwrap().forget(),
        }
        world.shutdown.cancel();
        for stream in [idle, silent] {
            assert_eq!(trickle(stream, "", MS).await, "");
        }
        drop(hold);
        running.await.expect(201);
    }
    world.stop().await;
}
