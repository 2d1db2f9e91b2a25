//! How the kernel program is compiled: two recipes, the first one that works wins.
//!
//! The build scripts of `probe-user` and `perf` include this file, so that the knowledge exists once.
//! It therefore uses nothing but `std`.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Flags for every eBPF compilation, whichever recipe runs it. The linker generates the code.
const CODEGEN_FLAGS: &[&str] = &[
    // BTF is derived from full debug information, and maps of maps need BTF.
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
    "-Clinker=bpf-linker",
    // 32-bit arithmetic; every supported kernel has it.
    "-Ctarget-cpu=v3",
    // Packet fields are read whole at any alignment, as C programs do. Without this each octet is a load of
    // its own, which costs a sixth of the whole program. The kernel allows it on every machine that can.
    "-Ctarget-feature=+allows-misaligned-mem-access",
];

/// The only crate that may use unstable features with a stable compiler: it enables inline assembly for BPF.
/// Any wider value would make the build scripts of other crates take the compiler for a nightly one.
const UNSTABLE_CRATE: &str = "aya_ebpf";

/// Debian's compiler. Its package is apart from rustup, and its sysroot has `core` for BPF.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// The binary target that counts in the kernel.
pub(crate) const PROBE_BIN: &str = "pathflow-ebpf";

/// The binary targets that are embedded in the probe, each with the variable that names an object which a
/// packager has built elsewhere; no compiler for BPF is needed then.
pub(crate) const PREBUILT_OBJECTS: [(&str, &str); 2] =
    [(PROBE_BIN, "PATHFLOW_EBPF_OBJECT"), ("pathflow-mirror-ebpf", "PATHFLOW_MIRROR_EBPF_OBJECT")];

/// One object to build.
pub(crate) struct Request<'a> {
    /// Root of the workspace.
    pub(crate) workspace: &'a Path,
    /// Target directory for BPF alone: a build script must not wait for the lock its own build holds.
    pub(crate) target_dir: &'a Path,
    /// Name of the binary target in package `pathflow-ebpf`.
    pub(crate) bin: &'a str,
    /// Cargo features of package `pathflow-ebpf`.
    pub(crate) features: &'a [&'a str],
    /// Machine that will load the object.
    pub(crate) machine: Machine<'a>,
}

/// The machine that loads the object: the kernel's own structures differ between machines.
#[derive(Clone, Copy)]
pub(crate) struct Machine<'a> {
    /// Architecture, as Rust names it.
    pub(crate) arch: &'a str,
    /// Whether the architecture is big-endian: BPF follows it.
    pub(crate) big_endian: bool,
}

/// A finished object.
pub(crate) struct Object {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// How it came to be, for people.
    pub(crate) origin: String,
}

/// Why there is no object.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A variable of [`PREBUILT_OBJECTS`] names this path, where no file is.
    Prebuilt(&'static str, PathBuf),
    /// No recipe worked, with one reason for each.
    Recipes(Vec<String>),
}

/// A way to get an eBPF object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recipe {
    /// rustup's nightly compiler, which builds `core` from source.
    Nightly,
    /// Debian's `rustc-web`, which brings a compiled `core` for BPF.
    Debian,
}

impl Recipe {
    /// All recipes, in the order of preference.
    pub(crate) const ALL: [Self; 2] = [Self::Nightly, Self::Debian];

    /// What this recipe still needs on this machine; empty when it can run.
    pub(crate) fn missing(self, machine: Machine<'_>) -> Vec<String> {
        let mut missing = Vec::new();
        match self {
            Self::Nightly => match sysroot(Command::new("rustup").args(["run", "nightly", "rustc"])) {
                None => missing.push("rustup's toolchain nightly".to_owned()),
                Some(sysroot) if !sysroot.join("lib/rustlib/src/rust/library/core").is_dir() => {
                    missing.push("component rust-src of toolchain nightly".to_owned());
                }
                Some(_) => {}
            },
            Self::Debian => match sysroot(&mut Command::new(DEBIAN_RUSTC)) {
                None => missing.push(format!("{DEBIAN_RUSTC} (package rustc-web)")),
                Some(sysroot) if !sysroot.join("lib/rustlib").join(machine.target()).is_dir() => {
                    missing.push(format!("core for {} (package libstd-rust-web-dev-bpf)", machine.target()));
                }
                Some(_) => {}
            },
        }
        if !runs("bpf-linker") {
            missing.push("bpf-linker".to_owned());
        }
        missing
    }

    /// The cargo command that applies `subcommand` to the binary target of `request`.
    pub(crate) fn cargo(self, subcommand: &str, request: &Request<'_>) -> Command {
        let mut command = match self {
            Self::Nightly => {
                let mut command = Command::new("rustup");
                isolate(&mut command);
                command.args(["run", "nightly", "cargo", subcommand, "-Zbuild-std=core"]);
                command
            }
            Self::Debian => {
                let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
                isolate(&mut command);
                command.arg(subcommand).env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", UNSTABLE_CRATE);
                command
            }
        };
        command
            .args(["--profile", "ebpf", "--package", "pathflow-ebpf", "--bin", request.bin])
            .args(["--target", request.machine.target(), "--target-dir"])
            .arg(request.target_dir)
            .env("CARGO_ENCODED_RUSTFLAGS", rustflags(request.machine))
            .current_dir(request.workspace)
            .stdin(Stdio::null())
            // A build script's standard output is read by cargo; nothing from here belongs there.
            .stdout(Stdio::null());
        if !request.features.is_empty() {
            command.arg("--features").arg(request.features.join(","));
        }
        if request.workspace.join("Cargo.lock").is_file() {
            command.arg("--locked");
        }
        command
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nightly => "nightly with rust-src",
            Self::Debian => "Debian's rustc-web",
        })
    }
}

impl Machine<'_> {
    /// The compiler's name for BPF on this machine.
    fn target(self) -> &'static str {
        if self.big_endian { "bpfeb-unknown-none" } else { "bpfel-unknown-none" }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prebuilt(variable, path) => write!(f, "{variable}: no file {}", path.display()),
            Self::Recipes(reasons) => {
                writeln!(f, "no recipe built the eBPF object")?;
                for reason in reasons {
                    writeln!(f, "  {reason}")?;
                }
                write!(f, "  `cargo xtask setup` installs what is missing on Debian")
            }
        }
    }
}

impl std::error::Error for Failure {}

/// Builds one object with the first recipe that works, or takes the prebuilt one.
pub(crate) fn build(request: &Request<'_>) -> Result<Object, Failure> {
    let variables = PREBUILT_OBJECTS.iter().filter(|(bin, _)| *bin == request.bin);
    for (_, variable) in variables {
        let Some(path) = env::var_os(variable).map(PathBuf::from) else { continue };
        if !path.is_file() {
            return Err(Failure::Prebuilt(variable, path));
        }
        return Ok(Object { path, origin: format!("the file that {variable} names") });
    }
    let mut reasons = Vec::new();
    for recipe in Recipe::ALL {
        let missing = recipe.missing(request.machine);
        if !missing.is_empty() {
            reasons.push(format!("{recipe}: missing {}", missing.join(", ")));
            continue;
        }
        match run(recipe, request) {
            Ok(path) => return Ok(Object { path, origin: format!("built with {recipe}") }),
            Err(reason) => {
                let reason = format!("{recipe}: {reason}");
                eprintln!("{reason}");
                reasons.push(reason);
            }
        }
    }
    Err(Failure::Recipes(reasons))
}

/// Builds one object with one recipe.
pub(crate) fn run(recipe: Recipe, request: &Request<'_>) -> Result<PathBuf, String> {
    let status =
        recipe.cargo("build", request).status().map_err(|error| format!("cargo did not start: {error}"))?;
    if !status.success() {
        return Err(format!("cargo ended with {status}; its messages are above"));
    }
    let path = request.target_dir.join(request.machine.target()).join("ebpf").join(request.bin);
    if path.is_file() { Ok(path) } else { Err(format!("cargo left no {}", path.display())) }
}

fn rustflags(machine: Machine<'_>) -> String {
    let mut flags = format!("--cfg=bpf_target_arch=\"{}\"", machine.arch);
    for flag in CODEGEN_FLAGS {
        flags.push('\x1f');
        flags.push_str(flag);
    }
    flags
}

/// Removes what cargo, clippy and rustup have put into the environment for the build we run inside of.
fn isolate(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_of_outer_build) {
            command.env_remove(name);
        }
    }
    // Asking for a toolchain must not download it.
    command.env("RUSTUP_AUTO_INSTALL", "0");
}

/// Whether a variable is about the compiler, wrappers and flags of the host build.
fn is_of_outer_build(name: &str) -> bool {
    // What a user sets to reach registries, and the job tokens shared with the outer build.
    const KEPT: [&str; 8] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_MAKEFLAGS",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        "CARGO_BUILD_JOBS",
    ];
    const REMOVED: [&str; 4] = ["CARGO", "RUSTC", "RUSTDOC", "CLIPPY_"];
    match name {
        "RUSTFLAGS" | "RUSTUP_TOOLCHAIN" | "TARGET" | "HOST" => true,
        _ if KEPT.iter().any(|prefix| name.starts_with(prefix)) => false,
        _ => REMOVED.iter().any(|prefix| name.starts_with(prefix)),
    }
}

/// Asks a compiler for its sysroot; `None` when it does not run.
fn sysroot(rustc: &mut Command) -> Option<PathBuf> {
    isolate(rustc);
    let output = rustc.args(["--print", "sysroot"]).stdin(Stdio::null()).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(path.trim_end()))
}

/// Whether a program runs here: a file on PATH is not enough, since its libraries may be gone.
fn runs(program: &str) -> bool {
    let status = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_name_the_machine_and_ask_for_btf() {
        let flags = rustflags(Machine { arch: "aarch64", big_endian: false });
        let flags: Vec<&str> = flags.split('\x1f').collect();
        assert_eq!(flags[0], "--cfg=bpf_target_arch=\"aarch64\"");
        assert_eq!(&flags[1..], CODEGEN_FLAGS);
        assert!(CODEGEN_FLAGS.contains(&"-Clink-arg=--btf"));
    }

    #[test]
    fn byte_order_selects_the_target() {
        assert_eq!(Machine { arch: "s390x", big_endian: true }.target(), "bpfeb-unknown-none");
        assert_eq!(Machine { arch: "x86_64", big_endian: false }.target(), "bpfel-unknown-none");
    }

    #[test]
    fn the_outer_build_does_not_leak_in_and_the_network_settings_stay() {
        for name in [
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTC_WRAPPER",
            "RUSTC_BOOTSTRAP",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET",
            "CARGO_FEATURE_KERNEL_LOG",
            "CLIPPY_ARGS",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
        ] {
            assert!(is_of_outer_build(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_REGISTRIES_X_INDEX", "RUSTUP_HOME", "PATH"] {
            assert!(!is_of_outer_build(name), "{name}");
        }
    }

    #[test]
    fn a_failure_names_each_recipe_and_the_way_out() {
        let text =
            Failure::Recipes(vec!["one: missing x".to_owned(), "two: missing y".to_owned()]).to_string();
        for part in ["one: missing x", "two: missing y", "cargo xtask setup"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
