//! Through a proxy: a tunnel (CONNECT, RFC 9110, 9.3.6) for every target, those of plain http too, so that
//! no proxy sees or changes a request.

use crate::guard::{NOT_ASKED, NoConnection};
use crate::resolver::{NoAddress, Resolver, is_out_of_files};
use schemas::outcome::AttemptError;
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Host;

/// The longest head of a proxy's answer, in bytes.
const LONGEST_HEAD: usize = 8 * 1024;

/// Where the proxy is. It is the operator's, so its own address may be any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

const NONE: NoConnection = NoConnection(AttemptError::Connect);

/// Opens a tunnel to a target.
///
/// # Errors
/// `Blocked` when the proxy refuses it (403, or 407 as smokescreen says it), `NotAsked` when what asking
/// takes is used up, `Connect` for all else.
pub async fn connect(
    proxy: &Proxy,
    resolver: &Resolver,
    host: &Host<String>,
    port: u16,
) -> Result<TcpStream, NoConnection> {
    let addresses = match proxy.host.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => {
            let found = resolver.addresses(&proxy.host, true).await;
            found.map_err(|why| match why {
                NoAddress::Unknown => NONE,
                NoAddress::NotAsked => NOT_ASKED,
            })?
        }
    };
    let addresses: Vec<SocketAddr> = addresses
        .into_iter()
        .map(|address| SocketAddr::new(address, proxy.port))
        .collect();
    let stream = TcpStream::connect(addresses.as_slice()).await;
    let mut stream = stream.map_err(|error| match is_out_of_files(&error) {
        true => NOT_ASKED,
        false => NONE,
    })?;
    let request = format!("CONNECT {host}:{port} HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|_| NONE)?;
    match status(&head(&mut stream).await?) {
        Some(200..=299) => Ok(stream),
        Some(403 | 407) => Err(NoConnection(AttemptError::Blocked)),
        Some(_) | None => Err(NONE),
    }
}

/// Reads up to the empty line, byte by byte: what follows it is the target's already.
async fn head(stream: &mut TcpStream) -> Result<Vec<u8>, NoConnection> {
    let mut head = Vec::with_capacity(128);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == LONGEST_HEAD {
            return Err(NONE);
        }
        head.push(stream.read_u8().await.map_err(|_| NONE)?);
    }
    Ok(head)
}

/// The status of an answer's first line, such as `HTTP/1.1 200 OK`.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    words.next()?.strip_prefix("HTTP/1.")?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_of_http_1_only() {
        for (head, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\n", Some(200)),
            ("HTTP/1.0 200 Connection established\r\nvia: x\r\n\r\n", Some(200)),
            ("HTTP/1.1 407\r\n\r\n", Some(407)),
            ("HTTP/2 200\r\n\r\n", None),
            ("HTTP/1.1\r\n\r\n", None),
            ("SSH-2.0-OpenSSH\r\n\r\n", None),
            ("HTTP/1.1 99999999 OK\r\n\r\n", None),
            ("", None),
        ] {
            assert_eq!(status(head.as_bytes()), expected, "{head:?}");
        }
    }
}
