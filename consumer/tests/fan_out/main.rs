//! How an event's deliveries reach the queue, beside those of other events.

mod turns;
mod world;
