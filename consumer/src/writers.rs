//! Writers' schemas, each looked up and made a plan of once for a topic.
//!
//! A schema never changes under its id, so what is read by it is kept for as long as there is room. One that
//! the registry does not know, or that cannot be used, is remembered for a minute: it may be
//! registered meanwhile, and asking for each record of a bad topic would be a flood.

use crate::registry::{MAX_SCHEMA, Registry, RegistryError};
use bytes::Bytes;
use platform::harness::at_once;
use schemas::avro::{Fields, SchemaError, SchemaKey, WriterSchema};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an unusable schema stays so without asking again.
const UNUSABLE_FOR: Duration = Duration::from_secs(60);
/// The bytes of schemas remembered, with what is made of them.
const MEMORY: u64 = 64 << 20;
/// How much a plan takes for each byte of its schema, at most.
const PLAN_PER_BYTE: usize = 8;
/// What an entry takes beside, in bytes and roughly.
const ENTRY: usize = 1 << 10;

/// Why a record cannot be read by its writer's schema.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriterError {
    /// Reading it again will not help: a class as of [`schemas::avro::DecodeError`], and the details.
    #[error("{1}")]
    Unusable(&'static str, String),
    /// Asking the registry again later may succeed.
    #[error("{0}")]
    Unavailable(String),
}

#[derive(Clone)]
struct Known {
    plan: Result<Arc<WriterSchema>, (Instant, &'static str, String)>,
    /// The length of the JSON that the plan was made of.
    schema: usize,
}

/// What an entry takes of the memory: the schema's text is its key where the record brought it along.
fn weight(key: &SchemaKey, known: &Known) -> u32 {
    let text = match key {
        SchemaKey::Text(text) => text.len(),
        SchemaKey::Id(_) | SchemaKey::Guid(_) => 0,
    };
    let plan = match &known.plan {
        Ok(_) => known.schema.saturating_mul(PLAN_PER_BYTE),
        Err((_, _, why)) => why.len(),
    };
    u32::try_from(ENTRY + text + plan).unwrap_or(u32::MAX)
}

/// The schemas of all topics: each has names for the fields of its own.
pub struct Writers {
    registry: Option<Registry>,
    known: moka::future::Cache<(usize, SchemaKey), Known>,
}

impl Writers {
    /// None is known yet. Without a registry, only schemas that records bring along are read.
    #[must_use]
    pub fn new(registry: Option<Registry>) -> Self {
        let known = moka::future::Cache::builder()
            .max_capacity(MEMORY)
            .weigher(|(_, key): &(usize, SchemaKey), known: &Known| weight(key, known))
            .build();
        Self { registry, known }
    }

    /// The schema that a record of this topic names, if it is known: without a wait.
    pub fn known(&self, topic: usize, key: SchemaKey) -> Option<Arc<WriterSchema>> {
        at_once(self.known.get(&(topic, key)))??.plan.ok()
    }

    /// The schema that a record of this topic names; one look-up of each at a time.
    ///
    /// # Errors
    /// [`WriterError`].
    pub async fn schema(
        &self,
        topic: usize,
        fields: &Fields,
        key: SchemaKey,
    ) -> Result<Arc<WriterSchema>, WriterError> {
        let key = (topic, key);
        match self.known.get(&key).await.map(|known| known.plan) {
            Some(Ok(plan)) => return Ok(plan),
            Some(Err((asked, class, why))) if asked.elapsed() < UNUSABLE_FOR => {
                return Err(WriterError::Unusable(class, why));
            }
            Some(Err(_)) => self.known.invalidate(&key).await,
            None => {}
        }
        // What is kept must not hold on to the record.
        let key = match key {
            (topic, SchemaKey::Text(text)) => (topic, SchemaKey::Text(Bytes::copy_from_slice(&text))),
            other => other,
        };
        let looked_up = key.1.clone();
        let known = self
            .known
            .try_get_with(key, self.look_up(fields, &looked_up))
            .await
            .map_err(|error: Arc<WriterError>| (*error).clone())?;
        known
            .plan
            .map_err(|(_, class, why)| WriterError::Unusable(class, why))
    }

    async fn look_up(&self, fields: &Fields, key: &SchemaKey) -> Result<Known, WriterError> {
        let unusable = |class, why: String| Known {
            plan: Err((Instant::now(), class, why)),
            schema: 0,
        };
        let json = match (key, &self.registry) {
            (SchemaKey::Text(text), _) if text.len() > MAX_SCHEMA => {
                return Ok(unusable("unknown_schema", format!("{key} is larger than 1 MiB")));
            }
            (SchemaKey::Text(text), _) => match std::str::from_utf8(text) {
                Ok(text) => text.to_owned(),
                Err(_) => return Ok(unusable("unknown_schema", format!("{key} is not UTF-8"))),
            },
            (_, Some(registry)) => match registry.schema(key).await {
                Ok(json) => json,
                Err(RegistryError::Unknown(why)) => return Ok(unusable("unknown_schema", why)),
                Err(RegistryError::Unavailable(why)) => return Err(WriterError::Unavailable(why)),
            },
            (_, None) => {
                let why = format!("{key}: there is no registry; set kafka.schema_registry");
                return Ok(unusable("unknown_schema", why));
            }
        };
        Ok(match WriterSchema::parse(&json, fields) {
            Ok(plan) => Known {
                plan: Ok(Arc::new(plan)),
                schema: json.len(),
            },
            Err(error @ (SchemaError::Unusable(_) | SchemaError::Unresolved(_))) => {
                unusable(error.class(), format!("{key}: {error}"))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn texts_that_are_no_schemas_are_remembered_within_bounds() {
        let writers = Writers::new(None);
        for n in 0..100 {
            let text = format!("{n} {}", " ".repeat(1_000_000));
            let key = SchemaKey::Text(Bytes::from(text));
            let unusable = writers.schema(0, &Fields::default(), key).await;
            assert!(matches!(
                unusable,
                Err(WriterError::Unusable("unknown_schema", _))
            ));
        }
        writers.known.run_pending_tasks().await;
        let kept = writers.known.entry_count() * 1_000_000;
        assert!(
            (1..=MEMORY).contains(&kept),
            "{kept} bytes of text are remembered"
        );
    }
}
