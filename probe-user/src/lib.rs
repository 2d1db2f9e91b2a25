//! pathflow's daemon: the Metering Process and what surrounds it.
//!
//! Data flows one way: [`capture`] (kernel tables) to [`metering`] (flow cache) to [`enrich`] to
//! [`export`] (sinks). [`supervisor`] builds the parts, [`ledger`] accounts for every packet on the way.

pub mod adoption;
pub mod aggregate;
pub mod answers;
pub mod bgp_output;
pub mod capture;
pub mod captures;
pub mod classify;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod doctor;
pub mod enrich;
pub mod error;
pub mod ethtool;
pub mod export;
pub mod file_name;
pub mod host;
pub mod http;
pub mod interfaces;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod ledger;
pub mod logging;
pub mod metering;
pub mod metrics;
pub mod pipeline;
pub mod pmacct;
pub mod reload;
pub mod replay;
pub mod report;
pub mod routing;
pub mod sflow;
pub mod stop;
pub mod supervisor;
pub mod unacknowledged;
pub mod written_file;
pub mod xdp_features;
