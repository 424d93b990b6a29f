//! Which of a writer's fields holds what of an event.

use serde::Deserialize;

/// The writer's names for what an event is made of, where they are not ours. A field that is named
/// here must be there; one that is not is looked for under our name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields are those of WebhookEvent")]
pub struct Fields {
    pub event_type: Option<String>,
    pub payload: Option<String>,
    pub event_id: Option<String>,
    pub tenant: Option<String>,
    pub content_type: Option<String>,
    pub occurred_at: Option<String>,
}

/// What an event is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    EventType,
    Payload,
    EventId,
    Tenant,
    ContentType,
    OccurredAt,
}

impl Slot {
    pub(super) const ALL: [Self; 6] = [
        Self::EventType,
        Self::Payload,
        Self::EventId,
        Self::Tenant,
        Self::ContentType,
        Self::OccurredAt,
    ];

    /// Our name for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::EventType => "event_type",
            Self::Payload => "payload",
            Self::EventId => "event_id",
            Self::Tenant => "tenant",
            Self::ContentType => "content_type",
            Self::OccurredAt => "occurred_at",
        }
    }

    /// Whether there is no event without it.
    pub(super) fn is_required(self) -> bool {
        matches!(self, Self::EventType | Self::Payload)
    }
}

impl Fields {
    /// What must hold of the names.
    ///
    /// # Errors
    /// Which key is wrong, and what would be right.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let mut seen: Vec<(&str, Slot)> = Vec::new();
        for slot in Slot::ALL {
            let Some(name) = self.named(slot) else { continue };
            let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && name.bytes().next().is_some_and(|first| !first.is_ascii_digit());
            if !is_name {
                let message = format!("\"{name}\" is not the name of an Avro field: letters, digits and _");
                return Err((slot.name(), message));
            }
            if let Some((_, other)) = seen.iter().find(|(taken, _)| *taken == name) {
                let message = format!("\"{name}\" is the field of {} already", other.name());
                return Err((slot.name(), message));
            }
            seen.push((name, slot));
        }
        Ok(())
    }

    /// The writer's name, where one is given.
    pub(super) fn named(&self, slot: Slot) -> Option<&str> {
        match slot {
            Slot::EventType => self.event_type.as_deref(),
            Slot::Payload => self.payload.as_deref(),
            Slot::EventId => self.event_id.as_deref(),
            Slot::Tenant => self.tenant.as_deref(),
            Slot::ContentType => self.content_type.as_deref(),
            Slot::OccurredAt => self.occurred_at.as_deref(),
        }
    }

    /// What a writer's field holds of an event. A name that is given wins over our own.
    pub(super) fn slot(&self, field: &str) -> Option<Slot> {
        let given = Slot::ALL
            .into_iter()
            .find(|slot| self.named(*slot) == Some(field));
        given.or_else(|| {
            Slot::ALL
                .into_iter()
                .find(|slot| self.named(*slot).is_none() && slot.name() == field)
        })
    }
}
