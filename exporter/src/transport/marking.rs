//! What routers on the path see of a collector's messages.

use std::num::NonZeroU8;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::sockopt;

/// Sets Differentiated Services Codepoint (RFC 2474; 63 at most) and Time to Live or Hop Limit of what `socket` sends.
///
/// # Errors
/// With the name of the socket option that the system refuses.
pub(super) fn mark(
    socket: impl AsFd,
    is_ipv4: bool,
    dscp: u8,
    ttl: Option<NonZeroU8>,
) -> Result<(), (&'static str, Errno)> {
    // The two bits below are of ECN (RFC 3168, section 5).
    let traffic_class = dscp << 2;
    let option = |name| move |error| (name, error);
    if is_ipv4 {
        sockopt::set_ip_tos(&socket, traffic_class).map_err(option("IP_TOS"))?;
        if let Some(ttl) = ttl {
            sockopt::set_ip_ttl(&socket, ttl.get().into()).map_err(option("IP_TTL"))?;
        }
    } else {
        sockopt::set_ipv6_tclass(&socket, traffic_class.into()).map_err(option("IPV6_TCLASS"))?;
        if let Some(ttl) = ttl {
            sockopt::set_ipv6_unicast_hops(&socket, Some(ttl.get())).map_err(option("IPV6_UNICAST_HOPS"))?;
        }
    }
    Ok(())
}
