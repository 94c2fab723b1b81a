//! An answer that comes while its request's body is still on its way. A task of its own moves both:
//! an answer is read only as fast as the client takes it, and a client may well take nothing before
//! it has sent everything.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_util::sync::PollSender;

use crate::proxy::download::Cut;
use crate::proxy::pool::Lease;
use crate::vocab::Moment;

/// The next part of an answer's body; none is its end, which nothing else is.
type Piece = Option<Result<Frame<Bytes>, Cut>>;

/// What comes of an exchange that a task sees to. Dropping it ends the exchange.
#[derive(Debug)]
pub(super) struct Relay {
    /// What came together with the answer's head. It goes out together with it too: there are
    /// clients that end their stream too early when they see such a head and no end.
    at_hand: VecDeque<Frame<Bytes>>,
    /// Bytes that are still to come, if that is known.
    left: Option<u64>,
    rest: Option<Rest>,
}

/// What the task brings.
#[derive(Debug)]
struct Rest {
    pieces: mpsc::Receiver<Piece>,
    task: AbortHandle,
}

impl Relay {
    /// Has a task see to the rest of an exchange, unless the answer is all there; none is left if
    /// there is no connection.
    pub(super) fn of(mut lease: Lease) -> Option<Self> {
        let connection = lease.connection_mut()?;
        let left = connection.left();
        let at_hand = std::iter::from_fn(|| connection.take_at_hand()).collect();
        let rest = if connection.is_over() { None } else { Some(Rest::of(lease)?) };
        Some(Self { at_hand, left, rest })
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        let piece = match (self.at_hand.pop_front(), &mut self.rest) {
            (Some(frame), _) => Some(Ok(frame)),
            (None, Some(rest)) if self.left != Some(0) => {
                ready!(rest.pieces.poll_recv(cx)).unwrap_or(Some(Err(Cut::Ended)))
            }
            (None, _) => None,
        };
        match &piece {
            Some(Ok(frame)) if frame.is_trailers() => self.left = Some(0),
            Some(Ok(frame)) => {
                let size = frame.data_ref().map_or(0, Bytes::len);
                self.left = self.left.map(|left| left.saturating_sub(size as u64));
            }
            Some(Err(_)) => {}
            None => self.left = Some(0),
        }
        Poll::Ready(piece)
    }

    /// How many bytes of the body are to come, if that is known.
    pub(super) const fn left(&self) -> Option<u64> {
        self.left
    }
}

impl Rest {
    fn of(lease: Lease) -> Option<Self> {
        let tasks = lease.tasks()?.clone();
        // One piece at most waits for the client; the upstream keeps the rest.
        let (sender, pieces) = mpsc::channel(1);
        let mut mover = Mover { lease, pieces: PollSender::new(sender), cut: None };
        let run = async move {
            poll_fn(|cx| mover.poll(cx)).await;
            // Kept if nothing of the request is left either.
            mover.lease.give_back(Moment::now());
        };
        Some(Self { pieces, task: tasks.spawn(run).abort_handle() })
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The task's part of it.
struct Mover {
    lease: Lease,
    pieces: PollSender<Piece>,
    /// How the request's body broke off, while there was no room to tell.
    cut: Option<Cut>,
}

impl Mover {
    /// Ready when the answer is over, or nobody wants it.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(connection) = self.lease.connection_mut() else { return Poll::Ready(()) };
            if let Err(cut) = connection.poll_upload(cx) {
                self.cut.get_or_insert(cut);
            }
            if ready!(self.pieces.poll_reserve(cx)).is_err() {
                return Poll::Ready(());
            }
            let piece = match self.cut.take() {
                Some(cut) => Some(Err(cut)),
                None => ready!(connection.poll_frame(cx)),
            };
            let goes_on = matches!(&piece, Some(Ok(_))) && !connection.is_over();
            if self.pieces.send_item(piece).is_err() || !goes_on {
                return Poll::Ready(());
            }
        }
    }
}
