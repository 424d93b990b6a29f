//! Targets whose TLS is odd.

use crate::certificates::{Authority, Fault};
use crate::odd::{Case, case};
use crate::sink::request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// All of them, and one that is as it should be.
pub fn cases(authority: &Authority) -> Vec<Case> {
    let with = |what, told, authority: &Authority, fault| {
        let acceptor = authority.acceptor(fault, &[b"http/1.1"]);
        case(what, told, move |stream| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    request(&mut stream).await;
                    drop(stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await);
                    drop(stream.shutdown().await);
                }
            }
        })
    };
    vec![
        with(
            "speaks TLS with a certificate that is trusted",
            "204",
            authority,
            Fault::None,
        ),
        with(
            "has a certificate that has expired",
            "tls",
            authority,
            Fault::Expired,
        ),
        with(
            "has a certificate for another name",
            "tls",
            authority,
            Fault::OtherName,
        ),
        with(
            "has a certificate of nobody that is trusted",
            "tls",
            &Authority::new(),
            Fault::None,
        ),
        case(
            "takes the connection and hangs before TLS",
            "timeout",
            |mut stream| async move { while stream.read_u8().await.is_ok() {} },
        ),
        case("hangs within TLS", "timeout", |mut stream| async move {
            stream.read_u8().await.ok();
            drop(stream.write_all(&[22, 3, 3, 0]).await);
            while stream.read_u8().await.is_ok() {}
        }),
        case("closes within TLS", "connect", |mut stream| async move {
            let mut hello = [0; 1024];
            assert!(stream.read(&mut hello).await.is_ok_and(|read| read > 0));
        }),
        case(
            "speaks plain HTTP where TLS should be",
            "tls",
            |mut stream| async move {
                drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
                while stream.read_u8().await.is_ok() {}
            },
        ),
    ]
}
