//! Aggregates: packets added up by keys of the operator's choice, as pmacct's plugins do.

pub mod encode;
mod primitive;
mod value;

pub use primitive::{Key, Primitive, PrimitiveError};
pub use value::Value;
