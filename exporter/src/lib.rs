//! pathflow-exporter
