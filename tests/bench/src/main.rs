//! `warrant-bench`: how fast an installation is, on each database, beside the
//! bare system calls of the same machine. Run by `./dev bench`.

#![forbid(unsafe_code)]

mod apart;
mod bare;
mod cluster;
mod door;
mod fill;
mod ground;
mod house;
mod http;
mod load;
mod machine;
mod parts;
mod process;
mod report;
mod stamp;
mod village;
mod yard;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use apart::Apart;
use bare::Echo;
use cluster::Cluster;
use house::{Database, House, Site};
use machine::Machine;
use parts::start::Starts;
use parts::submit::Submits;
use parts::{Bench, Sizes, auth, list, live, memory, multi, shim, start, submit, token};
use report::Table;

/// The longest that everything may take.
const PATIENCE: Duration = Duration::from_secs(45 * 60);

const SUBMIT_AIM: Duration = Duration::from_micros(500);
const SUBMIT_RATE_AIM: f64 = 6000.0;
const VISIBLE_AIM: Duration = Duration::from_millis(10);
const START_RATE_AIM: f64 = 600.0;

/// Measures an installation of Warrant made for the purpose.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// What to measure; everything if not given.
    parts: Vec<Part>,
    /// On which databases.
    #[arg(long, value_delimiter = ',', default_value = "sqlite,postgres")]
    on: Vec<On>,
    /// Measure little: to see that it works, not for figures.
    #[arg(long)]
    quick: bool,
    /// Write the figures to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The programs to measure; this program's own directory if not given.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Where the databases are made for the time of the run. Their disk counts.
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Submitting, one after another and as fast as can be.
    Submit,
    /// From submitting to output, and jobs per second.
    Start,
    /// Lists and search, up to a million jobs.
    List,
    /// Logins.
    Token,
    /// The auth service: every way to a token, questions about tokens, and
    /// many logins at once.
    Auth,
    /// Clients that ask for output and do not read it.
    Live,
    /// Resident memory.
    Memory,
    /// Multi-user mode: all of the above that is different there.
    Multi,
    /// The root-owned shim alone.
    Shim,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum On {
    /// Embedded SQLite.
    Sqlite,
    /// A private PostgreSQL cluster.
    Postgres,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    // Before there are threads, which would stay behind.
    let apart = Apart::enter();
    // One thread: the load shares the cores with what it measures.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tokio::select! {
            done = tokio::time::timeout(PATIENCE, run(arguments, &apart)) => done.context("it took too long")?,
            name = interrupted() => anyhow::bail!("ended by {}", name?),
        }
    })
}

/// Returns when this process is asked to end, so that it can stop what it
/// started.
async fn interrupted() -> std::io::Result<&'static str> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    })
}

async fn run(arguments: Arguments, apart: &Result<Apart, &str>) -> anyhow::Result<()> {
    let own = std::env::current_exe()?;
    let own = own.parent().context("this program is nowhere")?.to_owned();
    let dir = arguments.dir.canonicalize().context("--dir")?;
    let machine = Machine::look(&dir, arguments.quick)?;
    machine.print();
    if arguments.quick {
        println!("--quick measures too little for figures.");
    }
    let bench = Bench {
        site: Site {
            programs: arguments.programs.unwrap_or(own),
            dir,
        },
        machine,
        sizes: if arguments.quick {
            Sizes::QUICK
        } else {
            Sizes::FULL
        },
        echo: Echo::start()?,
    };
    let mut tables = Vec::new();
    let of_root = [Part::Multi, Part::Shim];
    let wanted = |part| {
        let is_asked_for = arguments.parts.is_empty() || arguments.parts.contains(&part);
        is_asked_for && (apart.is_ok() || !of_root.contains(&part))
    };
    if let Err(why) = apart {
        let is_asked_for = |part| arguments.parts.is_empty() || arguments.parts.contains(part);
        for part in of_root.iter().filter(|part| is_asked_for(part)) {
            let name = part.to_possible_value();
            let name = name.as_ref().map_or("a part", |name| name.get_name());
            println!("\n{name} is left out: {why}.");
        }
    }
    if let Ok(apart) = apart
        && wanted(Part::Shim)
    {
        shim::measure(&bench, apart.has_groups(), |table| {
            table.print();
            tables.push(table);
        })
        .await?;
    }
    for on in &arguments.on {
        let database = match on {
            On::Sqlite => Database::Sqlite,
            On::Postgres => match Cluster::programs() {
                Some(programs) => {
                    Database::Postgres(Cluster::start(programs, &bench.site.dir).await?)
                }
                None => {
                    println!("\nPostgreSQL is left out: it is not installed.");
                    continue;
                }
            },
        };
        measure(&bench, &database, &wanted, &mut tables).await?;
        if let Database::Postgres(cluster) = database {
            cluster.stop().await?;
        }
    }
    if let Some(path) = arguments.json {
        let tables: Vec<_> = tables.iter().map(Table::json).collect();
        let figures = json!({"machine": bench.machine.json(), "tables": tables});
        std::fs::write(path, format!("{figures:#}\n")).context("--json")?;
    }
    Ok(())
}

/// Measure what is wanted on one database. Parts share installations where
/// they do not disturb each other.
async fn measure(
    bench: &Bench,
    database: &Database,
    wanted: impl Fn(Part) -> bool,
    tables: &mut Vec<Table>,
) -> anyhow::Result<()> {
    let on = database.name();
    let mut show = |table: Table| {
        table.print();
        tables.push(table);
    };
    let mut resident = memory::table("memory", format!("memory, {on}"));

    if wanted(Part::Submit) || wanted(Part::Memory) {
        let mut house = House::open(&bench.site, database, Some(1)).await?;
        memory::look(&mut resident, &house.process_ids(), "after start", true)?;
        house.hold_machine().await?;
        if wanted(Part::Submit) {
            let what = Submits {
                part: "submit",
                title: format!("submit, {on}"),
                flushes: 1,
                p50_aim: SUBMIT_AIM,
                rate_aim: SUBMIT_RATE_AIM,
            };
            show(submit::measure(bench, &house.door, what).await?);
        } else {
            submit::load(bench, &house.door).await?;
        }
        memory::look(
            &mut resident,
            &house.process_ids(),
            "after the submits",
            false,
        )?;
        house.close().await?;
    }
    if wanted(Part::Token) {
        let house = House::open(&bench.site, database, None).await?;
        show(token::measure(bench, &house, on).await?);
        house.close().await?;
    }
    if wanted(Part::Auth) {
        auth::measure(bench, database, &mut show).await?;
    }
    if wanted(Part::Start) {
        let house = House::open(&bench.site, database, None).await?;
        let what = Starts {
            part: "start",
            title: format!("start, {on}"),
            visible_aim: Some(VISIBLE_AIM),
            rate_aim: Some(START_RATE_AIM),
        };
        show(start::measure(bench, &house.door, what).await?);
        house.close().await?;
    }
    if wanted(Part::Live) {
        let house = House::open(&bench.site, database, None).await?;
        show(live::measure(bench, &house, on).await?);
        house.close().await?;
    }
    if wanted(Part::List) || wanted(Part::Memory) {
        let mut house = House::open(&bench.site, database, Some(1)).await?;
        let ordinary = house.add_user(fill::ORDINARY).await?;
        let mut filled = 0;
        for jobs in bench.sizes.stores {
            house.stop_broker().await?;
            let took = fill::fill(&house.broker_url, filled + 1, *jobs).await?;
            println!("\n{} jobs were added in {took:.1} s.", jobs - filled);
            filled = *jobs;
            house.start_broker().await?;
            if wanted(Part::List) {
                show(list::measure(bench, &house, &ordinary, filled, on).await?);
            }
        }
        house.hold_machine().await?;
        memory::look(
            &mut resident,
            &house.process_ids(),
            &format!("{filled} jobs in the store"),
            false,
        )?;
        house.close().await?;
    }
    if wanted(Part::Memory) {
        show(resident);
    }
    if wanted(Part::Multi) {
        multi::measure(bench, database, show).await?;
    }
    Ok(())
}
