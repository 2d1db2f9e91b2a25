//! What stands behind invalid routes: less specific ones. Lookup tables have only the longest prefix, so the BGP thread
//! is asked. Few routes are invalid, and the answers are kept.

use std::fmt;
use std::iter::once;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use ipnet::IpNet;
use pathflow_bgp::Attributes;
use pathflow_bgp::rib::PeerId;
use pathflow_bgp::rpki::{RoaStatus, RoaTable};
use pathflow_bgp::speaker::SpeakerHandle;
use pathflow_exporter::OriginValidation;

/// How long an answer is good for.
const MAX_AGE: Duration = Duration::from_secs(30);
/// Answers that are kept at most.
const MAX_ANSWERS: usize = 16_384;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(20);
/// Pause after a question that was not answered in time.
const PAUSE: Duration = Duration::from_secs(1);

/// Prefix and attributes of routes, longest prefix first.
type Less = Vec<(IpNet, Arc<Attributes>)>;
type Ask = dyn Fn(PeerId, IpNet) -> Option<Less> + Send + Sync;

/// Knows the less specific routes of a peer.
#[derive(Clone)]
pub struct Covers(Arc<Ask>);

impl fmt::Debug for Covers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Covers")
    }
}

impl From<SpeakerHandle> for Covers {
    fn from(speaker: SpeakerHandle) -> Self {
        Self::new(move |peer, prefix| {
            let routes = speaker.less_specific(peer, prefix, PATIENCE).ok()?;
            Some(routes.into_iter().map(|route| (route.nlri.prefix, route.attributes)).collect())
        })
    }
}

impl Covers {
    /// By a function of peer and prefix that returns `None` if it has no answer now.
    pub fn new(ask: impl Fn(PeerId, IpNet) -> Option<Less> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }
}

/// What origin validation looks at in a route.
#[derive(Clone, Copy, Debug)]
struct Cover {
    prefix: IpNet,
    announced_by: Option<u32>,
    has_empty_path: bool,
}

impl Cover {
    fn of((prefix, attributes): &(IpNet, Arc<Attributes>)) -> Self {
        let path = &attributes.as_path;
        Self { prefix: *prefix, announced_by: path.ends().announced_by(), has_empty_path: path.is_empty() }
    }
}

/// What was answered, and when.
type Answer = (Instant, Box<[Cover]>);

/// The answers of one thread.
#[derive(Debug, Default)]
pub(super) struct CoverCache {
    answers: HashMap<(PeerId, IpNet), Answer, RandomState>,
    silent_until: Option<Instant>,
}

impl CoverCache {
    /// The state of an invalid route of `prefix` that `origin_as` announces. `own` is our own AS.
    pub(super) fn validate(
        &mut self,
        covers: &Covers,
        (peer, prefix): (PeerId, IpNet),
        (origin_as, own): (Option<u32>, Option<u32>),
        roas: &RoaTable,
    ) -> OriginValidation {
        let less = self.less_specific(covers, peer, prefix);
        let origin = |cover: &Cover| if cover.has_empty_path { own } else { cover.announced_by };
        let behind = less.iter().map(|cover| (cover.prefix, origin(cover)));
        origin_validation(roas.status(once((prefix, origin_as)).chain(behind)))
    }

    fn less_specific(&mut self, covers: &Covers, peer: PeerId, prefix: IpNet) -> &[Cover] {
        let now = Instant::now();
        let key = (peer, prefix);
        let is_known = self.answers.get(&key).is_some_and(|(at, _)| now.duration_since(*at) < MAX_AGE);
        if !is_known && self.silent_until.is_none_or(|until| until <= now) {
            match (covers.0)(peer, prefix) {
                Some(routes) => {
                    let mut less: Vec<Cover> = routes.iter().map(Cover::of).collect();
                    // Of several paths the first counts, as everywhere.
                    less.dedup_by_key(|cover| cover.prefix);
                    if self.answers.len() >= MAX_ANSWERS {
                        self.answers.clear();
                    }
                    self.answers.insert(key, (now, less.into()));
                }
                None => self.silent_until = Some(now + PAUSE),
            }
        }
        self.answers.get(&key).map(|(_, less)| &**less).unwrap_or_default()
    }
}

/// The network of `length` bits that `address` is in.
pub(super) fn network(address: IpAddr, length: u8) -> Option<IpNet> {
    Some(IpNet::new(address, length).ok()?.trunc())
}

/// In the words of records.
#[must_use]
pub fn origin_validation(status: RoaStatus) -> OriginValidation {
    match status {
        RoaStatus::Unknown => OriginValidation::NotFound,
        RoaStatus::Valid => OriginValidation::Valid,
        RoaStatus::Invalid => OriginValidation::Invalid,
        RoaStatus::InvalidCoveredByValid => OriginValidation::InvalidCoveredByValid,
        RoaStatus::InvalidCoveredByUnknown => OriginValidation::InvalidCoveredByNotFound,
    }
}
