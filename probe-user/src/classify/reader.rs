//! The thread `classify`: takes packets out of the kernel's buffers and has them classified.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use pathflow_common::PacketBytes as _;
use pathflow_common::bytes::SliceFrame;
use pathflow_common::layout::PayloadHeader;
use pathflow_common::parse::link::{self, Link};

use super::Classifier;
use super::tap::{self, TapSource, Wake};
use crate::capture::Payloads;
use crate::clock::Clock;
use crate::error::RunError;
use crate::metering::observation::ObservationPoints;
use crate::pipeline::spawn;

/// How long it sleeps when there are no packets.
const WAIT: Duration = Duration::from_secs(1);

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
            loop {
                // Asked before the buffers are read: what came until then is read.
                let is_last = woken.take();
                let (points, now) = (points.table(), clock.read().monotonic);
                let mut classify = |header: &PayloadHeader, octets: &[u8]| -> bool {
                    let frame = SliceFrame::captured(octets, header.frame_length);
                    let point = points.get(header.observation_point);
                    let link = start(&frame, point.is_none_or(|point| point.has_link_header));
                    link.is_some_and(|link| classifier.packet(&frame, link, now))
                };
                payloads.receive(now, &mut classify);
                for mut batch in tapped.batches.try_iter() {
                    tap::packets(&batch, |header, octets| {
                        // Those who take them cannot be told.
                        classify(header, octets);
                    });
                    batch.clear();
                    // The pool is as large as there are buffers; if it should be full, the buffer is simply freed.
                    let _ = tapped.emptied.try_send(batch);
                }
                classifier.tick(now);
                if is_last || payloads.wait(woken.event(), WAIT).is_err() {
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
