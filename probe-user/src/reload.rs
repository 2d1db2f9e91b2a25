//! Settings that are read anew while packets are counted: applies what can change, and says what cannot.

use std::sync::Arc;

use tracing::warn;

use crate::config::Config;
use crate::enrich::RouteDetail;
use crate::interfaces::InterfaceRules;
use crate::pipeline::{Pipeline, line_style, route_detail};
use crate::routing::Routing;

/// Applies settings, and returns what is left to be done: the rules for interfaces. `started` are those of the start.
pub fn apply(
    mut settings: Config,
    started: &Config,
    routing: &Routing,
    pipeline: &mut Pipeline,
) -> InterfaceRules {
    let tags = &mut settings.enrich.tags;
    if let Err(error) = tags.bind_to_loaded(&started.filters, started.record_filters) {
        warn!("enrich.tag_map: {error}; the rules stay as they are");
        tags.clone_from(&routing.source.settings.load().tags);
    }
    if let Err(error) = bind_aggregates(&mut settings, started, routing) {
        keep_aggregates(&mut settings, &error, routing, pipeline);
    }
    let keys = settings.needs_restart(started);
    if !keys.is_empty() {
        warn!("{}: a change needs a restart; what holds since the start goes on", keys.join(", "));
    }
    keep_exports(&mut settings, started, routing, keys.contains(&"export"));
    ask_attributes(&mut settings, started);
    let aggregates = settings.aggregates.clone();
    if let Err(error) = pipeline.aggregates.change(&aggregates, || routing.reload(&settings)) {
        keep_aggregates(&mut settings, &error.to_string(), routing, pipeline);
        ask_attributes(&mut settings, started);
        routing.reload(&settings);
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

/// Exports are those of the start, with other rules for their tags if they are not to be others.
fn keep_exports(settings: &mut Config, started: &Config, routing: &Routing, are_changed: bool) {
    settings.processes.clone_from(&started.processes);
    settings.stdout = started.stdout;
    let before = &routing.source.settings.load().tags_of_exports;
    if are_changed {
        settings.enrich.tags_of_exports.clone_from(before);
        return;
    }
    settings.enrich.tags_of_exports.retain(|name, tags| {
        let bound = Arc::make_mut(tags).bind_to_loaded(&started.filters, started.record_filters);
        let Err(error) = bound else { return true };
        warn!("export {name}: tag_map: {error}; the rules stay as they are");
        before.get(name).is_some_and(|before| {
            tags.clone_from(before);
            true
        })
    });
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
