//! pathflow's developer commands; run them as `cargo xtask <command>`.
#![forbid(unsafe_code)]

mod ebpf;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// pathflow's developer commands.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the kernel program alone.
    BuildEbpf,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::BuildEbpf => ebpf::run(),
    }
}
