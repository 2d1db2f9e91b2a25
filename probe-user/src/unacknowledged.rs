//! What the other end of a TCP connection has not acknowledged yet.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::ioctl::{Getter, Opcode, ioctl};

/// `SIOCOUTQ` (tcp(7)), which has the number of `TIOCOUTQ`.
const SIOCOUTQ: Opcode = libc::TIOCOUTQ as Opcode;

/// Octets of a TCP socket that were written to it and are not acknowledged, whether they were sent or not. Still there
/// to be asked when the connection has broken.
///
/// # Errors
/// From the system, if `socket` is no connected TCP socket.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: the kernel writes one `int` for this request (tcp(7)), which is what the getter has room for, and
    // reads and keeps nothing.
    let octets = unsafe { ioctl(socket, Getter::<SIOCOUTQ, libc::c_int>::new()) }?;
    Ok(octets.max(0) as u32)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn counts_what_the_other_end_has_no_room_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        assert_eq!(unacknowledged(socket.as_fd()).unwrap(), 0);
        socket.set_nonblocking(true).unwrap();
        let mut written = 0;
        while let Ok(octets) = socket.write(&[0; 8192]) {
            written += octets;
        }
        let waiting = unacknowledged(socket.as_fd()).unwrap() as usize;
        assert!((1..=written).contains(&waiting), "{waiting} of {written}");
        other.read_exact(&mut vec![0; written]).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while unacknowledged(socket.as_fd()).unwrap() > 0 {
            assert!(Instant::now() < deadline, "never acknowledged");
        }
    }
}
