//! What the audit log says of a thing: its fields by the API's names, and nothing secret.
//!
//! A target's own headers may hold a token, so their values are left out, and only that one changed is said. Secrets
//! and private keys do not come here at all.

use super::{Filter, KeyRow, Scope, Subscription, Target, TenantRow};
use crate::replays::Replay;
use schemas::schedule::RetryPolicy;
use schemas::target::TargetState;
use serde_json::{Value, json};
use std::time::Duration;

/// What stands for a value that may be secret.
const HIDDEN: &str = "…";
/// What stands for such a value where it is another than before.
const CHANGED: &str = "… (changed)";

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Create,
    Update,
    Delete,
    /// A target got a new secret.
    Rotate,
    Enable,
    Disable,
    /// A target proved itself.
    Verify,
    /// A target did not, and is unverified.
    Unverify,
    /// A replay was stopped.
    Stop,
}

impl Action {
    /// What a change of a target with these states, before and after, is called.
    pub(super) fn of_change(old: TargetState, new: TargetState) -> Self {
        match (old == TargetState::Disabled, new == TargetState::Disabled) {
            (true, false) => Self::Enable,
            (false, true) => Self::Disable,
            (true, true) | (false, false) => Self::Update,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Rotate => "rotate",
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Verify => "verify",
            Self::Unverify => "unverify",
            Self::Stop => "stop",
        }
    }
}

/// What it was done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditKind {
    /// A tenant.
    Tenant,
    /// An API key.
    Key,
    /// A target.
    Target,
    /// A filter.
    Filter,
    /// A subscription.
    Subscription,
    /// A replay, resend or redrive.
    Replay,
}

impl AuditKind {
    /// All there are.
    pub const ALL: [Self; 6] = [
        Self::Tenant,
        Self::Key,
        Self::Target,
        Self::Filter,
        Self::Subscription,
        Self::Replay,
    ];

    /// Its word in the API and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Key => "key",
            Self::Target => "target",
            Self::Filter => "filter",
            Self::Subscription => "subscription",
            Self::Replay => "replay",
        }
    }
}

/// A change, to be noted.
pub(crate) struct Entry {
    pub action: Action,
    pub kind: AuditKind,
    pub thing: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

impl Entry {
    pub fn created(new: &impl Audited) -> Self {
        Self::of(Action::Create, new, None, Some(new.shown(None)))
    }

    pub fn changed<T: Audited>(action: Action, old: &T, new: &T) -> Self {
        Self::of(action, new, Some(old.shown(None)), Some(new.shown(Some(old))))
    }

    pub fn deleted(old: &impl Audited) -> Self {
        Self::of(Action::Delete, old, Some(old.shown(None)), None)
    }

    fn of<T: Audited>(action: Action, thing: &T, before: Option<Value>, after: Option<Value>) -> Self {
        Self {
            action,
            kind: T::KIND,
            thing: thing.thing(),
            before,
            after,
        }
    }

    /// Says that the private key of a target's client certificate is another one, or gone.
    pub fn note_key(&mut self, is_there: bool) {
        if let Some(Value::Object(after)) = &mut self.after {
            after.insert("clientKey".to_owned(), is_there.then_some(CHANGED).into());
        }
    }

    pub(super) fn changes_nothing(&self) -> bool {
        self.before.is_some() && self.before == self.after
    }
}

/// Something whose changes are noted.
pub(crate) trait Audited {
    const KIND: AuditKind;

    /// Its id.
    fn thing(&self) -> String;

    /// Its fields; where they are shown beside those it had before, with a mark at what is hidden and changed.
    fn shown(&self, before: Option<&Self>) -> Value;
}

impl Audited for TenantRow {
    const KIND: AuditKind = AuditKind::Tenant;

    fn thing(&self) -> String {
        self.name.as_str().to_owned()
    }

    fn shown(&self, _: Option<&Self>) -> Value {
        json!({"name": self.name.as_str()})
    }
}

impl Audited for KeyRow {
    const KIND: AuditKind = AuditKind::Key;

    fn thing(&self) -> String {
        self.id.to_string()
    }

    fn shown(&self, _: Option<&Self>) -> Value {
        let scopes: Vec<&str> = self.scopes.iter().map(Scope::as_str).collect();
        let ends = self.expires_at.map(schemas::time::Millis::to_rfc3339);
        json!({"name": self.name, "prefix": self.prefix, "scopes": scopes, "expiresAt": ends})
    }
}

impl Audited for Target {
    const KIND: AuditKind = AuditKind::Target;

    fn thing(&self) -> String {
        self.id.to_string()
    }

    fn shown(&self, before: Option<&Self>) -> Value {
        let is_same = |header| before.is_none_or(|before| before.headers.contains(header));
        let headers: serde_json::Map<String, Value> = self
            .headers
            .iter()
            .map(|header| {
                (
                    header.0.clone(),
                    if is_same(header) { HIDDEN } else { CHANGED }.into(),
                )
            })
            .collect();
        json!({
            "url": self.url,
            "description": self.description,
            "headers": headers,
            "contact": self.contact,
            "state": self.state,
            "disabledReason": self.disabled_reason,
            "rateLimit": self.rate_limit.map(|rate| rate.to_string()),
            "retryPolicy": self.retry.as_ref().map(policy),
            "timeout": self.timeout.map(span),
            "signature": self.request.schemes,
            "signatureHeaders": self.request.signature_headers,
            "tls": self.request.tls.as_ref().map(|tls| json!({
                "ca": tls.ca,
                "clientCertificate": tls.client_certificate,
            })),
            "verification": self.request.verification.as_str(),
        })
    }
}

fn policy(policy: &RetryPolicy) -> Value {
    let pauses: Vec<String> = policy.schedule.iter().copied().map(span).collect();
    json!({
        "window": span(policy.window), "first": span(policy.first), "factor": policy.factor,
        "max": span(policy.max), "jitter": policy.jitter, "schedule": pauses,
    })
}

fn span(span: Duration) -> String {
    humantime::format_duration(span).to_string()
}

impl Audited for Filter {
    const KIND: AuditKind = AuditKind::Filter;

    fn thing(&self) -> String {
        self.id.to_string()
    }

    fn shown(&self, _: Option<&Self>) -> Value {
        json!({"name": self.name, "events": self.events})
    }
}

impl Audited for Subscription {
    const KIND: AuditKind = AuditKind::Subscription;

    fn thing(&self) -> String {
        self.id.to_string()
    }

    fn shown(&self, _: Option<&Self>) -> Value {
        json!({"targetId": self.target.0, "filterId": self.filter.0, "active": self.active})
    }
}

impl Audited for Replay {
    const KIND: AuditKind = AuditKind::Replay;

    fn thing(&self) -> String {
        self.id.to_string()
    }

    fn shown(&self, _: Option<&Self>) -> Value {
        json!({
            "targetId": self.target.0, "status": self.which.as_str(),
            "deliveryId": self.delivery.as_ref().map(schemas::ids::DeliveryId::as_str),
            "from": self.from.to_rfc3339(), "to": self.to.to_rfc3339(),
        })
    }
}
