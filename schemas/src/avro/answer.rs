//! What a schema registry answers, over Confluent's API.

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    schema: String,
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

#[derive(Deserialize)]
struct Reference {
    name: String,
}

/// The schema's JSON in a registry's answer to `schemas/ids/{id}` or `schemas/guids/{guid}`.
///
/// # Errors
/// When there is none that can be used; says why, to go on after the schema's name.
pub fn schema_in_answer(body: &[u8]) -> Result<String, String> {
    let answer: Answer =
        serde_json::from_slice(body).map_err(|error| format!("is answered with something else: {error}"))?;
    match answer.schema_type.as_deref() {
        None | Some("AVRO") => {}
        Some(other) => return Err(format!("is of type {other}, not AVRO")),
    }
    if let Some(first) = answer.references.first() {
        return Err(format!(
            "refers to the schema {} ({} in all); only schemas that hold all they use are read",
            first.name,
            answer.references.len()
        ));
    }
    Ok(answer.schema)
}
