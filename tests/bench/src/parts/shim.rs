//! The root-owned shim alone: what stands between the request to start a job
//! and its first instruction, and what each step of that costs.

use std::path::Path;
use std::time::Duration;

use super::memory::resident;
use super::{Bench, PART_SHIM};
use crate::bare;
use crate::ground::{Ground, USER};
use crate::house::children;
use crate::load::Latencies;
use crate::report::{Cell, Table};
use crate::village::{SESSION, name_of};
use crate::yard::{Plan, Yard};

/// So many times the bare start, and one `fdatasync`.
const START_AIM: u32 = 3;
const RATE_AIM: f64 = 400.0;
/// Jobs under way at a time where it is about how many run in a second.
const WINDOW: u64 = 8;
/// MB (10⁶ bytes) of the monitor.
const MONITOR_AIM: f64 = 4.0;
/// KiB that a keeper has for itself.
const KEEPER_AIM: f64 = 300.0;

/// Ways to become a user that are there without the shim.
const OTHERS: [(&str, &str, &[&str]); 2] = [
    ("runuser -u", "/usr/sbin/runuser", &["-u", USER.name, "--"]),
    ("sudo -u", "/usr/bin/sudo", &["-n", "-u", USER.name, "--"]),
];

/// A shim that was measured.
struct Measured {
    title: &'static str,
    plan: Plan,
    admit: Duration,
    again: Duration,
    unknown: Duration,
    prepared: Duration,
    first: Latencies,
    rate: f64,
    memory: Memory,
}

/// While so many jobs ran.
struct Memory {
    jobs: u64,
    monitor_rss_mib: f64,
    keeper_private_kib: f64,
    session_private_kib: Option<f64>,
}

/// Measure it, and show each table.
///
/// Errors: a shim cannot be had, or does what it should not.
pub(crate) async fn measure(
    bench: &Bench,
    has_groups: bool,
    mut show: impl FnMut(Table),
) -> anyhow::Result<()> {
    let sizes = bench.sizes;
    let all = [
        ("warrant and journal", false, false),
        ("+ control group", true, false),
        ("+ PAM", has_groups, true),
    ];
    let mut measured = Vec::new();
    let mut bares = Vec::new();
    let (mut looked_up, mut flushed) = (Duration::ZERO, Latencies::default());
    for (title, cgroup, pam) in all {
        if (cgroup && !has_groups) || (pam && !Ground::has_pam()) {
            println!("\n{title} is left out: there is none here.");
            continue;
        }
        let plan = Plan { cgroup, pam };
        let yard = Yard::open(&bench.site, plan).await?;
        if bares.is_empty() {
            let own = yard.bare(sizes.shim_starts, &[]).await?;
            let title = "fork, setgroups, setgid, setuid, exec";
            bares.push((title, own.times("first")?, own.times("over")?));
            for (title, program, words) in OTHERS {
                if Path::new(program).exists() {
                    let through = [&[program], words].concat();
                    let other = yard.bare(sizes.shim_starts, &through).await?;
                    bares.push((title, other.times("first")?, other.times("over")?));
                } else {
                    println!("\n{title} is left out: it is not installed.");
                }
            }
            looked_up = yard.look_ups(sizes.shim_starts / 5).await?.p50();
            let (dir, count) = (bench.site.dir.clone(), sizes.submits);
            let flush = move || bare::fdatasync(&dir, count, Duration::from_secs(10));
            flushed = tokio::task::spawn_blocking(flush).await??;
        }
        measured.push(look_at(bench, yard, title, plan).await?);
    }
    let (Some(base), Some((_, own_first, _))) = (measured.first(), bares.first()) else {
        return Ok(());
    };
    let aim = START_AIM * own_first.p50() + flushed.p50();
    show(starts(&measured, &bares, &flushed, aim));
    show(steps(&measured, base, looked_up));
    show(rates(bench, &measured).await?);
    show(memories(&measured));
    Ok(())
}

async fn look_at(
    bench: &Bench,
    mut yard: Yard,
    title: &'static str,
    plan: Plan,
) -> anyhow::Result<Measured> {
    let sizes = bench.sizes;
    let started = yard.starts(sizes.shim_starts).await?;
    let p50 = |name| started.times(name).map(|times| times.p50());
    let rate = yard.rate(sizes.shim_jobs, WINDOW).await?;
    let memory = yard.hold(sizes.shim_running, memory).await?;
    let measured = Measured {
        title,
        plan,
        admit: p50("admit")?,
        again: p50("again")?,
        unknown: p50("unknown")?,
        prepared: p50("prepared")?,
        first: started.times("first")?,
        rate,
        memory,
    };
    yard.close().await?;
    Ok(measured)
}

/// From the request to the first instruction, beside other ways to get there.
fn starts(
    measured: &[Measured],
    bares: &[(&'static str, Latencies, Latencies)],
    flushed: &Latencies,
    aim: Duration,
) -> Table {
    let mut table = Table::new(
        PART_SHIM,
        "shim: from the request to start a job to its first instruction",
        &["start", "p50 ms", "p99 ms", "ratio", "aim"],
    );
    let bare = bares.first().map(|(_, first, _)| first.p50());
    let bare = bare.unwrap_or_default().as_secs_f64();
    let mut row = |title: &str, took: &Latencies, aim: Cell| {
        table.row([
            Cell::text(title),
            Cell::ms(took.p50()),
            Cell::ms(took.p99()),
            Cell::ratio(took.p50().as_secs_f64(), bare),
            aim,
        ]);
    };
    for one in measured {
        let aim = match one.plan.pam {
            true => Cell::none(),
            false => Cell::aim(
                format!(
                    "≤ {START_AIM} × bare + fdatasync = {:.3} ms",
                    aim.as_secs_f64() * 1000.0
                ),
                one.first.p50() <= aim,
            ),
        };
        row(one.title, &one.first, aim);
    }
    for (title, first, over) in bares {
        row(&format!("bare: {title}"), first, Cell::none());
        row(
            &format!("bare: {title}, until waited for"),
            over,
            Cell::none(),
        );
    }
    row("bare: append 4 KiB, fdatasync", flushed, Cell::none());
    table
}

/// What the steps take, p50; those of the start add up to it.
fn steps(measured: &[Measured], base: &Measured, looked_up: Duration) -> Table {
    let mut table = Table::new(
        PART_SHIM,
        "shim: the steps, p50",
        &["step", "ms", "share", "known from"],
    );
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let journal = ms(base.admit) - ms(base.again);
    let total = measured.last().map_or(0.0, |last| ms(last.first.p50()));
    let mut row = |title: &str, ms: f64, of: Option<f64>, known: &str| {
        table.row([
            Cell::text(title),
            Cell::number(ms, ""),
            of.filter(|of| *of > 0.0)
                .map_or_else(Cell::none, |of| Cell::number(ms / of * 100.0, " %")),
            Cell::text(known),
        ]);
    };
    let admit = Some(ms(base.admit));
    row(
        "admit: socket, signature, hash",
        ms(base.again),
        admit,
        "the same warrant once more",
    );
    row(
        "admit: journal, fdatasync",
        journal,
        admit,
        "the rest of it",
    );
    let prepare = ms(base.prepared) - ms(base.unknown) - journal;
    let ranks = ms(base.first.p50()) - ms(base.prepared);
    for (title, took, known) in [
        (
            "start: socket, record, audit",
            ms(base.unknown),
            "a start that is refused",
        ),
        ("start: marker, fdatasync", journal, "the journal above"),
        (
            "start: the keeper, as far as it takes longer than that",
            prepare,
            "the rest until it says so",
        ),
        (
            "start: pipes, clone, drop, exec",
            ranks,
            "from there to the first instruction",
        ),
    ] {
        row(title, took, Some(total), known);
    }
    row(
        "account looked up, in a process that never has before",
        ms(looked_up),
        None,
        "the same code",
    );
    let mut before = base;
    for one in measured.iter().skip(1) {
        let more = ms(one.first.p50()) - ms(before.first.p50());
        let title = match one.plan.pam {
            true => "start: PAM session",
            false => "start: control group",
        };
        row(title, more, Some(total), "the difference it makes");
        before = one;
    }
    row("start: all of it", total, Some(total), "measured");
    table
}

/// Jobs of `true` per second, from admission to end.
async fn rates(bench: &Bench, measured: &[Measured]) -> anyhow::Result<Table> {
    let mut table = Table::new(
        PART_SHIM,
        format!(
            "shim: {} jobs of true, admitted, started and ended, {WINDOW} at a time",
            bench.sizes.shim_jobs
        ),
        &["jobs", "per s", "bare", "bare is", "ratio", "aim"],
    );
    let (spawns, cores) = (bench.sizes.spawns, bench.machine.cores);
    let bare = tokio::task::spawn_blocking(move || bare::spawn(spawns, cores)).await??;
    for one in measured {
        table.row([
            Cell::text(one.title),
            Cell::rate(one.rate),
            Cell::rate(bare.per_second()),
            Cell::text(format!("spawn and wait, {cores} at a time, per s")),
            Cell::ratio(bare.per_second(), one.rate),
            match one.plan.pam {
                true => Cell::none(),
                false => Cell::at_least(one.rate, RATE_AIM),
            },
        ]);
    }
    Ok(table)
}

/// Look at the shim's processes while jobs run.
fn memory(monitor: u32, keepers: &[u32]) -> anyhow::Result<Memory> {
    let mean = |ids: &[u32]| {
        let each = ids.iter().map(|id| Ok(resident(*id)?.private * 1024.0));
        let sum: f64 = each.sum::<anyhow::Result<f64>>()?;
        anyhow::Ok(sum / ids.len().max(1) as f64)
    };
    let sessions: Vec<u32> = keepers
        .iter()
        .flat_map(|keeper| children(*keeper))
        .filter(|id| name_of(*id).is_some_and(|name| name == SESSION))
        .collect();
    let has_sessions = !sessions.is_empty();
    Ok(Memory {
        jobs: keepers.len() as u64,
        monitor_rss_mib: resident(monitor)?.rss,
        keeper_private_kib: mean(keepers)?,
        session_private_kib: has_sessions.then(|| mean(&sessions)).transpose()?,
    })
}

fn memories(measured: &[Measured]) -> Table {
    let mut table = Table::new(
        PART_SHIM,
        "shim: memory while jobs run",
        &["process", "shim", "jobs", "figure", "figure is", "aim"],
    );
    for one in measured {
        let memory = &one.memory;
        let jobs = || Cell::rate(memory.jobs as f64);
        let megabytes = memory.monitor_rss_mib * 1.048_576;
        table.row([
            Cell::text("monitor"),
            Cell::text(one.title),
            jobs(),
            Cell::number(megabytes, ""),
            Cell::text("Rss, MB"),
            Cell::aim(format!("< {MONITOR_AIM} MB"), megabytes < MONITOR_AIM),
        ]);
        let kib = memory.keeper_private_kib;
        table.row([
            Cell::text("keeper"),
            Cell::text(one.title),
            jobs(),
            Cell::number(kib, ""),
            Cell::text("private, KiB, mean"),
            match one.plan.pam {
                true => Cell::none(),
                false => Cell::aim(format!("< {KEEPER_AIM} KiB"), kib < KEEPER_AIM),
            },
        ]);
        if let Some(kib) = memory.session_private_kib {
            table.row([
                Cell::text("session"),
                Cell::text(one.title),
                jobs(),
                Cell::number(kib, ""),
                Cell::text("private, KiB, mean"),
                Cell::none(),
            ]);
        }
    }
    table
}
