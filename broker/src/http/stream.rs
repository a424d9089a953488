//! Bodies that are sent while they are made: memory stays small however long
//! a list or an output is.

use std::future::Future;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use tokio::sync::mpsc;

use super::flux::fault::Fault;
use crate::error::{Error, Kind, Result};

/// Pieces that wait to be sent.
const AHEAD: usize = 2;
/// Bytes gathered before a piece is sent.
const PIECE: usize = 32 * 1024;

/// What stands before and after the items of a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Json {
    /// Before the first.
    pub(super) open: &'static str,
    /// After the last.
    pub(super) close: &'static str,
}

impl Json {
    /// `[…]`
    pub(super) const ARRAY: Self = Self {
        open: "[",
        close: "]",
    };
    /// `{…}`
    pub(super) const OBJECT: Self = Self {
        open: "{",
        close: "}",
    };
}

/// A value that cannot be written as JSON: a defect of ours.
pub(super) fn unspeakable() -> Fault {
    Error::new(Kind::Internal, "The answer cannot be written.").into()
}

/// A JSON list. `first` is its first piece; where that is full (`piece`
/// items), `more` brings the next, behind the last id and the number of items
/// so far.
pub(super) fn list<T, K, F>(
    shape: Json,
    first: Vec<T>,
    piece: i64,
    key: fn(&T) -> K,
    spell: impl Fn(&T, &mut Vec<u8>) -> serde_json::Result<()> + Send + 'static,
    more: impl Fn(K, i64) -> F + Send + 'static,
) -> Response
where
    T: Send + 'static,
    K: Send + 'static,
    F: Future<Output = Result<Vec<T>>> + Send + 'static,
{
    list_with_end(shape, first, piece, key, spell, more, |_| String::new())
}

/// As [`list`], with more text behind the list, made from its length.
pub(super) fn list_with_end<T, K, F>(
    shape: Json,
    first: Vec<T>,
    piece: i64,
    key: fn(&T) -> K,
    spell: impl Fn(&T, &mut Vec<u8>) -> serde_json::Result<()> + Send + 'static,
    more: impl Fn(K, i64) -> F + Send + 'static,
    end: impl FnOnce(i64) -> String + Send + 'static,
) -> Response
where
    T: Send + 'static,
    K: Send + 'static,
    F: Future<Output = Result<Vec<T>>> + Send + 'static,
{
    let mut out = Vec::from(shape.open);
    let mut sent = 0_i64;
    let add = move |items: &[T], out: &mut Vec<u8>, sent: &mut i64| {
        for item in items {
            if *sent > 0 {
                out.push(b',');
            }
            *sent += 1;
            spell(item, out)?;
        }
        serde_json::Result::Ok(())
    };
    if add(&first, &mut out, &mut sent).is_err() {
        return unspeakable().into_response();
    }
    let head = [(CONTENT_TYPE, "application/json")];
    let full = |items: &[T]| i64::try_from(items.len()).is_ok_and(|n| n >= piece);
    if !full(&first) {
        out.extend(shape.close.bytes());
        out.extend(end(sent).bytes());
        return (head, Bytes::from(out)).into_response();
    }
    let (pieces, body) = channel();
    tokio::spawn(async move {
        let mut items = first;
        while let Some(last) = items.last().map(key) {
            if pieces
                .send(Ok(std::mem::take(&mut out).into()))
                .await
                .is_err()
            {
                return;
            }
            items = match more(last, sent).await {
                Ok(items) => items,
                Err(error) => {
                    // The status is sent already: the client sees a broken answer.
                    tracing::warn!(%error, "a list broke off");
                    let _ = pieces
                        .send(Err(std::io::Error::other("the list broke off")))
                        .await;
                    return;
                }
            };
            if add(&items, &mut out, &mut sent).is_err() {
                let _ = pieces
                    .send(Err(std::io::Error::other("the list broke off")))
                    .await;
                return;
            }
        }
        out.extend(shape.close.bytes());
        out.extend(end(sent).bytes());
        let _ = pieces.send(Ok(out.into())).await;
    });
    (head, body).into_response()
}

/// A body made by blocking work: `step` adds to the buffer, and says whether
/// there is more.
pub(super) fn blocking(
    mut step: impl FnMut(&mut Vec<u8>) -> std::io::Result<bool> + Send + 'static,
) -> Body {
    let (pieces, body) = channel();
    tokio::task::spawn_blocking(move || {
        let mut out = Vec::new();
        loop {
            let more = step(&mut out);
            let sent = match more {
                Ok(true) if out.len() < PIECE => continue,
                Ok(true) => pieces.blocking_send(Ok(std::mem::take(&mut out).into())),
                Ok(false) => {
                    let _ = pieces.blocking_send(Ok(out.into()));
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "an answer broke off");
                    let _ = pieces.blocking_send(Err(error));
                    return;
                }
            };
            if sent.is_err() {
                return;
            }
        }
    });
    body
}

type Piece = std::io::Result<Bytes>;

fn channel() -> (mpsc::Sender<Piece>, Body) {
    let (pieces, made) = mpsc::channel(AHEAD);
    (
        pieces,
        Body::from_stream(unfold(made, |mut made| async move {
            let piece = made.recv().await?;
            Some((piece, made))
        })),
    )
}

/// A stream from a state and a step that gives the next item and state.
pub(super) fn unfold<S, T, F>(
    state: S,
    step: impl Fn(S) -> F + Send + 'static,
) -> impl Stream<Item = T>
where
    F: Future<Output = Option<(T, S)>> + Send,
{
    futures_util::stream::unfold(state, step)
}
