//! Which connection to the health port makes room for a new one: pure accounting, without sockets.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::time::Instant;

/// Where a connection comes from: an IPv4 address, or the /64 network of an IPv6 address, which one host can use whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Peer {
    /// An IPv4 address, also when the system reports it mapped into IPv6.
    V4(Ipv4Addr),
    /// The first four segments of an IPv6 address.
    V6([u16; 4]),
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

/// What has to happen before a new connection is served.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Nothing.
    Free,
    /// A connection of this peer has to go, which may be asked for from this moment on.
    After(Peer, Instant),
}

/// The connections that are served, by peer, each with what it takes to end it.
#[derive(Debug)]
pub(super) struct Places<T> {
    most: usize,
    total: usize,
    taken: BTreeMap<Peer, VecDeque<Place<T>>>,
}

#[derive(Debug)]
struct Place<T> {
    since: Instant,
    holder: T,
}

impl<T> Places<T> {
    /// For at most `most` connections, and half as many of one peer.
    pub(super) fn new(most: usize) -> Self {
        Self { most, total: 0, taken: BTreeMap::new() }
    }

    /// Changes how many connections there may be. When there are more by now, returns one of those that have to go.
    pub(super) fn limit(&mut self, most: usize) -> Option<T> {
        self.most = most;
        if self.total <= most {
            return None;
        }
        let (peer, _) = self.oldest()?;
        self.evict(peer)
    }

    /// How many connections there may be.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Whether a new connection of this peer finds a place. A peer at its limit loses its own oldest connection; when
    /// all places are taken the peer with the most connections does, so that many from one peer never cost another its
    /// only one.
    pub(super) fn room(&self, peer: Peer) -> Room {
        let own = self.taken.get(&peer).map_or(0, VecDeque::len);
        let victim = if own >= (self.most / 2).max(1) {
            self.oldest_of(peer)
        } else if self.total >= self.most {
            self.oldest()
        } else {
            None
        };
        victim.map_or(Room::Free, |(peer, from)| Room::After(peer, from))
    }

    /// The peer whose oldest connection goes when there is a shortage of something else than places, and from when on.
    pub(super) fn oldest(&self) -> Option<(Peer, Instant)> {
        let rank =
            |queue: &VecDeque<Place<T>>| (queue.len(), queue.front().map(|place| std::cmp::Reverse(place.since)));
        let (peer, _) = self.taken.iter().max_by_key(|(_, queue)| rank(queue))?;
        self.oldest_of(*peer)
    }

    fn oldest_of(&self, peer: Peer) -> Option<(Peer, Instant)> {
        let queue = self.taken.get(&peer)?;
        let place = queue.front()?;
        let rivals = if queue.len() >= self.most / 2 { queue.len() } else { self.total };
        let rivals = u32::try_from(rivals).unwrap_or(u32::MAX);
        let kept = if rivals < FEW { LEAST } else { PACE.saturating_mul(rivals) };
        Some((peer, place.since + kept))
    }

    /// Notes a new connection.
    pub(super) fn take(&mut self, peer: Peer, since: Instant, holder: T) {
        self.taken.entry(peer).or_default().push_back(Place { since, holder });
        self.total += 1;
    }

    /// Takes the place from the oldest connection of this peer.
    pub(super) fn evict(&mut self, peer: Peer) -> Option<T> {
        let queue = self.taken.get_mut(&peer)?;
        let place = queue.pop_front()?;
        if queue.is_empty() {
            self.taken.remove(&peer);
        }
        self.total -= 1;
        Some(place.holder)
    }

    /// Forgets the connection that `is` finds: it has ended. One that was evicted is not found.
    pub(super) fn leave(&mut self, is: impl Fn(&T) -> bool) {
        let found = self.taken.iter().find_map(|(peer, queue)| {
            let place = queue.iter().position(|place| is(&place.holder))?;
            Some((*peer, place))
        });
        let Some((peer, place)) = found else { return };
        if let Some(queue) = self.taken.get_mut(&peer) {
            queue.remove(place);
            self.total -= 1;
            if queue.is_empty() {
                self.taken.remove(&peer);
            }
        }
    }
}

/// A connection keeps its place for at least this long for each of those it competes with, so that a request whose bytes
/// are still under way is not cut off, and a flood of connections costs a bounded share of the one thread: 5,000 a
/// second. The queue in front of the port (1,024 connections) is worked off in 0.2 s.
const PACE: Duration = Duration::from_micros(200);
/// With fewer than this the timer's millisecond is what counts.
const FEW: u32 = 16;
const LEAST: Duration = Duration::from_millis(1);

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;
