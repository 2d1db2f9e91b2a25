//! The fuzzers' corpora, and every input that once made one fail, on every test run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pathflow_bgp::Family;
use pathflow_bgp::rpki::rtr::pdu::{Version, decode};
use pathflow_bgp::rpki::rtr::session::Session;
use pathflow_bgp::wire::{
    AsNumberSize, EXTENDED_MAXIMUM_LENGTH, Header, Message, MessageType, SessionContext, Update,
};

fn files(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| {
            let path = entry.unwrap().path();
            let octets = fs::read(&path).unwrap();
            (path, octets)
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{}: corpus lost", folder.display());
    files
}

#[test]
fn every_file_of_the_corpora_has_an_outcome() {
    let targets = [
        ("open", MessageType::Open),
        ("notification", MessageType::Notification),
        ("route_refresh", MessageType::RouteRefresh),
    ];
    for (target, message_type) in targets {
        let files = files(target);
        let decoded = files
            .iter()
            .filter(|(_, octets)| Message::decode(message_type, octets, &SessionContext::default()).is_ok())
            .count();
        assert!(decoded > 0 && decoded < files.len(), "{target}: {decoded} of {} decode", files.len());
    }
    for (path, octets) in files("header") {
        let header = Header::decode(&octets, EXTENDED_MAXIMUM_LENGTH);
        assert!(!matches!(header, Ok(Some(header)) if header.length < 19), "{}", path.display());
    }
}

#[test]
fn every_update_of_the_corpus_has_an_outcome_in_every_session() {
    let mut decoded = 0;
    for (path, octets) in files("update") {
        for number in 0..8 {
            let context = SessionContext {
                as_numbers: if number & 1 == 0 { AsNumberSize::FourOctets } else { AsNumberSize::TwoOctets },
                add_path: Family::ALL.into_iter().filter(|_| number & 2 != 0).collect(),
                internal: number & 4 == 0,
                monitored: false,
            };
            // The first octet of an input chooses the session; see the fuzz target.
            let Some((_, body)) = octets.split_first() else { continue };
            if let Ok(update) = Update::decode(body, &context) {
                decoded += 1;
                let routes: usize =
                    update.announcements().map(|announcement| announcement.nlri().count()).sum();
                assert_eq!(routes, update.announced().count(), "{}", path.display());
            }
        }
    }
    assert!(decoded > 0);
}

/// As the fuzz target does.
#[test]
fn a_session_with_a_cache_never_holds_more_than_it_may() {
    const MAX_VRPS: usize = 3;
    let mut pdus = 0;
    for (path, octets) in files("rtr_pdu") {
        let mut now = Instant::now();
        let mut session = Session::new(Version::V1, MAX_VRPS);
        session.connected(now);
        let mut rest = &octets[..];
        while let Ok(Some(frame)) = decode(rest) {
            pdus += 1;
            rest = &rest[frame.octets..];
            if session.received(now, &frame).is_err() {
                session.disconnected();
                session.connected(now);
            }
            assert!(session.vrps().len() <= MAX_VRPS, "{}", path.display());
            now += Duration::from_secs(7);
            if session.timer(now).is_err() {
                session.disconnected();
            }
        }
    }
    assert!(pdus > 0);
}
