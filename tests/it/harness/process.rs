//! Child processes that cannot outlive the test run, whatever ends it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A child whose output goes to a file. Killed when dropped, and by the kernel when the test process ends.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the command; stdout and stderr are appended to `log`.
    pub(crate) fn spawn(name: &str, command: &mut Command, log: &Path) -> Self {
        let open = || File::options().create(true).append(true).open(log);
        let out = open().unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let err = out.try_clone().unwrap();
        let child = spawn(tethered(command).stdin(Stdio::null()).stdout(out).stderr(err));
        let child = child.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All it has written so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read(&self.log)
            .map_or_else(|error| error.to_string(), |log| String::from_utf8_lossy(&log).into_owned())
    }

    /// The end of the log.
    pub(crate) fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        format!(
            "--- {} ({}), last lines:\n{}",
            self.name,
            self.log.display(),
            all[all.len().saturating_sub(lines)..].join("\n")
        )
    }

    /// Sends a signal, named as kill(1) names it.
    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").arg(format!("-{signal}")).arg(self.pid().to_string()).status();
        assert!(status.as_ref().is_ok_and(ExitStatus::success), "kill -{signal} {}: {status:?}", self.name);
    }

    /// How it ended, if it has.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Panics with the log when it has ended.
    pub(crate) fn assert_runs(&mut self) {
        if let Some(status) = self.exited() {
            panic!("{} ended with {status}\n{}", self.name, self.log_tail(30));
        }
    }

    /// Waits for the end. Panics with the log when it does not come in time.
    pub(crate) fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.exited() {
                return status;
            }
            assert!(began.elapsed() < limit, "{} still runs after {limit:?}\n{}", self.name, self.log_tail(30));
            super::pause(began);
        }
    }

    /// kill -9, and away.
    pub(crate) fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.log_tail(40));
        }
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("{} could not be killed: {error}", self.name);
        }
    }
}

/// The same command under setpriv(1), which asks the kernel to kill it when the thread that started it ends, and then
/// becomes it: the process id stays.
pub(crate) fn tethered(command: &Command) -> Command {
    let mut tethered = Command::new("setpriv");
    tethered.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => tethered.env(name, value),
            None => tethered.env_remove(name),
        };
    }
    tethered
}

/// Starts the command from a thread that lives as long as the test process: the death of the starting *thread* is what
/// the kernel watches for, and a test's own thread ends with the test.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    type Order = (Command, Sender<io::Result<Child>>);
    static STARTER: OnceLock<Sender<Order>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (orders, inbox) = channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                // The test that asked may have panicked since; its child then dies with this process.
                drop(answer.send(command.spawn()));
            }
        });
        orders
    });
    let (answer, child) = channel();
    let owned = std::mem::replace(command, Command::new("true"));
    starter.send((owned, answer)).map_err(io::Error::other)?;
    child.recv().map_err(io::Error::other)?
}
