//! Which address may be dialled, decided on the address that is really dialled.
//!
//! A resolver alone is no guard: clients skip it for IP literals, and a name may resolve to something
//! else a moment after it was checked. This connector checks the URL, resolves, checks each address, and
//! dials only those that passed, so there is nothing between the check and the use.

use crate::config::Config;
use crate::connection::{Connections, Guarded};
use crate::proxy::{self, Proxy};
use crate::resolver::{Names, NoAddress, Resolver, is_out_of_files};
use http::Uri;
use schemas::egress::{EgressRules, check_url};
use schemas::outcome::AttemptError;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use url::{Host, Url};

/// An address is given at least so long, however many there are and however little time.
const LEAST_DIAL: Duration = Duration::from_millis(250);
/// Lookups at once: as many as attempts by default, and those that dead name servers left behind.
const MOST_LOOKUPS: usize = 1024;

/// Connects to permitted addresses only.
#[derive(Clone)]
pub struct Guard(Arc<Rules>);

struct Rules {
    rules: EgressRules,
    resolver: Resolver,
    connect_timeout: Duration,
    proxy: Option<Proxy>,
    connections: Connections,
}

/// Why no connection was made. Says nothing about what is at the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.word())]
pub struct NoConnection(pub AttemptError);

const BLOCKED: NoConnection = NoConnection(AttemptError::Blocked);
const CONNECT: NoConnection = NoConnection(AttemptError::Connect);
/// Nothing was dialled: what that takes is used up.
pub(crate) const NOT_ASKED: NoConnection = NoConnection(AttemptError::NotAsked);

impl Guard {
    /// A guard with these limits and rules.
    #[must_use]
    pub fn new(config: &Config, names: Arc<dyn Names>) -> Self {
        Self(Arc::new(Rules {
            rules: config.rules.clone(),
            resolver: Resolver::new(names, config.connect_timeout, MOST_LOOKUPS),
            connect_timeout: config.connect_timeout,
            proxy: config.proxy.clone(),
            connections: Connections::new(config.concurrency),
        }))
    }

    /// Connections that are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.connections.open()
    }

    async fn connect(self, uri: Uri) -> Result<Guarded, NoConnection> {
        let (host, port) = place(&uri, &self.0.rules)?;
        let deadline = Instant::now() + self.0.connect_timeout;
        let stream = match &self.0.proxy {
            Some(proxy) => {
                // What a name resolves to is the proxy's to judge.
                if let Some(address) = literal(&host)
                    && !self.0.rules.allows_address(address)
                {
                    return Err(BLOCKED);
                }
                let tunnel = proxy::connect(proxy, &self.0.resolver, &host, port);
                timeout_at(deadline, tunnel).await.unwrap_or(Err(CONNECT))?
            }
            None => {
                self.0
                    .dial(self.0.addresses(&host).await?, port, deadline)
                    .await?
            }
        };
        // Small requests must not wait for the answer to the one before.
        drop(stream.set_nodelay(true));
        Ok(self.0.connections.hold(stream))
    }
}

/// Host and port of a target, if it may be one. Only the form that registration stores is taken: in any
/// other, another parser may have seen another host.
fn place(uri: &Uri, rules: &EgressRules) -> Result<(Host<String>, u16), NoConnection> {
    let url = check_url(&uri.to_string(), rules).map_err(|_| BLOCKED)?;
    let url = Url::parse(&url).map_err(|_| BLOCKED)?;
    if url.host_str() != uri.host() {
        return Err(BLOCKED);
    }
    let host = url.host().ok_or(BLOCKED)?.to_owned();
    Ok((host, url.port_or_known_default().ok_or(BLOCKED)?))
}

fn literal(host: &Host<String>) -> Option<IpAddr> {
    match host {
        Host::Ipv4(address) => Some((*address).into()),
        Host::Ipv6(address) => Some((*address).into()),
        Host::Domain(_) => None,
    }
}

impl Rules {
    /// The addresses of a host that may be dialled, at least one.
    async fn addresses(&self, host: &Host<String>) -> Result<Vec<IpAddr>, NoConnection> {
        let allowed: Vec<IpAddr> = match host {
            Host::Domain(name) => {
                // What an operator opens, by name or with loopback, is a name of their network.
                let completed = self.rules.allows_host(name) || !name.contains('.');
                let found = self.resolver.addresses(name, completed).await;
                let found = found.map_err(|why| match why {
                    NoAddress::Unknown => NoConnection(AttemptError::Dns),
                    NoAddress::NotAsked => NOT_ASKED,
                })?;
                found
                    .into_iter()
                    .filter(|address| self.rules.allows_address_of(name, *address))
                    .collect()
            }
            Host::Ipv4(_) | Host::Ipv6(_) => literal(host)
                .into_iter()
                .filter(|address| self.rules.allows_address(*address))
                .collect(),
        };
        if allowed.is_empty() {
            return Err(BLOCKED);
        }
        Ok(allowed)
    }

    /// Dials one address after the other; each has its share of the time that is left.
    async fn dial(
        &self,
        addresses: Vec<IpAddr>,
        port: u16,
        deadline: Instant,
    ) -> Result<TcpStream, NoConnection> {
        for (tried, address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let untried = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            let share = (left / untried).max(LEAST_DIAL.min(left));
            let dialled = timeout(share, TcpStream::connect(SocketAddr::new(*address, port))).await;
            match dialled {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) if is_out_of_files(&error) => return Err(NOT_ASKED),
                Ok(Err(_)) | Err(_) => {}
            }
        }
        Err(CONNECT)
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
