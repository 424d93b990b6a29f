//! Which address may be dialled, decided on the address that is really dialled.
//!
//! A resolver alone is no guard: clients skip it for IP literals, and a name may resolve to something
//! else a moment after it was checked. This connector resolves, checks each address, and dials
//! only those that passed, so there is nothing between the check and the use.

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use schemas::egress::EgressRules;
use schemas::outcome::AttemptError;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};

/// Connects to permitted addresses only.
#[derive(Clone)]
pub struct Guard {
    rules: Arc<EgressRules>,
    connect_timeout: Duration,
}

/// Why no connection was made. Says nothing about what is at the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.word())]
pub struct NoConnection(pub AttemptError);

impl Guard {
    /// A guard with these rules.
    #[must_use]
    pub fn new(rules: EgressRules, connect_timeout: Duration) -> Self {
        Self {
            rules: Arc::new(rules),
            connect_timeout,
        }
    }

    async fn connect(self, uri: Uri) -> Result<Guarded, NoConnection> {
        let dialled = self.dial(&uri);
        match tokio::time::timeout(self.connect_timeout, dialled).await {
            Ok(result) => result,
            Err(_) => Err(NoConnection(AttemptError::Connect)),
        }
    }

    async fn dial(&self, uri: &Uri) -> Result<Guarded, NoConnection> {
        let tls = uri.scheme_str() == Some("https");
        if !tls && !self.rules.allow_http {
            return Err(NoConnection(AttemptError::Blocked));
        }
        let host = uri.host().ok_or(NoConnection(AttemptError::Blocked))?;
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let literal = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>();
        let addresses: Vec<SocketAddr> = match literal {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => lookup_host((host, port))
                .await
                .map_err(|_| NoConnection(AttemptError::Dns))?
                .collect(),
        };
        let mut failure = AttemptError::Dns;
        for address in addresses {
            if !self.rules.allows_address(address.ip()) {
                failure = AttemptError::Blocked;
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // Small requests must not wait for the answer to the one before.
                    drop(stream.set_nodelay(true));
                    return Ok(Guarded(TokioIo::new(stream)));
                }
                Err(_) => failure = AttemptError::Connect,
            }
        }
        Err(NoConnection(failure))
    }
}

impl tower_service::Service<Uri> for Guard {
    type Response = Guarded;
    type Error = NoConnection;
    type Future = Pin<Box<dyn Future<Output = Result<Guarded, NoConnection>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NoConnection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// A connection to a permitted address.
pub struct Guarded(TokioIo<TcpStream>);

impl Connection for Guarded {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn dial(rules: EgressRules, uri: &str) -> Result<(), AttemptError> {
        let guard = Guard::new(rules, Duration::from_secs(2));
        guard
            .connect(uri.parse().unwrap())
            .await
            .map(drop)
            .map_err(|error| error.0)
    }

    #[tokio::test]
    async fn loopback_is_dialled_only_where_it_is_allowed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let strict = EgressRules {
            allow_http: true,
            allow_networks: vec![],
        };
        let dev = EgressRules {
            allow_http: true,
            allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
        };
        for host in [
            "127.0.0.1",
            "localhost",
            "[::ffff:127.0.0.1]",
            "2130706433",
            "0x7f.1",
        ] {
            assert_eq!(
                dial(strict.clone(), &format!("http://{host}:{port}/")).await,
                Err(AttemptError::Blocked),
                "{host}"
            );
        }
        assert_eq!(
            dial(dev.clone(), &format!("http://127.0.0.1:{port}/")).await,
            Ok(())
        );
        assert_eq!(
            dial(dev, "http://169.254.169.254/latest").await,
            Err(AttemptError::Blocked)
        );
        let https_only = EgressRules {
            allow_http: false,
            allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
        };
        assert_eq!(
            dial(https_only, &format!("http://127.0.0.1:{port}/")).await,
            Err(AttemptError::Blocked)
        );
    }

    #[tokio::test]
    async fn a_closed_port_is_a_connect_error() {
        let dev = EgressRules {
            allow_http: true,
            allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
        };
        let port = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        assert_eq!(
            dial(dev, &format!("http://127.0.0.1:{port}/")).await,
            Err(AttemptError::Connect)
        );
    }
}
