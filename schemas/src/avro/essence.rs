//! A schema's JSON without what reading does not need.
//!
//! Anyone who may write to a topic may bring a schema along with a record, and `apache-avro` (0.22) is not made for
//! that. It panics where an attribute of the schema's own has one of Avro's names (a record with `"items": 5`) or a
//! size is beyond 2^63; it copies a definition for each of its aliases, and into all definitions around it; it
//! resolves defaults. So it is given a schema without aliases, defaults, docs and attributes, and only where what
//! it makes of it stays small.

use serde_json::{Map, Value};

/// What may be made of a schema, in bytes and roughly: more than any schema of 1 MiB takes that is not made to.
const MAX_WEIGHT: usize = 64 << 20;

/// What the library keeps of a type or a field beside its name, in bytes and roughly.
const PART: usize = 200;

/// What is around a part of a schema.
#[derive(Clone, Copy, Default)]
struct Around {
    /// How many definitions: each keeps a copy of what is in it.
    definitions: usize,
    /// How long a namespace may be: each name within has it.
    namespace: usize,
}

/// The schema with nothing but its types, names, fields, symbols and sizes.
///
/// # Errors
/// Says what is wrong with it.
pub fn essence(json: &str) -> Result<Value, String> {
    let schema = serde_json::from_str(json).map_err(|error| error.to_string())?;
    Essence { weight: 0 }.schema(schema, Around::default())
}

struct Essence {
    weight: usize,
}

impl Essence {
    fn weigh(&mut self, length: usize, around: Around) -> Result<(), String> {
        let one = PART + length + around.namespace;
        self.weight = self.weight.saturating_add(one * (1 + around.definitions));
        if self.weight > MAX_WEIGHT {
            return Err("it is too large, or too much of it is nested".to_owned());
        }
        Ok(())
    }

    // The JSON is nested 128 deep at most: serde_json refuses more.
    fn schema(&mut self, schema: Value, around: Around) -> Result<Value, String> {
        match schema {
            Value::Object(of) => self.described(of, around).map(Value::Object),
            Value::Array(branches) => {
                self.weigh(0, around)?;
                let branches = branches.into_iter().map(|branch| self.schema(branch, around));
                branches.collect::<Result<_, _>>().map(Value::Array)
            }
            Value::String(name) => {
                self.weigh(name.len(), around)?;
                Ok(Value::String(name))
            }
            other => Err(format!("{} is not a type", word(&other))),
        }
    }

    fn described(
        &mut self,
        mut of: Map<String, Value>,
        around: Around,
    ) -> Result<Map<String, Value>, String> {
        self.weigh(0, around)?;
        let mut kept = Map::new();
        let Some(kind) = of.remove("type") else {
            return Err("a type without \"type\"".to_owned());
        };
        match kind.as_str() {
            Some("record") => {
                let within = self.name(&mut of, &mut kept, around)?;
                let fields = array(&mut of, "fields")?.into_iter();
                let fields: Result<_, _> = fields.map(|field| self.field(field, within)).collect();
                kept.insert("fields".to_owned(), Value::Array(fields?));
            }
            Some("enum") => {
                let within = self.name(&mut of, &mut kept, around)?;
                let symbols = array(&mut of, "symbols")?;
                for symbol in &symbols {
                    self.weigh(symbol.as_str().map_or(0, str::len), within)?;
                }
                kept.insert("symbols".to_owned(), Value::Array(symbols));
            }
            Some("fixed") => {
                self.name(&mut of, &mut kept, around)?;
                let size = whole(&mut of, "size").ok_or("a \"size\" is a whole number")?;
                kept.insert("size".to_owned(), size);
            }
            Some("array") => self.inner(&mut of, &mut kept, "items", around)?,
            Some("map") => self.inner(&mut of, &mut kept, "values", around)?,
            _ => {}
        }
        if let Some(logical) = of.remove("logicalType") {
            if logical == "decimal" {
                for digits in ["precision", "scale"] {
                    kept.extend(whole(&mut of, digits).map(|number| (digits.to_owned(), number)));
                }
            }
            kept.insert("logicalType".to_owned(), logical);
        }
        let kind = match kind {
            Value::String(name) => Value::String(name),
            other => self.schema(other, around)?,
        };
        kept.insert("type".to_owned(), kind);
        Ok(kept)
    }

    /// Keeps the name that is defined; answers with what is around what it defines.
    fn name(
        &mut self,
        of: &mut Map<String, Value>,
        kept: &mut Map<String, Value>,
        around: Around,
    ) -> Result<Around, String> {
        let mut length = 0;
        for part in ["name", "namespace"] {
            if let Some(name) = of.remove(part) {
                length += name.as_str().map_or(0, str::len);
                kept.insert(part.to_owned(), name);
            }
        }
        self.weigh(length, around)?;
        Ok(Around {
            definitions: around.definitions + 1,
            namespace: around.namespace.max(length),
        })
    }

    fn inner(
        &mut self,
        of: &mut Map<String, Value>,
        kept: &mut Map<String, Value>,
        key: &str,
        around: Around,
    ) -> Result<(), String> {
        let inner = of.remove(key).ok_or_else(|| format!("there is no \"{key}\""))?;
        kept.insert(key.to_owned(), self.schema(inner, around)?);
        Ok(())
    }

    fn field(&mut self, field: Value, around: Around) -> Result<Value, String> {
        let Value::Object(mut of) = field else {
            return Err(format!("{} is not a field", word(&field)));
        };
        let name = of.remove("name").unwrap_or_default();
        self.weigh(name.as_str().map_or(0, str::len), around)?;
        let mut kept = Map::new();
        kept.insert("name".to_owned(), name);
        self.inner(&mut of, &mut kept, "type", around)?;
        Ok(Value::Object(kept))
    }
}

fn array(of: &mut Map<String, Value>, key: &str) -> Result<Vec<Value>, String> {
    match of.remove(key) {
        Some(Value::Array(items)) => Ok(items),
        _ => Err(format!("\"{key}\" is not an array")),
    }
}

/// A number that is whole, not negative and below 2^63.
fn whole(of: &mut Map<String, Value>, key: &str) -> Option<Value> {
    let number = of.remove(key)?.as_u64()?;
    i64::try_from(number).is_ok().then(|| number.into())
}

fn word(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
