//! `file`: how fast a capture file becomes flows, beside other programs that read one.
//!
//! Each program has the same one CPU and the file in memory, and is timed as a whole, from its start to its end.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use std::{fs, io};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Serialize;

use crate::Common;
use crate::exporter;
use crate::final_report::FinalReport;
use crate::replay::write_capture;
use crate::report::{Report, Spread};
use crate::scratch::Scratch;

#[derive(Args, Clone)]
pub(crate) struct Options {
    /// The program to measure; without it, `pathflow` beside this program
    #[arg(long)]
    pub(crate) pathflow: Option<PathBuf>,
    /// Packets of the file
    #[arg(long, default_value_t = 3_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) packets: u32,
    /// Runs of each program, in turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
}

/// Nobody listens there: what is exported is for nobody, in every case.
const NOBODY: &str = "127.0.0.1:9";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Pathflow,
    Softflowd,
    Nfpcapd,
    /// Reads the file and does nothing with it.
    Cat,
}

#[derive(Serialize)]
struct Row {
    reader: &'static str,
    /// Seconds from start to end.
    seconds: Spread,
    million_packets_per_second: Spread,
}

pub(crate) fn run(options: &Options, common: &Common, report: &mut Report) -> Result<()> {
    let pathflow = exporter::pathflow(options.pathflow.as_deref())?;
    let scratch = Scratch::new()?;
    let capture = scratch.file("mix.pcap");
    write_capture(&capture, options.packets)?;
    io::copy(&mut fs::File::open(&capture)?, &mut io::sink())?;
    report.heading(
        "file",
        &format!(
            "{} runs in turn, on CPU {} alone; {} packets, {:.0} MB\n\n{:<10} {:>22} {:>22}",
            options.rounds,
            common.cpu,
            options.packets,
            fs::metadata(&capture)?.len() as f64 / 1e6,
            "program",
            "seconds",
            "Mpps"
        ),
    );
    let mut readers = vec![Reader::Cat, Reader::Pathflow];
    for peer in [Reader::Softflowd, Reader::Nfpcapd] {
        if peer.is_installed() {
            readers.push(peer);
        } else {
            report.text(&format!("{} is missing: `cargo xtask setup --peers` installs it", peer.name()));
        }
    }
    let mut seconds = vec![Vec::new(); readers.len()];
    for _ in 0..options.rounds {
        for (reader, seconds) in readers.iter().zip(&mut seconds) {
            seconds.push(reader.measure(&pathflow, &capture, options.packets)?);
        }
    }
    for (reader, seconds) in readers.iter().zip(seconds) {
        let rate = Spread::of(seconds.iter().map(|seconds| f64::from(options.packets) / seconds / 1e6));
        let row =
            Row { reader: reader.name(), seconds: Spread::of(seconds), million_packets_per_second: rate };
        let line = format!(
            "{:<10} {:>22} {:>22}",
            row.reader,
            row.seconds.text(2),
            row.million_packets_per_second.text(2)
        );
        report.row(&line, &row)?;
    }
    Ok(())
}

impl Reader {
    fn name(self) -> &'static str {
        match self {
            Self::Pathflow => "pathflow",
            Self::Softflowd => "softflowd",
            Self::Nfpcapd => "nfpcapd",
            Self::Cat => "cat",
        }
    }

    fn is_installed(self) -> bool {
        ["/usr/sbin", "/usr/bin"].iter().any(|folder| Path::new(folder).join(self.name()).is_file())
    }

    /// Seconds that it took. The CPU of this thread is its as well.
    fn measure(self, pathflow: &Path, capture: &Path, packets: u32) -> Result<f64> {
        let scratch = Scratch::new()?;
        let mut command = match self {
            Self::Pathflow => Command::new(pathflow),
            _ => Command::new(self.name()),
        };
        match self {
            Self::Pathflow => command.arg("replay").arg(capture).args(["--collector", NOBODY]),
            Self::Softflowd => command
                .args(["-d", "-v", "10", "-m", "262144", "-n", NOBODY, "-p"])
                .arg(scratch.file("pid"))
                .arg("-c")
                .arg(scratch.file("control"))
                .arg("-r")
                .arg(capture),
            Self::Nfpcapd => {
                fs::create_dir(scratch.file("flows"))?;
                command.arg("-r").arg(capture).arg("-w").arg(scratch.file("flows"))
            }
            Self::Cat => command.arg(capture),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let begin = Instant::now();
        let output = command.output().with_context(|| self.name())?;
        let taken = begin.elapsed().as_secs_f64();
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {}: {text}", self.name(), output.status);
        if self == Self::Pathflow {
            FinalReport::parse(&text).check(u64::from(packets))?;
        }
        Ok(taken)
    }
}
