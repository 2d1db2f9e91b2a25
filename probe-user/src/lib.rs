//! pathflow's daemon.
#![warn(missing_docs)]

pub mod capture;
pub mod netlink;
