//! What the schemas say beyond the types they are made of.

use utoipa::openapi::schema::{ArrayItems, Components, Schema};
use utoipa::openapi::{Ref, RefOr};

/// What the names of lists' schemas begin with; the name of their items' follows.
const LIST: &str = "List_";

/// Lets lists refer to their items' schema, which stands in them as a whole otherwise: a client made of the
/// document would have a type for what a GET shows, and another one for the same in a list.
pub(super) fn share_items(components: &mut Components) {
    let mut shared = Vec::new();
    for (name, schema) in &mut components.schemas {
        if let Some(item) = name.strip_prefix(LIST)
            && let RefOr::T(Schema::Object(list)) = schema
            && let Some(RefOr::T(Schema::Array(items))) = list.properties.get_mut("items")
        {
            let reference = ArrayItems::RefOrSchema(Box::new(Ref::from_schema_name(item).into()));
            if let ArrayItems::RefOrSchema(own) = std::mem::replace(&mut items.items, reference) {
                shared.push((item.to_owned(), *own));
            }
        }
    }
    for (name, schema) in shared {
        components.schemas.entry(name).or_insert(schema);
    }
}
