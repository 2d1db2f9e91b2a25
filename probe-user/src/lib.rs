//! pathflow's daemon: the Metering Process and what surrounds it.
//!
//! Data flows one way: [`capture`] (kernel tables) to [`metering`] (flow cache) to [`enrich`] to
//! [`export`] (sinks). [`supervisor`] builds the parts, [`ledger`] accounts for every packet on the way.

pub mod capture;
pub mod cli;
pub mod clock;
pub mod config;
pub mod enrich;
pub mod error;
pub mod export;
pub mod http;
pub mod ledger;
pub mod logging;
pub mod metering;
pub mod metrics;
pub mod netlink;
pub mod pipeline;
pub mod replay;
pub mod report;
pub mod stop;
pub mod supervisor;
