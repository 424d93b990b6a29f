//! Every operation of the OpenAPI document, as requests that name the ids one likes.
//!
//! What is not known here fails the tests that use it: a new route has to say which id its path takes.

use http::Method;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// An id of each kind of thing, by the collection it is found in: `targets`, `filters`, …
pub type Ids = BTreeMap<&'static str, String>;

/// Which fields and parameters hold an id of what.
const FIELDS: [(&str, &str); 5] = [
    ("targetId", "targets"),
    ("filterId", "filters"),
    ("deliveryId", "deliveries"),
    ("eventId", "events"),
    // Of the audit log.
    ("id", "targets"),
];

/// Whom an operation is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum For {
    /// Everybody.
    All,
    /// Who has the admin key.
    Admin,
    /// A tenant's key with this scope.
    Scope(String),
}

/// An operation of the document.
#[derive(Clone, Debug)]
pub struct Operation {
    pub method: Method,
    /// As in the document, below the base path.
    pub path: String,
    pub needs: For,
    /// Parameters in the query.
    pub params: Vec<String>,
    /// A body by its media type, and the fields it may have.
    bodies: Vec<(String, Value, Vec<String>)>,
}

/// A request of an operation.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    pub path: String,
    pub media_type: String,
    pub body: String,
    /// Whether an id is in it.
    pub names_something: bool,
}

/// All operations under `/v1`.
pub fn all(document: &Value) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let Some(below) = path.strip_prefix("/v1") else {
            continue;
        };
        for (method, operation) in item.as_object().unwrap() {
            operations.push(Operation {
                method: method.to_uppercase().parse().unwrap(),
                path: below.to_owned(),
                needs: needs(operation),
                params: params(operation),
                bodies: bodies(document, operation),
            });
        }
    }
    assert!(operations.len() > 40, "where are they?");
    operations
}

fn needs(operation: &Value) -> For {
    let security = operation["security"].as_array().expect("what it needs");
    let needed = match &security[..] {
        [] => {
            assert_eq!(operation["tags"][0], "docs", "{operation}: needs nothing");
            return For::All;
        }
        [needed] => needed,
        _ => panic!("{security:?}: one key at a time"),
    };
    match (needed.get("adminKey"), needed.get("apiKey")) {
        (Some(_), None) => For::Admin,
        (None, Some(scopes)) => {
            let [scope] = &scopes.as_array().unwrap()[..] else {
                panic!("{scopes}: one scope")
            };
            For::Scope(scope.as_str().unwrap().to_owned())
        }
        _ => panic!("{needed}: of whom?"),
    }
}

fn params(operation: &Value) -> Vec<String> {
    let params = operation["parameters"].as_array().into_iter().flatten();
    params
        .filter(|param| param["in"] == "query")
        .map(|param| param["name"].as_str().unwrap().to_owned())
        .collect()
}

fn bodies(document: &Value, operation: &Value) -> Vec<(String, Value, Vec<String>)> {
    let contents = operation["requestBody"]["content"]
        .as_object()
        .into_iter()
        .flatten();
    contents
        .map(|(media_type, content)| {
            let name = content["schema"]["$ref"]
                .as_str()
                .and_then(|path| path.rsplit('/').next());
            let schema = name.map_or(&Value::Null, |name| &document["components"]["schemas"][name]);
            let fields = schema["properties"].as_object().into_iter().flatten();
            (
                media_type.clone(),
                content["example"].clone(),
                fields.map(|(name, _)| name.clone()).collect(),
            )
        })
        .collect()
}

fn is_id(field: &str) -> bool {
    field.ends_with("Id")
}

fn of<'a>(field: &str, ids: &'a Ids) -> &'a str {
    let known = FIELDS.iter().find(|(name, _)| *name == field);
    let (_, collection) = known.unwrap_or_else(|| panic!("{field}: an id of what? Say so in FIELDS"));
    &ids[collection]
}

/// An id as it stands in JSON: those of numbers are numbers.
fn in_json(id: &str) -> Value {
    id.parse::<i64>().map_or_else(|_| id.into(), Value::from)
}

impl Operation {
    /// Its requests: with `in_path` in the path, `in_body` in body and query; of each variant one. Both an example
    /// body as it stands, and one for each further field that holds an id.
    pub fn requests(&self, tenant: &str, in_path: &Ids, in_body: &Ids) -> Vec<Asked> {
        let (path, path_names) = self.filled(tenant, in_path);
        let ids: Vec<&String> = self
            .params
            .iter()
            .filter(|name| is_id(name) || *name == "id")
            .collect();
        let mut queries = vec![String::new()];
        queries.extend(
            ids.into_iter()
                .map(|name| format!("?{name}={}", of(name, in_body))),
        );
        let mut bodies = vec![];
        for (media_type, example, fields) in &self.bodies {
            for (body, names) in variants(example, fields, in_body) {
                bodies.push((media_type.clone(), body, names));
            }
        }
        if bodies.is_empty() {
            bodies.push(("application/json".to_owned(), String::new(), false));
        }
        let mut requests = Vec::new();
        for query in &queries {
            for (media_type, body, names) in &bodies {
                requests.push(Asked {
                    method: self.method.clone(),
                    path: format!("{path}{query}"),
                    media_type: media_type.clone(),
                    body: body.clone(),
                    names_something: path_names || *names || !query.is_empty(),
                });
            }
        }
        requests
    }

    /// The path with its ids, and whether it has any.
    fn filled(&self, tenant: &str, ids: &Ids) -> (String, bool) {
        let mut before = "";
        let mut names = false;
        let mut filled = Vec::new();
        for part in self.path.split('/') {
            filled.push(match part {
                "{tenant}" => tenant.to_owned(),
                "{id}" => {
                    names = true;
                    let id = ids.iter().find(|(collection, _)| **collection == before);
                    id.unwrap_or_else(|| panic!("{}: an id of what? Add one to the tests", self.path))
                        .1
                        .clone()
                }
                other if other.starts_with('{') => panic!("{}: what is {other}?", self.path),
                other => other.to_owned(),
            });
            before = part;
        }
        (filled.join("/"), names)
    }
}

/// An example's body with these ids, and one for each field with an id that is not in the example; and whether
/// there are ids in them.
fn variants(example: &Value, fields: &[String], ids: &Ids) -> Vec<(String, bool)> {
    let Value::Object(example) = example else {
        // Lines of events.
        return vec![(example.as_str().unwrap().to_owned(), false)];
    };
    let with = |names: &[&String]| -> (String, bool) {
        let plain = example.iter().filter(|(name, _)| !is_id(name));
        let mut body: Map<String, Value> = plain.map(|(name, value)| (name.clone(), value.clone())).collect();
        for name in names {
            body.insert((*name).clone(), in_json(of(name, ids)));
        }
        (Value::Object(body).to_string(), !names.is_empty())
    };
    let (shown, others): (Vec<_>, Vec<_>) = fields
        .iter()
        .filter(|name| is_id(name))
        .partition(|name| example.contains_key(*name));
    let mut variants = vec![with(&shown)];
    variants.extend(others.iter().map(|name| with(&[*name])));
    variants
}
