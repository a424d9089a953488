//! A light HTTP/1.1 client: one connection that is kept, requests that were
//! written beforehand, one at a time. It shares the processor with what it
//! measures, so it does nothing that need not be done.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The longest to wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
const ROOM: usize = 64 * 1024;

/// A request, ready to be sent.
pub(crate) fn request(method: &str, path: &str, token: Option<&str>) -> Vec<u8> {
    with_body(method, path, token, "text/plain", "")
}

/// A request with a body, ready to be sent.
pub(crate) fn with_body(
    method: &str,
    path: &str,
    token: Option<&str>,
    content_type: &str,
    body: &str,
) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
    if let Some(token) = token {
        text.push_str(&format!("Authorization: Bearer {token}\r\n"));
    }
    if method != "GET" {
        let length = body.len();
        text.push_str(&format!(
            "Content-Type: {content_type}\r\nContent-Length: {length}\r\n"
        ));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// A request with a form, ready to be sent. Spaces are escaped; nothing else
/// has to be.
pub(crate) fn form(path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", value.replace(' ', "+")))
        .collect();
    let kind = "application/x-www-form-urlencoded";
    with_body("POST", path, None, kind, &fields.join("&"))
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    /// Its status.
    pub(crate) status: u16,
    /// Its body.
    pub(crate) body: &'a [u8],
    /// When the first byte of the body was there; `None` where there is none.
    pub(crate) first_byte: Option<Instant>,
}

/// A connection that is kept.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// What was read of the present answer.
    read: Vec<u8>,
    /// Its body, where it comes in chunks.
    body: Vec<u8>,
}

impl Connection {
    /// Connect.
    ///
    /// Errors: nobody listens there.
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            read: Vec::with_capacity(ROOM),
            body: Vec::new(),
        })
    }

    /// Send a request and read its answer.
    ///
    /// Errors: the connection breaks, takes too long, or speaks no HTTP/1.1.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Answer<'_>> {
        tokio::time::timeout(PATIENCE, self.converse(request))
            .await
            .context("no answer in time")?
    }

    /// As [`Connection::exchange`]; any status but 200 is an error.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> anyhow::Result<Answer<'_>> {
        let answer = self.exchange(request).await?;
        if answer.status != 200 {
            let start = answer.body.get(..300).unwrap_or(answer.body);
            let text = String::from_utf8_lossy(start);
            bail!("answered {}: {text}", answer.status);
        }
        Ok(answer)
    }

    /// As [`Connection::ask`], for an answer in JSON.
    pub(crate) async fn ask_json(&mut self, request: &[u8]) -> anyhow::Result<serde_json::Value> {
        Ok(serde_json::from_slice(self.ask(request).await?.body)?)
    }

    async fn converse(&mut self, request: &[u8]) -> anyhow::Result<Answer<'_>> {
        self.read.clear();
        self.stream.write_all(request).await?;
        let head = self.until(0, b"\r\n\r\n").await?;
        let text = std::str::from_utf8(self.read.get(..head).unwrap_or_default())?;
        let mut lines = text.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1.1 "))
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .context("no status line")?;
        let mut length = None;
        for line in lines {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.trim().parse::<usize>()?);
            }
        }
        match length {
            Some(length) => self.plain(status, head, length).await,
            None => self.chunked(status, head).await,
        }
    }

    async fn plain(
        &mut self,
        status: u16,
        head: usize,
        length: usize,
    ) -> anyhow::Result<Answer<'_>> {
        self.up_to(head + length.min(1)).await?;
        let first_byte = (length > 0).then(Instant::now);
        self.up_to(head + length).await?;
        let body = self.read.get(head..head + length).unwrap_or_default();
        Ok(Answer {
            status,
            body,
            first_byte,
        })
    }

    /// Source: RFC 9112 §7.1. Trailers are not expected.
    async fn chunked(&mut self, status: u16, head: usize) -> anyhow::Result<Answer<'_>> {
        self.body.clear();
        let mut first_byte = None;
        let mut at = head;
        loop {
            let start = self.until(at, b"\r\n").await?;
            let line = self.read.get(at..start - 2).unwrap_or_default();
            let digits = std::str::from_utf8(line)?.split(';').next();
            let size = usize::from_str_radix(digits.unwrap_or_default().trim(), 16)?;
            self.up_to(start + size + 2).await?;
            if size == 0 {
                return Ok(Answer {
                    status,
                    body: &self.body,
                    first_byte,
                });
            }
            first_byte.get_or_insert_with(Instant::now);
            let chunk = self.read.get(start..start + size).unwrap_or_default();
            self.body.extend_from_slice(chunk);
            at = start + size + 2;
        }
    }

    /// Read until `mark` stands somewhere from `from` on; returns where it ends.
    async fn until(&mut self, from: usize, mark: &[u8]) -> anyhow::Result<usize> {
        loop {
            let tail = self.read.get(from..).unwrap_or_default();
            if let Some(at) = tail.windows(mark.len()).position(|piece| piece == mark) {
                return Ok(from + at + mark.len());
            }
            self.more().await?;
        }
    }

    async fn up_to(&mut self, length: usize) -> anyhow::Result<()> {
        while self.read.len() < length {
            self.more().await?;
        }
        Ok(())
    }

    async fn more(&mut self) -> anyhow::Result<()> {
        if self.read.capacity() == self.read.len() {
            self.read.reserve(ROOM);
        }
        if self.stream.read_buf(&mut self.read).await? == 0 {
            bail!("the connection was closed");
        }
        Ok(())
    }
}
