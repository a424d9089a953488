//! Running the service.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use warrant_door::Prefix;
use warrant_migrations::{Db, Hold, Reserve, Schema};
use warrant_upkeep::{check_database_writable, service_manager};

use crate::accounts::{self, Accounts};
use crate::api_keys::ApiKeys;
use crate::audit::{self, Audit, Event, Sort};
use crate::clock;
use crate::config::{self, Backend, Backends, Mode, Settings, Superuser};
use crate::directory::{Directory, Roles};
use crate::dpop::Proofs;
use crate::error::{Error, Kind, Result};
use crate::http::{self, Callers, Given, Server, Service};
use crate::keys::{self, Purpose, Ring};
use crate::login::{Judge, Login, System};
use crate::oauth::OAuth;
use crate::oidc::Oidc;
use crate::passwords::{self, Hasher};
use crate::prune;
use crate::rate::Rate;
use crate::secret::Secret;
use crate::sessions::{Counted, Sessions, end_account, until};
use crate::source::{Forwarders, Source};
use crate::store;
use crate::store::users::{self, By};
use crate::throttle::Throttle;
use crate::token::Mint;
use crate::warrants::{Subjects, Warrants};
use crate::web::{Way, Web};

/// Answer requests until SIGTERM or SIGINT. With `migrate`, the database is
/// brought up to date first.
///
/// Errors: the database is not up to date, a key or the socket's directory is
/// open to others, an address is taken.
pub(super) async fn serve(settings: Settings, migrate: bool) -> Result<()> {
    // What it was started in is no place that a relative path may mean.
    std::env::set_current_dir("/")
        .map_err(|source| Error::unavailable("the root directory cannot be entered", source))?;
    let url = settings.database_url()?;
    let db = store::open(&url).await?;
    let holder = Purpose::Access.dir(&settings.config)?.holder()?;
    if migrate {
        // Another's is not ours to change.
        Schema::Auth
            .check_holder_early(&db, url.expose(), &holder)
            .await?;
        Schema::Auth.migrate(&db).await?;
    }
    Schema::Auth.check(&db).await?;
    Schema::Auth.check_rights(&db).await?;
    match check_database_writable(Schema::Auth, &db, url.expose()).await {
        Err(error) if error.is_for_want_of_room() => {
            tracing::error!(%error, "there is no room; starting all the same");
        }
        checked => checked.map_err(|source| Error::unavailable("database.url", source))?,
    }
    let hold = Schema::Auth.hold(&db, url.expose(), &holder).await?;
    hold.note(&db).await?;
    keep_reserve(&url)?;
    let chained = store::audit::chain_old(&db).await?;
    if chained > 0 {
        tracing::info!(rows = chained, "the audit trail is a hash chain now");
    }
    let (stop, lost) = (stop_signal()?, taken_over(hold));
    let stop = async {
        tokio::select! {
            () = stop => {}
            () = lost => {}
        }
    };
    let (server, service) = start(settings, db.clone()).await?;
    let unheard = |source| Error::unavailable("the service manager takes no messages", source);
    service_manager::tell_ready().map_err(unheard)?;
    server.run(http::router(service.clone()), stop).await;
    if let Err(error) = service_manager::tell_stopping() {
        tracing::warn!(%error, "the service manager is not told of the end");
    }
    service.audit.flush().await;
    db.close().await;
    Ok(())
}

/// Keep room on the disk for what must be recorded, where the database is a file.
///
/// Errors: the file cannot be opened.
fn keep_reserve(url: &Secret) -> Result<()> {
    let reserve = Reserve::open(url.expose())
        .map_err(|source| Error::unavailable("the database's file cannot be opened", source))?;
    if let Some(reserve) = reserve {
        tokio::spawn(reserve.keep());
    }
    Ok(())
}

/// Everything up to answering: the superuser, the keys, the sockets and the
/// tasks beside them.
///
/// Errors: as [`serve`].
pub(crate) async fn start(settings: Settings, db: Db) -> Result<(Server, Arc<Service>)> {
    if let Some(superuser) = &settings.superuser {
        keep_superuser(&settings, &db, superuser).await?;
    }
    let (dir, ring) = Purpose::Access.open(&settings.config)?;
    let audit = Audit::start(db.clone());
    let accounts = accounts(&settings);
    let roles = Roles {
        admin_users: settings.admin_users.clone(),
        operator_users: settings.operator_users.clone(),
        admin_groups: settings.config.admin_groups.clone(),
        operator_groups: settings.config.operator_groups.clone(),
    };
    let directory = Directory {
        db: db.clone(),
        stored: settings.backends.stores_passwords(),
        unlisted: settings.backends.has(Backend::Pam),
        provided: settings.backends.has(Backend::Oidc),
        accounts: accounts.clone(),
        with_uid: settings.config.mode == Mode::MultiUser,
        roles,
    };
    let sessions = Arc::new(Sessions {
        db: db.clone(),
        mint: Mint {
            ring: ring.clone(),
            issuer: settings.config.issuer().to_owned(),
        },
        directory: Arc::new(directory),
        counted: Counted::default(),
    });
    let warrants = warrants(&settings, &ring, accounts.as_ref(), &sessions, &audit)?;
    let subjects = Subjects::new(ring.clone(), settings.config.issuers());
    let oauth = OAuth {
        db: db.clone(),
        sessions: sessions.clone(),
        subjects,
        audit: audit.clone(),
        config: settings.config.oauth.clone(),
        issuer: settings.config.issuer().to_owned(),
        client_certificates: settings.config.listen.tls.client_ca.is_some(),
        user_certificates: settings.certificates.is_some(),
        typed: Throttle::default(),
        begun: Throttle::default(),
    };
    let proofs = Proofs::open(&settings.config.oauth, &db).await?;
    let oidc = Oidc::new(
        settings.oidc.clone(),
        &settings.config.oauth.url,
        db.clone(),
        sessions.clone(),
        audit.clone(),
    )?;
    let prefix = Prefix::of_url(&settings.config.oauth.url);
    let broker_uids = broker_uids(&settings.config)?;
    let forwarders = Forwarders {
        proxies: Arc::new(settings.proxies.clone()),
        broker_uids: broker_uids.clone().into(),
    };
    let server = Server::bind(&settings.config.listen)
        .await?
        .recording(audit.clone())
        .reading(Callers {
            forwarders: forwarders.clone(),
            prefix: prefix.clone(),
        });
    tokio::spawn(keys::watch(dir, ring.clone()));
    tokio::spawn(prune::prune(db.clone()));
    tokio::spawn(prune::end_left_groups(sessions.clone()));
    tracing::info!(
        mode = settings.config.mode.name(),
        backends = settings.backends.names(),
        handshake = settings.handshake_secret().is_some(),
        socket = %settings.config.listen.socket.display(),
        tcp = server.tcp_address().map(tracing::field::display),
        tls = settings.config.listen.tls.files().is_some(),
        "listening"
    );
    let costs = &settings.config.passwords;
    let login = Login {
        db,
        throttle: Throttle::default(),
        hasher: Hasher::new(settings.hash_params.clone(), costs.parallel, costs.queue)?,
        sessions,
        judges: judges(&settings.backends),
        system: settings
            .backends
            .has(Backend::Pam)
            .then(|| System::new(&settings.config.pam)),
        accounts,
        with_uid: settings.config.mode == Mode::MultiUser,
        audit: audit.clone(),
    };
    let login = Arc::new(login);
    let pages = &settings.config.oauth.url;
    let ways = oidc.ways_in().map(|(name, label)| Way {
        label: format!("Sign in with {label}"),
        path: format!("/login/oidc/{name}"),
    });
    let ways = ways.collect();
    let service = Service {
        api_keys: ApiKeys {
            login: login.clone(),
            subjects: Subjects::new(ring.clone(), settings.config.issuers()),
            config: settings.config.api_keys,
            made: Rate::per(Duration::from_secs(60)),
        },
        broker_uids,
        forwarders,
        prefix,
        given: Given::new()?,
        web: Web::new(login.clone(), settings.config.web, pages, ways)?,
        login,
        ring,
        backends: settings.backends.clone(),
        password_login: settings.password_login(),
        handshake_secret: settings.handshake_secret().cloned(),
        token_s: settings.token_life_s(),
        handshake: settings.config.handshake,
        certificates: settings.certificates,
        oauth,
        oidc,
        broker_uid: match &warrants {
            Some(warrants) => warrants.broker_uid,
            // Both run as one account.
            None => nix::unistd::geteuid().as_raw(),
        },
        warrants,
        proofs,
        audit,
    };
    Ok((server, Arc::new(service)))
}

/// Who judges passwords, in the order in which they are asked.
fn judges(backends: &Backends) -> Vec<Judge> {
    let judge = |backend| match backend {
        Backend::Database | Backend::SharedSecret => Some(Judge::Stored),
        Backend::Pam => Some(Judge::System),
        Backend::None | Backend::Oidc => None,
    };
    backends.iter().filter_map(judge).collect()
}

/// The accounts that users must have: in multi-user mode, and wherever their
/// passwords are those of accounts.
fn accounts(settings: &Settings) -> Option<Arc<Accounts>> {
    let config = &settings.config;
    let needed = config.mode == Mode::MultiUser || settings.backends.has(Backend::Pam);
    let range = config.accounts.min_uid..=config.accounts.max_uid;
    needed.then(|| Arc::new(Accounts::new(range)))
}

/// What gives out warrants, in multi-user mode; and what keeps its keys in
/// step with their directory.
fn warrants(
    settings: &Settings,
    access: &Ring,
    accounts: Option<&Arc<Accounts>>,
    sessions: &Arc<Sessions>,
    audit: &Audit,
) -> Result<Option<Warrants>> {
    let config = &settings.config;
    let accounts = match (config.mode, accounts) {
        (Mode::MultiUser, Some(accounts)) => accounts.clone(),
        (Mode::SingleUser, _) | (Mode::MultiUser, None) => return Ok(None),
    };
    let (dir, ring) = Purpose::Warrants.open(config)?;
    let now_s = clock::now_s();
    let mut keys = ring.states(now_s).into_iter();
    if keys.any(|(key, _)| access.verifying(&key.kid, now_s).is_some()) {
        return Err(Error::new(
            Kind::Insecure,
            "warrants.keys_dir: holds a key that keys.dir holds too",
        ));
    }
    tokio::spawn(keys::watch(dir, ring.clone()));
    Ok(Some(Warrants {
        grants: config.warrants.mode,
        proof: config.warrants.proof,
        audiences: config.warrants.audiences.clone(),
        life_s: config.warrants.life_s,
        per_second: config.warrants.per_second,
        given: Rate::per(Duration::from_secs(1)),
        ring,
        issuer: config.warrant_issuer().to_owned(),
        broker_uid: broker_uid(&config.warrants)?,
        subjects: Subjects::new(access.clone(), config.issuers()),
        accounts,
        sessions: sessions.clone(),
        audit: audit.clone(),
    }))
}

/// Who may ask what the broker alone may ask: in multi-user mode the broker's
/// account; else whoever runs this as well, and the broker's account where it
/// is there.
fn broker_uids(config: &config::Config) -> Result<Vec<u32>> {
    match config.mode {
        Mode::MultiUser => Ok(vec![broker_uid(&config.warrants)?]),
        Mode::SingleUser => {
            let named = match config.warrants.broker_uid {
                Some(uid) => Some(uid),
                None => accounts::uid_of(&config.warrants.broker_user)?,
            };
            let own = nix::unistd::geteuid().as_raw();
            Ok([own].into_iter().chain(named).collect())
        }
    }
}

pub(super) fn broker_uid(config: &config::Warrants) -> Result<u32> {
    if let Some(uid) = config.broker_uid {
        return Ok(uid);
    }
    accounts::uid_of(&config.broker_user)?.ok_or_else(|| {
        Error::invalid(format!(
            "warrants.broker_user: there is no account {:?}; name the broker's, or set \
             warrants.broker_uid",
            config.broker_user
        ))
    })
}

/// Create the superuser, or give it the configured password. Whether it may
/// log in is left as it is.
async fn keep_superuser(settings: &Settings, db: &Db, superuser: &Superuser) -> Result<()> {
    let Superuser { name, password } = superuser;
    let now_us = clock::now_us();
    let known = users::find(&mut db.read().await?, name).await?;
    let unchanged = match &known {
        Some(user) if user.by != By::Database => false,
        Some(user) => passwords::matches(&user.password_hash, password)?,
        None => false,
    };
    if unchanged && known.is_some_and(|user| user.superuser) {
        return Ok(());
    }
    let mut tx = db.begin().await?;
    let mut before_s = None;
    if !unchanged {
        let hash = passwords::hash(&settings.hash_params, password).map_err(|error| Error {
            message: format!("superuser (FLUX_TOKEN): {error}"),
            ..error
        })?;
        if !users::insert(&mut tx, name, &hash, true, now_us).await? {
            users::set_password(&mut tx, name, &hash, now_us).await?;
            before_s = Some(end_account(&mut tx, name.as_str(), "password-changed").await?);
        }
    }
    users::promote(&mut tx, name).await?;
    let mut event = Event::new(Sort::Admin, Source::of_configuration());
    event.action = Some("superuser");
    event.subject = Some(name.as_str().to_owned());
    audit::act(&mut tx, event).await?;
    tx.commit().await?;
    if let Some(before_s) = before_s {
        until(before_s).await;
    }
    Ok(())
}

/// Returns once another auth service has taken the database.
async fn taken_over(hold: Hold) {
    hold.lost().await;
    tracing::error!("the database was taken over by another auth service; stopping");
}

fn stop_signal() -> Result<impl Future<Output = ()>> {
    let listen = |kind| {
        signal(kind).map_err(|source| Error::unavailable("signals cannot be received", source))
    };
    let mut term = listen(SignalKind::terminate())?;
    let mut int = listen(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::info!("stopping");
    })
}
