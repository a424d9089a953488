//! Launch bytes: what the monitor reads of them, and what the runner does.

use std::collections::BTreeSet;

use warrant_wire::{Launch, Limits};

use crate::Target;
use crate::meter;

pub(crate) const TARGET: Target = Target {
    name: "launch",
    run,
    seeds,
    words: &["WRNL", "PATH", "=", "\u{0}"],
};

fn run(input: &[u8]) {
    let limits = Limits::read(input);
    let (launch, peak) = meter::peak(|| Launch::decode(input));
    meter::assert_modest(peak, input);
    let launch = match (limits, launch) {
        (limits, Ok(launch)) => {
            assert_eq!(limits, Ok(launch.limits), "two readers, two limits");
            launch
        }
        (Ok(limits), Err(_)) => {
            assert!((1..=4096).contains(&limits.processes));
            return;
        }
        (Err(first), Err(second)) => return assert_eq!(first, second),
    };
    assert_eq!(launch.encode().as_deref(), Ok(input), "it has two forms");
    // What the runner relies on.
    assert!(!launch.argv[0].is_empty());
    let paths = [&launch.workdir, &launch.stdout, &launch.stderr];
    let texts = launch.argv.iter().chain(paths.into_iter().flatten());
    let pairs = launch.env.iter().flat_map(|(name, value)| [name, value]);
    assert!(texts.chain(pairs).all(|text| !text.contains(&0)));
    assert!(paths.into_iter().flatten().all(|path| !path.is_empty()));
    let names: BTreeSet<_> = launch.env.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), launch.env.len(), "a name is there twice");
    assert!(
        names
            .iter()
            .all(|name| !name.is_empty() && !name.contains(&b'='))
    );
}

/// A launch that has everything.
pub(super) fn good() -> Launch {
    Launch {
        limits: Limits {
            processes: 2,
            time_limit_s: 60,
            grace_ms: 1000,
            output_cap_bytes: 1 << 20,
            memory_bytes: 1 << 30,
        },
        argv: vec![b"sh".to_vec(), b"-c".to_vec(), b"env; exit 3".to_vec()],
        env: vec![
            (b"PATH".to_vec(), b"/bin:/usr/bin".to_vec()),
            (b"EMPTY".to_vec(), Vec::new()),
        ],
        workdir: Some(b"/tmp".to_vec()),
        stdout: Some(b"out".to_vec()),
        stderr: Some(b"/dev/null".to_vec()),
        default_workdir: None,
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let small = Launch {
        argv: vec![b"true".to_vec()],
        env: Vec::new(),
        workdir: None,
        stdout: None,
        stderr: None,
        default_workdir: None,
        ..good()
    };
    // As many empty arguments as there is room for.
    let hollow = Launch {
        argv: std::iter::once(b"true".to_vec())
            .chain(std::iter::repeat_n(Vec::new(), 5000))
            .collect(),
        ..small.clone()
    };
    [good(), small, hollow]
        .iter()
        .map(|launch| launch.encode().unwrap())
        .collect()
}
