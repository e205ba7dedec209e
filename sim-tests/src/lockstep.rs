//! Real cores held to the reference model, step by step: random histories of rooms are played on the model, each input
//! goes to the driven core as well, and every effect and state digest must be the same byte for byte.
//!
//! - [`ops`]: what a history is made of; [`world`] resolves it against the model's state into a script of steps.
//! - [`wire`], [`machines`], [`codecs`]: the model behind the messages of `lockstep.proto`.
//! - [`link`]: the driven process; [`run`]: histories in batches, and the smallest one that shows a difference.
//! - [`cores`]: the same process behind the Brains of a simulated world.
//! - [`coverage`]: the table of what a run must reach; [`planted`]: differences that it must find.

pub mod codecs;
pub mod cores;
pub mod coverage;
pub mod link;
pub mod machines;
pub mod ops;
pub mod planted;
pub mod report;
pub mod run;
pub mod wire;
pub mod world;
