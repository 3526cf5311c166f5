//! Signals: the first asks for a clean stop, the second ends the process.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Whether the program is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Go on.
    Running,
    /// Insert what is held, commit, leave the group.
    Requested,
}

/// Listens to SIGTERM and SIGINT from now on. The first of them sets [`Stop::Requested`], the second ends the process
/// with exit code 1; nothing is lost then either, what was not committed is read again.
///
/// # Errors
/// When the system refuses a handler.
pub fn signals() -> io::Result<watch::Receiver<Stop>> {
    let signals = Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    let (sender, receiver) = watch::channel(Stop::Running);
    tokio::spawn(listen(signals, sender, |code| std::process::exit(code)));
    Ok(receiver)
}

/// Returns once a stop is requested. May be cancelled.
pub async fn requested(stop: &mut watch::Receiver<Stop>) {
    if stop.wait_for(|stop| *stop == Stop::Requested).await.is_err() {
        // Nobody is left to ask for one.
        std::future::pending::<()>().await;
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// The next signal's name. May be cancelled.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

async fn listen(mut signals: Signals, sender: watch::Sender<Stop>, exit: impl FnOnce(i32)) {
    let signal = signals.next().await;
    tracing::info!(signal, "stopping: inserting and committing what is held");
    sender.send_replace(Stop::Requested);
    let signal = signals.next().await;
    tracing::warn!(signal, "stopping at once after a second signal; what was not committed will be read again");
    exit(1);
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    fn send(signal: &str) {
        let status = Command::new("kill").args([signal, &std::process::id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// One test for all: signals reach the whole process.
    #[tokio::test]
    async fn the_first_signal_asks_and_the_second_ends() {
        let signals = || Signals {
            terminate: signal(SignalKind::terminate()).unwrap(),
            interrupt: signal(SignalKind::interrupt()).unwrap(),
        };
        let limit = Duration::from_secs(10);
        for (first, second) in [("-TERM", "-INT"), ("-INT", "-TERM"), ("-TERM", "-TERM")] {
            let (sender, mut stop) = watch::channel(Stop::Running);
            let (exit, mut exited) = oneshot::channel();
            let task = tokio::spawn(listen(signals(), sender, move |code| exit.send(code).unwrap()));
            send(first);
            timeout(limit, stop.wait_for(|stop| *stop == Stop::Requested)).await.unwrap().unwrap();
            assert!(exited.try_recv().is_err(), "one signal ends nothing");
            send(second);
            assert_eq!(timeout(limit, exited).await.unwrap(), Ok(1));
            task.await.unwrap();
        }
    }
}
