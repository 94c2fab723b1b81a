//! What is read from a connection, and into what: a connection that waits for bytes holds no
//! memory for them.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// What is read at a time of a head, and of any body where there are many.
pub(super) const LITTLE: usize = 8 * 1024;

/// Large reads save a third of the work of a large body.
const MUCH: usize = 128 * 1024;

/// Rooms that a thread keeps for large reads.
const MOST_ROOMS: usize = 4;

thread_local! {
    /// Memory for large reads, of which those that read hold slices for a while. Never borrowed
    /// across an await.
    static ROOMS: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// Reads once, as much as a head needs. Nothing at the connection's end.
pub(super) fn poll_little<T: AsyncRead + Unpin>(
    io: &mut T,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Bytes>> {
    let mut scratch = [const { MaybeUninit::uninit() }; LITTLE];
    let mut buffer = ReadBuf::uninit(&mut scratch);
    ready!(Pin::new(io).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(Bytes::copy_from_slice(buffer.filled())))
}

/// Reads once, up to `most` bytes or as much as is good for a large body. Nothing at the
/// connection's end.
pub(super) fn poll_much<T: AsyncRead + Unpin>(
    io: &mut T,
    most: u64,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Bytes>> {
    let most = usize::try_from(most).map_or(MUCH, |most| most.min(MUCH));
    ROOMS.with_borrow_mut(|rooms| {
        let room = vacant(rooms, most);
        let count = {
            let mut limited = (&mut *room).limit(most);
            ready!(pin!(io.read_buf(&mut limited)).poll(cx))?
        };
        if count > LITTLE {
            return Poll::Ready(Ok(room.split().freeze()));
        }
        // A few bytes that somebody is slow to take would keep the whole room from being used.
        let few = Bytes::copy_from_slice(room);
        room.clear();
        Poll::Ready(Ok(few))
    })
}

/// A room for so many bytes: one that nobody holds any slice of, or a new one.
fn vacant(rooms: &mut Vec<BytesMut>, most: usize) -> &mut BytesMut {
    let is_vacant = |room: &mut BytesMut| room.capacity() >= most || room.try_reclaim(most);
    let index = match rooms.iter_mut().position(is_vacant) {
        Some(index) => index,
        None => {
            // Those who hold the slices of the oldest keep it as long as they do.
            rooms.truncate(MOST_ROOMS - 1);
            rooms.insert(0, BytesMut::with_capacity(MUCH));
            0
        }
    };
    &mut rooms[index]
}

/// What came before together with what came now.
pub(super) fn joined(before: Bytes, now: Bytes) -> Bytes {
    if before.is_empty() {
        return now;
    }
    let mut all = BytesMut::from(before);
    all.extend_from_slice(&now);
    all.freeze()
}

/// Whether a read of this size may have left something behind.
pub(super) const fn is_full(count: usize) -> bool {
    count >= LITTLE
}
