//! Running the service.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use warrant_migrations::{Db, Schema};

use crate::clock;
use crate::config::{Settings, Superuser};
use crate::error::{Error, Result};
use crate::http::{self, Server, Service};
use crate::keys::{self, KeyDir, Ring};
use crate::login::Login;
use crate::passwords::{self, Hasher};
use crate::store::{self, jtis, users};
use crate::throttle::Throttle;
use crate::token::Mint;

/// How often used login payloads are forgotten.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Answer requests until SIGTERM or SIGINT. With `migrate`, the database is
/// brought up to date first.
///
/// Errors: the database is not up to date, a key or the socket's directory is
/// open to others, an address is taken.
pub(super) async fn serve(settings: Settings, migrate: bool) -> Result<()> {
    let db = store::open(&settings.database_url).await?;
    if migrate {
        Schema::Auth.migrate(&db).await?;
    }
    Schema::Auth.check(&db).await?;
    let stop = stop_signal()?;
    let (server, service) = start(settings, db.clone()).await?;
    server.run(http::router(service), stop).await;
    db.close().await;
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
    let dir = KeyDir::open(&settings.config.keys.dir)?;
    let mut keys = dir.load()?;
    if keys.is_empty() {
        keys.push(dir.add(clock::now_s())?);
    }
    let ring = Ring::new(keys);
    let server = Server::bind(&settings.config.listen).await?;
    tokio::spawn(keys::watch(dir, ring.clone()));
    tokio::spawn(prune(db.clone()));
    tracing::info!(
        backend = settings.backend.name(),
        handshake = settings.handshake_secret().is_some(),
        socket = %settings.config.listen.socket.display(),
        tcp = server.tcp_address().map(tracing::field::display),
        "listening"
    );
    let costs = &settings.config.passwords;
    let login = Login {
        db,
        throttle: Throttle::default(),
        hasher: Hasher::new(settings.hash_params.clone(), costs.parallel, costs.queue)?,
        mint: Mint {
            ring: ring.clone(),
            issuer: settings.config.tokens.issuer.clone(),
            life_s: settings.token_life_s(),
        },
        admin_users: settings.admin_users.clone(),
    };
    let service = Service {
        login: Arc::new(login),
        ring,
        backend: settings.backend,
        password_login: settings.password_login(),
        handshake_secret: settings.handshake_secret().cloned(),
        handshake: settings.config.handshake,
    };
    Ok((server, Arc::new(service)))
}

/// Create the superuser, or give it the configured password. Whether it may
/// log in is left as it is.
async fn keep_superuser(settings: &Settings, db: &Db, superuser: &Superuser) -> Result<()> {
    let Superuser { name, password } = superuser;
    let now_us = clock::now_us();
    let known = users::find(&mut db.read().await?, name).await?;
    let unchanged = match known {
        Some(user) => passwords::matches(&user.password_hash, password)?,
        None => false,
    };
    let mut tx = db.begin().await?;
    if !unchanged {
        let hash = passwords::hash(&settings.hash_params, password).map_err(|error| Error {
            message: format!("superuser (FLUX_TOKEN): {error}"),
            ..error
        })?;
        if !users::insert(&mut tx, name, &hash, true, now_us).await? {
            users::set_password(&mut tx, name, &hash, now_us).await?;
        }
    }
    users::promote(&mut tx, name).await?;
    Ok(tx.commit().await?)
}

async fn prune(db: Db) {
    loop {
        let pruned = async {
            let mut tx = db.begin().await?;
            jtis::prune(&mut tx, clock::now_us()).await?;
            tx.commit().await
        };
        if let Err(error) = pruned.await {
            tracing::warn!(%error, "used login payloads could not be forgotten");
        }
        tokio::time::sleep(PRUNE_EVERY).await;
    }
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
