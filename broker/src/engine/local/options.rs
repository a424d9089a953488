//! What the options of the job shell mean here. Source: flux-shell(1).

use std::collections::BTreeMap;

use warrant_wire::template::{Piece, Tag, pieces};

use crate::error::{Error, Kind, Result};

/// The tags that the path of an output file may hold, for a refusal.
const TAGS: &str = "id, jobid (also with .f58, .f58plain, .dec, .hex, .dothex), name, size, ntasks, \
                    nnodes, taskid, task.id, task.rank, task.index, task.localid, node.id, node.name, \
                    node.broker_rank, node.cores, node.ncores, node.gpus";
/// No.
const OFF: &[&str] = &["0", "false", "False", "off", ""];

/// See that every option that would change what a job does can be honoured. An
/// option that the job shell does not know is nothing to it there, and nothing
/// here.
///
/// Errors: `Invalid`, with the option's name and the values that are allowed.
pub fn check(options: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in options {
        let allowed = match name.as_str() {
            "output.stdout.path" | "output.stderr.path" => {
                check_tags(name, value)?;
                continue;
            }
            "output.stdout.type" | "output.stderr.type" => kept_where(name, options),
            _ => match allowed(name) {
                Some(allowed) => allowed,
                None => continue,
            },
        };
        if !allowed.contains(&value.as_str()) {
            return Err(unsupported(name, value, allowed));
        }
    }
    Ok(())
}

/// The values of an option that can be honoured; `None` where any can.
fn allowed(name: &str) -> Option<&'static [&'static str]> {
    let family = name.split('.').next().unwrap_or(name);
    Some(match (family, name) {
        (_, "cpu-affinity") => &["on", "off", "per-task"],
        (_, "gpu-affinity") => &["on"],
        (_, "output.mode") => &["append"],
        (_, "output.stdout.label" | "output.stderr.label") => OFF,
        (_, "exit-timeout") => &["none"],
        (_, "exit-on-error" | "nosetpgrp" | "stop-tasks-in-exec") => OFF,
        (_, "pmi") => &["off"],
        (_, "output.limit") => &[],
        ("pty" | "hwloc", _) => OFF,
        ("input" | "stage-in" | "signal" | "initrc" | "userrc" | "rlimit" | "env-expand", _) => &[],
        _ => return None,
    })
}

/// The type of output that goes with the path that is given, or with none.
fn kept_where(name: &str, options: &BTreeMap<String, String>) -> &'static [&'static str] {
    let path = name.replace(".type", ".path");
    if options.contains_key(&path) {
        &["file"]
    } else {
        &["kvs"]
    }
}

fn unsupported(name: &str, value: &str, allowed: &[&str]) -> Error {
    let value: String = value.chars().take(64).collect();
    let mut message = format!("option_flags: {name}={value} is not supported by this server");
    let words: Vec<&str> = allowed
        .iter()
        .copied()
        .filter(|word| !word.is_empty())
        .collect();
    if !words.is_empty() {
        message.push_str("; allowed: ");
        message.push_str(&words.join(", "));
    }
    Error::new(Kind::Invalid, message)
}

fn check_tags(name: &str, path: &str) -> Result<()> {
    let unknown = pieces(path.as_bytes()).find_map(|piece| match piece {
        Piece::Tag(tag) if Tag::parse(tag).is_none() => Some(tag),
        Piece::Tag(_) | Piece::Text(_) => None,
    });
    let Some(unknown) = unknown else {
        return Ok(());
    };
    let tag: String = String::from_utf8_lossy(unknown).chars().take(64).collect();
    Err(Error::new(
        Kind::Invalid,
        format!(
            "option_flags: {name} holds {{{{{tag}}}}}, which is not supported by this server; \
             supported are {TAGS}"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_change_the_job_and_cannot_be_honoured_is_named() {
        let refused = |name: &str, value: &str| {
            check(&BTreeMap::from([(name.to_owned(), value.to_owned())])).is_err()
        };
        for (name, value) in [
            ("pty", "1"),
            ("pty.interactive", "1"),
            ("input.stdin.path", "/tmp/x"),
            ("output.mode", "truncate"),
            ("output.stdout.label", "true"),
            ("output.stderr.type", "file"),
            ("output.stdout.path", "/tmp/{{id.words}}"),
            ("output.stderr.path", "/tmp/{{tmpdir}}/x"),
            ("output.limit", "1M"),
            ("exit-timeout", "30s"),
            ("exit-on-error", "True"),
            ("stage-in", "1"),
            ("gpu-affinity", "map:0;1"),
            ("cpu-affinity", "map:0"),
            ("signal", "USR1@60"),
            ("pmi", "simple"),
        ] {
            assert!(refused(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("ompi", "x"),
            ("mpi", "openmpi@5"),
            ("verbose", "1"),
            ("x.y", "z"),
            ("'; drop table jobs; --", "x"),
            ("cpu-affinity", "per-task"),
            ("exit-timeout", "none"),
            ("pty", "0"),
            ("output.mode", "append"),
            ("output.stdout.type", "kvs"),
            ("output.stdout.buffer.type", "none"),
            (
                "output.stdout.path",
                "/tmp/{{id}}-{{jobid.dec}}.{{name}}.{{taskid}}{{",
            ),
        ] {
            assert!(!refused(name, value), "{name}={value}");
        }
    }
}
