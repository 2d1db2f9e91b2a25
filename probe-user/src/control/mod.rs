//! Questions to a running daemon, by a Unix socket for root and its group.
//!
//! Each connection has a thread for a bounded time, and there is a bounded number of them: who asks takes nothing from the
//! rest of the program, and who is silent, or reads slowly, nothing from others who ask.

mod message;
mod places;
mod table;

use std::fs::{self, DirBuilder};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use tracing::debug;

pub use message::{FamilyAnswer, PeerAnswer, Request, Response, RouteAnswer, RowsAnswer, RowsRequest};
pub use places::{Place, Places};
pub use table::{CELL_SEPARATOR, aligned};

/// Longest question, in octets.
const REQUEST: u64 = 16 << 10;
/// Longest answer, in octets.
const RESPONSE: u64 = 64 << 20;
/// Longest text behind an answer, in octets.
const TEXT: u64 = 4 << 30;
/// What ends a text: one without it was cut off.
const END_OF_TEXT: u8 = 0;
/// Time for a question to come in, and for each piece of its answer to go out.
const SERVER_TIME: Duration = Duration::from_secs(2);
/// Time for an answer to go out.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// Connections at one time; more are refused.
const MOST_CONNECTIONS: usize = 16;
/// Time for an answer to begin.
const CLIENT_TIME: Duration = Duration::from_secs(30);
/// Connections that nobody has looked at yet.
const BACKLOG: i32 = 16;

/// Writes what comes behind an answer.
pub type Text = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()>>;

/// What is answered.
pub struct Answer {
    response: Response,
    text: Option<Text>,
    /// Called if not all of it could be delivered.
    undelivered: Option<Box<dyn FnOnce()>>,
}

/// The socket of a daemon.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    /// For a question to come in.
    time: Duration,
}

/// Name of a socket; gone when this is.
#[derive(Debug)]
pub struct SocketName(PathBuf);

impl ControlSocket {
    /// Makes the socket, and its directory if there is none.
    ///
    /// # Errors
    /// If another daemon has it, or it cannot be made.
    pub fn bind(path: &Path) -> io::Result<(Self, SocketName)> {
        if let Some(directory) = path.parent()
            && !directory.exists()
        {
            DirBuilder::new().mode(0o750).recursive(true).create(directory)?;
        }
        match fs::symlink_metadata(path) {
            Ok(metadata) if !metadata.file_type().is_socket() => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is there and is no socket"));
            }
            // Of a daemon that has ended without removing it, or of one that runs.
            Ok(_) if UnixStream::connect(path).is_ok() => {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another pathflow has it"));
            }
            Ok(_) => fs::remove_file(path)?,
            Err(_) => {}
        }
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // Before it has a name, so that at no time anybody else can connect.
        fchmod(&socket, Mode::from_raw_mode(0o660))?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        let name = SocketName(path.to_owned());
        listen(&socket, BACKLOG)?;
        Ok((Self { listener: UnixListener::from(socket), time: SERVER_TIME }, name))
    }

    /// Answers until the process ends.
    pub fn run(self, answer: impl Fn(Request) -> Answer + Clone + Send + 'static) {
        let places = Places::new(MOST_CONNECTIONS);
        loop {
            let result = match self.listener.accept() {
                Ok((stream, _)) => match places.take() {
                    Some(place) => serve_apart(stream, self.time, answer.clone(), place),
                    None => refuse(&stream),
                },
                Err(error) => {
                    // Out of file descriptors.
                    thread::sleep(Duration::from_millis(100));
                    Err(error)
                }
            };
            if let Err(error) = result {
                debug!("control socket: {error}");
            }
        }
    }
}

impl Answer {
    /// An answer with a text behind it.
    #[must_use]
    pub fn with_text(response: Response, text: Text) -> Self {
        Self { response, text: Some(text), undelivered: None }
    }

    /// The same; `then` is called if not all of the answer could be handed to the one who asked.
    #[must_use]
    pub fn or_else(mut self, then: impl FnOnce() + 'static) -> Self {
        self.undelivered = Some(Box::new(then));
        self
    }
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self { response, text: None, undelivered: None }
    }
}

impl Drop for SocketName {
    fn drop(&mut self) {
        // The next daemon removes it otherwise.
        _ = fs::remove_file(&self.0);
    }
}

/// Serves a connection in a thread of its own, which holds `place`.
fn serve_apart(
    stream: UnixStream,
    time: Duration,
    answer: impl Fn(Request) -> Answer + Send + 'static,
    place: Place,
) -> io::Result<()> {
    let work = move || {
        if let Err(error) = serve(&stream, time, &answer) {
            debug!("control socket: {error}");
        }
        // Before the one who asked sees the end, so that the next question finds it free.
        drop(place);
        drop(stream);
    };
    thread::Builder::new().name("control-answer".to_owned()).spawn(work).map(drop)
}

/// Says that there are too many, without waiting for anything.
fn refuse(mut stream: &UnixStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let reason = format!("busy: {MOST_CONNECTIONS} others are being answered, or have asked nothing yet");
    stream.write_all(&line(&Response::Error(reason))?)
}

fn serve(stream: &UnixStream, time: Duration, answer: &impl Fn(Request) -> Answer) -> io::Result<()> {
    stream.set_read_timeout(Some(time))?;
    stream.set_write_timeout(Some(SERVER_TIME))?;
    let mut line = String::new();
    let limited = Limited { stream, until: Instant::now() + time };
    BufReader::new(limited.take(REQUEST)).read_line(&mut line)?;
    let response = match serde_json::from_str(&line) {
        Ok(request) => answer(request),
        Err(error) => Response::Error(format!("not understood: {error}")).into(),
    };
    let Answer { response, text, undelivered } = response;
    let delivered = deliver(stream, &response, text);
    if let (Err(_), Some(then)) = (&delivered, undelivered) {
        then();
    }
    delivered
}

fn deliver(stream: &UnixStream, response: &Response, text: Option<Text>) -> io::Result<()> {
    let mut limited = Limited { stream, until: Instant::now() + ANSWER_TIME };
    limited.write_all(&line(response)?)?;
    let Some(text) = text else { return Ok(()) };
    let mut writer = BufWriter::new(limited);
    text(&mut writer)?;
    writer.write_all(&[END_OF_TEXT])?;
    writer.flush()
}

fn line(response: &Response) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(response)?;
    line.push(b'\n');
    Ok(line)
}

/// Reads and writes until a time.
struct Limited<'s> {
    stream: &'s UnixStream,
    until: Instant,
}

impl Limited<'_> {
    fn check(&self) -> io::Result<()> {
        if Instant::now() > self.until { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

impl Read for Limited<'_> {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        self.stream.read(octets)
    }
}

impl Write for Limited<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.check()?;
        self.stream.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Asks the daemon whose socket this is. What comes behind the answer is empty, but for rows.
///
/// # Errors
/// If there is none, it does not answer, or its answer is not understood or cut off.
pub fn ask(path: &Path, request: &Request) -> io::Result<(Response, Vec<u8>)> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(CLIENT_TIME))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    // A daemon that refuses says so without having read the question.
    let asked = (&stream).write_all(&line);
    let mut reader = BufReader::new(&stream);
    let (mut line, mut text) = (Vec::new(), Vec::new());
    let answered = reader.by_ref().take(RESPONSE).read_until(b'\n', &mut line);
    if line.is_empty() {
        asked?;
    }
    answered?;
    let response = serde_json::from_slice(&line)?;
    if matches!(response, Response::Rows(_)) {
        reader.take(TEXT).read_to_end(&mut text)?;
        if text.pop() != Some(END_OF_TEXT) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer was cut off"));
        }
    }
    Ok((response, text))
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::os::unix::fs::PermissionsExt as _;
    use std::rc::Rc;

    use super::*;

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("pathflow-{}-{name}", std::process::id()));
        _ = fs::remove_dir_all(&directory);
        directory
    }

    #[test]
    fn questions_are_answered_and_nonsense_is_refused() {
        let directory = directory("control");
        let path = directory.join("control.sock");
        let (socket, _name) = ControlSocket::bind(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path) & 0o117, mode(&directory) & 0o007), (0, 0));
        assert!(ControlSocket::bind(&path).unwrap_err().to_string().contains("another pathflow has it"));
        thread::spawn(move || {
            socket.run(|request| match request {
                Request::Peers => Response::Peers(vec![PeerAnswer::default()]).into(),
                Request::Route { address, .. } => Response::Error(address.to_string()).into(),
                Request::Rows(request) => {
                    let is_whole = !request.reset;
                    let text = move |out: &mut dyn Write| {
                        if is_whole { out.write_all(b"a\nb\n") } else { Err(io::ErrorKind::Other.into()) }
                    };
                    Answer::with_text(Response::Rows(RowsAnswer::default()), Box::new(text))
                }
            });
        });
        let one_peer = (Response::Peers(vec![PeerAnswer::default()]), Vec::new());
        assert_eq!(ask(&path, &Request::Peers).unwrap(), one_peer);
        let route = Request::Route { address: "2001:db8::1".parse().unwrap(), peer: None };
        assert_eq!(ask(&path, &route).unwrap().0, Response::Error("2001:db8::1".to_owned()));
        let rows = |reset| ask(&path, &Request::Rows(RowsRequest { reset, ..RowsRequest::default() }));
        assert_eq!(rows(false).unwrap(), (Response::Rows(RowsAnswer::default()), b"a\nb\n".to_vec()));
        assert!(rows(true).unwrap_err().to_string().contains("cut off"));

        for nonsense in ["\n", "{}\n", "\"shutdown\"\n", &("[".repeat(16_383) + "\n"), &"x".repeat(40_000)] {
            let mut stream = UnixStream::connect(&path).unwrap();
            _ = stream.write_all(nonsense.as_bytes());
            let mut text = String::new();
            // What it has not read of too long a question makes the connection end with a reset.
            if stream.read_to_string(&mut text).is_ok() {
                assert!(text.starts_with(r#"{"error":"not understood: "#), "{text}");
            }
        }
        assert_eq!(ask(&path, &Request::Peers).unwrap(), one_peer);
        fs::remove_dir_all(&directory).unwrap();
    }

    /// Those who are silent have an hour here: they are there until they go.
    #[test]
    fn silent_clients_delay_nobody_and_too_many_are_refused() {
        let directory = directory("silent");
        let path = directory.join("control.sock");
        let (mut socket, _name) = ControlSocket::bind(&path).unwrap();
        socket.time = Duration::from_hours(1);
        thread::spawn(move || socket.run(|_| Response::Peers(Vec::new()).into()));
        let connect = || UnixStream::connect(&path).unwrap();
        let mut silent: Vec<UnixStream> = (1..MOST_CONNECTIONS).map(|_| connect()).collect();
        // One place is left; each question gives it back when it is answered.
        let answered = || match ask(&path, &Request::Peers).unwrap().0 {
            Response::Peers(_) => true,
            Response::Error(error) => {
                assert!(error.starts_with("busy: 16 others are being answered"), "{error}");
                false
            }
            other => panic!("{other:?}"),
        };
        let wait_until_answered = || {
            while !answered() {
                thread::yield_now();
            }
        };
        assert!(answered());
        wait_until_answered();
        // The place of the last question may not be free yet when the next connection comes: it is refused then.
        let mut last = connect();
        loop {
            let refused = &mut [0];
            last.set_nonblocking(true).unwrap();
            if !answered()
                && matches!(last.read(refused), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            {
                break;
            }
            last = connect();
        }
        silent.push(last);
        assert!(!answered());
        silent.pop();
        wait_until_answered();
        drop(silent);
        wait_until_answered();
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn what_cannot_be_delivered_is_not_given_away() {
        let (count, answer) = (Rc::new(Cell::new(0)), |text: Text| {
            Answer::with_text(Response::Rows(RowsAnswer::default()), text)
        });
        let question = serde_json::to_vec(&Request::Rows(RowsRequest::default())).unwrap();
        let ask = |then: &dyn Fn(UnixStream)| {
            let (mut asking, answering) = UnixStream::pair().unwrap();
            asking.write_all(&[question.as_slice(), b"\n"].concat()).unwrap();
            then(asking);
            let undelivered = Rc::clone(&count);
            let answer = |_| {
                let undelivered = Rc::clone(&undelivered);
                answer(Box::new(|out| out.write_all(b"row\n")))
                    .or_else(move || undelivered.set(undelivered.get() + 1))
            };
            serve(&answering, SERVER_TIME, &answer)
        };
        // Whoever asked has gone before the first octet of the answer.
        assert!(ask(&drop).is_err());
        assert_eq!(count.get(), 1);
        let stays = RefCell::new(None);
        ask(&|asking| *stays.borrow_mut() = Some(asking)).unwrap();
        assert_eq!(count.get(), 1);
        let mut text = String::new();
        stays.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(text.ends_with("row\n\0"), "{text}");
    }

    #[test]
    fn a_socket_that_was_left_is_replaced_and_a_file_is_not() {
        let directory = directory("left");
        let path = directory.join("control.sock");
        let left = ControlSocket::bind(&path).unwrap();
        fs::hard_link(&path, directory.join("kept")).unwrap();
        drop(left);
        fs::rename(directory.join("kept"), &path).unwrap();
        drop(ControlSocket::bind(&path).unwrap());
        assert!(!path.exists());
        fs::write(&path, "").unwrap();
        assert!(ControlSocket::bind(&path).unwrap_err().to_string().contains("is no socket"));
        fs::remove_dir_all(&directory).unwrap();
    }
}
