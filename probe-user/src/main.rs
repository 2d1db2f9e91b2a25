//! pathflow.

fn main() {}
