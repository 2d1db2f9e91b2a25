//! What of new settings can hold while packets are counted.

use super::{Config, ExportProcess};
use crate::aggregate::{AggregateSettings, OutputSettings, Primitive};
use crate::export::Conditions;

impl Config {
    /// Keys whose values differ from those of `started` and cannot change before a restart. Aggregates, and what they ask of
    /// packets, have their own check: [`Self::bind_aggregates`].
    #[must_use]
    pub fn needs_restart(&self, started: &Self) -> Vec<&'static str> {
        let Self {
            interfaces: _,
            egress_interface,
            pin,
            drain_interval,
            drain_workers,
            sizes,
            keys,
            filters,
            record_filters: _,
            timeouts,
            max_flows,
            shards,
            processes,
            queue_records,
            stdout,
            sflow,
            bgp,
            bgp_output,
            bmp,
            rpki,
            control,
            enrich: _,
            aggregates: _,
            listen,
            log,
        } = self;
        let keys_and_changes = [
            ("capture.egress_interface", *egress_interface != started.egress_interface),
            ("capture.pin", *pin != started.pin),
            ("capture.drain_interval", *drain_interval != started.drain_interval),
            ("capture.drain_workers", *drain_workers != started.drain_workers),
            ("capture.ipv4_slots", sizes.ipv4_slots != started.sizes.ipv4_slots),
            ("capture.ipv6_slots", sizes.ipv6_slots != started.sizes.ipv6_slots),
            ("capture.spill_slots", sizes.spill_slots != started.sizes.spill_slots),
            ("capture.tunnels", keys.inner != started.keys.inner),
            ("capture.vxlan_ports", keys.vxlan_ports != started.keys.vxlan_ports),
            ("capture.filter", !filters.requires_the_same_as(&started.filters)),
            ("flow.active_timeout", timeouts.active != started.timeouts.active),
            ("flow.idle_timeout", timeouts.idle != started.timeouts.idle),
            ("flow.tcp_end_timeout", timeouts.tcp_end != started.timeouts.tcp_end),
            ("flow.max_flows", *max_flows != started.max_flows),
            ("flow.shards", *shards != started.shards),
            ("export", exports(processes) != exports(&started.processes)),
            ("export.queue_records", *queue_records != started.queue_records),
            ("export.stdout", *stdout != started.stdout),
            ("sflow", *sflow != started.sflow),
            // Peers can change, but the speaker is there or not.
            ("bgp", bgp.is_some() != started.bgp.is_some()),
            ("bgp.table_dump, bgp.message_log", *bgp_output != started.bgp_output),
            ("bmp", *bmp != started.bmp),
            ("rpki", *rpki != started.rpki),
            ("control.socket", *control != started.control),
            ("http.listen", *listen != started.listen),
            ("log.level", *log != started.log),
        ];
        keys_and_changes.into_iter().filter(|(_, is_changed)| *is_changed).map(|(key, _)| key).collect()
    }

    /// Has aggregates ask for the filters that packets are asked since the start, as `started` has them. `prints_flows` says
    /// whether flows go to standard output.
    ///
    /// # Errors
    /// If one of them cannot be before a restart: one line that names it, and the key.
    pub fn bind_aggregates(&mut self, started: &Self, prints_flows: bool) -> Result<(), String> {
        for aggregate in &mut self.aggregates {
            let name = aggregate.name.clone();
            bind(aggregate, started, prints_flows).map_err(|reason| format!("aggregate {name}: {reason}"))?;
        }
        let (wanted, present) = (&self.keys.extension, &started.keys.extension);
        let lacking = [
            (wanted.inner && !present.inner, "what is inside tunnels"),
            (wanted.labels && !present.labels, "all labels of the MPLS stack"),
            (!present.chosen.starts_with(&wanted.chosen), "other primitives of the operator's choice"),
        ];
        match lacking.iter().find(|(is_lacking, _)| *is_lacking) {
            Some((_, what)) => Err(format!(
                "aggregate.key: packets are told apart by {what} only if an aggregate asks for it at the start: it \
                 needs a restart"
            )),
            None => Ok(()),
        }
    }
}

fn bind(aggregate: &mut AggregateSettings, started: &Config, prints_flows: bool) -> Result<(), String> {
    if !aggregate.filter.is_empty() {
        let bit = started.filters.bit(&aggregate.filter);
        aggregate.selection.filter = Some(bit.ok_or_else(|| {
            let filter = &aggregate.filter;
            format!(
                "filter: {filter:?} is not one that packets are asked since the start: it needs a restart"
            )
        })?);
    }
    for (primitive, is_present) in
        [(Primitive::Cos, started.keys.vlan_priority), (Primitive::FlowLabel, started.keys.flow_label)]
    {
        if aggregate.key.primitives.contains(&primitive) && !is_present {
            return Err(format!(
                "key: packets are told apart by \"{primitive}\" only if an aggregate has it at the start: it needs a \
                 restart"
            ));
        }
    }
    if let Some(history) = &aggregate.history
        && !history.is_multiple_of(started.drain_interval)
    {
        let interval = super::duration::text(started.drain_interval);
        return Err(format!(
            "history: its bins do not begin and end with a drain: capture.drain_interval is {interval} until a \
             restart"
        ));
    }
    let is_stdout = |output: &OutputSettings| matches!(output, OutputSettings::Stdout(_));
    if prints_flows && aggregate.outputs.iter().any(is_stdout) {
        return Err("stdout: flows are written there since the start: it needs a restart".to_owned());
    }
    Ok(())
}

/// The numbers of filters are compared by what they are, and rules for tags can change.
fn exports(processes: &[ExportProcess]) -> Vec<ExportProcess> {
    let without_number = |process: &ExportProcess| ExportProcess {
        conditions: Conditions { filter: None, ..process.conditions.clone() },
        tag_map: String::new(),
        ..process.clone()
    };
    processes.iter().map(without_number).collect()
}
