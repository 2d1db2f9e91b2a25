//! Capabilities (RFC 5492).

use crate::Family;
use crate::iana::capability as code;

/// Octets of text in each part of the FQDN capability that fit the capability's length octet.
const MAXIMUM_NAME: usize = 126;
/// Most octets of a capability's value.
const MAXIMUM_VALUE: usize = u8::MAX as usize;

/// BGP Role (RFC 9234, section 4.1) of the speaker that sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Role(pub u8);

impl Role {
    /// Provider.
    pub const PROVIDER: Self = Self(0);
    /// Route Server.
    pub const ROUTE_SERVER: Self = Self(1);
    /// Route Server Client.
    pub const ROUTE_SERVER_CLIENT: Self = Self(2);
    /// Customer.
    pub const CUSTOMER: Self = Self(3);
    /// Peer.
    pub const PEER: Self = Self(4);

    /// The one role that the other side may have (RFC 9234, section 4.2); `None` for a role that no standard knows.
    #[must_use]
    pub fn counterpart(self) -> Option<Self> {
        Some(match self {
            Self::PROVIDER => Self::CUSTOMER,
            Self::CUSTOMER => Self::PROVIDER,
            Self::ROUTE_SERVER => Self::ROUTE_SERVER_CLIENT,
            Self::ROUTE_SERVER_CLIENT => Self::ROUTE_SERVER,
            Self::PEER => Self::PEER,
            _ => return None,
        })
    }
}

/// A family with next hops of another protocol (RFC 8950, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExtendedNextHop {
    /// Of the routes.
    pub afi: u16,
    /// Of the routes; two octets in this capability.
    pub safi: u16,
    /// Of the next hops.
    pub next_hop_afi: u16,
}

/// A family in Graceful Restart (RFC 4724, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GracefulRestartFamily {
    /// Address Family Identifier.
    pub afi: u16,
    /// Subsequent Address Family Identifier.
    pub safi: u8,
    /// Forwarding State: routes were kept over the restart.
    pub forwarding_state: bool,
}

/// A family in ADD-PATH (RFC 7911, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddPathFamily {
    /// Address Family Identifier.
    pub afi: u16,
    /// Subsequent Address Family Identifier.
    pub safi: u8,
    /// Send/Receive: 1 receive, 2 send, 3 both; any other is to be ignored.
    pub send_receive: u8,
}

impl AddPathFamily {
    /// An entry for a family that is kept.
    #[must_use]
    pub fn new(family: Family, receive: bool, send: bool) -> Self {
        let send_receive = u8::from(receive) | u8::from(send) << 1;
        Self { afi: family.afi as u16, safi: family.safi as u8, send_receive }
    }

    /// True if the speaker wants to receive several paths.
    #[must_use]
    pub fn receives(self) -> bool {
        matches!(self.send_receive, 1 | 3)
    }

    /// True if the speaker wants to send several paths.
    #[must_use]
    pub fn sends(self) -> bool {
        matches!(self.send_receive, 2 | 3)
    }
}

/// A capability. One whose value has a length that it cannot have is `Unknown`, that is, ignored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Capability {
    /// 1, Multiprotocol Extensions (RFC 4760, section 8).
    Multiprotocol {
        /// Address Family Identifier.
        afi: u16,
        /// Subsequent Address Family Identifier.
        safi: u8,
    },
    /// 2, Route Refresh (RFC 2918).
    RouteRefresh,
    /// 5, Extended Next Hop Encoding (RFC 8950).
    ExtendedNextHop(Box<[ExtendedNextHop]>),
    /// 6, Extended Message (RFC 8654).
    ExtendedMessage,
    /// 9, BGP Role (RFC 9234).
    Role(Role),
    /// 64, Graceful Restart (RFC 4724).
    GracefulRestart {
        /// Restart State: the speaker has just restarted.
        restart_state: bool,
        /// Graceful Notification (RFC 8538, section 2).
        notification: bool,
        /// Restart Time in seconds, below 4096.
        restart_time: u16,
        /// Families whose routes survive.
        families: Box<[GracefulRestartFamily]>,
    },
    /// 65, four-octet AS number (RFC 6793).
    FourOctetAsNumber(u32),
    /// 69, ADD-PATH (RFC 7911).
    AddPath(Box<[AddPathFamily]>),
    /// 70, Enhanced Route Refresh (RFC 7313).
    EnhancedRouteRefresh,
    /// 73, FQDN. The texts are the peer's, with octets that are not UTF-8 replaced: escape them before they go to a
    /// log.
    Fqdn {
        /// Host name.
        host: Box<str>,
        /// Domain name.
        domain: Box<str>,
    },
    /// Any other.
    Unknown {
        /// Code (IANA "Capability Codes").
        code: u8,
        /// Value as received.
        value: Box<[u8]>,
    },
}

impl Capability {
    /// Multiprotocol Extensions for a family that is kept.
    #[must_use]
    pub fn multiprotocol(family: Family) -> Self {
        Self::Multiprotocol { afi: family.afi as u16, safi: family.safi as u8 }
    }

    /// Code (IANA "Capability Codes").
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Multiprotocol { .. } => code::MULTIPROTOCOL,
            Self::RouteRefresh => code::ROUTE_REFRESH,
            Self::ExtendedNextHop(_) => code::EXTENDED_NEXT_HOP,
            Self::ExtendedMessage => code::EXTENDED_MESSAGE,
            Self::Role(_) => code::ROLE,
            Self::GracefulRestart { .. } => code::GRACEFUL_RESTART,
            Self::FourOctetAsNumber(_) => code::FOUR_OCTET_AS_NUMBER,
            Self::AddPath(_) => code::ADD_PATH,
            Self::EnhancedRouteRefresh => code::ENHANCED_ROUTE_REFRESH,
            Self::Fqdn { .. } => code::FQDN,
            Self::Unknown { code, .. } => *code,
        }
    }

    /// Decodes the value of one capability.
    #[must_use]
    pub fn decode(code: u8, value: &[u8]) -> Self {
        Self::decode_known(code, value).unwrap_or_else(|| Self::Unknown { code, value: Box::from(value) })
    }

    fn decode_known(code: u8, value: &[u8]) -> Option<Self> {
        Some(match (code, value) {
            (code::MULTIPROTOCOL, &[high, low, _reserved, safi]) => {
                Self::Multiprotocol { afi: u16::from_be_bytes([high, low]), safi }
            }
            (code::ROUTE_REFRESH, []) => Self::RouteRefresh,
            (code::EXTENDED_NEXT_HOP, _) => Self::ExtendedNextHop(rows(value, |&[a, b, c, d, e, f]| {
                let number = |high, low| u16::from_be_bytes([high, low]);
                ExtendedNextHop { afi: number(a, b), safi: number(c, d), next_hop_afi: number(e, f) }
            })?),
            (code::EXTENDED_MESSAGE, []) => Self::ExtendedMessage,
            (code::ROLE, &[role]) => Self::Role(Role(role)),
            (code::GRACEFUL_RESTART, &[high, low, ref families @ ..]) => Self::GracefulRestart {
                restart_state: high & 0x80 != 0,
                notification: high & 0x40 != 0,
                restart_time: u16::from_be_bytes([high & 0x0f, low]),
                families: rows(families, |&[high, low, safi, flags]| GracefulRestartFamily {
                    afi: u16::from_be_bytes([high, low]),
                    safi,
                    forwarding_state: flags & 0x80 != 0,
                })?,
            },
            (code::FOUR_OCTET_AS_NUMBER, &[a, b, c, d]) => {
                Self::FourOctetAsNumber(u32::from_be_bytes([a, b, c, d]))
            }
            (code::ADD_PATH, _) => Self::AddPath(rows(value, |&[high, low, safi, send_receive]| {
                AddPathFamily { afi: u16::from_be_bytes([high, low]), safi, send_receive }
            })?),
            (code::ENHANCED_ROUTE_REFRESH, []) => Self::EnhancedRouteRefresh,
            (code::FQDN, _) => {
                let (host, rest) = name(value)?;
                let (domain, rest) = name(rest)?;
                rest.is_empty().then_some(())?;
                Self::Fqdn { host, domain }
            }
            _ => return None,
        })
    }

    /// Appends code, length and value. Lists and texts are cut at the 255 octets that a value can have.
    pub fn encode(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&[self.code(), 0]);
        let start = into.len();
        match self {
            Self::Multiprotocol { afi, safi } => {
                into.extend_from_slice(&afi.to_be_bytes());
                into.extend_from_slice(&[0, *safi]);
            }
            Self::RouteRefresh | Self::ExtendedMessage | Self::EnhancedRouteRefresh => {}
            Self::ExtendedNextHop(rows) => {
                for row in rows.iter().take(MAXIMUM_VALUE / 6) {
                    for number in [row.afi, row.safi, row.next_hop_afi] {
                        into.extend_from_slice(&number.to_be_bytes());
                    }
                }
            }
            Self::Role(role) => into.push(role.0),
            Self::GracefulRestart { restart_state, notification, restart_time, families } => {
                let flags = u16::from(*restart_state) << 15 | u16::from(*notification) << 14;
                into.extend_from_slice(&(flags | restart_time & 0x0fff).to_be_bytes());
                for family in families.iter().take((MAXIMUM_VALUE - 2) / 4) {
                    into.extend_from_slice(&family.afi.to_be_bytes());
                    into.extend_from_slice(&[family.safi, u8::from(family.forwarding_state) << 7]);
                }
            }
            Self::FourOctetAsNumber(number) => into.extend_from_slice(&number.to_be_bytes()),
            Self::AddPath(rows) => {
                for row in rows.iter().take(MAXIMUM_VALUE / 4) {
                    into.extend_from_slice(&row.afi.to_be_bytes());
                    into.extend_from_slice(&[row.safi, row.send_receive]);
                }
            }
            Self::Fqdn { host, domain } => {
                for name in [host, domain] {
                    let length = name.floor_char_boundary(MAXIMUM_NAME);
                    into.push(length as u8);
                    into.extend_from_slice(name.as_bytes().get(..length).unwrap_or_default());
                }
            }
            Self::Unknown { value, .. } => {
                into.extend_from_slice(value.get(..MAXIMUM_VALUE).unwrap_or(value));
            }
        }
        let length = (into.len() - start) as u8;
        if let Some(field) = into.get_mut(start - 1) {
            *field = length;
        }
    }
}

/// Rows of `N` octets each; `None` if octets are left over.
fn rows<const N: usize, T>(octets: &[u8], row: impl Fn(&[u8; N]) -> T) -> Option<Box<[T]>> {
    let (rows, rest) = octets.as_chunks();
    rest.is_empty().then(|| rows.iter().map(row).collect())
}

/// A text with its length in front, and what follows.
fn name(octets: &[u8]) -> Option<(Box<str>, &[u8])> {
    let (length, rest) = octets.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((Box::from(String::from_utf8_lossy(text)), rest))
}
