//! Lists, one page at a time, and the ids in paths.
//!
//! A page begins after the last row of the page before, by what the list is ordered by and no row ever changes: its
//! id, or its time and id. So whatever comes, changes or goes between two pages, no row that stays is missed or
//! shown twice. A cursor is good for the list, tenant and filters it was given for only ([`Scope`]).

use crate::Shared;
use crate::idempotency::hash;
use crate::json::Checks;
use crate::problem::{FieldError, Problem};
use axum::extract::{FromRequestParts, Path, Query};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Uri;
use http::request::Parts;
use platform::catalog::Page;
use schemas::ids::{MAX_NUMERIC_ID, Tenant};
use schemas::time::Millis;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// How many items a page has when the request does not say.
pub const DEFAULT_LIMIT: u32 = 50;
/// How many items a page has at most.
pub const MAX_LIMIT: u32 = 250;

/// One page of a list, newest first.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    /// The items, newest first.
    pub items: Vec<T>,
    /// Give it as `cursor` to get the next page; null on the last one.
    pub next_cursor: Option<String>,
}

impl<T> List<T> {
    /// Makes a page of `rows`, of which one more than `limit` was asked for: it tells whether
    /// another page follows.
    pub fn of<R: Into<T>>(mut rows: Vec<R>, limit: Limit, cursor: impl Fn(&R) -> Cursor) -> Self {
        let most = usize::try_from(limit.items).unwrap_or(usize::MAX);
        let more = rows.len() > most;
        rows.truncate(most);
        let last = rows.last().filter(|_| more);
        let next_cursor = last.map(|last| cursor(last).encode(limit.scope));
        Self {
            items: rows.into_iter().map(Into::into).collect(),
            next_cursor,
        }
    }
}

/// What a cursor belongs to: a list of a tenant, narrowed by some filters. No secret: a cursor of another scope would
/// show nothing of another tenant, but it would begin where nobody means it to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope([u8; 8]);

impl Scope {
    /// That of a request: its path and all its parameters but those that turn pages.
    fn of(tenant: Option<&Tenant>, uri: &Uri) -> Self {
        let query = uri.query().unwrap_or("");
        let mut filters: Vec<&str> = query
            .split('&')
            .filter(|pair| !["limit", "cursor"].contains(&pair.split('=').next().unwrap_or("")))
            .collect();
        filters.sort_unstable();
        let mut parts = vec![tenant.map_or("", Tenant::as_str), uri.path()];
        parts.extend(filters);
        let parts: Vec<&[u8]> = parts.into_iter().map(str::as_bytes).collect();
        let mut scope = Self::default();
        let Self(bytes) = &mut scope;
        bytes.copy_from_slice(&hash(&parts).as_ref()[..8]);
        scope
    }
}

/// Parameters that may name a page of a list.
pub trait Scoped {
    /// Tells them what their cursor must belong to.
    fn scoped(&mut self, _: Scope) {}
}

/// How many items a page has at most, and what its cursor belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    items: u32,
    scope: Scope,
}

impl Limit {
    /// How many rows to ask for: one more, which tells whether another page follows.
    #[must_use]
    pub fn rows(self) -> u32 {
        self.items.saturating_add(1)
    }
}

/// Where a page ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// A list in order of numeric ids.
    Id(i64),
    /// A list in order of time, then name.
    Moment(Millis, String),
}

impl Cursor {
    /// As text, opaque to clients.
    #[must_use]
    pub fn encode(&self, Scope(scope): Scope) -> String {
        let place = match self {
            Self::Id(id) => id.to_string(),
            Self::Moment(at, name) => format!("{}.{name}", at.0),
        };
        URL_SAFE_NO_PAD.encode([&scope[..], place.as_bytes()].concat())
    }

    fn decode(text: &str) -> Option<(Scope, Self)> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (scope, place) = bytes.split_first_chunk()?;
        let place = std::str::from_utf8(place).ok()?;
        let cursor = match place.split_once('.') {
            None => Self::Id(place.parse().ok()?),
            // Names and ids in lists are short and plain; other text may not be asked of a database.
            Some((_, name)) if name.len() > 200 || !name.bytes().all(|b| b.is_ascii_graphic()) => {
                return None;
            }
            Some((at, name)) => Self::Moment(Millis(at.parse().ok()?), name.to_owned()),
        };
        Some((Scope(*scope), cursor))
    }
}

/// Which page of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageParams {
    /// How many items at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 250, default = 50, example = 50)]
    limit: Option<String>,
    /// `nextCursor` of the page before.
    #[param(example = "q22w0dPYnxI0Mg")]
    cursor: Option<String>,
    #[serde(skip)]
    scope: Scope,
}

impl Scoped for PageParams {
    fn scoped(&mut self, scope: Scope) {
        self.scope = scope;
    }
}

impl PageParams {
    /// The limit, and where the last page ended.
    ///
    /// # Errors
    /// 422 for either.
    pub fn by_id(&self) -> Result<(Limit, Page), Problem> {
        let mut checks = Checks::default();
        let limit = limit(&mut checks, self.scope, self.limit.as_deref());
        let page = by_id(&mut checks, limit, self.cursor.as_deref());
        checks.finish()?;
        Ok((limit, page))
    }

    /// The limit, and where the last page of a list ordered by time ended.
    ///
    /// # Errors
    /// 422 for either.
    pub fn by_moment(&self) -> Result<(Limit, Option<(Millis, String)>), Problem> {
        let mut checks = Checks::default();
        let limit = limit(&mut checks, self.scope, self.limit.as_deref());
        let after = moment(&mut checks, self.scope, self.cursor.as_deref());
        checks.finish()?;
        Ok((limit, after))
    }
}

const FOREIGN_CURSOR: &str = "is not a cursor of this list: give nextCursor of the page before, as it was";
const MOVED_CURSOR: &str = "is the cursor of another list, tenant or choice of filters: give nextCursor of the page \
     before, with the parameters of that page";

/// Checks `limit`.
pub(crate) fn limit(checks: &mut Checks, scope: Scope, text: Option<&str>) -> Limit {
    let items = text.map_or(DEFAULT_LIMIT, |text| {
        let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
        checks.take(
            "limit",
            limit.ok_or_else(|| format!("{text:?} is not a number from 1 to {MAX_LIMIT}")),
        )
    });
    Limit { items, scope }
}

fn cursor(checks: &mut Checks, scope: Scope, text: Option<&str>) -> Option<Cursor> {
    match Cursor::decode(text?) {
        Some((its, cursor)) if its == scope => return Some(cursor),
        Some(_) => checks.fail("cursor", MOVED_CURSOR),
        None => checks.fail("cursor", FOREIGN_CURSOR),
    }
    None
}

/// The page of a list in order of numeric ids, with one row more than the limit. Checks the cursor.
pub(crate) fn by_id(checks: &mut Checks, limit: Limit, text: Option<&str>) -> Page {
    let before = match cursor(checks, limit.scope, text) {
        Some(Cursor::Id(id)) => Some(id),
        Some(Cursor::Moment(..)) => {
            checks.fail("cursor", FOREIGN_CURSOR);
            None
        }
        None => None,
    };
    Page {
        limit: limit.rows(),
        before,
    }
}

/// Checks the cursor of a list ordered by time.
pub(crate) fn moment(checks: &mut Checks, scope: Scope, text: Option<&str>) -> Option<(Millis, String)> {
    match cursor(checks, scope, text)? {
        Cursor::Moment(at, name) => Some((at, name)),
        Cursor::Id(_) => {
            checks.fail("cursor", FOREIGN_CURSOR);
            None
        }
    }
}

/// Checks a numeric id given as text.
pub(crate) fn numeric_id(text: &str) -> Option<i64> {
    text.parse().ok().filter(|id| (1..=MAX_NUMERIC_ID).contains(id))
}

/// A query string. Unknown and repeated parameters answer 422.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned + Scoped> FromRequestParts<Shared> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(mut params)) => {
                T::scoped(
                    &mut params,
                    Scope::of(parts.extensions.get::<Tenant>(), &parts.uri),
                );
                Ok(Self(params))
            }
            Err(rejection) => Err(Problem::invalid(vec![FieldError::new(
                "query",
                rejection.body_text(),
            )])),
        }
    }
}

/// The numeric id in a path. What is no such number is the id of nothing: 404.
pub struct Id(pub i64);

impl FromRequestParts<Shared> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, server: &Shared) -> Result<Self, Problem> {
        let Name(text) = Name::from_request_parts(parts, server).await?;
        numeric_id(&text).map(Self).ok_or_else(Problem::not_found)
    }
}

/// The id or name in a path, as text.
pub struct Name(pub String);

impl FromRequestParts<Shared> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, &()).await {
            Ok(Path(text)) => Ok(Self(text)),
            Err(_) => Err(Problem::not_found()),
        }
    }
}

/// What to do with that which uses the deleted thing.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteParams {
    /// `true` deletes the subscriptions that use it too; otherwise they make the answer 409.
    #[param(value_type = Option<bool>, default = false, example = false)]
    cascade: Option<String>,
}

impl Scoped for DeleteParams {}

impl DeleteParams {
    /// Whether to delete what uses it too.
    ///
    /// # Errors
    /// 422 for anything but `true` and `false`.
    pub fn cascade(&self) -> Result<bool, Problem> {
        match self.cascade.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(Problem::invalid(vec![FieldError::new(
                "cascade",
                format!("{other:?} is neither true nor false"),
            )])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_as_they_went() {
        for cursor in [
            Cursor::Id(42),
            Cursor::Moment(Millis(1_767_225_599_123), "evt_a.b".to_owned()),
            Cursor::Moment(Millis(-1), String::new()),
        ] {
            let scope = Scope([7; 8]);
            assert_eq!(Cursor::decode(&cursor.encode(scope)), Some((scope, cursor)));
        }
        for wrong in [
            "",
            "42",
            "!",
            "é",
            &URL_SAFE_NO_PAD.encode("12345678"),
            &URL_SAFE_NO_PAD.encode("12345678x.y"),
            &URL_SAFE_NO_PAD.encode(*b"12345678\xff"),
            &URL_SAFE_NO_PAD.encode("123456781.\0"),
        ] {
            assert_eq!(Cursor::decode(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_further_page_is_announced_only_when_there_is_one() {
        let scope = Scope::default();
        let ids = |rows: Vec<i64>, items| List::<i64>::of(rows, Limit { items, scope }, |id| Cursor::Id(*id));
        assert_eq!(ids(vec![3, 2], 2).next_cursor, None);
        let first = ids(vec![3, 2, 1], 2);
        assert_eq!(first.items, [3, 2]);
        assert_eq!(first.next_cursor, Some(Cursor::Id(2).encode(scope)));
        assert_eq!(ids(vec![], 2).next_cursor, None);
    }

    #[test]
    fn a_scope_is_of_path_tenant_and_filters_and_not_of_the_page() {
        let acme = Tenant::new("acme").unwrap();
        let scope = |uri: &'static str| Scope::of(Some(&acme), &Uri::from_static(uri));
        let one = scope("/deliveries?status=pending&targetId=1");
        assert_eq!(
            one,
            scope("/deliveries?targetId=1&cursor=a&limit=2&status=pending")
        );
        for other in [
            "/deliveries",
            "/events?status=pending&targetId=1",
            "/deliveries?status=pending&targetId=2",
            "/deliveries?status=pending&targetId=1&limits=1",
        ] {
            assert_ne!(one, scope(other), "{other}");
        }
        let other = Tenant::new("other").unwrap();
        let uri = Uri::from_static("/deliveries");
        assert_ne!(Scope::of(Some(&acme), &uri), Scope::of(Some(&other), &uri));
        assert_ne!(Scope::of(Some(&acme), &uri), Scope::of(None, &uri));
    }
}
