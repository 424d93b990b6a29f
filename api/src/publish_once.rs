//! `Idempotency-Key` where events are published: no database stands there, so ids do what rows do elsewhere.
//!
//! An event that names no id has one derived from tenant and key: however often the request comes, and to whichever
//! process, it is the same event to receivers and history. What this process has accepted it remembers, and does not
//! append again; another process, or this one after a restart, does.

use crate::auth::Caller;
use crate::idempotency::{REPLAYED, hash, key, used_otherwise};
use crate::problem::Problem;
use crate::publish::new_event_id;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use moka::future::Cache;
use platform::clock::Clock;
use ring::digest::SHA256_OUTPUT_LEN;
use schemas::ids::{EventId, Tenant};
use std::time::Duration;

/// At most so many keys are remembered: some 10 MB.
const CAPACITY: u64 = 50_000;

type Hash = [u8; SHA256_OUTPUT_LEN];

/// Where the ids of events come from that bring none.
pub enum NewIds<'a> {
    /// Drawn.
    Drawn(&'a Clock),
    /// Derived from tenant and key.
    Derived(&'a Tenant, &'a str),
}

impl NewIds<'_> {
    /// The id of the n-th event of a request, from 0.
    pub fn id(&self, number: usize) -> String {
        match self {
            Self::Drawn(clock) => new_event_id(clock),
            Self::Derived(tenant, key) => EventId::from_key(tenant, key, number as u64).into(),
        }
    }
}

/// What was published under which key.
pub struct Published(Cache<Hash, Hash>);

impl Published {
    /// Nothing yet. A key is remembered for so long, and while there is room.
    pub fn new(kept: Duration) -> Self {
        let cache = Cache::builder().max_capacity(CAPACITY).time_to_live(kept);
        Self(cache.build())
    }

    /// The request's key, and whether this process has accepted the request before.
    ///
    /// # Errors
    /// 400 for what is no key, 422 for one that was used for another body.
    pub async fn ask<'a>(
        &self,
        caller: &Caller,
        headers: &'a HeaderMap,
        body: &Bytes,
    ) -> Result<Option<Request<'a>>, Problem> {
        let Some(key) = key(headers)? else {
            return Ok(None);
        };
        let request = Request {
            key,
            name: array(&[&caller.name, key.as_bytes()]),
            body: array(&[body]),
            is_known: false,
        };
        match self.0.get(&request.name).await {
            Some(body) if body != request.body => Err(used_otherwise()),
            known => Ok(Some(Request {
                is_known: known.is_some(),
                ..request
            })),
        }
    }

    /// Remembers what was accepted.
    pub async fn accepted(&self, request: &Request<'_>) {
        self.0.insert(request.name, request.body).await;
    }
}

/// A request to publish with a key.
pub struct Request<'a> {
    /// Its key.
    pub key: &'a str,
    name: Hash,
    body: Hash,
    /// Whether it was accepted before, here.
    pub is_known: bool,
}

impl Request<'_> {
    /// Says of an answer that it was given before.
    pub fn mark(&self, response: &mut Response) {
        if self.is_known {
            response
                .headers_mut()
                .insert(REPLAYED, HeaderValue::from_static("true"));
        }
    }
}

fn array(parts: &[&[u8]]) -> Hash {
    // Unwrap safety: SHA-256 gives as many bytes as `Hash` has.
    hash(parts).as_ref().try_into().expect("a SHA-256")
}
