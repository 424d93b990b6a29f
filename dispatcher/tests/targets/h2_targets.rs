//! Odd targets that speak HTTP/2.

use crate::certificates::{Authority, Fault, NAME};
use crate::names::Always;
use crate::odd::{Case, case};
use crate::sink::Sink;
use crate::{config, open};
use bytes::Bytes;
use dispatcher::client::HttpClient;
use h2::server::{Connection, SendResponse};
use http::{Request, Response};
use http_body_util::Full;
use schemas::outcome::AttemptError;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

type Http2 = Connection<TlsStream<TcpStream>, Bytes>;

/// The first request of a connection, if there is one.
async fn first(acceptor: TlsAcceptor, stream: TcpStream) -> Option<(Http2, SendResponse<Bytes>)> {
    let stream = acceptor.accept(stream).await.ok()?;
    let mut http2 = h2::server::handshake(stream).await.ok()?;
    let (_, respond) = http2.accept().await?.ok()?;
    Some((http2, respond))
}

/// Lets a connection go on until the other side ends it.
async fn go_on(mut http2: Http2) {
    while let Some(Ok(_)) = http2.accept().await {}
}

/// A target that does this to the first request of each connection.
fn to_the_first<S, F>(what: &'static str, told: &'static str, authority: &Authority, serve: S) -> Case
where
    S: Fn(Http2, SendResponse<Bytes>) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let acceptor = authority.acceptor(Fault::None, &[b"h2"]);
    case(what, told, move |stream| {
        let (acceptor, serve) = (acceptor.clone(), serve.clone());
        async move {
            if let Some((http2, respond)) = first(acceptor, stream).await {
                serve(http2, respond).await;
            }
        }
    })
}

/// Says this after the handshake, byte for byte.
fn raw(what: &'static str, told: &'static str, authority: &Authority, frames: &'static [u8]) -> Case {
    let acceptor = authority.acceptor(Fault::None, &[b"h2"]);
    case(what, told, move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            drop(stream.write_all(frames).await);
            drop(stream.flush().await);
            while stream.read_u8().await.is_ok() {}
        }
    })
}

fn ok() -> Response<()> {
    Response::new(())
}

/// All of them.
pub fn cases(authority: &Authority, poured: &Arc<AtomicUsize>) -> Vec<Case> {
    let poured = poured.clone();
    vec![
        to_the_first(
            "speaks HTTP/2",
            "200",
            authority,
            |http2, mut respond| async move {
                drop(respond.send_response(ok(), true));
                go_on(http2).await;
            },
        ),
        to_the_first(
            "resets the stream (HTTP/2)",
            "protocol",
            authority,
            |http2, mut respond| async move {
                respond.send_reset(h2::Reason::INTERNAL_ERROR);
                go_on(http2).await;
            },
        ),
        to_the_first(
            "refuses the stream (HTTP/2)",
            "protocol",
            authority,
            |http2, mut respond| async move {
                respond.send_reset(h2::Reason::REFUSED_STREAM);
                go_on(http2).await;
            },
        ),
        to_the_first(
            "says GOAWAY and no more (HTTP/2)",
            "protocol",
            authority,
            |mut http2, respond| async move {
                let _respond = respond;
                http2.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
                drop(poll_fn(|cx| http2.poll_closed(cx)).await);
            },
        ),
        to_the_first(
            "answers, and says GOAWAY (HTTP/2)",
            "200",
            authority,
            |mut http2, mut respond| async move {
                drop(respond.send_response(ok(), true));
                http2.graceful_shutdown();
                go_on(http2).await;
            },
        ),
        to_the_first(
            "closes before it answers (HTTP/2)",
            "protocol",
            authority,
            |_, _| async {},
        ),
        to_the_first(
            "takes the request and says nothing (HTTP/2)",
            "timeout",
            authority,
            |http2, respond| async move {
                let _respond = respond;
                go_on(http2).await;
            },
        ),
        to_the_first(
            "resets the stream within the body (HTTP/2)",
            "protocol",
            authority,
            |http2, mut respond| async move {
                if let Ok(mut body) = respond.send_response(ok(), false) {
                    drop(body.send_data(Bytes::from_static(b"abc"), false));
                    body.send_reset(h2::Reason::INTERNAL_ERROR);
                }
                go_on(http2).await;
            },
        ),
        to_the_first(
            "hangs within the body (HTTP/2)",
            "timeout",
            authority,
            |http2, mut respond| async move {
                let _body = respond.send_response(ok(), false);
                go_on(http2).await;
            },
        ),
        to_the_first(
            "has a head of 40 KiB (HTTP/2; 32 KiB are read)",
            "protocol",
            authority,
            |http2, mut respond| async move {
                let head = Response::builder().header("x-long", "a".repeat(40 * 1024));
                drop(respond.send_response(head.body(()).unwrap(), true));
                go_on(http2).await;
            },
        ),
        to_the_first(
            "has a body without an end (HTTP/2)",
            "200",
            authority,
            move |http2, mut respond| {
                let poured = poured.clone();
                async move {
                    let Ok(mut body) = respond.send_response(ok(), false) else {
                        return;
                    };
                    let pour = async {
                        let chunk = Bytes::from_static(&[b'a'; 16 * 1024]);
                        loop {
                            body.reserve_capacity(chunk.len());
                            match poll_fn(|cx| body.poll_capacity(cx)).await {
                                Some(Ok(_)) => {}
                                Some(Err(_)) | None => return,
                            }
                            let room = body.capacity().min(chunk.len());
                            if body.send_data(chunk.slice(..room), false).is_err() {
                                return;
                            }
                            poured.fetch_add(room, Ordering::SeqCst);
                        }
                    };
                    tokio::join!(pour, go_on(http2));
                }
            },
        ),
        raw(
            "says what is no frame (HTTP/2)",
            "protocol",
            authority,
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
        ),
    ]
}

/// Two attempts at once share a connection; one that is silent is left for a new one.
#[tokio::test]
async fn an_http2_connection_that_has_gone_silent_is_not_used_for_ever() {
    let authority = Authority::new();
    let acceptor = authority.acceptor(Fault::None, &[b"h2", b"http/1.1"]);
    let silent = Arc::new(AtomicBool::new(false));
    let told = silent.clone();
    let sink = Sink::start("127.0.0.1", move |stream| {
        let (acceptor, silent) = (acceptor.clone(), told.clone());
        async move {
            // The first connection is answered once, and never looked at again.
            let is_first = !silent.swap(true, Ordering::SeqCst);
            let Some((mut http2, mut respond)) = first(acceptor, stream).await else {
                return;
            };
            drop(respond.send_response(ok(), true));
            if is_first {
                drop(tokio::time::timeout(Duration::from_millis(300), http2.accept()).await);
                std::future::pending::<()>().await;
            }
            while let Some(Ok((_, mut respond))) = http2.accept().await {
                drop(respond.send_response(ok(), true));
            }
        }
    })
    .await;
    let mut config = config(open(&["127.0.0.0/8"]));
    config.connect_timeout = Duration::from_secs(1);
    let names = Arc::new(Always("127.0.0.1".parse().unwrap()));
    let client = HttpClient::with(&config, authority.trusted(), names);
    let url = format!("https://{NAME}:{}/", sink.address.port());
    let post = async || {
        let request = Request::post(&url).body(Full::from("{}")).unwrap();
        let told = client.post(request, None, Duration::from_secs(20)).await;
        told.map(|answer| answer.status)
    };
    assert_eq!(post().await, Ok(200));
    // Until the connection is found to be dead, its attempts fail; that is long before the 20 s.
    let mut failures = 0;
    while post().await != Ok(200) {
        failures += 1;
        assert!(failures < 3, "the dead connection is used on");
    }
    assert_eq!((failures, sink.accepted()), (1, 2));
    assert_eq!(post().await, Ok(200));
    assert_eq!(sink.accepted(), 2, "an HTTP/2 connection is used again");
    let _: Result<u16, AttemptError> = post().await;
}
