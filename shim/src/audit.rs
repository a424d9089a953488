//! The audit: one line for everything that was granted, refused, started or
//! ended, on standard error. It never holds a warrant or what is in a launch.

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use warrant_wire::RunId;

/// A line is at most so long, so that it is written whole or not at all.
/// Source: pipe(7), `PIPE_BUF`.
const MAX_LINE_BYTES: usize = 4096;
/// A value is at most so long.
const MAX_VALUE_BYTES: usize = 512;

/// Lines that nobody took.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Writes a line `event=… key=value …`. Never waits: where standard error is
/// full the line is lost, and the next one says how many were.
pub fn line(event: &str, fields: &[(&str, &str)]) {
    let lost = LOST.load(Ordering::Relaxed);
    let mut line = spell(event, fields);
    if lost > 0 {
        line.extend(spell("audit-lost", &[("lines", &lost.to_string())]));
    }
    let stderr = std::io::stderr();
    let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    let ready = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0);
    if ready && stderr.lock().write_all(&line).is_ok() {
        LOST.fetch_sub(lost, Ordering::Relaxed);
    } else {
        LOST.fetch_add(1, Ordering::Relaxed);
    }
}

/// The same of a run.
pub fn of_run(event: &str, run: RunId, fields: &[(&str, &str)]) {
    let run = run.to_string();
    line(event, &[&[("run", run.as_str())], fields].concat());
}

fn spell(event: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut line = format!("warrant-shim: event={event}");
    for (key, value) in fields {
        line.push_str(&format!(" {key}="));
        escape(value, &mut line);
    }
    line.truncate(MAX_LINE_BYTES / 2);
    line.push('\n');
    line.into_bytes()
}

/// Words stay as they are; anything else is quoted, and what is not printable
/// ASCII is written as `\xNN`, so that a line is one line to whoever reads it.
fn escape(value: &str, line: &mut String) {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@+-".contains(&byte);
    if !value.is_empty() && value.len() <= MAX_VALUE_BYTES && value.bytes().all(is_plain) {
        return line.push_str(value);
    }
    line.push('"');
    for byte in value.bytes().take(MAX_VALUE_BYTES) {
        match byte {
            b' '..=b'~' if !matches!(byte, b'"' | b'\\') => line.push(char::from(byte)),
            _ => line.push_str(&format!("\\x{byte:02x}")),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t109_a_value_cannot_end_its_line_or_begin_another_field() {
        for (value, spelt) in [
            ("alice", "alice"),
            ("", "\"\""),
            ("a b=c", "\"a b=c\""),
            ("a\nevent=admitted", "\"a\\x0aevent=admitted\""),
            ("\u{1b}[31m\r\0", "\"\\x1b[31m\\x0d\\x00\""),
            ("\"\\", "\"\\x22\\x5c\""),
            ("é", "\"\\xc3\\xa9\""),
        ] {
            let line = String::from_utf8(spell("test", &[("value", value)])).unwrap();
            assert_eq!(line, format!("warrant-shim: event=test value={spelt}\n"));
        }
        let long = "\n".repeat(100_000);
        let line = spell("test", &[("value", &long), ("other", &long)]);
        assert!(line.len() <= MAX_LINE_BYTES / 2 + 1);
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    }
}
