//! Collectors in the test itself, which can be as slow or as dead as a test wants, and what Sequence Numbers say.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::namespace::Namespace;

/// How often a collector looks whether it is to end.
const TICK: Duration = Duration::from_millis(20);

/// Reads what comes until it is told to end.
#[derive(Debug)]
pub(crate) struct Reader<T> {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<T>>,
}

impl<T: Send + 'static> Reader<T> {
    fn start(read: impl FnOnce(&AtomicBool) -> Vec<T> + Send + 'static) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let flag = Arc::clone(&stop);
        Self { stop, thread: thread::spawn(move || read(&flag)) }
    }

    /// Everything that has come, also what nobody had read yet.
    pub(crate) fn stop(self) -> Vec<T> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Datagrams to `address`, in order.
pub(crate) fn datagrams(namespace: &Namespace, address: SocketAddr) -> Reader<Vec<u8>> {
    let socket = namespace.run(|| UdpSocket::bind(address).unwrap());
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20).unwrap();
    socket.set_read_timeout(Some(TICK)).unwrap();
    Reader::start(move |stop| {
        let (mut datagrams, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
        loop {
            let stopping = stop.load(Ordering::Relaxed);
            match socket.recv(&mut buffer) {
                Ok(length) => datagrams.push(buffer[..length].to_vec()),
                Err(error) if is_timeout(&error) && stopping => return datagrams,
                Err(error) => assert!(is_timeout(&error), "{error}"),
            }
        }
    })
}

/// What comes in each connection to `address`: `octets_per_second` of it, until it is told to end; then all of it.
pub(crate) fn connections(
    namespace: &Namespace,
    address: SocketAddr,
    octets_per_second: Option<usize>,
) -> Reader<Vec<u8>> {
    let listener = namespace.run(|| TcpListener::bind(address).unwrap());
    listener.set_nonblocking(true).unwrap();
    Reader::start(move |stop| {
        let (mut open, mut streams) = (Vec::new(), Vec::new());
        let mut buffer = vec![0; 1 << 16];
        loop {
            let stopping = stop.load(Ordering::Relaxed);
            while let Ok((connection, _)) = listener.accept() {
                connection.set_nonblocking(true).unwrap();
                open.push(connection);
                streams.push(Vec::new());
            }
            let slow = octets_per_second.filter(|_| !stopping);
            let limit = slow.map_or(buffer.len(), |octets| octets * TICK.as_millis() as usize / 1000);
            let mut has_read = false;
            for (connection, stream) in open.iter_mut().zip(&mut streams) {
                // What was read before an error counts as well.
                while let Ok(length @ 1..) = connection.read(&mut buffer[..limit]) {
                    stream.extend_from_slice(&buffer[..length]);
                    has_read = true;
                    if slow.is_some() {
                        break;
                    }
                }
            }
            if stopping && !has_read {
                return streams;
            }
            thread::sleep(TICK);
        }
    })
}

/// What Sequence Numbers say of the messages of one Exporting Process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sequence {
    /// What they count: Data Records of IPFIX, Export Packets of `NetFlow` v9, flows of v5.
    pub(crate) received: u64,
    pub(crate) missing: u64,
}

/// Goes through the messages, which must come in order.
pub(crate) fn sequence(messages: &[Vec<u8>]) -> Sequence {
    let mut sequence = Sequence::default();
    let (mut expected, mut lengths) = (0, BTreeMap::new());
    for message in messages {
        let number = |at: usize| u32::from_be_bytes(message[at..at + 4].try_into().unwrap());
        let (first, count) = match short(message, 0) {
            5 => (number(16), short(message, 2)),
            9 => (number(12), 1),
            10 => (number(8), data_records(message, &mut lengths)),
            version => panic!("version {version}"),
        };
        assert!(first >= expected, "{first} after {expected}");
        sequence.missing += u64::from(first - expected);
        sequence.received += count as u64;
        expected = first + count as u32;
    }
    sequence
}

fn short(octets: &[u8], at: usize) -> usize {
    u16::from_be_bytes([octets[at], octets[at + 1]]).into()
}

/// Data Records of an IPFIX message (RFC 7011, section 3), with the `lengths` of records by template.
fn data_records(message: &[u8], lengths: &mut BTreeMap<usize, usize>) -> usize {
    let (mut records, mut sets) = (0, &message[16..]);
    while !sets.is_empty() {
        let (set, rest) = sets.split_at(short(sets, 2));
        let (id, mut content) = (short(set, 0), &set[4..]);
        sets = rest;
        if id >= 256 {
            records += content.len() / lengths[&id];
            continue;
        }
        // A template is longer than the padding behind it.
        while content.len() > 6 {
            let (template, fields) = (short(content, 0), short(content, 2));
            content = &content[if id == 3 { 6 } else { 4 }..];
            let mut length = 0;
            for _ in 0..fields {
                length += short(content, 2);
                content = &content[if content[0] & 0x80 == 0 { 4 } else { 8 }..];
            }
            lengths.insert(template, length);
        }
    }
    records
}
