//! Settings that are read anew while packets are counted: applies what can change, and says what cannot.

use std::sync::Arc;

use tracing::warn;

use crate::config::Config;
use crate::enrich::RouteDetail;
use crate::export::NextExports;
use crate::interfaces::InterfaceRules;
use crate::pipeline::{Pipeline, line_style, route_detail};
use crate::routing::Routing;
use crate::sflow::Sflow;

/// Applies settings, and returns what is left to be done: the rules for interfaces. `started` are those of the start.
pub fn apply(
    mut settings: Config,
    started: &Config,
    routing: &Routing,
    pipeline: &mut Pipeline,
    sflow: Option<&mut Sflow>,
) -> InterfaceRules {
    let tags = &mut settings.enrich.tags;
    if let Err(error) = tags.bind_to_loaded(&started.filters, started.record_filters) {
        warn!("enrich.tag_map: {error}; the rules stay as they are");
        tags.clone_from(&routing.source.settings.load().tags);
    }
    if let Err(error) = bind_aggregates(&mut settings, started, routing) {
        keep_aggregates(&mut settings, &error, routing, pipeline);
    }
    let mut keys = settings.needs_restart(started);
    if line_style(started).is_none() {
        // It is only of standard output here.
        keys.retain(|key| *key != "export.queue_records");
    }
    if sflow.is_none() && settings.sflow.is_some() {
        // Packets have not been asked for samples.
        keys.push("sflow");
    }
    if !keys.is_empty() {
        warn!("{}: a change needs a restart; what holds since the start goes on", keys.join(", "));
    }
    settings.stdout = started.stdout;
    let exports = prepare_exports(&mut settings, started, routing, pipeline);
    ask_attributes(&mut settings, started);
    let aggregates = settings.aggregates.clone();
    if let Err(error) = pipeline.aggregates.change(&aggregates, || routing.reload(&settings)) {
        keep_aggregates(&mut settings, &error.to_string(), routing, pipeline);
        ask_attributes(&mut settings, started);
        routing.reload(&settings);
    }
    if let Some(exports) = exports {
        pipeline.exports.change(exports);
    }
    if let Some(sflow) = sflow {
        match sflow.prepare(settings.sflow.as_ref()) {
            Ok(next) => sflow.change(next),
            Err(error) => warn!("{error}; sFlow stays as it is"),
        }
    }
    pipeline.aggregates.check_places();
    settings.interfaces
}

/// Aggregates, and the rules for tags that are their own, as they can be since the start.
fn bind_aggregates(settings: &mut Config, started: &Config, routing: &Routing) -> Result<(), String> {
    settings.bind_aggregates(started, line_style(started).is_some())?;
    let current = routing.source.settings.load();
    for (name, tags) in &mut settings.enrich.tags_of {
        // Aggregates know all filters, where records know those that exports and the rules for all ask for.
        let Err(error) = Arc::make_mut(tags).bind_to_loaded(&started.filters, u8::MAX) else { continue };
        let Some(before) = current.tags_of.get(name) else {
            return Err(format!("aggregate {name}: tag_map: {error}"));
        };
        warn!("aggregate {name}: tag_map: {error}; the rules stay as they are");
        tags.clone_from(before);
    }
    Ok(())
}

/// Opens what is new of exports. If that fails they stay as they are.
fn prepare_exports(
    settings: &mut Config,
    started: &Config,
    routing: &Routing,
    pipeline: &mut Pipeline,
) -> Option<NextExports> {
    let bound = bind_exports(settings, started, routing);
    let prepared =
        bound.and_then(|()| pipeline.exports.prepare(&settings.processes).map_err(|error| error.to_string()));
    prepared
        .inspect_err(|error| {
            warn!("{error}; all exports stay as they are");
            settings.processes = pipeline.exports.processes().to_vec();
            settings.enrich.tags_of_exports.clone_from(&routing.source.settings.load().tags_of_exports);
        })
        .ok()
}

/// Exports, and the rules for tags that are their own, as they can be since the start.
fn bind_exports(settings: &mut Config, started: &Config, routing: &Routing) -> Result<(), String> {
    settings.bind_exports(started)?;
    let current = routing.source.settings.load();
    for (name, tags) in &mut settings.enrich.tags_of_exports {
        let bound = Arc::make_mut(tags).bind_to_loaded(&started.filters, started.record_filters);
        let Err(error) = bound else { continue };
        let Some(before) = current.tags_of_exports.get(name) else {
            return Err(format!("export {name}: tag_map: {error}"));
        };
        warn!("export {name}: tag_map: {error}; the rules stay as they are");
        tags.clone_from(before);
    }
    Ok(())
}

/// What is wanted of routes is by the exports and aggregates that there will be.
fn ask_attributes(settings: &mut Config, started: &Config) {
    let prints_flows = line_style(started).is_some();
    settings.enrich.asks_attributes = prints_flows || route_detail(settings) == RouteDetail::Attributes;
}

fn keep_aggregates(settings: &mut Config, error: &str, routing: &Routing, pipeline: &Pipeline) {
    warn!("{error}; all aggregates stay as they are");
    settings.aggregates = pipeline.aggregates.settings().cloned().collect();
    settings.enrich.tags_of.clone_from(&routing.source.settings.load().tags_of);
}
