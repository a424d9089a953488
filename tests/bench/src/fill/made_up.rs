//! What the made-up jobs are: forty users and one ordinary user with one job
//! in a hundred, sixteen sorts of commands, numbers that differ, nine of ten
//! completed.

use serde_json::json;
use warrant_migrations::{Spelt, Tx};

/// A user with one job in a hundred.
pub(crate) const ORDINARY: &str = "ann";
/// A text in every job: part of its directory.
pub(crate) const COMMON: &str = "home";
/// A text in one job, and that an old one.
pub(crate) const RARE: &str = "quokka";
/// A text in no job.
pub(crate) const ABSENT: &str = "xylophone";
/// A text in no job, each three letters of which are in many.
pub(crate) const PIECES: &str = "train.python";
/// The job that holds [`RARE`].
pub(super) const RARE_JOB: i64 = 333;

/// Temporary tables: users, sorts of commands, and the jobs of one batch.
pub(super) const CREATE: &str = "create temporary table made_up (id bigint, owner text, \
    name text, command text, workdir text, spec text, state text, \
    submitted_us bigint, ended_us bigint)";

const CREATE_LISTS: [&str; 2] = [
    "create temporary table sorts (k bigint, name text, command text, argv text)",
    "create temporary table users (k bigint, owner text, home text)",
];

/// What [`CREATE`] made, away.
pub(super) const DROP: [&str; 3] = ["drop table made_up", "drop table sorts", "drop table users"];

/// Make up the jobs `$1..=$2`, of which `$3` holds the rare text. The numbers
/// in the commands are scattered by multiplication with primes.
pub(super) const MAKE: &str = r#"
insert into made_up
with recursive ids (id) as (
    select cast($1 as bigint) union all select id + 1 from ids where id < cast($2 as bigint)
), numbered as (
    select id, id * 7919 % 100003 as a, id * 104729 % 999983 as b, id * 31 % 10 as c,
        case when id % 100 = 17 then 40 else id * 13 % 40 end as u
    from ids
), told as (
    select n.id, n.a, s.name, users.owner,
        users.home || '/projects/p' || cast(n.a % 12 as text) as workdir,
        case when n.id = cast($3 as bigint) then ' --tag quokka' else '' end as tag,
        case when n.id = cast($3 as bigint) then ',"--tag","quokka"' else '' end as tag_argv,
        replace(replace(replace(s.command, '{a}', cast(n.a as text)),
            '{b}', cast(n.b as text)), '{c}', cast(n.c as text)) as command,
        replace(replace(replace(s.argv, '{a}', cast(n.a as text)),
            '{b}', cast(n.b as text)), '{c}', cast(n.c as text)) as argv
    from numbered n
    join sorts s on s.k = n.id * 7 % 16
    join users on users.k = n.u
)
select id, owner, name, command || tag, workdir,
    '{"argv":[' || argv || tag_argv || '],' ||
        case when id % 4 = 0 then '"env":{"OMP_NUM_THREADS":"4"},' else '' end ||
        '"workdir":"' || workdir || '","tasks":1,"cores_per_task":1,"gpus_per_task":0,' ||
        '"memory_bytes":0,"exclusive":false,"time_limit_s":0}',
    case id % 50 when 7 then 'failed' when 23 then 'failed' when 41 then 'failed'
        when 11 then 'cancelled' when 37 then 'timedout' else 'completed' end,
    1700000000000000 + id * 1000003, 1700000000000000 + id * 1000003 + 250000 + a * 1000
from told order by id"#;

/// From the made-up jobs to the broker's tables: jobs, tasks, runs, events,
/// counts. Cancelled jobs were cancelled while they waited.
pub(super) const RECORD: [&str; 6] = [
    "insert into jobs (id, owner, name, dialect, state, urgency, command, workdir, tasks, cores, \
     gpus, exclusive, time_limit_s, submitted_us, started_us, ended_us, cancel_us, attempt, host, \
     node, placement, wait_status, exception_type, exception_severity, exception_note, events) \
     select id, owner, name, 'flux', state, 16, command, workdir, 1, 1, 0, false, 0, submitted_us, \
     case when state <> 'cancelled' then submitted_us + 4000 end, ended_us, \
     case when state = 'cancelled' then ended_us end, \
     case when state = 'cancelled' then 0 else 1 end, \
     case when state <> 'cancelled' then 'node1-0123456789abcdef' end, \
     case when state <> 'cancelled' then 'node1' end, \
     case when state <> 'cancelled' then cast(id % 2 as text) end, \
     case state when 'completed' then 0 when 'failed' then 256 when 'timedout' then 15 end, \
     case state when 'cancelled' then 'cancel' when 'timedout' then 'timeout' end, \
     case when state in ('cancelled', 'timedout') then 0 end, \
     case state when 'cancelled' then '' when 'timedout' then 'resource allocation expired' end, \
     case when state = 'cancelled' then 2 else 4 end from made_up order by id",
    "insert into tasks (job_id, position, spec) select id, 0, spec from made_up order by id",
    "insert into runs (job_id, position, attempt, engine, host, boot, claimed_us, started_us, \
     ended_us, wait_status, user_us, system_us, max_rss_bytes, output_bytes, dropped_bytes) \
     select id, 0, 1, 'local', 'node1-0123456789abcdef', '6e1d4c8a-3f52-4b1e-9c57-d20f8a63b914', \
     submitted_us + 2000, submitted_us + 4000, ended_us, \
     case state when 'completed' then 0 when 'failed' then 256 else 15 end, \
     (ended_us - submitted_us) / 2, 3000, 4194304, 120, 0 \
     from made_up where state <> 'cancelled' order by id",
    "insert into events (job_id, seq, time_us, kind, detail) \
     select id, 1, submitted_us, 'submitted', cast(null as text) from made_up \
     union all select id, 2, submitted_us + 2000, 'starting', 'attempt 1 on node1' \
     from made_up where state <> 'cancelled' \
     union all select id, 3, submitted_us + 4000, 'running', null \
     from made_up where state <> 'cancelled' \
     union all select id, 4, ended_us, state, case when state = 'timedout' \
     then 'resource allocation expired' end from made_up where state <> 'cancelled' \
     union all select id, 2, ended_us, 'cancelled', 'by ' || owner \
     from made_up where state = 'cancelled' order by 1, 2",
    "insert into job_counts (owner, block, jobs) \
     select owner, id / 1024, count(*) from made_up where true group by owner, id / 1024 \
     on conflict (owner, block) do update set jobs = job_counts.jobs + excluded.jobs",
    "insert into job_counts (owner, block, jobs) \
     select '', id / 1024, count(*) from made_up where true group by id / 1024 \
     on conflict (owner, block) do update set jobs = job_counts.jobs + excluded.jobs",
];

/// The texts by which jobs are found.
pub(super) const TEXT: Spelt = Spelt {
    sqlite: "insert into job_text (rowid, text) select id, lower(id || char(10) || name || \
        char(10) || command || char(10) || workdir || char(10, 2) || owner || char(3, 10, 10)) \
        from made_up order by id",
    postgres: "insert into job_text (job_id, text) select id, lower(id || chr(10) || name || \
        chr(10) || command || chr(10) || workdir || chr(10) || chr(2) || owner || chr(3) || \
        chr(10) || chr(10)) from made_up order by id",
};

/// Sorts of commands; `{a}`, `{b}` and `{c}` become numbers.
const SORTS: [&[&str]; 16] = [
    &[
        "python3",
        "train.py",
        "--dataset",
        "s3-{a}",
        "--seed",
        "{b}",
        "--lr",
        "0.0{c}",
    ],
    &[
        "./run_simulation",
        "--steps",
        "{a}000",
        "--grid",
        "{c}x{c}",
        "--out",
        "run-{b}.h5",
    ],
    &["bash", "-c", "make -j4 && ./check {b}"],
    &[
        "mpirun", "-n", "16", "lmp", "-in", "in.melt", "-var", "T", "{a}.{c}",
    ],
    &["gmx", "mdrun", "-deffnm", "prod_{b}", "-nsteps", "{a}000"],
    &[
        "Rscript",
        "fit_model.R",
        "--chain",
        "{c}",
        "--iter",
        "{a}00",
        "--id",
        "{b}",
    ],
    &[
        "/opt/tools/bin/samtools",
        "sort",
        "-@",
        "4",
        "-o",
        "sample{b}.bam",
        "sample{b}.sam",
    ],
    &[
        "snakemake",
        "--cores",
        "2",
        "--configfile",
        "config/{b}.yaml",
    ],
    &["hostname"],
    &["sleep", "{c}"],
    &["echo", "hello", "{b}"],
    &[
        "python3",
        "-m",
        "analysis.report",
        "--month",
        "2026-0{c}",
        "--team",
        "team{a}",
    ],
    &["ffmpeg", "-i", "clip{b}.mov", "-crf", "2{c}", "clip{b}.mp4"],
    &[
        "julia",
        "--project",
        "solve.jl",
        "--tol",
        "1e-{c}",
        "--case",
        "case{b}",
    ],
    &["rsync", "-a", "/data/set{a}/", "/scratch/{b}/"],
    &["matlab", "-batch", "run_case({b})"],
];

/// Make the lists of users and of sorts of commands.
pub(super) async fn lists(tx: &mut Tx) -> sqlx::Result<()> {
    for create in CREATE_LISTS {
        warrant_migrations::on!(&mut *tx, |db| sqlx::query(create)
            .execute(db)
            .await
            .map(drop))?;
    }
    let sorts: Vec<_> = SORTS
        .iter()
        .map(|argv| {
            let program = argv.first().copied().unwrap_or_default();
            let name = program.rsplit('/').next().unwrap_or(program);
            let quoted = json!(argv).to_string();
            let quoted = quoted.trim_start_matches('[').trim_end_matches(']');
            [name.to_owned(), argv.join(" "), quoted.to_owned()]
        })
        .collect();
    super::insert_list(tx, "insert into sorts (k, name, command, argv) ", &sorts).await?;
    let named = |name: String| [name.clone(), format!("/home/{name}")];
    let mut users: Vec<_> = (0..40).map(|n| named(format!("user{n:02}"))).collect();
    users.push(named(ORDINARY.to_owned()));
    super::insert_list(tx, "insert into users (k, owner, home) ", &users).await
}
