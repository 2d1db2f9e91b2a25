//! What of new settings can hold while packets are counted.

use super::Config;
use super::export::default_fields;
use crate::aggregate::{AggregateSettings, CustomPrimitive, Key, OutputSettings, Primitive};
use crate::metering::packets::ExtensionSettings;

impl Config {
    /// Keys whose values differ from those of `started` and cannot change before a restart. Exports and aggregates, and what
    /// they ask of packets, have their own checks: [`Self::bind_exports`] and [`Self::bind_aggregates`].
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
            processes: _,
            queue_records,
            stdout,
            sflow: _,
            bgp,
            bgp_output,
            bmp,
            rpki,
            control,
            enrich: _,
            aggregates: _,
            classify,
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
            (
                "capture.classify",
                matches!((classify, &started.classify), (Some(now), Some(then)) if now != then),
            ),
            ("flow.active_timeout", timeouts.active != started.timeouts.active),
            ("flow.idle_timeout", timeouts.idle != started.timeouts.idle),
            ("flow.tcp_end_timeout", timeouts.tcp_end != started.timeouts.tcp_end),
            ("flow.max_flows", *max_flows != started.max_flows),
            ("flow.shards", *shards != started.shards),
            // Of standard output; collectors have their own.
            ("export.queue_records", *queue_records != started.queue_records),
            ("export.stdout", *stdout != started.stdout),
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

    /// Has exports ask for the filters that records have since the start, and fields that are not named be by the routes that
    /// there are since then.
    ///
    /// # Errors
    /// If one of them cannot be before a restart: one line that names it, and the key.
    pub fn bind_exports(&mut self, started: &Self) -> Result<(), String> {
        let told = |config: &Self| (config.bgp.is_some(), config.bmp.is_some());
        let has_routes = started.bgp.is_some() || started.bmp.is_some() || !self.enrich.networks.is_empty();
        let are_told_by_others = told(self) != told(started);
        for process in &mut self.processes {
            if are_told_by_others && process.has_default_fields {
                process.settings.field_groups = default_fields(process.settings.format, has_routes);
            }
            if process.filter.is_empty() {
                continue;
            }
            let bit = started.filters.bit(&process.filter);
            process.conditions.filter = bit.filter(|bit| started.record_filters >> bit & 1 != 0);
            if process.conditions.filter.is_none() {
                let (name, filter) = (process.name(), &process.filter);
                return Err(format!(
                    "export {name}: filter: {filter:?} is not one that exports ask since the start: it needs a restart"
                ));
            }
        }
        Ok(())
    }

    /// Has aggregates ask for the filters that packets are asked since the start, as `started` has them. `prints_flows` says
    /// whether flows go to standard output.
    ///
    /// # Errors
    /// If one of them cannot be before a restart: one line that names it, and the key.
    pub fn bind_aggregates(&mut self, started: &Self, prints_flows: bool) -> Result<(), String> {
        let (wanted, present) = (&self.keys.extension, &started.keys.extension);
        for aggregate in &mut self.aggregates {
            bind(aggregate, started, prints_flows)
                .and_then(|()| bind_extension(&mut aggregate.key, wanted, present))
                .map_err(|reason| format!("aggregate {}: {reason}", aggregate.name))?;
        }
        self.keys.extension.clone_from(&started.keys.extension);
        Ok(())
    }
}

/// Has a key ask for parts of extensions where they are since the start: `wanted` is where they would be after a restart.
fn bind_extension(
    key: &mut Key,
    wanted: &ExtensionSettings,
    present: &ExtensionSettings,
) -> Result<(), String> {
    let refused = |name: &str, what: &str| {
        format!(
            "key: packets are told apart by {name:?} only if an aggregate {what} at the start: it needs a restart"
        )
    };
    for primitive in &key.primitives {
        if wanted.inner && !present.inner && (primitive.is_of_tunnel() || *primitive == Primitive::Vxlan) {
            return Err(refused(primitive.name(), "asks for what is inside tunnels"));
        }
        if primitive.is_of_label_stack() && !present.labels {
            return Err(refused(primitive.name(), "asks for all labels of the MPLS stack"));
        }
    }
    let bound = key.custom.iter().map(|custom| {
        let places = wanted.places_of(custom.offset);
        let is_same = |offset: &u8| present.places_of(*offset) == places;
        let mut offsets = present.chosen.iter().map(|place| place.destination);
        let offset =
            offsets.find(is_same).ok_or_else(|| refused(&custom.name, "has it, of the same octets,"))?;
        Ok(CustomPrimitive { offset, ..custom.clone() })
    });
    key.custom = bound.collect::<Result<_, String>>()?;
    Ok(())
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
    if aggregate.key.primitives.contains(&Primitive::Cos) && !started.keys.vlan_priority {
        return Err("key: packets are told apart by \"cos\" only if an aggregate has it at the start: it \
                    needs a restart"
            .to_owned());
    }
    if aggregate.key.primitives.contains(&Primitive::Class) && started.classify.is_none() {
        return Err(
            "key: payload is looked at for \"class\" only if an aggregate has it at the start: it needs a \
                    restart"
                .to_owned(),
        );
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
