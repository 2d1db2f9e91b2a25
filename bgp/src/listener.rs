//! Listening sockets: who may connect, and whose task a connection goes to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::error::TrySendError;

use crate::connection::{self, Connection};
use crate::iana::cease_subcode;
use crate::md5;
use crate::session::Command;
use crate::speaker::{LogLimit, Settings, Shared};
use crate::wire::Notification;

/// Connections that the kernel keeps for us.
const BACKLOG: i32 = 256;
/// After an error of the system (no descriptors left), until the next try.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens on an address, with everything set that has to be there before a peer's SYN.
pub(crate) fn bind(address: SocketAddr, settings: &Settings) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    connection::set_receive_buffer(&socket);
    set_security(&socket, address.is_ipv6(), None, settings)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Sets keys of TCP MD5 signatures and our TTL; takes away keys that `old` settings had and `new` ones have not.
pub(crate) fn set_security(
    socket: &Socket,
    ipv6: bool,
    old: Option<&Settings>,
    new: &Settings,
) -> io::Result<()> {
    let of_family = |settings: &Settings| -> Vec<_> {
        let peers = settings.peers.iter().filter(|peer| peer.remote.addr().is_ipv6() == ipv6);
        peers.filter_map(|peer| Some((peer.remote.trunc(), peer.md5_key.clone()?))).collect()
    };
    let keys = of_family(new);
    for (remote, _) in old.map(of_family).unwrap_or_default() {
        if keys.iter().all(|(other, _)| *other != remote) {
            md5::set_key(socket, remote, None)?;
        }
    }
    for (remote, key) in &keys {
        md5::set_key(socket, *remote, Some(key))?;
    }
    if new.peers.iter().any(|peer| peer.ttl_security.is_some()) {
        connection::set_ttl(socket, ipv6)?;
    }
    // Each connection has its peer's limit once it is accepted; what all peers have in common holds before.
    let peers = new.peers.iter().filter(|peer| peer.remote.addr().is_ipv6() == ipv6);
    let common = peers.map(|peer| peer.min_ttl().unwrap_or(0)).min();
    md5::set_min_ttl(socket, ipv6, common.unwrap_or(0))
}

/// Accepts for ever.
pub(crate) async fn accept(shared: Rc<Shared>, listener: Rc<TcpListener>) {
    let mut log_limit = LogLimit::default();
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => admit(&shared, stream, remote.ip().to_canonical(), &mut log_limit),
            Err(error) => {
                shared.counters.borrow_mut().accept_errors += 1;
                if let Some(left_out) = log_limit.admit(&error.to_string(), shared.now()) {
                    tracing::warn!("a connection cannot be accepted: {error}{left_out}");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Hands a connection to the task of its peer. A stranger's is refused before anything is read from it.
fn admit(shared: &Rc<Shared>, stream: TcpStream, remote: IpAddr, log_limit: &mut LogLimit) {
    let known = shared.peers.borrow().get(&remote).cloned();
    let peer = known.or_else(|| {
        let settings = shared.settings.borrow();
        let Some(allowed) = settings.peer(remote) else {
            shared.counters.borrow_mut().strangers_refused += 1;
            let text = format!("connection from {remote}, which is no peer's address, refused");
            if let Some(left_out) = log_limit.admit(&text, shared.now()) {
                tracing::warn!("{text}{left_out}");
            }
            return None;
        };
        let dynamic = shared.peers.borrow().values().filter(|peer| peer.dynamic).count();
        if dynamic >= settings.max_dynamic_peers {
            shared.counters.borrow_mut().dynamic_peers_refused += 1;
            return None;
        }
        Some(shared.add_peer(remote, allowed))
    });
    let Some(peer) = peer else {
        reject(shared, stream);
        return;
    };
    if let Err(
        TrySendError::Full(Command::Accepted(stream)) | TrySendError::Closed(Command::Accepted(stream)),
    ) = peer.mailbox.try_send(Command::Accepted(stream))
    {
        peer.count(|counters| counters.connections_refused += 1);
        reject(shared, stream);
    }
}

/// Cease, Connection Rejected (RFC 4486).
fn reject(shared: &Shared, stream: TcpStream) {
    let notification = Notification::cease(cease_subcode::CONNECTION_REJECTED, "");
    if let Ok(mut connection) = Connection::new(stream) {
        // It is closed in any case.
        let _ = connection.send(|into| notification.encode(into));
        shared.linger(connection);
    }
}
