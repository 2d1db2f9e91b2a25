//! Flows as the daemon prints them to standard output.

use serde_json::Value;

/// The flows, each of which must be one line and one JSON object.
pub(crate) fn flows(output: &str) -> Vec<Value> {
    assert!(output.is_empty() || output.ends_with('\n'), "the last line is cut off: {output:?}");
    output
        .lines()
        .map(|line| {
            let flow: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(flow.is_object(), "{line}");
            flow
        })
        .collect()
}

/// Sum of a number over all flows.
pub(crate) fn sum(flows: &[Value], key: &str) -> u64 {
    flows.iter().map(|flow| flow[key].as_u64().unwrap()).sum()
}
