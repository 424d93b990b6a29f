//! All routes, and the OpenAPI document that describes them.
//!
//! A route enters the router together with its description, so neither is there without the other.
//! What is the same for many routes (the answers to errors, which key they take, examples made of
//! their schemas' examples) is added here rather than repeated at each.

mod headers;
mod schemas;

use crate::problem::{FieldError, ProblemBody};
use crate::{Config, Shared};
use crate::{
    admin, audit, dead_letters, deliveries, docs, endpoints, events, filters, keys, replays, resend, stats,
    subscriptions, targets, verification,
};
use axum::Router;
use http::StatusCode;
use platform::catalog::Scope;
use serde_json::{Value, json};
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required, Response, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;

/// What stands before the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "hookwright",
        description = "Webhook delivery: publish events, say who gets them, see what became of each.\n\n\
            Every request brings an API key as `authorization: Bearer hk_…`; it names the tenant, and nothing of \
            another tenant is ever shown: its ids answer 404. A key has scopes: `read` looks things up, `publish` \
            publishes events, `manage` does all the rest; each operation names the one it needs. Bodies are JSON, times RFC 3339 in UTC, durations carry \
            their unit (`15s`), ids of targets, filters, subscriptions and keys are numbers below 2^53.\n\n\
            Lists answer `{items, nextCursor}`, newest first; give `nextCursor` as `cursor` for the next page. \
            Whatever is refused answers `application/problem+json` and names the fields that are wrong; nothing of a \
            refused request was done.\n\n\
            What can be changed has an `etag`; with `if-match` a PATCH or DELETE is done only if nobody changed it meanwhile. \
            A POST with an `idempotency-key` may be sent again: what was done is answered again, with \
            `idempotent-replayed: true`, and not done again. What was refused may be corrected under the same key.",
    ),
    servers((url = "/", description = "The server that the document is from.")),
    components(schemas(ProblemBody<'static>, FieldError)),
    tags(
        (name = "events", description = "What happened: publish it, and look it up."),
        (name = "endpoints", description = "Target, filter and subscription in one: the simple way to receive events."),
        (name = "targets", description = "Where deliveries go: address, headers, secret, policy."),
        (name = "filters", description = "Which event types somebody wants."),
        (name = "subscriptions", description = "Which target gets what which filter wants."),
        (name = "deliveries", description = "What became of each event at each target."),
        (name = "replays", description = "What was missed, sent again: events of a time, to one target, in the background."),
        (name = "dead letters", description = "Deliveries that were given up: list them, and send them again."),
        (name = "stats", description = "How much was delivered, how well and how fast."),
        (name = "audit", description = "Who changed what, and when."),
        (name = "admin", description = "Tenants and their API keys, and the audit log of all. Takes the admin key only."),
        (name = "docs", description = "This documentation. Takes no key."),
    )
)]
struct Head;

/// The OpenAPI document (3.1) of the API as `config` has it.
#[must_use]
pub fn openapi(config: &Config) -> utoipa::openapi::OpenApi {
    assemble(config).1
}

/// All routes and their document.
pub(crate) fn assemble(config: &Config) -> (Router<Shared>, utoipa::openapi::OpenApi) {
    let routes = events::routes()
        .merge(endpoints::routes())
        .merge(targets::routes())
        .merge(verification::routes())
        .merge(filters::routes())
        .merge(subscriptions::routes())
        .merge(deliveries::routes())
        .merge(resend::routes())
        .merge(replays::routes())
        .merge(dead_letters::routes())
        .merge(stats::routes())
        .merge(admin::routes())
        .merge(keys::routes())
        .merge(audit::routes())
        .merge(docs::routes());
    let all = OpenApiRouter::with_openapi(Head::openapi());
    let all = match config.base_path.trim_end_matches('/') {
        "" => all.merge(routes),
        base => all.nest(base, routes.merge(docs::index())),
    };
    let (router, mut document) = all.merge(docs::landing()).split_for_parts();
    complete(&mut document);
    (router, document)
}

/// Adds what is the same for many routes.
fn complete(document: &mut utoipa::openapi::OpenApi) {
    let components = document.components.get_or_insert_default();
    for (name, description) in [
        (
            "apiKey",
            "A tenant's API key, `hk_…`. What an operation names is the scope that the key needs.",
        ),
        ("adminKey", "The admin key of the server's configuration."),
    ] {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(description));
        components.add_security_scheme(name, SecurityScheme::Http(scheme.build()));
    }
    headers::add_tags(document);
    headers::add_keys(document);
    let components = document.components.get_or_insert_default();
    schemas::share_items(components);
    // Unwrap safety: schemas have text keys only, which always serialise.
    let schemas = serde_json::to_value(&components.schemas).expect("schemas serialise");
    for item in document.paths.paths.values_mut() {
        let operations = [
            (&mut item.get, Scope::Read),
            (&mut item.post, Scope::Manage),
            (&mut item.patch, Scope::Manage),
            (&mut item.put, Scope::Manage),
            (&mut item.delete, Scope::Manage),
        ];
        for (operation, scope) in operations {
            let Some(operation) = operation else { continue };
            add_key(operation, scope);
            add_errors(operation);
            need_no_body(operation, &schemas);
            add_examples(operation, &schemas);
        }
    }
}

fn has_tag(operation: &Operation, tag: &str) -> bool {
    operation.tags.iter().flatten().any(|other| other == tag)
}

/// Says which key an operation takes: with the scope that goes with its method, unless it says `security` itself.
/// What is asked for is what its handler takes (`access`). That it takes none is said too.
fn add_key(operation: &mut Operation, scope: Scope) {
    if operation.security.is_some() {
        return;
    }
    let key = if has_tag(operation, docs::TAG) {
        None
    } else if has_tag(operation, admin::TAG) {
        Some(SecurityRequirement::new("adminKey", Vec::<String>::new()))
    } else {
        Some(SecurityRequirement::new("apiKey", [scope.as_str()]))
    };
    operation.security = Some(key.into_iter().collect());
}

/// Which errors an operation answers with follows from what it takes.
fn add_errors(operation: &mut Operation) {
    let takes = |place: &ParameterIn| {
        let mut params = operation.parameters.iter().flatten();
        params.any(|param| matches!(param, RefOr::T(param) if param.parameter_in == *place))
    };
    let (in_path, in_query) = (takes(&ParameterIn::Path), takes(&ParameterIn::Query));
    let body = operation.request_body.is_some();
    let keyed = operation.security.iter().flatten().next().is_some();
    let admin = has_tag(operation, admin::TAG);
    let refused = if admin {
        "The key is not the admin key, or none is configured."
    } else {
        "The key lacks the scope that this needs, which `detail` names; or it is the admin key, which belongs to no \
         tenant."
    };
    let table = [
        (
            body,
            StatusCode::BAD_REQUEST,
            "The body is not JSON; `detail` names line and column.",
        ),
        (
            keyed,
            StatusCode::UNAUTHORIZED,
            "No key, or one that is not known, was revoked, or has expired.",
        ),
        (keyed, StatusCode::FORBIDDEN, refused),
        (
            in_path,
            StatusCode::NOT_FOUND,
            "There is nothing with this id, or it is another tenant's.",
        ),
        (
            body,
            StatusCode::REQUEST_TIMEOUT,
            "The body came too slowly; nothing was done.",
        ),
        (
            body,
            StatusCode::PAYLOAD_TOO_LARGE,
            "The body, or an event's payload, is too large.",
        ),
        (
            body,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "The body's content-type is not taken here.",
        ),
        (
            body || in_query,
            StatusCode::UNPROCESSABLE_ENTITY,
            "Fields are not valid; `errors` names them.",
        ),
        (
            keyed && !admin,
            StatusCode::TOO_MANY_REQUESTS,
            "The key asks too often; `retry-after` says when to come again.",
        ),
        (
            keyed,
            StatusCode::SERVICE_UNAVAILABLE,
            "The database or the event log does not answer; nothing was done.",
        ),
    ];
    for (applies, status, description) in table {
        if applies {
            let responses = &mut operation.responses.responses;
            responses
                .entry(status.as_str().to_owned())
                .or_insert_with(|| RefOr::T(ResponseBuilder::new().description(description).build()));
        }
    }
    for (status, response) in &mut operation.responses.responses {
        if let (Ok(status), RefOr::T(response)) = (status.parse::<StatusCode>(), response)
            && (status.is_client_error() || status.is_server_error())
        {
            add_problem(status, response);
        }
    }
}

fn add_problem(status: StatusCode, response: &mut Response) {
    let errors = match status {
        StatusCode::UNPROCESSABLE_ENTITY => {
            json!([{"field": "limit", "message": "\"0\" is not a number from 1 to 250"}])
        }
        _ => json!([]),
    };
    let example = json!({
        "type": "about:blank", "title": status.canonical_reason(), "status": status.as_u16(),
        "detail": response.description, "errors": errors,
    });
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .example(Some(example))
        .build();
    let header = match status {
        StatusCode::UNAUTHORIZED => Some((
            "www-authenticate",
            "How to authenticate.",
            "Bearer realm=\"hookwright\"",
        )),
        StatusCode::SERVICE_UNAVAILABLE => Some(("retry-after", "In how many seconds to ask again.", "1")),
        _ => None,
    };
    if let Some((name, description, example)) = header {
        let header = headers::text(description, example);
        response.headers.insert(name.to_owned(), RefOr::T(header));
    }
    response
        .content
        .insert("application/problem+json".to_owned(), RefOr::T(content));
}

/// A body none of whose fields is needed may be left out as a whole (see [`Json`](crate::json::Json)).
fn need_no_body(operation: &mut Operation, schemas: &Value) {
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        let needed = body.content.values_mut().filter_map(own).any(|content| {
            // Unwrap safety: as above.
            let schema = serde_json::to_value(&content.schema).expect("schemas serialise");
            let name = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next());
            let schema = name.map_or(&schema, |name| &schemas[name]);
            schema["type"] != "object" || schema["required"].is_array()
        });
        body.required = Some(if needed { Required::True } else { Required::False });
    }
}

/// What stands at the place itself; we write no references but to schemas.
fn own<T>(part: &mut RefOr<T>) -> Option<&mut T> {
    match part {
        RefOr::T(part) => Some(part),
        RefOr::Ref(_) => None,
    }
}

fn add_examples(operation: &mut Operation, schemas: &Value) {
    let body = operation.request_body.iter_mut().filter_map(own);
    let answers = operation.responses.responses.values_mut().filter_map(own);
    let contents = body
        .flat_map(|body| body.content.values_mut())
        .chain(answers.flat_map(|answer| answer.content.values_mut()));
    for content in contents.filter_map(own) {
        if content.example.is_none()
            && let Some(schema) = &content.schema
        {
            // Unwrap safety: as above.
            let schema = serde_json::to_value(schema).expect("schemas serialise");
            content.example = Some(example(&schema, schemas));
        }
    }
}

/// An example of what a schema describes: its own, or one made of its parts'.
fn example(schema: &Value, schemas: &Value) -> Value {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return example(&schemas[name], schemas);
    }
    if let Some(given) = schema.get("example").or_else(|| schema.get("default")) {
        return given.clone();
    }
    let one = ["oneOf", "anyOf"].iter().find_map(|word| schema[word].as_array());
    if let Some(one) = one {
        let first = one.iter().find(|choice| choice["type"] != "null");
        return first.map_or(Value::Null, |choice| example(choice, schemas));
    }
    if let Some(all) = schema["allOf"].as_array() {
        let mut merged = serde_json::Map::new();
        for part in all {
            if let Value::Object(part) = example(part, schemas) {
                merged.extend(part);
            }
        }
        return Value::Object(merged);
    }
    if let Some(properties) = schema["properties"].as_object() {
        let properties = properties.iter();
        return properties
            .map(|(name, schema)| (name.clone(), example(schema, schemas)))
            .collect::<serde_json::Map<_, _>>()
            .into();
    }
    match schema["type"].as_str() {
        Some("array") => json!([example(&schema["items"], schemas)]),
        Some("object") => json!({}),
        Some("boolean") => json!(true),
        Some("integer" | "number") => json!(1),
        Some("string") => json!("text"),
        _ => Value::Null,
    }
}
