//! Enrichment: what is known about a flow beyond its packets. Done once per record, when it is made.
//!
//! The only place that knows both flows and routes.

use std::net::IpAddr;

use pathflow_bgp::RouteTable;
use pathflow_exporter::FlowRecord;

/// Fills the fields of records that packets do not carry.
#[derive(Clone, Debug, Default)]
pub struct Enricher {
    routes: RouteTable,
}

impl Enricher {
    /// An enricher that takes AS numbers, prefix lengths and next hops from `routes`.
    #[must_use]
    pub fn new(routes: RouteTable) -> Self {
        Self { routes }
    }

    /// Fills `record`. A field stays 0 or `None` where no route covers the address.
    pub fn enrich(&self, record: &mut FlowRecord) {
        if self.routes.is_empty() {
            return;
        }
        let (source_as, source_prefix, _) = self.route(record.source_address);
        let (destination_as, destination_prefix, next_hop) = self.route(record.destination_address);
        record.bgp_source_as_number = source_as;
        record.source_prefix_length = source_prefix;
        record.bgp_destination_as_number = destination_as;
        record.destination_prefix_length = destination_prefix;
        record.bgp_next_hop = next_hop;
    }

    fn route(&self, address: IpAddr) -> (u32, u8, Option<IpAddr>) {
        match self.routes.lookup(address) {
            Some((prefix, route)) => (route.origin_as().unwrap_or(0), prefix.prefix_len(), route.next_hop),
            None => (0, 0, None),
        }
    }
}
