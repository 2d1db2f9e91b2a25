//! Origin validation of routes in dumps and log.

use std::iter::{once, once_with};
use std::sync::Arc;
use std::time::Duration;

use pathflow_bgp::rib::PeerId;
use pathflow_bgp::rpki::RoaStore;
use pathflow_bgp::speaker::SpeakerHandle;
use pathflow_bgp::{Attributes, Family, Nlri};

/// How long the BGP thread is waited for; without an answer an invalid route is just that.
const PATIENCE: Duration = Duration::from_secs(1);

/// Says what RPKI says of routes.
#[derive(Clone, Debug)]
pub struct Origins {
    /// What RPKI says.
    pub roas: Arc<RoaStore>,
    /// Knows the less specific routes behind invalid ones.
    pub speaker: SpeakerHandle,
    /// The AS of routes with an empty path; 0 = not known.
    pub local_as: u32,
}

impl Origins {
    /// pmacct's letter for the state of this route (`roa`); `None` outside unicast.
    #[must_use]
    pub fn letter(&self, peer: PeerId, family: Family, nlri: &Nlri, attributes: &Attributes) -> Option<char> {
        if ![Family::IPV4_UNICAST, Family::IPV6_UNICAST].contains(&family) {
            return None;
        }
        let origin = |attributes: &Attributes| {
            let own = Some(self.local_as).filter(|own| *own != 0 && attributes.as_path.is_empty());
            attributes.as_path.ends().announced_by().or(own)
        };
        // Asked for only if the route itself is invalid.
        let behind =
            once_with(|| self.speaker.less_specific(peer, nlri.prefix, PATIENCE).unwrap_or_default());
        let behind = behind.flatten().map(|route| (route.nlri.prefix, origin(&route.attributes)));
        let route = (nlri.prefix, origin(attributes));
        Some(self.roas.table().status(once(route).chain(behind)).letter())
    }
}
