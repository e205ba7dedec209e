//! Tests of the contract in one binary: each module holds one part of it to what its documents promise.

#![allow(clippy::unwrap_used, reason = "helpers of tests stand outside of #[test] functions")]

mod frames;
mod ids;
mod json;
mod mutations;
mod oracle;
mod properties;
mod refusals;
mod registry;
mod signatures;
mod strategies;
mod subjects;
mod vectors;
mod wire;
