//! Putting the parts together: the one file that knows everybody.

mod administer;
mod check;
mod spool;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nix::fcntl::{Flock, FlockArg};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use warrant_door::origin::Origin;
use warrant_door::tls::Tls;
use warrant_door::unix::Socket;
use warrant_door::{Places, Prefix};
use warrant_dpop::Base;
use warrant_migrations::{Db, Hold, Holder, Reserve, Schema};
use warrant_upkeep::{
    NotWritable, check_database_writable, check_directory_writable, service_manager,
};

pub use self::administer::{audit, backup, migrate, skip_ids, take_over};
pub use self::check::check;
use crate::authsvc::AuthService;
use crate::config::{Config, Mode, Obtained};
use crate::engine::Engine;
use crate::engine::local::{Local, Machine};
use crate::http::flux::fault::Challenge;
use crate::http::listen::{Listeners, serve as listen};
use crate::http::{self, Gate, Limits, Readers, Shared};
use crate::live::Live;
use crate::metrics::Metrics;
use crate::readiness::Readiness;
use crate::revocations::{Disabled, Revocations};
use crate::scheduler::{Parts, Scheduler};
use crate::service::Jobs;
use crate::store::{Store, take_over as take_over_runs};
use crate::warrants::Warrants;

/// How long to wait for what was revoked before the first request is heard.
const FIRST_READ: Duration = Duration::from_secs(5);

/// Serve until a signal or a superuser ends it.
///
/// Errors: something that is needed is not there; says what.
pub async fn serve(config: Config, migrate: bool) -> anyhow::Result<()> {
    // No relative path, of a job or anybody else, is to mean a place of ours.
    std::env::set_current_dir("/").context("/")?;
    make_private(&config.spool.dir).context("spool.dir")?;
    let _lock = lock(&config.spool.dir).context("spool.dir")?;
    let url = config.database_url()?;
    let db = Db::open(&url).await.context("database")?;
    let holder = holder(&config.spool.dir)?;
    if migrate {
        // Another's is not ours to change.
        Schema::Broker
            .check_holder_early(&db, &url, &holder)
            .await
            .context("database")?;
        Schema::Broker.migrate(&db).await?;
    }
    Schema::Broker.check(&db).await?;
    Schema::Broker.check_rights(&db).await?;
    must_be_writable(check_directory_writable(&config.spool.dir)).context("spool.dir")?;
    let written = check_database_writable(Schema::Broker, &db, &url).await;
    must_be_writable(written).context("database.url")?;
    let hold = hold(&db, &url, &holder).await?;
    let tls = config.listen.tls.files().map(Tls::open).transpose()?;
    let listener = TcpListener::bind(config.listen.http)
        .await
        .context("listen.http")?;
    let admin = match config.listen.admin {
        Some(address) => Some(TcpListener::bind(address).await.context("listen.admin")?),
        None => None,
    };
    let socket = config.listen.socket.as_deref();
    let socket = socket.map(|path| Socket::bind(path, 0o660)).transpose();
    let (unix, _file) = socket
        .context("listen.socket")?
        .map(Socket::into_parts)
        .unzip();

    let machine = Machine::detect(config.engine.cores, config.engine.gpus);
    let (sightings, seen) = mpsc::unbounded_channel();
    let ours = spool::our_store(&db, &holder.name).await?;
    let local = Local::open(config.local(), ours, machine.clone(), sightings)?;
    let engine: Arc<dyn Engine> = local.clone();
    let reserve = Reserve::open(&url).context("database")?;
    if let Some(reserve) = &reserve {
        tokio::spawn(reserve.clone().keep());
    }
    let metrics = Metrics::new();
    let store = Store::new(
        db.clone(),
        reserve,
        config.limits.queue(),
        config.limits.idempotency_keys,
        metrics.clone(),
    );
    store.count_waiting().await?;
    store.count_keys().await?;
    tokio::spawn(store.clone().expire_keys());
    let joining = spool::Joining {
        engine: local,
        store: store.clone(),
        id: ours.id,
        advice: spool::advice(&config),
    };
    joining.begin(&config).await?;
    let live = Live::default();
    let parts = Parts {
        store: store.clone(),
        engine: engine.clone(),
        live: live.clone(),
        host: holder.name,
        node: machine.name.clone(),
        boot: machine.boot.clone(),
        cores: machine.cores.clone(),
    };
    let scheduler = Scheduler::start(parts, seen).await?;
    let uid = nix::unistd::geteuid().as_raw();
    let authsvc = AuthService::new(config.auth.socket.clone());
    let warrants = match config.mode {
        Mode::SingleUser => None,
        Mode::MultiUser => Some(Warrants::new(
            authsvc.clone(),
            config.shim.audience.clone(),
            config.shim.warrants == Obtained::Mediated,
        )),
    };
    let jobs = Jobs::new(store, engine, scheduler, live, warrants, uid);

    // Before anybody can know that it serves, and have it stopped.
    let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let address = listener.local_addr()?;
    if let Some(path) = &config.listen.address_file {
        write_whole(path, &address.to_string()).context("listen.address_file")?;
    }
    let (disabled, accounts) = mpsc::unbounded_channel();
    let revocations = Revocations::new(authsvc.clone(), disabled);
    let asked = config.auth.required.then(|| authsvc.clone());
    let gate = Arc::new(gate(&config, authsvc, revocations.clone(), address)?);
    if config.auth.required {
        tokio::spawn(gate.clone().keep_fresh());
        // Until it was read, nobody who must be known is let in.
        let read = tokio::time::timeout(FIRST_READ, revocations.read()).await;
        if !matches!(read, Ok(Ok(()))) {
            tracing::warn!("what was revoked is not known yet: nobody is let in until it is");
        }
        tokio::spawn(revocations.follow());
        tokio::spawn(end_waiting(jobs.clone(), accounts));
    } else {
        tracing::warn!(
            "authentication is off: whoever can connect may run anything as this account"
        );
    }
    let prefix = Prefix::of_url(&config.listen.url(address));
    let flux = Arc::new(config.flux_dialect(machine.capacity.gpus)?);
    let router = http::router(Shared {
        jobs: jobs.clone(),
        gate,
        limits: Arc::new(Limits::new(
            config.limits.requests_per_minute,
            config.limits.unauthenticated_per_minute,
        )),
        readers: Readers::new(
            config.limits.readers_per_user,
            u64::from(config.limits.in_flight_mib) << 20,
        ),
        flux,
        own_warrants: config.mode == Mode::MultiUser && config.shim.warrants == Obtained::Client,
        origin: Arc::new(origin(&config, address)?),
        prefix: prefix.clone(),
    });
    let places = Places::new(
        config.limits.connections,
        config.limits.connections_per_source,
    );
    let (stop, stopped) = watch::channel(false);
    if let Some(admin) = admin {
        let disks = disks(&config, &url);
        let readiness = Readiness::new(jobs.clone(), asked, disks, places.clone(), metrics.clone());
        let router = http::admin::router(metrics, Arc::new(readiness));
        tracing::info!(listen = %admin.local_addr()?, "serving health and metrics");
        let listeners = Listeners::of_admin(admin);
        tokio::spawn(listen(listeners, router, stopped.clone(), None));
    }
    if let Some(tls) = &tls {
        tokio::spawn(tls.clone().watch());
    }
    tracing::info!(
        listen = %address,
        tls = config.listen.tls.files().is_some(),
        cores = machine.capacity.cores,
        gpus = machine.capacity.gpus,
        "serving"
    );
    let listeners = Listeners {
        tcp: listener,
        tls,
        proxy_protocol: config.listen.proxy_protocol,
        unix,
        proxies: config.listen.trusted()?,
        prefix,
        places,
        write_timeout: Duration::from_secs(config.limits.write_timeout_s.into()),
    };
    let server = tokio::spawn(listen(listeners, router, stopped, pulse(&jobs)));
    service_manager::tell_ready().context("NOTIFY_SOCKET")?;
    let grace = tokio::select! {
        grace = until_stopped(signals, &jobs, Duration::from_secs(config.stop.grace_s)) => grace?,
        // Jobs go on; whoever keeps the service running starts it afresh.
        error = joining.follow() => return Err(error),
        () = hold.lost() => anyhow::bail!("database: another broker has taken it over"),
    };
    let left = jobs.drain(grace).await;
    if left > 0 {
        tracing::info!(jobs = left, "jobs still run; they go on without the broker");
    }
    if let Err(error) = service_manager::tell_stopping() {
        tracing::warn!(%error, "the service manager is not told of the end");
    }
    stop.send_replace(true);
    server.await?;
    db.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// The directories that must have room, and what for.
fn disks(config: &Config, url: &str) -> Vec<(&'static str, PathBuf)> {
    let spool = match config.mode {
        Mode::SingleUser => config.spool.dir.clone(),
        Mode::MultiUser => config.shim.spool.clone(),
    };
    let database = url.strip_prefix("sqlite:").map(Path::new);
    let database = database.and_then(Path::parent).map(Path::to_path_buf);
    let database = database.map(|dir| ("database", dir));
    [("spool", spool)].into_iter().chain(database).collect()
}

/// Where the service manager ends a process that hangs: how it is told that this
/// one does not. What takes connections sends for that, and the scheduler tells
/// it, so that neither hangs unnoticed.
fn pulse(jobs: &Jobs) -> Option<http::listen::Pulse> {
    let every = service_manager::alive_every()?;
    let jobs = jobs.clone();
    let tell = || {
        if let Err(error) = service_manager::tell_alive() {
            tracing::warn!(%error, "the service manager is not told that this service is alive");
        }
    };
    Some((every, Box::new(move || jobs.turn(tell))))
}

/// Wait for a reason to stop; returns how long to wait for jobs that run. A
/// signal means a restart, which jobs live through: it waits for nothing.
async fn until_stopped(
    [terminate, interrupt]: [std::io::Result<Signal>; 2],
    jobs: &Jobs,
    grace: Duration,
) -> anyhow::Result<Duration> {
    let (mut terminate, mut interrupt) = (terminate?, interrupt?);
    Ok(tokio::select! {
        _ = terminate.recv() => Duration::ZERO,
        _ = interrupt.recv() => Duration::ZERO,
        () = jobs.asked_to_stop() => grace,
    })
}

/// End what waits in the names of accounts that were disabled, each by itself.
async fn end_waiting(jobs: Jobs, mut accounts: mpsc::UnboundedReceiver<Disabled>) {
    while let Some(Disabled { account, before_s }) = accounts.recv().await {
        let jobs = jobs.clone();
        tokio::spawn(async move { jobs.end_waiting_of(&account, before_s).await });
    }
}

fn gate(
    config: &Config,
    authsvc: AuthService,
    revocations: Revocations,
    address: SocketAddr,
) -> anyhow::Result<Gate> {
    let public = config.listen.url(address);
    let base = Base::parse(&config.listen.url(reached(address)));
    let base =
        base.context("listen.public_url: http:// or https://, a host, and perhaps a path")?;
    let anonymous = (!config.auth.required).then(|| http::auth::anonymous(account()));
    Ok(Gate::new(
        authsvc,
        revocations,
        config.auth.issuer.clone(),
        Challenge::new(&public, "warrant"),
        anonymous,
        config.mode == Mode::MultiUser,
        base,
    ))
}

/// The address under which programs of this machine reach what listens on
/// `address`: whoever listens everywhere is reached here at the least.
fn reached(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V4(_) | IpAddr::V6(_) => address.ip(),
    };
    SocketAddr::new(ip, address.port())
}

/// Where browsers find the pages.
///
/// Errors: `listen.public_url` has no host.
fn origin(config: &Config, address: SocketAddr) -> anyhow::Result<Origin> {
    let url = config.listen.url(reached(address));
    Origin::of_url(&url).context("listen.public_url: an http or https URL is needed")
}

/// The name of the account this process runs as.
fn account() -> String {
    let uid = nix::unistd::geteuid();
    let user = nix::unistd::User::from_uid(uid).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

fn make_private(dir: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}

/// Errors: it is not, unless room is all that is lacking.
fn must_be_writable(checked: Result<(), NotWritable>) -> Result<(), NotWritable> {
    match checked {
        Err(error) if error.is_for_want_of_room() => {
            tracing::error!(%error, "there is no room; starting all the same");
            Ok(())
        }
        checked => checked,
    }
}

/// Hold the spool, so that no second broker takes up the same runs.
fn lock(spool: &Path) -> anyhow::Result<Flock<std::fs::File>> {
    let path = spool.join("lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| anyhow::anyhow!("another broker uses the spool {}", spool.display()))
}

/// This broker, as its database knows it. Its name is the one under which it
/// claims jobs: the machine's, and a number that stays with the spool.
fn holder(spool: &Path) -> anyhow::Result<Holder> {
    let host = Machine::host_name();
    Ok(Holder {
        name: instance(spool, &host)?,
        dir: spool.canonicalize()?.display().to_string(),
        host,
    })
}

/// As [`holder`], where nothing may be made: its name is empty until there is one.
fn known_holder(spool: &Path) -> Holder {
    let name = std::fs::read_to_string(spool.join("instance"));
    let dir = spool.canonicalize();
    Holder {
        name: name.unwrap_or_default().trim().to_owned(),
        host: Machine::host_name(),
        dir: dir
            .unwrap_or_else(|_| spool.to_owned())
            .display()
            .to_string(),
    }
}

/// Hold the database, so that no other broker takes the same jobs. The runs of
/// the one that held it before are taken over with it.
///
/// Errors: it belongs to another broker, or another serves it; says what to do.
async fn hold(db: &Db, url: &str, holder: &Holder) -> anyhow::Result<Hold> {
    let hold = Schema::Broker
        .hold(db, url, holder)
        .await
        .context("database")?;
    if let Some(before) = &hold.before {
        let runs = take_over_runs(db, before, &holder.name).await?;
        tracing::warn!(before, runs, "the database was another broker's");
    }
    hold.note(db).await?;
    Ok(hold)
}

fn instance(spool: &Path, machine: &str) -> anyhow::Result<String> {
    let path = spool.join("instance");
    match std::fs::read_to_string(&path) {
        Ok(name) if !name.trim().is_empty() => return Ok(name.trim().to_owned()),
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e.into()),
    }
    let mut random = [0; 8];
    getrandom::fill(&mut random)?;
    let name = format!("{machine}-{:016x}", u64::from_le_bytes(random));
    write_whole(&path, &name)?;
    Ok(name)
}

/// Write a small file so that nobody ever reads half of it.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    let file = std::fs::File::create(&fresh)?;
    std::io::Write::write_all(&mut &file, text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(fresh, path)
}
