//! What a target's URL may be.

use super::EgressRules;
use super::hosts::is_special;
use ::url::{Host, Url};
use std::net::IpAddr;

/// The longest URL of a target, in characters.
pub const MAX_URL: usize = 2048;

/// Ports above 1024 at which something else than a receiver is expected, and which a POST may harm: those that
/// browsers refuse (<https://fetch.spec.whatwg.org/#port-blocking>), and of common databases, caches, brokers
/// and remote desktops (IANA's registry of ports).
pub const DENIED_PORTS: [u16; 37] = [
    1433, 1521, 1719, 1720, 1723, 2049, 2375, 2379, 3306, 3389, 3659, 4045, 4190, 5060, 5061, 5432, 5672,
    5900, 5984, 6000, 6379, 6443, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 9042, 9092, 10080, 10250,
    11211, 27017, 61616,
];

/// Why a URL may not be a target's, as its owner is told. Whatever is wrong with an address is told
/// in the same words: the difference would be a map of the network behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a URL with a host.
    #[error("this is not a valid URL such as https://example.com/webhooks")]
    Syntax,
    /// Longer than [`MAX_URL`].
    #[error("the URL is longer than {MAX_URL} characters")]
    TooLong,
    /// Not `https`.
    #[error("the URL's scheme must be https")]
    SchemeNotHttps,
    /// Neither `http` nor `https`, where both are permitted.
    #[error("the URL's scheme must be https or http")]
    SchemeNotHttp,
    /// A user name or password before the host.
    #[error("the URL must not carry a user name or password; set an authorization header instead")]
    Userinfo,
    /// A `#` and what follows it.
    #[error("the URL must not have a fragment (#…): it would not be sent")]
    Fragment,
    /// A port that is not permitted.
    #[error(
        "port {0} is not allowed: use 443, 80, 8443 or another above 1024 that no database or the like is known for"
    )]
    Port(u16),
    /// A host or address that is not permitted.
    #[error("this address is not allowed as a target")]
    Address,
}

/// Checks a target's URL and normalises it, as the WHATWG URL standard says: hosts in lower case
/// and Punycode, IPv4 addresses of any spelling as four numbers, no default port. Only what this
/// returns may be stored and dialled: other parsers may see another host in the original.
///
/// # Errors
/// Says what to change.
pub fn check_url(url: &str, rules: &EgressRules) -> Result<String, UrlError> {
    if url.chars().count() > MAX_URL {
        return Err(UrlError::TooLong);
    }
    let url = Url::parse(url).map_err(|_| UrlError::Syntax)?;
    match url.scheme() {
        "https" => {}
        "http" if rules.allow_http => {}
        _ if rules.allow_http => return Err(UrlError::SchemeNotHttp),
        _ => return Err(UrlError::SchemeNotHttps),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::Userinfo);
    }
    if url.fragment().is_some() {
        return Err(UrlError::Fragment);
    }
    let opted_in = match url.host().ok_or(UrlError::Syntax)? {
        Host::Ipv4(address) => check_address(address.into(), rules)?,
        Host::Ipv6(address) => check_address(address.into(), rules)?,
        Host::Domain(name) => check_name(name, rules)?,
    };
    let port = url.port_or_known_default().ok_or(UrlError::Syntax)?;
    if !opted_in && !is_open(port) {
        return Err(UrlError::Port(port));
    }
    // The client's parser takes fewer hosts than the standard does (not `a.{b`), and must see the same one.
    match url.as_str().parse::<http::Uri>() {
        Ok(dialled) if dialled.host() == url.host_str() => {}
        Ok(_) | Err(_) => return Err(UrlError::Syntax),
    }
    // Escapes may have made it longer.
    if url.as_str().len() > MAX_URL {
        return Err(UrlError::TooLong);
    }
    Ok(url.into())
}

/// Checks an address in a URL; whether it is allowed only because the operator says so.
fn check_address(address: IpAddr, rules: &EgressRules) -> Result<bool, UrlError> {
    if !rules.allows_address(address) {
        return Err(UrlError::Address);
    }
    Ok(rules.opts_in(address))
}

/// Checks a name in a URL, in lower case; whether it is allowed only because the operator says so.
fn check_name(name: &str, rules: &EgressRules) -> Result<bool, UrlError> {
    if rules.allows_host(name) {
        return Ok(true);
    }
    // A name with a dot at its end is the same name to a resolver, but not to our lists.
    if name.ends_with('.') {
        return Err(UrlError::Address);
    }
    let of_this_machine = !name.contains('.') || name.ends_with(".localhost");
    if of_this_machine && rules.opts_in_to_loopback() {
        return Ok(true);
    }
    if of_this_machine || is_special(name) {
        return Err(UrlError::Address);
    }
    Ok(false)
}

fn is_open(port: u16) -> bool {
    matches!(port, 80 | 443 | 1025..) && !DENIED_PORTS.contains(&port)
}
