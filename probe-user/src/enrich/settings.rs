//! What the operator wants of enrichment, which may change while records are made.

use std::collections::BTreeMap;
use std::iter::once;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use pathflow_bgp::rib::RibReader;
use pathflow_bgp::rpki::RoaStore;

use super::{
    AgentRule, Covers, Enricher, Geography, Hold, Methods, Networks, PeerSourceRule, RouteSettings, TagMap,
};

/// What records are to say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EnrichSettings {
    /// What the fields are from.
    pub methods: Methods,
    /// The operator's own networks.
    pub networks: Arc<Networks>,
    /// Where addresses are, if that is known; for aggregates only.
    pub geography: Option<Arc<Geography>>,
    /// What of routes is wanted.
    pub routes: RouteSettings,
    /// Whose routes are for which records; without a rule, those of the first peer that has one.
    pub agents: Vec<AgentRule>,
    /// From which AS traffic comes in, where the route to its source does not say.
    pub peer_sources: Vec<PeerSourceRule>,
    /// Tags and labels.
    pub tags: TagMap,
    /// Those of aggregates that have rules of their own in place of these, by the aggregate's name.
    pub tags_of: BTreeMap<String, Arc<TagMap>>,
    /// The same of exports, by [their name](crate::config::ExportProcess::name).
    pub tags_of_exports: BTreeMap<String, Arc<TagMap>>,
    /// Whether somebody who gets the records asks for attributes of routes, other than rules for tags.
    pub asks_attributes: bool,
    /// How long the first records wait for the routes.
    pub wait_for_rib: Duration,
}

impl EnrichSettings {
    /// All rules for tags and labels.
    pub fn tag_maps(&self) -> impl Iterator<Item = &TagMap> {
        let own = self.tags_of.values().chain(self.tags_of_exports.values());
        once(&self.tags).chain(own.map(Arc::as_ref))
    }

    /// The bits of filter results that rules look at in records.
    #[must_use]
    pub fn record_filter_bits(&self) -> u8 {
        let own = self.tags_of_exports.values().map(|tags| tags.filter_bits());
        own.fold(self.tags.filter_bits(), |bits, own| bits | own)
    }
}

/// What records say of routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouteDetail {
    /// Whose they are: AS numbers, prefix lengths, next hops, origin validation.
    Numbers,
    /// Their attributes as well.
    #[default]
    Attributes,
}

/// The settings of now. Many read them, once per batch, and one replaces them.
#[derive(Clone, Debug, Default)]
pub struct CurrentSettings(Arc<RwLock<Arc<EnrichSettings>>>);

impl CurrentSettings {
    /// To begin with.
    #[must_use]
    pub fn new(settings: EnrichSettings) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(settings))))
    }

    /// The settings of now.
    #[must_use]
    pub fn load(&self) -> Arc<EnrichSettings> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Other settings, from the next batch on.
    pub fn replace(&self, settings: EnrichSettings) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }
}

/// What a thread that makes records needs.
#[derive(Clone, Debug, Default)]
pub struct RouteSource {
    /// What is wanted.
    pub settings: CurrentSettings,
    /// What is wanted of routes at least, whatever the settings are.
    pub detail: RouteDetail,
    /// The routes, if there is BGP.
    pub reader: Option<RibReader>,
    /// Who may announce what, if there is RPKI.
    pub roas: Option<Arc<RoaStore>>,
    /// Who knows what stands behind invalid routes, if there is BGP.
    pub covers: Option<Covers>,
    /// Our own AS in the BGP session that came up last; 0 = there was none.
    pub session_as: Arc<AtomicU32>,
    /// Whether records wait for the routes.
    pub hold: Hold,
}

impl RouteSource {
    /// An enricher for one thread.
    #[must_use]
    pub fn enricher(&self) -> Enricher {
        let session_as = Arc::clone(&self.session_as);
        Enricher {
            session_as,
            covers: self.covers.clone(),
            ..Enricher::new(self.settings.clone(), self.reader.clone(), self.roas.clone())
                .with_detail(self.detail)
        }
    }
}
