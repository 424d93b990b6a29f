//! Small HTTP calls: setting things up, asking for readiness and metrics. Not the load itself.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// A connection of one's own; it lives until the sender is dropped or the other side leaves.
pub async fn connect(addr: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(addr)
        .await
        .with_context(|| format!("connect to {addr}"))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // It ends with its sender; its error is also the sender's.
    tokio::spawn(connection);
    Ok(sender)
}

/// One request on a connection of its own; the whole answer.
pub async fn call(
    addr: SocketAddr,
    method: Method,
    path: &str,
    key: Option<&str>,
    body: Option<(&str, Bytes)>,
) -> Result<(StatusCode, Bytes)> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", addr.to_string());
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let body = match body {
        None => Bytes::new(),
        Some((content_type, body)) => {
            request = request.header("content-type", content_type);
            body
        }
    };
    let answer = connect(addr)
        .await?
        .send_request(request.body(Full::new(body))?)
        .await?;
    let status = answer.status();
    Ok((status, answer.into_body().collect().await?.to_bytes()))
}

/// Posts JSON and wants JSON back.
///
/// # Errors
/// Also when the answer is not a success: the status and the beginning of the answer.
pub async fn post(addr: SocketAddr, path: &str, key: &str, body: &Value) -> Result<Value> {
    ask(addr, Method::POST, path, key, Some(body)).await
}

/// Wants JSON back, for JSON or for nothing.
///
/// # Errors
/// As for [`post`].
pub async fn ask(
    addr: SocketAddr,
    method: Method,
    path: &str,
    key: &str,
    body: Option<&Value>,
) -> Result<Value> {
    let asked = format!("{method} {path}");
    let body = body.map(|body| ("application/json", Bytes::from(body.to_string())));
    let (status, answer) = call(addr, method, path, Some(key), body)
        .await
        .with_context(|| asked.clone())?;
    if !status.is_success() {
        let text = String::from_utf8_lossy(&answer);
        bail!(
            "{asked}: {status}: {}",
            text.chars().take(400).collect::<String>()
        );
    }
    serde_json::from_slice(&answer).with_context(|| format!("the answer to {asked}"))
}

/// A text, such as metrics.
pub async fn get_text(addr: SocketAddr, path: &str) -> Result<String> {
    let (status, answer) = call(addr, Method::GET, path, None, None)
        .await
        .with_context(|| format!("GET {path}"))?;
    if !status.is_success() {
        bail!("GET {path}: {status}");
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
