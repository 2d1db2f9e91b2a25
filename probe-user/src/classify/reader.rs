//! The thread `classify`: takes packets out of the kernel's buffers and has them classified.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use pathflow_common::PacketBytes as _;
use pathflow_common::bytes::SliceFrame;
use pathflow_common::parse::link::{self, Link};

use super::Classifier;
use super::in_order::InOrder;
use super::tap::{self, TapSource, Wake};
use crate::capture::Payloads;
use crate::clock::Clock;
use crate::error::RunError;
use crate::metering::observation::ObservationPoints;
use crate::pipeline::spawn;

/// How long it sleeps when there are no packets.
const WAIT: Duration = Duration::from_secs(1);
/// The same when there are some whose turn has not come.
const SHORT_WAIT: Duration = Duration::from_millis(1);
/// How long a packet may be on its way into its buffer, in nanoseconds.
const UNDER_WAY: u64 = 200_000;
/// Batches of taps that are taken at once, at most.
const BATCHES_AT_ONCE: usize = 16;

/// The thread that classifies what the kernel program sends, and what was taken in user space.
#[derive(Debug)]
pub struct PayloadReader {
    wake: Arc<Wake>,
    taps: TapSource,
    thread: JoinHandle<()>,
}

impl PayloadReader {
    /// Has the packets of `payloads` classified, and those of [`taps`](Self::taps); `points` say how they begin.
    ///
    /// # Errors
    /// [`RunError`] if the thread cannot be started.
    pub fn start(
        mut payloads: Payloads,
        mut classifier: Classifier,
        points: Arc<ObservationPoints>,
        clock: Clock,
    ) -> Result<Self, RunError> {
        let name = "classify".to_owned();
        let wake =
            Wake::new().map_err(|error| RunError::Thread { name: name.clone(), error: error.into() })?;
        let wake = Arc::new(wake);
        let settings = classifier.settings();
        let (taps, tapped) = TapSource::new(settings.packets, settings.octets, Arc::clone(&wake));
        let woken = Arc::clone(&wake);
        let read = move || {
            let mut waiting = InOrder::default();
            loop {
                // Asked before the buffers are read: what came until then is read.
                let is_last = woken.take();
                let (points, now) = (points.table(), clock.read().monotonic);
                let mut is_more = payloads.receive(|header, octets| waiting.push(header, octets));
                for mut batch in tapped.batches.try_iter().take(BATCHES_AT_ONCE) {
                    is_more |= !tapped.batches.is_empty();
                    tap::packets(&batch, |header, octets| waiting.push(header, octets));
                    batch.clear();
                    // The pool is as large as there are buffers; if it should be full, the buffer is simply freed.
                    let _ = tapped.emptied.try_send(batch);
                }
                // Another CPU may have seen an earlier one that cannot be read yet.
                let until = if is_last { u64::MAX } else { now.saturating_sub(UNDER_WAY) };
                waiting.take(until, |header, octets| {
                    let frame = SliceFrame::captured(octets, header.frame_length);
                    let point = points.get(header.observation_point);
                    let link = start(&frame, point.is_none_or(|point| point.has_link_header));
                    let is_decided = link.is_some_and(|link| classifier.packet(&frame, link, header.time));
                    if is_decided && header.hash != 0 {
                        payloads.mark(header.hash);
                    }
                });
                classifier.tick(now);
                payloads.forget(now);
                if is_more {
                    continue;
                }
                let wait = if waiting.is_empty() { WAIT } else { SHORT_WAIT };
                if is_last || payloads.wait(woken.event(), wait).is_err() {
                    break;
                }
            }
        };
        let thread = spawn(name, read)?;
        Ok(Self { wake, taps, thread })
    }

    /// Takes packets where user space sees them.
    #[must_use]
    pub const fn taps(&self) -> &TapSource {
        &self.taps
    }

    /// Looks at what is left and ends. Where the kernel goes on, nobody reads what it sends.
    pub fn finish(self) {
        self.wake.end();
        // A panic in it has ended the process already.
        let _ = self.thread.join();
    }
}

/// Where parsing starts.
fn start(frame: &SliceFrame<'_>, has_link_header: bool) -> Option<Link> {
    if has_link_header {
        return Link::ethernet(frame);
    }
    let [first] = frame.read::<1>(0)?;
    match first >> 4 {
        4 => Some(Link::network(link::IPV4, 0)),
        6 => Some(Link::network(link::IPV6, 0)),
        _ => None,
    }
}
