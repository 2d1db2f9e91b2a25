//! pathflow-perf
