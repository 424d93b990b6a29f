//! Odd targets that speak HTTP/1, or something like it.

use crate::odd::{Case, case};
use crate::sink::{answer, request};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Answers with these bytes, and closes.
fn says(what: &'static str, told: &'static str, text: impl Into<Vec<u8>>) -> Case {
    let text: Arc<[u8]> = text.into().into();
    case(what, told, move |stream| {
        let text = text.clone();
        async move { answer(stream, &text).await }
    })
}

/// Answers with these bytes, and then nothing.
fn says_and_hangs(what: &'static str, told: &'static str, text: &'static str) -> Case {
    case(what, told, move |mut stream| async move {
        request(&mut stream).await;
        drop(stream.write_all(text.as_bytes()).await);
        std::future::pending::<()>().await;
    })
}

/// Answers with the text, and then with one more byte of it, again and again, every so often.
fn drips(what: &'static str, text: &'static str, byte: &'static str, pause: Duration) -> Case {
    case(what, "timeout", move |mut stream| async move {
        request(&mut stream).await;
        drop(stream.write_all(text.as_bytes()).await);
        while stream.write_all(byte.as_bytes()).await.is_ok() {
            tokio::time::sleep(pause).await;
        }
    })
}

/// Answers with the text and a body of `length` bytes, or as many as are taken; counts those.
fn pours(what: &'static str, head: &'static str, length: usize, taken: Arc<AtomicUsize>) -> Case {
    case(what, "200", move |mut stream| {
        let taken = taken.clone();
        async move {
            request(&mut stream).await;
            drop(stream.write_all(head.as_bytes()).await);
            let chunk = [b'a'; 64 * 1024];
            let mut sent = 0;
            while sent < length && stream.write_all(&chunk).await.is_ok() {
                sent += chunk.len();
                taken.fetch_add(chunk.len(), Ordering::SeqCst);
            }
        }
    })
}

/// Those whose HTTP is odd, and two that count how much of their body is taken.
pub fn cases(taken: &[Arc<AtomicUsize>; 2]) -> Vec<Case> {
    let second = Duration::from_secs(1);
    let long_head = format!("HTTP/1.1 200 OK\r\nx-long: {}\r\n\r\n", "a".repeat(128 * 1024));
    let many_headers = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x-a: b\r\n".repeat(101));
    let most_headers = format!(
        "HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n",
        "x-a: b\r\n".repeat(99)
    );
    vec![
        says_and_hangs("takes the request and says nothing", "timeout", ""),
        drips(
            "sends its head one byte a second",
            "HTTP/1.1 200 OK\r\nx-slow: ",
            "a",
            second,
        ),
        says("closes before its head", "protocol", ""),
        says(
            "closes within its head",
            "protocol",
            "HTTP/1.1 200 OK\r\ncontent-",
        ),
        case("resets the connection", "protocol", |mut stream| async move {
            // Closed with something unread, the kernel resets.
            stream.read_u8().await.ok();
        }),
        says("is no HTTP server", "protocol", "SSH-2.0-OpenSSH_9.9\r\n"),
        says(
            "answers with a body and no head (HTTP/0.9)",
            "protocol",
            "<html>hello</html>",
        ),
        says(
            "has a status that is no number",
            "protocol",
            "HTTP/1.1 abc OK\r\n\r\n",
        ),
        says(
            "has a status of four digits",
            "protocol",
            "HTTP/1.1 2000 OK\r\n\r\n",
        ),
        says(
            "has a status beyond 599",
            "999",
            "HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n",
        ),
        says(
            "has a header with a NUL in it",
            "protocol",
            "HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
        ),
        says(
            "has a header without a name",
            "protocol",
            "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
        ),
        says(
            "folds a header over two lines",
            "protocol",
            "HTTP/1.1 200 OK\r\nx: a\r\n b\r\n\r\n",
        ),
        says(
            "has two lengths",
            "protocol",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        ),
        says(
            "has a length below zero",
            "protocol",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        ),
        says(
            "has a head of 128 KiB (32 KiB are read, and what came with them)",
            "protocol",
            long_head,
        ),
        says("has 101 headers", "protocol", many_headers),
        says("has 100 headers", "200", most_headers),
        says(
            "says `100 Continue` first",
            "204",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        ),
        says(
            "says `103 Early Hints` first",
            "204",
            "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        ),
        drips(
            "says `100 Continue` for ever",
            "",
            "HTTP/1.1 100 Continue\r\n\r\n",
            Duration::from_millis(1),
        ),
        says(
            "says `101 Switching Protocols`",
            "101",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        ),
        drips(
            "sends its body one byte a second",
            "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n",
            "a",
            second,
        ),
        says_and_hangs(
            "hangs within its body",
            "timeout",
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc",
        ),
        says(
            "closes within its body",
            "protocol",
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc",
        ),
        says(
            "closes within a chunk",
            "protocol",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
        ),
        says(
            "has a chunk without a size",
            "protocol",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\nab",
        ),
        says(
            "has a body that ends with the connection",
            "200",
            "HTTP/1.1 200 OK\r\n\r\nabc",
        ),
        says(
            "has a compressed body, which is kept as it is",
            "200",
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8b\x08\x00"
                .as_slice(),
        ),
        pours(
            "has a body without an end",
            "HTTP/1.1 200 OK\r\n\r\n",
            usize::MAX,
            taken[0].clone(),
        ),
        pours(
            "has a body of 1 GiB",
            "HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n",
            1 << 30,
            taken[1].clone(),
        ),
    ]
}

/// Answers as they should be: what status and `Retry-After` decide.
pub fn answers() -> Vec<Case> {
    let with = |what, told, line: &str, headers: &str| {
        says(
            what,
            told,
            format!("HTTP/1.1 {line}\r\n{headers}content-length: 0\r\n\r\n"),
        )
    };
    vec![
        with("answers 2xx", "200", "200 OK", ""),
        with(
            "answers 2xx, whatever `Retry-After` says",
            "202",
            "202 Accepted",
            "retry-after: 120\r\n",
        ),
        with(
            "answers 3xx: redirects are not followed",
            "301",
            "301 Moved",
            "location: http://127.0.0.1/\r\n",
        ),
        with("answers 410", "410", "410 Gone", ""),
        with("answers another 4xx", "404", "404 Not Found", ""),
        with(
            "answers 429 with `Retry-After` in seconds",
            "429",
            "429 Slow",
            "retry-after: 120\r\n",
        ),
        with("answers 5xx", "500", "500 Oops", ""),
        with(
            "answers 503 with `Retry-After`, a date",
            "503",
            "503 Busy",
            "retry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        ),
        with(
            "answers 503 with `Retry-After` beyond `delivery.retry_after_cap`",
            "503",
            "503 Busy",
            "retry-after: 999999\r\n",
        ),
        with(
            "answers 503 with a `Retry-After` that is no time, or past",
            "503",
            "503 Busy",
            "retry-after: soon\r\n",
        ),
    ]
}
