//! Aggregates: packets added up by keys of the operator's choice, as pmacct's plugins do.
//!
//! Beside the flow cache, which knows nothing of them. Each delta of a flow becomes an [`Observed`] that is offered to
//! every aggregate. An aggregate selects, makes the key, adds up in its table, and at every refresh hands what it has to
//! its output as a [`Purge`].

mod aggregation;
mod aggregator;
mod bins;
mod custom;
pub mod encode;
mod feed;
mod inside;
mod intern;
mod key;
mod observed;
mod output;
mod primitive;
mod purge;
mod selection;
mod settings;
mod start;
mod table;
mod value;

pub use aggregation::{Aggregation, Spread};
pub use aggregator::{AggregateQueue, Aggregator, AggregatorParts, End, Ended, Handles, Writer};
pub use bins::Bins;
pub use custom::{CustomPrimitive, CustomPrimitives, CustomValue, Semantics};
pub use feed::{CurrentQueues, Feed};
pub use observed::Observed;
pub use output::{
    AskError, FileHistory, FileOutput, FileSettings, FileTable, KeptRows, Left, MemoryOutput, MemorySettings,
    MemoryTable, OutputSettingsError, Question, RowOutput, Selected, StdoutOutput, StdoutSettings,
    StdoutTable,
};
#[cfg(feature = "kafka")]
pub use output::{KafkaFormat, KafkaOutput, KafkaOutputSettings, KafkaTable};
pub use primitive::{Key, Primitive, PrimitiveError, is_taken};
pub use purge::{LeftOut, Minimums, Purge, Row, RowLimits, TopBy};
pub use selection::{LabelCondition, Selection, TagCondition};
pub use settings::{AggregateSettings, OutputSettings};
pub use start::{Aggregates, CurrentRows, Surroundings};
pub use value::{RouteValue, Value};

#[cfg(test)]
mod tests;
