//! Bodies that are made while the client takes them, a piece at a time: memory
//! stays small however long a list or an output is, and however many clients
//! do not read.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::FromRef;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::flux::fault::{self, Fault};
use super::readers::{PIECE_BYTES, Reader, Readers};
use super::{Gate, Shared};
use crate::caller::Caller;
use crate::error::{Error, Kind, Result};

/// What a long response is made of.
pub(super) trait Source: Send + 'static {
    /// Add a piece to `out`, of about [`PIECE_BYTES`]; nothing where there is
    /// nothing yet. Returns whether there may be more.
    ///
    /// Errors: it cannot be read now.
    fn piece(&mut self, out: &mut Vec<u8>) -> impl Future<Output = Result<bool>> + Send;

    /// After a piece without bytes: returns when there may be some.
    ///
    /// Errors: as [`Source::piece`].
    fn wait(&mut self) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(Ok(()))
    }
}

/// Sends long responses.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    gate: Arc<Gate>,
    readers: Arc<Readers>,
}

impl FromRef<Shared> for Sender {
    fn from_ref(shared: &Shared) -> Self {
        Self {
            gate: shared.gate.clone(),
            readers: shared.readers.clone(),
        }
    }
}

impl Sender {
    /// A body for `caller`, made of `source`. It ends early, as a broken
    /// response, where the source cannot be read any more or the caller's token
    /// is no longer valid.
    ///
    /// Errors: 429 where the caller has as many readers as there may be.
    pub(super) fn body(&self, caller: Caller, source: impl Source) -> Result<Body, Fault> {
        let reader = self
            .readers
            .add(&caller)
            .ok_or_else(Fault::too_many_readers)?;
        let sent = Sent {
            gate: self.gate.clone(),
            caller,
            reader,
            source,
        };
        let pieces = futures_util::stream::unfold(Some(sent), async |sent| {
            let mut sent = sent?;
            match sent.next().await {
                Ok((piece, more)) => piece.map(|piece| (Ok(piece), more.then_some(sent))),
                Err(broken) => Some((Err(broken), None)),
            }
        });
        Ok(Body::from_stream(pieces))
    }

    /// A JSON list for `caller`.
    ///
    /// Errors: its first piece cannot be read; as [`Sender::body`].
    pub(super) async fn list(
        &self,
        caller: Caller,
        open: &'static str,
        items: impl Items,
    ) -> Result<Response, Fault> {
        let mut list = List {
            items,
            read: VecDeque::new(),
            sent: 0,
            first: Vec::from(open),
        };
        let mut first = Vec::new();
        let body = if list.piece(&mut first).await? {
            list.first = first;
            self.body(caller, list)?
        } else {
            Body::from(first)
        };
        Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
    }
}

/// A response that is being sent.
struct Sent<S> {
    gate: Arc<Gate>,
    caller: Caller,
    reader: Reader,
    source: S,
}

impl<S: Source> Sent<S> {
    /// The next piece, if there is one, and whether there may be more.
    async fn next(&mut self) -> std::io::Result<(Option<Bytes>, bool)> {
        let next = tokio::select! {
            biased;
            () = self.gate.over(&self.caller) => {
                let name = &self.caller.name;
                tracing::info!(user.name = ?name, "a response ended with the validity of its token");
                return Err(std::io::Error::other("the token is no longer valid"));
            }
            next = next(&self.reader, &mut self.source) => next,
        };
        next.map_err(|error| {
            // The status is sent already: the client sees a broken response.
            fault::log(&error);
            tracing::warn!(%error, "a response broke off");
            std::io::Error::other("the response broke off")
        })
    }
}

async fn next(reader: &Reader, source: &mut impl Source) -> Result<(Option<Bytes>, bool)> {
    loop {
        let room = reader.room().await;
        let mut out = Vec::new();
        let more = source.piece(&mut out).await?;
        if !out.is_empty() {
            return Ok((Some(room.fill(out)), more));
        }
        if !more {
            return Ok((None, false));
        }
        // Who waits has no room.
        drop(room);
        source.wait().await?;
    }
}

/// The items of a JSON list.
pub(super) trait Items: Send + 'static {
    /// One of them.
    type Item: Send;

    /// The next ones, so many that they take little memory; none at the end.
    ///
    /// Errors: the store is away.
    fn next(&mut self) -> impl Future<Output = Result<Vec<Self::Item>>> + Send;

    /// Write one of them as JSON.
    ///
    /// Errors: it cannot be written.
    fn write(&self, item: &Self::Item, out: &mut Vec<u8>) -> serde_json::Result<()>;

    /// What stands behind `count` items.
    fn close(&self, count: i64) -> String;
}

/// A JSON list as a source.
struct List<I: Items> {
    items: I,
    /// Items that were read and not written.
    read: VecDeque<I::Item>,
    /// Items that were written.
    sent: i64,
    /// What comes first.
    first: Vec<u8>,
}

impl<I: Items> Source for List<I> {
    async fn piece(&mut self, out: &mut Vec<u8>) -> Result<bool> {
        out.append(&mut self.first);
        while out.len() < PIECE_BYTES {
            let Some(item) = self.read.pop_front() else {
                self.read = self.items.next().await?.into();
                if self.read.is_empty() {
                    out.extend(self.items.close(self.sent).bytes());
                    return Ok(false);
                }
                continue;
            };
            if self.sent > 0 {
                out.push(b',');
            }
            self.sent += 1;
            self.items.write(&item, out).map_err(unwritable)?;
        }
        Ok(true)
    }
}

/// A value that cannot be written as JSON: a defect of ours.
pub(super) fn unwritable(error: serde_json::Error) -> Error {
    Error::caused(Kind::Internal, "The answer cannot be written.", error)
}
