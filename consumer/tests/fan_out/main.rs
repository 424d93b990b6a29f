//! How an event's deliveries reach the queue, beside those of other events.

mod turns;
#[allow(dead_code, reason = "not all who share this file need all of it")]
mod world;
