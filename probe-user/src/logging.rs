//! Log messages: one line each, on standard error.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::filter::{EnvFilter, ParseError};

/// Starts logging. `level` is a level such as `info`, or a filter in the syntax of `tracing`.
///
/// # Errors
/// If `level` is neither.
pub fn start(level: &str) -> Result<(), ParseError> {
    let filter = EnvFilter::builder().parse(level)?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        // A standard error that nobody reads any more must not end the daemon.
        .log_internal_errors(false)
        .init();
    Ok(())
}
