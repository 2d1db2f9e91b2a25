//! Network namespaces with a veth pair between them, gone when their guard is.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A named network namespace without IPv6, so that nobody but the test sends anything in it. Dropping it
/// deletes it and the interfaces in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace whose name begins with `prefix`.
    ///
    /// # Errors
    /// If `ip` fails: not root, or no such program.
    pub fn new(prefix: &str) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{prefix}-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        // Neighbour discovery and router solicitation would add frames of the kernel's own.
        for which in ["all", "default"] {
            let setting = format!("net.ipv6.conf.{which}.disable_ipv6=1");
            namespace.execute(&["sysctl", "--quiet", "--write", &setting])?;
        }
        Ok(namespace)
    }

    /// Its name, as `ip netns` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets an interface up.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn set_up(&self, interface: &str) -> io::Result<()> {
        self.execute(&["ip", "link", "set", interface, "up"])
    }

    /// Runs a program with arguments in the namespace; what it prints is only seen if it fails.
    ///
    /// # Errors
    /// If it cannot be started or fails.
    pub fn execute(&self, line: &[&str]) -> io::Result<()> {
        let Some((program, arguments)) = line.split_first() else { return Ok(()) };
        run(self.command(program).args(arguments))
    }

    /// A command that will run in the namespace. Unlike with `ip netns exec`, `/sys` and the BPF file
    /// system stay what they are.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg(program);
        command
    }

    /// Runs `action` in a thread that is in the namespace, and waits for it.
    ///
    /// # Errors
    /// If the thread cannot enter the namespace. A panic of `action` goes on in the caller.
    pub fn run<T: Send>(&self, action: impl FnOnce() -> T + Send) -> io::Result<T> {
        let namespace = File::open(self.path())?;
        let result = thread::scope(|scope| {
            scope
                .spawn(move || {
                    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
                    Ok(action())
                })
                .join()
        });
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the name shows whose the namespace was.
        let _ = run(Command::new("ip").args(["netns", "delete", &self.name]));
    }
}

/// Joins two namespaces by a veth pair and sets both ends up.
///
/// # Errors
/// If `ip` fails.
pub fn join(
    (left, left_name): (&Namespace, &str),
    (right, right_name): (&Namespace, &str),
) -> io::Result<()> {
    run(Command::new("ip").args(["link", "add", left_name, "netns", &left.name, "type", "veth"]).args([
        "peer",
        "name",
        right_name,
        "netns",
        &right.name,
    ]))?;
    for (namespace, interface) in [(left, left_name), (right, right_name)] {
        namespace.set_up(interface)?;
    }
    Ok(())
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{command:?}: {}", message.trim())))
}
