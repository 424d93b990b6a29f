//! The headers that many routes take and answer with.

use http::StatusCode;
use serde_json::json;
use std::collections::BTreeSet;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Header, OpenApi, RefOr, Required, Response, ResponseBuilder};

/// An example of a tag.
const TAG: &str = "\"Vj0_n3ZkQm2r8wYb5cXe1A\"";
/// What `idempotency::key` takes; white space around a header's value is no part of it.
const KEY: &str = "^[!-~]([ -~]{0,253}[!-~])?$";

/// Describes the tags of what can be changed: what has a PATCH has an `ETag`.
pub(super) fn add_tags(document: &mut OpenApi) {
    let changed: BTreeSet<String> = document
        .paths
        .paths
        .iter()
        .filter(|(_, item)| item.patch.is_some())
        .map(|(path, _)| path.clone())
        .collect();
    for (path, item) in &mut document.paths.paths {
        if changed.contains(path) {
            tags_of_one(item);
        } else if changed.contains(&format!("{path}/{{id}}"))
            && let Some(post) = &mut item.post
        {
            shows_tag(post);
        }
    }
}

/// Describes the idempotency keys of what is POSTed.
pub(super) fn add_keys(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        let Some(post) = &mut item.post else {
            continue;
        };
        take(
            post,
            "idempotency-key",
            ("order-desk-4711", Some(KEY)),
            "1 to 255 printable characters, for this one request. Sent again with the same key, path and body, it is \
             answered again and not done again, for 24 h unless the server is configured otherwise.",
        );
        for (status, response) in &mut post.responses.responses {
            if status.starts_with('2')
                && let RefOr::T(response) = response
            {
                let replayed = text(
                    "`true` where the answer was given before, to the same `idempotency-key`.",
                    "true",
                );
                let headers = &mut response.headers;
                headers.insert("idempotent-replayed".to_owned(), RefOr::T(replayed));
            }
        }
        let described = |text: &str| ResponseBuilder::new().description(text).build();
        answer(
            post,
            StatusCode::BAD_REQUEST,
            described("The body is not JSON, or `idempotency-key` is none."),
        );
        answer(
            post,
            StatusCode::CONFLICT,
            described("A request with this `idempotency-key` is being worked on."),
        );
        answer(
            post,
            StatusCode::UNPROCESSABLE_ENTITY,
            described(
                "Fields are not valid, or the `idempotency-key` was used for another request; `errors` names them.",
            ),
        );
    }
}

fn tags_of_one(item: &mut PathItem) {
    if let Some(get) = &mut item.get {
        shows_tag(get);
        take(
            get,
            "if-none-match",
            (TAG, None),
            "Tags seen before: if one of them is still its tag, the answer is 304, without a body.",
        );
        let unchanged = ResponseBuilder::new()
            .description("It is what `if-none-match` names.")
            .header("etag", text("Its tag.", TAG))
            .build();
        answer(get, StatusCode::NOT_MODIFIED, unchanged);
        answer(get, StatusCode::BAD_REQUEST, no_tag("if-none-match"));
    }
    if let Some(patch) = &mut item.patch {
        shows_tag(patch);
    }
    for change in [&mut item.patch, &mut item.delete].into_iter().flatten() {
        take(
            change,
            "if-match",
            (TAG, None),
            "Tags: it is changed only if one of them is its tag still. So of several clients that change what they have \
             read, none undoes what another did.",
        );
        let changed = ResponseBuilder::new()
            .description("It is not what `if-match` names any more; nothing was changed.")
            .build();
        answer(change, StatusCode::PRECONDITION_FAILED, changed);
        answer(change, StatusCode::BAD_REQUEST, no_tag("if-match"));
    }
}

fn no_tag(header: &str) -> Response {
    let description = format!("`{header}` is not of tags, or the body is not JSON.");
    ResponseBuilder::new().description(description).build()
}

/// Adds the header `etag` to the successes of an operation.
fn shows_tag(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        if status.starts_with('2')
            && let RefOr::T(response) = response
        {
            let tag = text(
                "The tag of what a GET shows, for `if-match` and `if-none-match`.",
                TAG,
            );
            response.headers.insert("etag".to_owned(), RefOr::T(tag));
        }
    }
}

/// Adds a header that an operation takes, with an example, and the pattern of all if there is one.
fn take(operation: &mut Operation, name: &str, (example, pattern): (&str, Option<&str>), description: &str) {
    let parameter: Parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(
            ObjectBuilder::new().schema_type(Type::String).pattern(pattern),
        ))
        .example(Some(json!(example)))
        .build();
    operation
        .parameters
        .get_or_insert_default()
        .push(RefOr::T(parameter));
}

/// Adds an answer, unless the operation describes it itself.
fn answer(operation: &mut Operation, status: StatusCode, response: Response) {
    operation
        .responses
        .responses
        .entry(status.as_str().to_owned())
        .or_insert(RefOr::T(response));
}

/// A header of an answer.
pub(super) fn text(description: &str, example: &str) -> Header {
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .description(Some(description))
        .example(Some(json!(example)))
        .build()
}
