//! Writers' schemas: asked for at a registry, brought along in headers, read from files.

mod registry;
mod served;
mod topics;
