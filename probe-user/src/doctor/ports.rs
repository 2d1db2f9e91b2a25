//! Ports that routers connect to.

use std::io::ErrorKind;
use std::net::SocketAddr;

use super::privileges::remedy;
use super::{Plan, Row};
use crate::capture::support::privileges::{Capability, Privileges};
use crate::host::Host;

/// Nothing where nobody is to connect.
pub(super) fn rows(host: &dyn Host, plan: &Plan) -> Vec<Row> {
    let bmp: Vec<SocketAddr> = plan.bmp.into_iter().collect();
    let kinds = [("BGP port", "bgp.listen", &plan.bgp), ("BMP port", "bmp.listen", &bmp)];
    let kinds = kinds.into_iter().filter(|(_, _, addresses)| !addresses.is_empty());
    kinds.map(|(item, key, addresses)| row(host, item, key, addresses)).collect()
}

/// About the first address that cannot be had, or all of them.
fn row(host: &dyn Host, item: &'static str, key: &str, addresses: &[SocketAddr]) -> Row {
    let wanted = format!("free, for {key}");
    let refused = addresses.iter().find_map(|address| Some((address, host.listen(*address).err()?)));
    let Some((address, error)) = refused else {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        return Row::ok(item, format!("{} free", addresses.join(", ")), wanted);
    };
    let port = address.port();
    let (found, remedy) = match error.kind() {
        ErrorKind::PermissionDenied => {
            let privileges = Privileges::of(host);
            let capability = Capability::NetBindService;
            let found = if privileges.has(capability) {
                format!("{address} refused, with {}", capability.name())
            } else {
                format!("{address} refused: {} is missing", capability.name())
            };
            (found, format!("{}; or a port of 1024 or more in {key}", remedy(&privileges, capability)))
        }
        ErrorKind::AddrInUse => (
            format!("{address} taken"),
            format!(
                "`ss -ltnp sport = :{port}` says by whom, which may be a pathflow that runs; end it, or take another \
                 address or port in {key}"
            ),
        ),
        ErrorKind::AddrNotAvailable => (
            format!("{address} is no address of this machine"),
            format!("ip address add {} dev INTERFACE; or one that is there in {key}", address.ip()),
        ),
        _ => (format!("{address}: {error}"), format!("another address or port in {key}")),
    };
    Row::ok(item, found, wanted).fail("no router can connect, and pathflow run does not start", remedy)
}
