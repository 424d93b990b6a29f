//! Lists, one page at a time, and the ids in paths.

use crate::Shared;
use crate::json::Checks;
use crate::problem::{FieldError, Problem};
use axum::extract::{FromRequestParts, Path, Query};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::request::Parts;
use platform::catalog::Page;
use schemas::ids::MAX_NUMERIC_ID;
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
    pub fn of<R: Into<T>>(mut rows: Vec<R>, limit: u32, cursor: impl Fn(&R) -> Cursor) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| more).map(|last| cursor(last).encode());
        Self {
            items: rows.into_iter().map(Into::into).collect(),
            next_cursor,
        }
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
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(match self {
            Self::Id(id) => id.to_string(),
            Self::Moment(at, name) => format!("{}.{name}", at.0),
        })
    }

    fn decode(text: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        match text.split_once('.') {
            None => text.parse().ok().map(Self::Id),
            // Names and ids in lists are short and plain; other text may not be asked of a database.
            Some((_, name)) if name.len() > 200 || !name.bytes().all(|b| b.is_ascii_graphic()) => None,
            Some((at, name)) => Some(Self::Moment(Millis(at.parse().ok()?), name.to_owned())),
        }
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
    #[param(example = "NDI")]
    cursor: Option<String>,
}

impl PageParams {
    /// The limit, and where the last page ended.
    ///
    /// # Errors
    /// 422 for either.
    pub fn by_id(&self) -> Result<(u32, Page), Problem> {
        let mut checks = Checks::default();
        let limit = limit(&mut checks, self.limit.as_deref());
        let before = match cursor(&mut checks, self.cursor.as_deref()) {
            Some(Cursor::Id(id)) => Some(id),
            Some(Cursor::Moment(..)) => {
                checks.fail("cursor", FOREIGN_CURSOR);
                None
            }
            None => None,
        };
        checks.finish()?;
        let page = Page {
            limit: limit + 1,
            before,
        };
        Ok((limit, page))
    }

    /// The limit, and where the last page of a list ordered by time ended.
    ///
    /// # Errors
    /// 422 for either.
    pub fn by_moment(&self) -> Result<(u32, Option<(Millis, String)>), Problem> {
        let mut checks = Checks::default();
        let limit = limit(&mut checks, self.limit.as_deref());
        let after = moment(&mut checks, self.cursor.as_deref());
        checks.finish()?;
        Ok((limit, after))
    }
}

const FOREIGN_CURSOR: &str = "is not a cursor of this list: give nextCursor of the page before, as it was";

/// Checks `limit`.
pub(crate) fn limit(checks: &mut Checks, text: Option<&str>) -> u32 {
    let Some(text) = text else {
        return DEFAULT_LIMIT;
    };
    let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
    checks.take(
        "limit",
        limit.ok_or_else(|| format!("{text:?} is not a number from 1 to {MAX_LIMIT}")),
    )
}

fn cursor(checks: &mut Checks, text: Option<&str>) -> Option<Cursor> {
    let cursor = Cursor::decode(text?);
    if cursor.is_none() {
        checks.fail("cursor", FOREIGN_CURSOR);
    }
    cursor
}

/// Checks the cursor of a list ordered by time.
pub(crate) fn moment(checks: &mut Checks, text: Option<&str>) -> Option<(Millis, String)> {
    match cursor(checks, text)? {
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

impl<T: DeserializeOwned> FromRequestParts<Shared> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
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
            assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        }
        for wrong in [
            "",
            "42",
            "!",
            "é",
            &URL_SAFE_NO_PAD.encode("x.y"),
            &URL_SAFE_NO_PAD.encode([0xff]),
            &URL_SAFE_NO_PAD.encode("1.\0"),
        ] {
            assert_eq!(Cursor::decode(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_further_page_is_announced_only_when_there_is_one() {
        let ids = |rows: Vec<i64>, limit| List::<i64>::of(rows, limit, |id| Cursor::Id(*id));
        assert_eq!(ids(vec![3, 2], 2).next_cursor, None);
        let first = ids(vec![3, 2, 1], 2);
        assert_eq!(first.items, [3, 2]);
        assert_eq!(first.next_cursor, Some(Cursor::Id(2).encode()));
        assert_eq!(ids(vec![], 2).next_cursor, None);
    }
}
