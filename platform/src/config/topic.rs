//! One of `events.topics`: how its records are read.

use schemas::avro::{Fields, Framing};
use schemas::ids::Tenant;
use serde::Deserialize;
use std::path::PathBuf;

/// One of `events.topics`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub struct Topic {
    pub name: String,
    #[serde(default = "raw")]
    pub framing: Framing,
    #[serde(default = "default_tenant")]
    pub tenant: Tenant,
    #[serde(default)]
    pub fields: Fields,
    #[serde(default)]
    pub schemas: Vec<PathBuf>,
    pub schema_header: Option<String>,
}

fn raw() -> Framing {
    Framing::Raw
}

/// The tenant of records that name none, where the topic names none either.
#[must_use]
pub fn default_tenant() -> Tenant {
    // Unwrap safety: a constant of the right form; a test covers it.
    Tenant::new("default").expect("\"default\" is a tenant's name")
}

impl Topic {
    /// A topic of raw records of our own schemas.
    #[must_use]
    pub fn raw(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            framing: Framing::Raw,
            tenant: default_tenant(),
            fields: Fields::default(),
            schemas: Vec::new(),
            schema_header: None,
        }
    }

    /// Whether what we write ourselves is read from it: records of our own schemas, which need
    /// neither a registry nor a header.
    #[must_use]
    pub fn takes_our_own(&self) -> bool {
        match self.framing {
            Framing::Raw => self.schemas.is_empty(),
            Framing::SingleObject => true,
            Framing::Confluent | Framing::Header => false,
        }
    }

    /// What must hold of it.
    ///
    /// # Errors
    /// The key, and what would be right.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let fail = |key: &str, message: &str| {
            let at = match key {
                "" => "events.topics".to_owned(),
                key => format!("events.topics.{key}"),
            };
            Err((at, message.to_owned()))
        };
        let is_name = (1..=200).contains(&self.name.len())
            && self
                .name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !is_name {
            return fail(
                "",
                &format!("\"{}\" is not a topic's name: letters, digits, . _ -", self.name),
            );
        }
        if let Err((field, message)) = self.fields.check() {
            return fail(
                &format!("fields.{field}"),
                &format!("topic {}: {message}", self.name),
            );
        }
        let in_record = match self.framing {
            Framing::Raw | Framing::SingleObject => false,
            Framing::Confluent | Framing::Header => true,
        };
        if in_record && !self.schemas.is_empty() {
            return fail(
                "schemas",
                &format!(
                    "topic {}: only records with framing \"raw\" or \"single-object\" are read by the schemas of files",
                    self.name
                ),
            );
        }
        if self.framing == Framing::Raw && self.schemas.len() > 1 {
            return fail(
                "schemas",
                &format!(
                    "topic {}: a raw record does not say which schema it is of; name one",
                    self.name
                ),
            );
        }
        if !in_record && self.schemas.is_empty() && self.fields != Fields::default() {
            return fail(
                "fields",
                &format!(
                    "topic {}: needs the writers' schemas, which its records do not bring: set schemas = [\"FILE.avsc\"], \
                     or framing \"confluent\" or \"header\"",
                    self.name
                ),
            );
        }
        if self.schema_header.is_some() && self.framing != Framing::Header {
            return fail(
                "schema_header",
                &format!("topic {}: is for framing \"header\"", self.name),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn load(topic: &str) -> Result<Config, String> {
        let flags = format!(
            "events.log = \"kafka\"\nkafka.schema_registry = \"http://127.0.0.1:1\"\nevents.topics = [{{ name = \"orders\", {topic} }}]"
        );
        Config::load(None, "", &flags).map_err(|error| error.to_string())
    }

    #[test]
    fn a_topic_says_how_its_records_are_read() {
        for right in [
            "framing = \"confluent\", fields = { event_type = \"type\", payload = \"body\" }",
            "framing = \"header\", schema_header = \"avro.schema\"",
            "framing = \"header\"",
            "schemas = [\"order.avsc\"], fields = { payload = \"body\" }",
            "framing = \"single-object\", schemas = [\"a.avsc\", \"b.avsc\"]",
        ] {
            assert!(load(right).is_ok(), "{right}: {:?}", load(right).err());
        }
    }

    #[test]
    fn a_mistake_in_a_topic_names_its_key() {
        let table = [
            (
                "framing = \"confluent\", fields = { evnt_type = \"type\" }",
                "events.topics.0.fields.evnt_type: there is no such key; here are event_type, payload, event_id",
            ),
            (
                "framing = \"confluent\", fields = { event_type = 1 }",
                "events.topics.0.fields.event_type: found signed int `1`, which is not a string",
            ),
            (
                "framing = \"confluent\", fields = { payload = \"the body\" }",
                "events.topics.fields.payload: topic orders: \"the body\" is not the name of an Avro field",
            ),
            (
                "fields = { payload = \"body\" }",
                "events.topics.fields: topic orders: needs the writers' schemas",
            ),
            (
                "schemas = [\"a\", \"b\"]",
                "events.topics.schemas: topic orders: a raw record does not say",
            ),
            (
                "framing = \"confluent\", schemas = [\"a\"]",
                "events.topics.schemas: topic orders: only records",
            ),
            (
                "schema_header = \"x\"",
                "events.topics.schema_header: topic orders: is for framing \"header\"",
            ),
        ];
        for (topic, message) in table {
            let error = load(topic).unwrap_err();
            assert!(error.starts_with(message), "{topic}: {error}");
        }
    }
}
