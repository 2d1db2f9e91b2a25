//! Checks `[capture.classify]`.

use std::time::Duration;

use super::raw::Classify;
use super::{ConfigError, between, invalid};
use crate::aggregate::{AggregateSettings, Primitive};
use crate::classify::{ClassifyError, ClassifySettings, IS_BUILT_IN};

/// Checks the section; `None` if no aggregate asks for applications.
pub(super) fn settings(
    raw: &Classify,
    aggregates: &[AggregateSettings],
) -> Result<Option<ClassifySettings>, ConfigError> {
    let Classify { packets, octets, max_flows, idle_timeout, guess } = *raw;
    for (key, value, least, most) in [
        ("capture.classify.packets", packets, 1, 255),
        ("capture.classify.octets", octets, 128, 9216),
        ("capture.classify.max_flows", max_flows, 16, 1 << 26),
    ] {
        if !(least..=most).contains(&value) {
            return Err(invalid(key, &value, format!("it must be from {least} to {most}")));
        }
    }
    between("capture.classify.idle_timeout", idle_timeout, Duration::from_secs(1), Duration::from_hours(24))?;
    let asks = aggregates.iter().find(|aggregate| aggregate.key.primitives.contains(&Primitive::Class));
    if let Some(aggregate) = asks
        && !IS_BUILT_IN
    {
        let reason = format!("aggregate {}: {}", aggregate.name, ClassifyError::NotBuiltIn);
        return Err(invalid("aggregate.key", &"class", reason));
    }
    let settings = ClassifySettings { packets, octets, max_flows: max_flows as usize, idle_timeout, guess };
    Ok(asks.map(|_| settings))
}
