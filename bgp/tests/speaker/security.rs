//! Who gets through the kernel: TCP MD5 signatures (RFC 2385) and the TTL check (RFC 5082).

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use pathflow_bgp::fsm::State;
use pathflow_bgp::speaker::{Active, Md5Key, PeerSettings, Settings, Speaker};
use socket2::Socket;

use crate::support::*;

/// A connection that is not answered fails within this time.
const UNANSWERED: Duration = Duration::from_millis(500);

/// The argument of `TCP_MD5SIG` as `linux/tcp.h` lays it out: an address, flags, prefix length, key length, interface,
/// key. Made here a second time, so that the tests do not depend on what they test.
fn key_option(remote: SocketAddr, key: &[u8]) -> Vec<u8> {
    let mut argument = vec![0; 216];
    match remote {
        SocketAddr::V4(remote) => {
            argument[..2].copy_from_slice(&2_u16.to_ne_bytes());
            argument[4..8].copy_from_slice(&remote.ip().octets());
        }
        SocketAddr::V6(remote) => {
            argument[..2].copy_from_slice(&10_u16.to_ne_bytes());
            argument[8..24].copy_from_slice(&remote.ip().octets());
        }
    }
    argument[130..132].copy_from_slice(&(key.len() as u16).to_ne_bytes());
    argument[136..136 + key.len()].copy_from_slice(key);
    argument
}

/// Sets `TCP_MD5SIG` by a program of its own, on a socket that it inherits: nothing safe in Rust can.
fn sign(socket: &Socket, remote: SocketAddr, key: &str) {
    use std::os::fd::AsFd as _;
    let argument: Vec<String> =
        key_option(remote, key.as_bytes()).iter().map(|octet| format!("{octet:02x}")).collect();
    let script = "import socket,sys\n\
        s=socket.socket(fileno=0)\n\
        s.setsockopt(socket.IPPROTO_TCP,14,bytes.fromhex(sys.argv[1]))\n\
        s.detach()\n";
    let status = std::process::Command::new("python3")
        .args(["-c", script, &argument.concat()])
        .stdin(socket.as_fd().try_clone_to_owned().unwrap())
        .status()
        .expect("python3 is needed to sign");
    assert!(status.success());
}

fn signed_peer(remote: &str, key: &str) -> PeerSettings {
    PeerSettings { md5_key: Some(Md5Key::new(key.as_bytes()).unwrap()), ..peer(remote) }
}

#[test]
fn only_the_right_key_gets_an_answer() {
    for (listen, own) in [("127.0.0.1:0", "127.1.0.1"), ("[::1]:0", "::1")] {
        let remote = if own == "::1" { "::1/128" } else { "127.1.0.1/32" };
        let settings = Settings {
            listen: vec![listen.parse().unwrap()],
            peers: vec![signed_peer(remote, "secret")],
            ..Settings::default()
        };
        let speaker = Speaker::start(settings.clone()).unwrap();
        let address = speaker.addresses()[0];
        for wrong in [None, Some("wrong")] {
            let socket = RawPeer::socket(own);
            if let Some(key) = wrong {
                sign(&socket, address, key);
            }
            assert!(socket.connect_timeout(&address.into(), UNANSWERED).is_err(), "{wrong:?}");
        }
        let socket = RawPeer::socket(own);
        sign(&socket, address, "secret");
        socket.connect_timeout(&address.into(), PATIENCE).unwrap();
        let mut raw = RawPeer::new(socket.into());
        raw.establish(&open(90, &[MP_IPV4]));
        until_state(&speaker, own, State::Established);
        assert_eq!(status(&speaker, own).counters.connections_accepted, 1);

        // A new key counts from now on, and so does none.
        let mut new = settings.clone();
        new.peers = vec![signed_peer(remote, "changed")];
        speaker.reload(new).unwrap();
        let socket = RawPeer::socket(own);
        sign(&socket, address, "secret");
        assert!(socket.connect_timeout(&address.into(), UNANSWERED).is_err());
        let mut none = settings;
        none.peers = vec![peer(remote)];
        speaker.reload(none).unwrap();
        RawPeer::connect(address, own).establish(&open(90, &[MP_IPV4]));
        speaker.stop("");
    }
}

#[test]
fn an_active_connection_is_signed() {
    let listener = TcpListener::bind("127.1.0.1:0").unwrap();
    let speaker_address: SocketAddr = "127.0.0.9:0".parse().unwrap();
    sign(&Socket::from(listener.try_clone().unwrap()), speaker_address, "secret");
    let port = listener.local_addr().unwrap().port();
    let active = PeerSettings {
        remote_as: Some(64_500),
        active: Some(Active { port, local: Some(speaker_address) }),
        ..signed_peer("127.1.0.1/32", "secret")
    };
    let speaker = start(vec![active]);
    let mut raw = RawPeer::accept(&listener);
    raw.send(&open(90, &[MP_IPV4]));
    raw.expect(OPEN);
    raw.expect(KEEPALIVE);
    speaker.stop("");
}

#[test]
fn a_peer_from_farther_than_it_may_be_is_not_heard() {
    let near = PeerSettings { ttl_security: Some(1), ..peer("127.1.0.1/32") };
    // Beside a peer that may be anywhere, the limit holds once the connection is accepted.
    let speaker = start(vec![near.clone(), peer("127.1.0.2/32")]);
    let mut far = RawPeer::connect(speaker.addresses()[0], "127.1.0.1");
    until_state(&speaker, "127.1.0.1", State::OpenSent);
    // The default TTL is 64.
    far.send(&open(90, &[MP_IPV4]));
    std::thread::sleep(UNANSWERED);
    assert_eq!(status(&speaker, "127.1.0.1").counters.opens_received, 0);
    // The segment is sent again, now with 255.
    socket2::SockRef::from(&far.stream).set_ttl_v4(255).unwrap();
    far.expect(OPEN);
    far.expect(KEEPALIVE);
    far.send(&keepalive());
    until_state(&speaker, "127.1.0.1", State::Established);
    let mut anywhere = RawPeer::connect(speaker.addresses()[0], "127.1.0.2");
    anywhere.establish(&open(90, &[MP_IPV4]));
    speaker.stop("");

    // Where all peers are near, the others do not even connect.
    let speaker = start(vec![near]);
    let socket = RawPeer::socket("127.1.0.1");
    assert!(socket.connect_timeout(&speaker.addresses()[0].into(), UNANSWERED).is_err());
    let socket = RawPeer::socket("127.1.0.1");
    socket.set_ttl_v4(255).unwrap();
    socket.connect_timeout(&speaker.addresses()[0].into(), PATIENCE).unwrap();
    RawPeer::new(socket.into()).establish(&open(90, &[MP_IPV4]));
    speaker.stop("");
}
