//! Whether ClickHouse answers, asked on a connection of its own: an insert may wait for minutes, and what it waits for is
//! to be known long before.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::asking::ask;
use super::client::Client;
use super::error::Failure;
use crate::config::ClickHouseConfig;
use crate::net::tls::TlsClient;
use crate::progress::InsertProgress;

/// Between a good answer and the next question.
const PAUSE: Duration = Duration::from_secs(2);
/// After a failure.
const AGAIN: Duration = Duration::from_millis(500);
/// For an answer, where the link is no slower than that.
const LIMIT: Duration = Duration::from_secs(5);
/// So many round trips' time is waited for one on a slow link.
const ROUND_TRIPS: u32 = 5;
const LONGEST: Duration = Duration::from_secs(60);

/// Asks as long as the process runs and publishes what comes of it.
#[derive(Debug)]
pub struct Prober {
    client: Client,
    progress: watch::Sender<InsertProgress>,
    failing: bool,
}

impl Prober {
    pub(super) fn new(
        config: ClickHouseConfig,
        tls: Option<TlsClient>,
        progress: watch::Sender<InsertProgress>,
    ) -> Self {
        let client = Client::new(ClickHouseConfig { timeout: LIMIT, ..config }, tls);
        Self { client, progress, failing: false }
    }

    /// Never returns. May be cancelled.
    pub async fn run(mut self) {
        loop {
            let outcome = probe(&mut self.client).await;
            self.client.set_timeout(LIMIT.max(self.client.connected_in() * ROUND_TRIPS).min(LONGEST));
            match outcome.err().filter(|failure| !failure.is_contact()) {
                None => {
                    self.good();
                    sleep(PAUSE).await;
                }
                Some(failure) => {
                    self.failed(&failure);
                    sleep(AGAIN).await;
                }
            }
        }
    }

    fn good(&mut self) {
        let returned = std::mem::take(&mut self.failing);
        self.progress.send_if_modified(|progress| {
            let changed = returned || !progress.connected || progress.failure.is_some();
            progress.connected = true;
            progress.failure = None;
            progress.returned += u64::from(returned);
            changed
        });
    }

    fn failed(&mut self, failure: &Failure) {
        self.failing = true;
        self.client.next_address();
        let text = failure.to_string();
        self.progress.send_if_modified(|progress| {
            let changed = progress.connected || progress.failure.as_ref() != Some(&text);
            progress.connected = false;
            progress.failure = Some(text);
            changed
        });
    }
}

/// Asks for nothing: is the server there, and is the login good?
pub(super) async fn probe(client: &mut Client) -> Result<(), Failure> {
    match ask(client, "SELECT 1", &[]).await? {
        answer if answer.text.trim() == "1" => Ok(()),
        answer => Err(Failure::foreign(&answer)),
    }
}
