//! `warrant-fuzz`: runs inputs that are in files, or mutations without end.

#![allow(clippy::print_stderr, reason = "it talks to who runs it")]

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use warrant_fuzz::{TARGETS, Target, attempt, campaign, fresh_seed, target};

const USAGE: &str = "usage: warrant-fuzz TARGET FILE...        run these inputs
       warrant-fuzz TARGET --seconds N    run mutations of the corpus
       warrant-fuzz TARGET --corpus DIR   write the corpus to a directory
targets:";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = match words.as_slice() {
        [name, rest @ ..] if !rest.is_empty() => match (target(name), rest) {
            (None, _) => usage(),
            (Some(target), [option, value]) if option == "--seconds" => match value.parse() {
                Ok(seconds) => {
                    mutate(target, Duration::from_secs(seconds));
                    Ok(())
                }
                Err(_) => usage(),
            },
            (Some(target), [option, dir]) if option == "--corpus" => {
                write_corpus(target, Path::new(dir))
            }
            (Some(target), files) => run_files(target, files),
        },
        _ => usage(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("warrant-fuzz: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> io::Result<()> {
    let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    Err(io::Error::other(format!("{USAGE} {}", names.join(" "))))
}

fn mutate(target: &Target, time: Duration) {
    let seed = fresh_seed();
    eprintln!("{}: seed {seed}", target.name);
    let count = campaign(target, seed, u64::MAX, time);
    eprintln!("{}: {count} inputs in {time:?}", target.name);
}

fn run_files(target: &Target, files: &[String]) -> io::Result<()> {
    for file in files {
        attempt(target, &std::fs::read(file)?);
        eprintln!("{file}: nothing wrong");
    }
    Ok(())
}

fn write_corpus(target: &Target, dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for (number, input) in target.corpus().iter().enumerate() {
        let path: PathBuf = dir.join(format!("seed-{number:03}"));
        std::fs::write(path, input)?;
    }
    Ok(())
}
