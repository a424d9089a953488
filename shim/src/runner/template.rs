//! The paths of output files, once the job, its rank and its place are known.

use std::fs;

use warrant_wire::Launch;
use warrant_wire::template::{Piece, Tag, pieces};

use super::Crew;

/// Replaces the tags in the paths of a launch. What is no tag stays as it is:
/// the broker refuses a job that names one.
pub(super) fn expand(launch: &mut Launch, crew: &Crew<'_>, rank: u16) {
    let of = |path: &Option<Vec<u8>>| {
        let path = path.as_deref();
        path.map(|path| expanded(path, launch, crew, rank))
    };
    let (stdout, stderr) = (of(&launch.stdout), of(&launch.stderr));
    launch.stdout = stdout;
    launch.stderr = stderr;
}

fn expanded(path: &[u8], launch: &Launch, crew: &Crew<'_>, rank: u16) -> Vec<u8> {
    let mut expanded = Vec::with_capacity(path.len());
    for piece in pieces(path) {
        match piece {
            Piece::Text(text) => expanded.extend(text),
            Piece::Tag(name) => match Tag::parse(name) {
                Some(tag) => expanded.extend(value(tag, launch, crew, rank)),
                None => expanded.extend([b"{{", name, b"}}"].concat()),
            },
        }
    }
    expanded
}

fn value(tag: Tag, launch: &Launch, crew: &Crew<'_>, rank: u16) -> Vec<u8> {
    let placement = &crew.order.placement;
    let text = match tag {
        Tag::Id(encoding) => encoding.spell(crew.order.run.job),
        Tag::Name => return name(launch),
        Tag::NodeCount => "1".to_owned(),
        Tag::NodeIndex => "0".to_owned(),
        Tag::Size => crew.count.to_string(),
        Tag::NodeName => fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default(),
        Tag::Cores => ranges(&placement.cores),
        Tag::CoreCount => placement.cores.len().to_string(),
        Tag::Gpus => ranges(&placement.gpus),
        Tag::Rank => rank.to_string(),
    };
    text.trim_end().as_bytes().to_vec()
}

/// The last part of the program's path.
fn name(launch: &Launch) -> Vec<u8> {
    let program = launch.argv.first().map(Vec::as_slice).unwrap_or_default();
    let mut parts = program.rsplit(|byte| *byte == b'/');
    parts
        .find(|part| !part.is_empty())
        .unwrap_or_default()
        .to_vec()
}

/// Numbers as Flux writes a set of them: `0-3,5`. Source: Flux RFC 22.
fn ranges(numbers: &[u16]) -> String {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    let runs = sorted.chunk_by(|a, b| b.saturating_sub(*a) <= 1);
    let spelt = runs.filter_map(|run| match (run.first()?, run.last()?) {
        (first, last) if first == last => Some(first.to_string()),
        (first, last) => Some(format!("{first}-{last}")),
    });
    spelt.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_numbers_is_written_in_ranges() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[4]), "4");
        assert_eq!(ranges(&[5, 0, 1, 2, 3]), "0-3,5");
    }
}
