//! Answers to what a running daemon is asked: of routes, and of the rows that aggregates keep.

use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use pathflow_exporter::Tally;

use crate::aggregate::encode::RowEncoder;
use crate::aggregate::{CurrentRows, KeptRows, Purge, Question, Selected};
use crate::control::{Answer, ControlSocket, Places, Request, Response, RowsAnswer, RowsRequest, SocketName};
use crate::error::RunError;
use crate::pipeline::spawn;
use crate::routing::RouteAnswers;

/// Octets that are written at once.
const CHUNK: usize = 1 << 16;
/// Answers with rows at one time: each has a copy of them.
const MOST_WITH_ROWS: usize = 2;

/// What many who ask at the same time share.
#[derive(Clone, Debug)]
struct Bounds {
    with_rows: Places,
    /// The thread `bgp` has one question at a time.
    of_routes: Arc<Mutex<()>>,
}

/// Who knows the answers.
#[derive(Clone, Debug)]
pub struct Answers {
    /// Of routes, if there is a BGP peer or a BMP station.
    pub routes: Option<RouteAnswers>,
    /// Of rows in memory.
    pub rows: CurrentRows,
}

impl Answers {
    /// Answers at the socket `path` until the process ends, unless there is nothing to ask. The socket has its name as
    /// long as the result lives.
    ///
    /// # Errors
    /// [`RunError`] if the socket cannot be had or the thread not be started.
    pub fn serve(self, path: &Path) -> Result<Option<SocketName>, RunError> {
        if self.routes.is_none() && self.rows.load().is_empty() {
            return Ok(None);
        }
        let (socket, name) =
            ControlSocket::bind(path).map_err(|error| RunError::Control { path: path.to_owned(), error })?;
        let bounds = Bounds { with_rows: Places::new(MOST_WITH_ROWS), of_routes: Arc::default() };
        let answer = move |request| {
            self.answer(&request, &bounds).unwrap_or_else(|error| Response::Error(error).into())
        };
        spawn("control".to_owned(), move || socket.run(answer))?;
        Ok(Some(name))
    }

    fn answer(&self, request: &Request, bounds: &Bounds) -> Result<Answer, String> {
        let routes =
            || self.routes.as_ref().ok_or("there is no [bgp] peer and no [bmp] station in its settings");
        // Each is answered in bounded time.
        let turn = || bounds.of_routes.lock().unwrap_or_else(PoisonError::into_inner);
        let response = match request {
            Request::Peers => {
                let _turn = turn();
                Response::Peers(routes()?.peers().map_err(|error| error.to_string())?)
            }
            Request::Route { address, peer } => {
                let _turn = turn();
                let routes = routes()?.routes(*address, peer.as_deref());
                Response::Routes(routes.map_err(|error| error.to_string())?)
            }
            Request::Rows(request) => return self.rows(request, &bounds.with_rows),
        };
        Ok(response.into())
    }

    fn rows(&self, request: &RowsRequest, places: &Places) -> Result<Answer, String> {
        let kept = self.kept(request.aggregate.as_deref())?;
        let busy = || format!("busy: {MOST_WITH_ROWS} others are being answered with rows");
        let place = places.take().ok_or_else(busy)?;
        let RowsRequest { conditions, top, by, reset, format, separator, .. } = request;
        let question = Question { conditions: conditions.clone(), top: *top, top_by: *by, forget: *reset };
        let mut encoder = kept.encoder(*format, separator).map_err(|error| error.to_string())?;
        let selected = kept.ask(&question).map_err(|error| error.to_string())?;
        let Selected { rows, matching, all, since } = &selected;
        let numbers = |tally: Tally| [tally.records, tally.packets, tally.octets];
        let answer = RowsAnswer {
            aggregate: kept.aggregate().to_owned(),
            written: numbers(rows.tally()),
            matching: numbers(*matching),
            all: numbers(*all),
            since: since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        };
        let selected = Rc::new(selected);
        let written = Rc::clone(&selected);
        let text = move |out: &mut dyn Write| {
            let _place = place;
            write_rows(out, &mut encoder, &written.rows)
        };
        let answer = Answer::with_text(Response::Rows(answer), Box::new(text));
        if !*reset {
            return Ok(answer);
        }
        let kept = kept.clone();
        Ok(answer.or_else(move || kept.put_back(&selected)))
    }

    fn kept(&self, aggregate: Option<&str>) -> Result<KeptRows, String> {
        let rows = self.rows.load();
        let names: Vec<&str> = rows.iter().map(KeptRows::aggregate).collect();
        match (aggregate, rows.as_slice()) {
            (_, []) => Err("no aggregate has [aggregate.memory] in its settings".to_owned()),
            (None, [only]) => Ok(only.clone()),
            (None, _) => Err(format!("which aggregate? There are {}", names.join(", "))),
            (Some(name), all) => all.iter().find(|kept| kept.aggregate() == name).cloned().ok_or_else(|| {
                format!(
                    "{name}: no aggregate of this name keeps rows in memory; there are {}",
                    names.join(", ")
                )
            }),
        }
    }
}

fn write_rows(out: &mut dyn Write, encoder: &mut RowEncoder, rows: &Purge) -> io::Result<()> {
    let mut octets = Vec::with_capacity(2 * CHUNK);
    encoder.header(&mut octets);
    for row in rows.rows() {
        encoder.row(&mut octets, &row, rows.updated());
        octets.push(b'\n');
        if octets.len() > CHUNK {
            out.write_all(&octets)?;
            octets.clear();
        }
    }
    out.write_all(&octets)?;
    out.flush()
}
