//! The BMP station with routers over loopback: hand-made ones, FRR and `GoBGP`; and tshark on what the hand-made ones send.
//! Needs the Debian packages frr, gobgpd and tshark.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod hostile;
mod routers;
mod support;
mod tshark;
