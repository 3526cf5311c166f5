use super::*;

fn peer(last: u8) -> Peer {
    Peer::from(SocketAddr::from(([10, 0, 0, last], 4000)))
}

fn filled(most: usize, peers: &[u8], start: Instant) -> Places<usize> {
    let mut places = Places::new(most);
    for (index, last) in peers.iter().enumerate() {
        let since = start + Duration::from_secs(index as u64);
        places.take(peer(*last), since, index);
    }
    places
}

#[test]
fn a_mapped_address_is_the_ipv4_peer_and_a_network_one_peer() {
    let of = |text: &str| Peer::from(text.parse::<SocketAddr>().unwrap());
    assert_eq!(of("[::ffff:10.0.0.1]:1"), of("10.0.0.1:2"));
    assert_eq!(of("[2001:db8:1:2::3]:1"), of("[2001:db8:1:2:ffff::9]:2"));
    assert_ne!(of("[2001:db8:1:2::3]:1"), of("[2001:db8:1:3::3]:1"));
}

#[test]
fn a_peer_at_its_limit_loses_its_own_oldest() {
    let start = Instant::now();
    let mut places = filled(8, &[9, 1, 1, 1, 1], start);
    assert_eq!(places.room(peer(2)), Room::Free);
    assert_eq!(places.room(peer(1)), Room::After(peer(1), start + Duration::from_secs(1) + LEAST));
    assert_eq!(places.evict(peer(1)), Some(1));
    assert_eq!(places.room(peer(1)), Room::Free);
}

#[test]
fn with_all_places_taken_the_peer_with_the_most_makes_room() {
    let start = Instant::now();
    // Peer 9 has the oldest connection of all and keeps it.
    let places = filled(8, &[9, 1, 1, 1, 2, 2, 3, 3], start);
    let wanted = Room::After(peer(1), start + Duration::from_secs(1) + LEAST);
    assert_eq!(places.room(peer(7)), wanted);
    assert_eq!(places.room(peer(9)), wanted);
}

#[test]
fn among_peers_with_as_many_the_oldest_connection_goes() {
    let start = Instant::now();
    let places = filled(4, &[4, 1, 2, 3], start);
    assert_eq!(places.room(peer(7)), Room::After(peer(4), start + LEAST));
}

#[test]
fn places_are_free_again_when_connections_end() {
    let start = Instant::now();
    let mut places = filled(2, &[1, 2], start);
    assert!(matches!(places.room(peer(3)), Room::After(..)));
    places.leave(|holder| *holder == 0);
    assert_eq!(places.room(peer(3)), Room::Free);
    assert_eq!(places.evict(peer(2)), Some(1));
    // It was evicted before: its end changes nothing.
    places.leave(|holder| *holder == 1);
    assert_eq!((places.total, places.oldest()), (0, None));
    assert_eq!(places.evict(peer(2)), None);
}

#[test]
fn a_lower_limit_names_those_that_have_to_go() {
    let mut places = filled(8, &[1, 1, 1, 2], Instant::now());
    assert_eq!(places.limit(2), Some(0));
    assert_eq!(places.limit(2), Some(1));
    assert_eq!(places.limit(2), None);
    assert!(matches!(places.room(peer(3)), Room::After(..)));
    assert_eq!((places.limit(8), places.room(peer(3))), (None, Room::Free));
}

#[test]
fn of_many_places_each_is_kept_for_a_while() {
    let start = Instant::now();
    let peers: Vec<u8> = (0..64).map(|index| index % 4).collect();
    let places = filled(64, &peers, start);
    assert_eq!(places.room(peer(7)), Room::After(peer(0), start + PACE * 64));
    let places = filled(128, &[1; 64], start);
    assert_eq!(places.room(peer(1)), Room::After(peer(1), start + PACE * 64));
}
