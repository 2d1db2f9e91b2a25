//! The daemon end to end: real frames through veth pairs between network namespaces, real collectors.
//!
//! Run by `cargo xtask test`, as root, a few tests at a time. Each test makes its own namespaces and leaves
//! nothing behind. A test whose program is missing fails and names the Debian package. The traffic generator
//! is the release build; `PATHFLOW_BIN` and `PATHFLOW_TRAFFICGEN` name other programs to test with.
#![forbid(unsafe_code)]

#[cfg(test)]
mod aggregate;
#[cfg(test)]
mod bgp;
#[cfg(test)]
mod bgp_ipv6;
#[cfg(test)]
mod bgp_output;
#[cfg(test)]
mod bmp;
#[cfg(test)]
mod collector_down;
#[cfg(test)]
mod counts;
#[cfg(test)]
mod deploy;
#[cfg(test)]
mod direction;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod end_of_run;
#[cfg(test)]
mod export_totals;
mod exports;
#[cfg(test)]
mod extensions;
#[cfg(test)]
mod field_values;
#[cfg(test)]
mod filter;
#[cfg(test)]
mod flow_end;
#[cfg(test)]
mod foreign;
#[cfg(test)]
mod fragments;
#[cfg(test)]
mod gateway;
#[cfg(test)]
mod hooks;
#[cfg(test)]
mod hotplug;
#[cfg(test)]
mod interfaces;
#[cfg(test)]
mod kafka;
#[cfg(test)]
mod kafka_avro;
#[cfg(test)]
mod kafka_guarded;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod marking;
#[cfg(test)]
mod mirror;
#[cfg(test)]
mod netflow_v5;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod path_mtu;
#[cfg(test)]
mod pin;
#[cfg(test)]
mod pmacct;
#[cfg(test)]
mod queues;
#[cfg(test)]
mod refresh;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod rows;
#[cfg(test)]
mod rpki;
#[cfg(test)]
mod sampling;
#[cfg(test)]
mod session;
#[cfg(test)]
mod sflow;
#[cfg(test)]
mod shapes;
#[cfg(test)]
mod spool_faults;
#[cfg(test)]
mod standard_output;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tags;
#[cfg(test)]
mod vlan;
