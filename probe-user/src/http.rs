//! `/metrics` and `/healthz`.
//!
//! One thread, a bounded number of connections, short time limits: a slow or hostile client takes nothing
//! from the rest of the program.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::debug;

use crate::metrics::Sources;

const CONNECTIONS: usize = 64;
/// Longest request head, in octets.
const HEAD: usize = 8 * 1024;
/// Time for a request head to come in.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// Time that a connection may stay open at all.
const CONNECTION_TIME: Duration = Duration::from_mins(1);

/// The page server.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    runtime: tokio::runtime::Runtime,
}

impl Server {
    /// Takes the address. Nothing is served yet.
    ///
    /// # Errors
    /// If the address is in use or not of this machine.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, runtime })
    }

    /// Address that is listened on; of interest when port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the process ends. `stalled_after` is the time without a drain after which the program
    /// is no longer healthy.
    pub fn run(self, sources: Sources, stalled_after: Duration) {
        let Self { listener, runtime, .. } = self;
        let page = Arc::new(Page { sources, stalled_after });
        runtime.block_on(async move {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => accept(listener, page).await,
                Err(error) => debug!("no metrics page: {error}"),
            }
        });
    }
}

async fn accept(listener: tokio::net::TcpListener, page: Arc<Page>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&connections).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, or the client was gone already.
                debug!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let page = Arc::clone(&page);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = page.answer(&request);
                async { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .max_buf_size(HEAD)
                .serve_connection(TokioIo::new(stream), service);
            if let Ok(Err(error)) = timeout(CONNECTION_TIME, connection).await {
                debug!("connection: {error}");
            }
            drop(place);
        });
    }
}

#[derive(Debug)]
struct Page {
    sources: Sources,
    stalled_after: Duration,
}

impl Page {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/metrics" => match self.sources.render() {
                Ok(page) => {
                    let mut response = text(StatusCode::OK, page);
                    response.headers_mut().insert(
                        CONTENT_TYPE,
                        HeaderValue::from_static(
                            "application/openmetrics-text; version=1.0.0; charset=utf-8",
                        ),
                    );
                    response
                }
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            },
            "/healthz" => {
                let since = self.sources.latencies.since_drain();
                if since <= self.stalled_after {
                    text(StatusCode::OK, "ok\n".to_owned())
                } else {
                    let seconds = since.as_secs();
                    text(StatusCode::SERVICE_UNAVAILABLE, format!("the last drain was {seconds} s ago\n"))
                }
            }
            _ => text(StatusCode::NOT_FOUND, "there are /metrics and /healthz\n".to_owned()),
        }
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
