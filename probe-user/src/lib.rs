//! pathflow.
