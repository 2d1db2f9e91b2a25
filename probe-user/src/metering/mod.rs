//! The Metering Process: what a flow is and when it ends.

pub mod batches;
pub mod drain;
pub mod extensions;
pub mod flow_cache;
pub mod flow_record;
pub mod fragments;
pub mod observation;
pub mod packets;
pub mod samples;
pub mod shard;
mod timer_wheel;

pub use flow_cache::{Flow, FlowCache, Timeouts};
