//! The exporter as others see it: RFC vectors, independent decoders and real collectors.
//!
//! Needs the programs `tshark`, `nfcapd`, `nfdump`, `nfacctd`, `sfcapd`, `sfacctd`, `openssl` and `ipfixDump`; a test whose program is missing fails and
//! names the Debian package.

#![forbid(unsafe_code)]

#[cfg(test)]
mod decode;
#[cfg(test)]
mod expected;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod lines;
#[cfg(test)]
mod loopback;
#[cfg(test)]
mod netflow_v5;
#[cfg(test)]
mod nfacctd;
#[cfg(test)]
mod nfdump;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod session;
#[cfg(test)]
mod sflow;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tshark;
