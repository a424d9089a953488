//! Core lists as text: `0-1,3`, and `;gpu:0` behind them where GPUs are held.
//! Source of the list form: `Cpus_allowed_list` of proc_pid_status(5).

use crate::engine::Placement;

/// The text for a placement; empty for none.
pub(super) fn spell(placement: &Placement) -> String {
    let cores = ranges(&placement.cores);
    if placement.gpus.is_empty() {
        cores
    } else {
        format!("{cores};gpu:{}", ranges(&placement.gpus))
    }
}

/// The placement that a text stands for; what cannot be read is left out.
pub(super) fn parse(text: &str) -> Placement {
    let (cores, gpus) = text.split_once(";gpu:").unwrap_or((text, ""));
    Placement {
        cores: numbers(cores),
        gpus: numbers(gpus),
    }
}

fn ranges(numbers: &[u16]) -> String {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for number in sorted {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            Some(_) | None => runs.push((number, number)),
        }
    }
    let spelt = runs.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    spelt.collect::<Vec<_>>().join(",")
}

fn numbers(text: &str) -> Vec<u16> {
    let runs = text.split(',').filter_map(|run| {
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    });
    runs.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placement_reads_back_as_it_was_spelt() {
        for (cores, gpus, text) in [
            (vec![0, 1, 3], vec![], "0-1,3"),
            (vec![], vec![], ""),
            (vec![5], vec![0, 1], "5;gpu:0-1"),
        ] {
            let placement = Placement { cores, gpus };
            assert_eq!(spell(&placement), text);
            assert_eq!(parse(text), placement);
        }
    }
}
