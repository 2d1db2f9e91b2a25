//! Daemons that a test starts and ends, each with a folder of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing here takes longer unless it is broken.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A daemon in the foreground; ended by its own process id when dropped.
pub struct Daemon {
    child: Child,
    program: String,
    folder: PathBuf,
}

/// A new folder for configuration, sockets and output.
pub fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("pathflow-bgp-{}-{name}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

impl Daemon {
    /// Starts a program whose output goes to `output` in its folder.
    pub fn start(folder: PathBuf, command: &mut Command) -> Self {
        let program = command.get_program().to_string_lossy().into_owned();
        let output = File::create(folder.join("output")).unwrap();
        let child = command
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("{program} does not start ({error}); is it installed?"));
        Self { child, program, folder }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Sends a signal to the daemon alone.
    pub fn signal(&self, name: &str) {
        output(Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()));
    }

    /// Waits until something holds; on the way looks whether the daemon still runs.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut() -> bool) {
        let start = Instant::now();
        while !holds() {
            let ended = self.child.try_wait().unwrap();
            if ended.is_some() || start.elapsed() > PATIENCE {
                let output = fs::read_to_string(self.folder.join("output")).unwrap_or_default();
                panic!("{what} did not come; {} ended: {ended:?}; it wrote:\n{output}", self.program);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The output of a command that succeeds.
pub fn output(command: &mut Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().unwrap_or_else(|error| panic!("{program}: {error}; is it installed?"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}
