//! A world in memory whose clock is driven, and a process in it that can be killed at any call.
//!
//! The queue is SQS's contract and no more: delays of whole seconds up to 900 s, at least once, hidden
//! while handled. The dispatcher is the few lines that matter here: each attempt fails.

mod day;
mod memory;
mod packed;
mod world;
