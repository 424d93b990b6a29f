//! `hookwright listen`: a receiver for trying things out.

use crate::cli::ListenArgs;
use crate::failure::Failure;
use crate::receiver::{self, Answer, Received};
use crate::terminal::{Colour, coloured, say};
use http_body_util::Full;
use hyper::header::HeaderValue;
use hyper::{Method, Response, StatusCode};
use platform::clock::Clock;
use schemas::signature;
use schemas::target::SigningKey;
use schemas::verification::{ALLOWED_ORIGIN, REQUEST_ORIGIN, crc_answer};
use serde_json::json;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How far a signature's time may be from ours, as in all reference libraries.
const TOLERANCE: Duration = Duration::from_secs(300);
/// Bytes of a payload that are shown.
const SHOWN: usize = 300;

/// Receives, verifies and prints until interrupted.
pub async fn run(args: ListenArgs) -> Result<(), Failure> {
    let key = match &args.secret {
        Some(secret) => Some(
            signature::parse_secret(secret).map_err(|error| Failure::usage(format!("--secret: {error}")))?,
        ),
        None => None,
    };
    let status =
        StatusCode::from_u16(args.status).map_err(|_| Failure::usage("--status: not an HTTP status"))?;
    let listener = TcpListener::bind(args.addr).await.map_err(|error| {
        Failure::unavailable(format!(
            "--addr: cannot listen on {}: {}",
            args.addr,
            platform::plain::io(&error)
        ))
    })?;
    let shutdown = CancellationToken::new();
    platform::harness::stop_on_signals(shutdown.clone()).map_err(|error| Failure::died(&error))?;
    let address = listener.local_addr().map_err(|error| Failure::died(&error))?;
    say(&format!(
        "listening on http://{address}/  (answers {}; ctrl-c to stop)",
        status.as_u16()
    ));
    let delay = args.delay;
    let answer = move |received: Received| {
        let key = key.clone();
        async move {
            if received.method != Method::POST {
                return asked(&received, key.as_ref());
            }
            let verified = verify(&received, key.as_ref());
            print(&received, &verified);
            tokio::time::sleep(delay).await;
            match verified {
                Verified::No(_) => receiver::status(StatusCode::UNAUTHORIZED),
                Verified::Yes | Verified::NotTried => {
                    repeated(&received).unwrap_or_else(|| receiver::status(status))
                }
            }
        }
    };
    receiver::serve(listener, answer, shutdown).await;
    Ok(())
}

/// Answers a challenge that is no POST: by CRC, if the secret is known, or by the handshake of CloudEvents.
fn asked(received: &Received, key: Option<&SigningKey>) -> Answer {
    let token = received
        .query
        .split('&')
        .find_map(|part| part.strip_prefix("crc_token="));
    let origin = received.header(REQUEST_ORIGIN);
    let (what, answer) = match (&received.method, token, key) {
        (&Method::GET, Some(token), Some(key)) => {
            let body = json!({ "response_token": crc_answer(key, token) }).to_string();
            ("challenge by crc: answered", Response::new(Full::from(body)))
        }
        (&Method::GET, Some(_), None) => {
            let answer = receiver::status(StatusCode::NOT_FOUND);
            ("challenge by crc: cannot be answered without --secret", answer)
        }
        (&Method::OPTIONS, ..) if !origin.is_empty() => {
            let mut answer = receiver::status(StatusCode::OK);
            if let Ok(origin) = HeaderValue::from_str(origin) {
                answer.headers_mut().insert(ALLOWED_ORIGIN, origin);
                answer
                    .headers_mut()
                    .insert("webhook-allowed-rate", HeaderValue::from_static("*"));
            }
            ("challenge by cloudevents: allowed", answer)
        }
        _ => ("not a webhook", receiver::status(StatusCode::METHOD_NOT_ALLOWED)),
    };
    let now = Clock::system().now().to_rfc3339();
    say(&format!(
        "{}  {} {}  {what}",
        &now[11..19],
        received.method,
        received.path
    ));
    answer
}

/// The answer to a challenge by echo, if that is what has come.
fn repeated(received: &Received) -> Option<Answer> {
    if received.header("webhook-event-type") != "webhook.verification" {
        return None;
    }
    let asked: serde_json::Value = serde_json::from_slice(&received.body).ok()?;
    let challenge = asked["challenge"].as_str()?.to_owned();
    Some(Response::new(Full::from(challenge)))
}

enum Verified {
    Yes,
    No(String),
    NotTried,
}

fn verify(received: &Received, key: Option<&SigningKey>) -> Verified {
    let Some(key) = key else { return Verified::NotTried };
    let Ok(timestamp) = received.header("webhook-timestamp").parse() else {
        return Verified::No("no webhook-timestamp".to_owned());
    };
    let checked = signature::verify(
        std::slice::from_ref(key),
        received.header("webhook-id"),
        timestamp,
        &received.body,
        received.header("webhook-signature"),
        Clock::system().now().unix_seconds(),
        TOLERANCE,
    );
    match checked {
        Ok(()) => Verified::Yes,
        Err(error) => Verified::No(error.to_string()),
    }
}

fn print(received: &Received, verified: &Verified) {
    let (word, colour) = match verified {
        Verified::Yes => ("verified".to_owned(), Colour::Green),
        Verified::No(why) => (format!("NOT VERIFIED ({why})"), Colour::Red),
        Verified::NotTried => ("not checked (no --secret)".to_owned(), Colour::Yellow),
    };
    let now = Clock::system().now().to_rfc3339();
    say(&format!(
        "{}  {}  {}  {}  attempt {}  {}  {} bytes",
        &now[11..19],
        received.header("webhook-id"),
        received.header("webhook-event-type"),
        received.path,
        received.header("webhook-attempt"),
        coloured(&word, colour),
        received.body.len(),
    ));
    let shown = &received.body[..received.body.len().min(SHOWN)];
    let more = if received.body.len() > SHOWN { " …" } else { "" };
    say(&format!(
        "          {}{more}",
        String::from_utf8_lossy(shown).replace(char::is_control, " ")
    ));
}
