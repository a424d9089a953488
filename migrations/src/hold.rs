//! One service at a time on a database, and always the same one. Two brokers
//! would take each other's jobs, and two auth services change each other's
//! users.
//!
//! A row of the database names its holder, for as long as the database is in
//! its place: a copy of it, restored or moved, is nobody's. And a lock keeps a
//! second process out, which may be the holder once more.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, FromRow, PgConnection};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::{Db, Error, Result, Schema, on};

/// How long to wait for the lock: a service that was killed gives it up when
/// the database learns of that.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same where the connection was lost under a service that serves: the
/// database may take so long to learn of it.
const LONG_PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(100);
/// How often the connection that has the lock is looked after.
const LOOK: Duration = Duration::from_secs(10);
/// The longest that one exchange with the server may take.
const EXCHANGE: Duration = Duration::from_secs(5);
/// The first number of the locks on PostgreSQL: `WRNT`.
const LOCKS: i32 = 0x5752_4e54;

/// Who serves a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// A name that stays with the service's directory, wherever that is moved.
    pub name: String,
    /// The machine's name.
    pub host: String,
    /// The service's directory there.
    pub dir: String,
}

/// A database that is held. Dropped, it is given up.
#[derive(Debug)]
pub struct Hold {
    /// The name of the service that held it before, where that was another.
    pub before: Option<String>,
    schema: Schema,
    /// What the row is to say, unless it does.
    new: Option<(Holder, String)>,
    lost: watch::Receiver<bool>,
    lock: Lock,
}

#[derive(Debug)]
enum Lock {
    /// A lock on a file beside the database.
    Sqlite(#[allow(dead_code, reason = "held until it is dropped")] File),
    /// The task that looks after the connection that has it.
    Postgres(JoinHandle<()>),
}

impl Hold {
    /// Note whose the database is now. What must be done for that comes before.
    ///
    /// Errors: the database did not answer.
    pub async fn note(&self, db: &Db) -> Result<()> {
        let Some((holder, place)) = &self.new else {
            return Ok(());
        };
        let [_, write, _] = self.schema.texts();
        let Holder { name, host, dir } = holder;
        let mut tx = db.begin().await?;
        on!(&mut tx, |db| {
            let update = sqlx::query(write).bind(name).bind(host).bind(dir);
            update.bind(place).execute(db).await.map(drop)
        })?;
        tx.commit().await
    }

    /// Returns once another process has taken the database while this one had
    /// no connection to it.
    pub async fn lost(&self) {
        let mut lost = self.lost.clone();
        // The other end lives as long as the lock does.
        if lost.wait_for(|lost| *lost).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Lock::Postgres(task) = &self.lock {
            task.abort();
        }
    }
}

#[derive(Debug, FromRow)]
struct Row {
    holder: Option<String>,
    holder_host: Option<String>,
    holder_dir: Option<String>,
    place: Option<String>,
}

impl Row {
    /// Whether `holder` may take a database that is in `place`.
    fn admits(&self, holder: &Holder, place: &str) -> bool {
        let here = (Some(&holder.host), Some(&holder.dir));
        self.holder.is_none()
            || self.holder.as_ref() == Some(&holder.name)
            || self.place.as_deref() != Some(place)
            // Its directory was emptied or lost, and made anew.
            || (self.holder_host.as_ref(), self.holder_dir.as_ref()) == here
    }

    fn refusal(self, service: &str) -> Error {
        let or = |text: Option<String>| text.unwrap_or_else(|| "?".into());
        Error::Held(format!(
            "the database belongs to another {service}, which has its directory at {} on {}. Two \
             servers cannot share a database: give this one a database of its own. If the other \
             is gone for good, run `{service} take-over`",
            or(self.holder_dir),
            or(self.holder_host)
        ))
    }
}

impl Schema {
    const fn texts(self) -> [&'static str; 3] {
        match self {
            Self::Broker => [
                "select holder, holder_host, holder_dir, place from job_store where one = 1",
                "update job_store set holder = $1, holder_host = $2, holder_dir = $3, place = $4 \
                 where one = 1",
                "update job_store set place = '' where one = 1",
            ],
            Self::Auth => [
                "select holder, holder_host, holder_dir, place from user_store where one = 1",
                "update user_store set holder = $1, holder_host = $2, holder_dir = $3, \
                 place = $4 where one = 1",
                "update user_store set place = '' where one = 1",
            ],
        }
    }

    /// Hold the database `db`, which is at `url`, for as long as the answer is
    /// kept; [`Hold::note`] makes it this service's for good.
    ///
    /// Errors: [`Error::Held`] where it belongs to another service, or another
    /// process serves it, with what to do; the database did not answer.
    pub async fn hold(self, db: &Db, url: &str, holder: &Holder) -> Result<Hold> {
        // Seen before the wait for a lock, whoever has it.
        self.check_holder(db, url, holder).await?;
        let (tell, lost) = watch::channel(false);
        let lock = self.lock(url, tell).await?;
        self.check_holder(db, url, holder).await?;
        let (place, row) = (place(db, url).await?, self.row(db).await?);
        let known = [&row.holder, &row.holder_host, &row.holder_dir, &row.place];
        let ours = [&holder.name, &holder.host, &holder.dir, &place];
        let is_known = known == ours.map(|text| Some(text.clone())).each_ref();
        Ok(Hold {
            before: row.holder.filter(|before| *before != holder.name),
            schema: self,
            new: (!is_known).then(|| (holder.clone(), place)),
            lost,
            lock,
        })
    }

    /// As [`Schema::check_holder`], before the database is brought up to date:
    /// one that has no such row belongs to nobody.
    ///
    /// Errors: [`Error::Held`].
    pub async fn check_holder_early(self, db: &Db, url: &str, holder: &Holder) -> Result<()> {
        match self.check_holder(db, url, holder).await {
            Err(Error::Held(text)) => Err(Error::Held(text)),
            // Whatever else is wrong is found where it matters.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// See that `holder` may hold the database `db`, which is at `url`, as far
    /// as its row tells. Nothing is changed.
    ///
    /// Errors: [`Error::Held`] where it belongs to another service; the
    /// database did not answer.
    pub async fn check_holder(self, db: &Db, url: &str, holder: &Holder) -> Result<()> {
        let place = place(db, url).await?;
        let row = self.row(db).await?;
        match row.admits(holder, &place) {
            true => Ok(()),
            false => Err(row.refusal(self.service())),
        }
    }

    /// Let any service take the database `db`, which is at `url`.
    ///
    /// Errors: [`Error::Held`] where a process serves it; the database did not
    /// answer.
    pub async fn give_up(self, db: &Db, url: &str) -> Result<()> {
        let (tell, _) = watch::channel(false);
        let lock = self.lock(url, tell).await?;
        let [_, _, give_up] = self.texts();
        let mut tx = db.begin().await?;
        on!(&mut tx, |db| sqlx::query(give_up)
            .execute(db)
            .await
            .map(drop))?;
        tx.commit().await?;
        if let Lock::Postgres(task) = lock {
            task.abort();
        }
        Ok(())
    }

    async fn row(self, db: &Db) -> Result<Row> {
        let [read, ..] = self.texts();
        let mut conn = db.read().await?;
        Ok(on!(&mut conn, |db| sqlx::query_as(read)
            .fetch_one(db)
            .await)?)
    }

    async fn lock(self, url: &str, tell: watch::Sender<bool>) -> Result<Lock> {
        match url.strip_prefix("sqlite:") {
            Some(path) => self.lock_file(path).await.map(Lock::Sqlite),
            None => {
                let server = Server::of(url, self)?;
                let connection = server.lock(PATIENCE).await?;
                let connection = connection.ok_or_else(|| self.is_served())?;
                Ok(Lock::Postgres(tokio::spawn(server.keep(connection, tell))))
            }
        }
    }

    async fn lock_file(self, path: &str) -> Result<File> {
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .append(true)
            .mode(0o600)
            .open(format!("{path}.{}.lock", self.service()))
            .map_err(sqlx::Error::Io)?;
        let until = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(sqlx::Error::Io(error).into()),
                Err(TryLockError::WouldBlock) if Instant::now() >= until => {
                    return Err(self.is_served());
                }
                Err(TryLockError::WouldBlock) => sleep(PAUSE).await,
            }
        }
    }

    fn is_served(self) -> Error {
        Error::Held(format!(
            "another {} serves the database now: stop that one first, or give this one a database \
             of its own",
            self.service()
        ))
    }
}

/// The server of a database, and the lock of a service there.
struct Server {
    options: PgConnectOptions,
    number: i32,
}

impl Server {
    fn of(url: &str, schema: Schema) -> Result<Self> {
        // The server gives the lock up a minute after a machine has vanished.
        let options = PgConnectOptions::from_str(url)?.options([
            ("statement_timeout", "10s"),
            ("tcp_keepalives_idle", "15"),
            ("tcp_keepalives_interval", "15"),
            ("tcp_keepalives_count", "3"),
        ]);
        let number = match schema {
            Schema::Broker => 1,
            Schema::Auth => 2,
        };
        Ok(Self { options, number })
    }

    /// A connection that has the lock; `None` where another one has it for so
    /// long.
    async fn lock(&self, patience: Duration) -> Result<Option<PgConnection>> {
        const SQL: &str = "select pg_try_advisory_lock($1, $2)";
        let until = Instant::now() + patience;
        let mut connection = within(self.options.connect()).await?;
        loop {
            let query = sqlx::query_scalar(SQL).bind(LOCKS).bind(self.number);
            if within(query.fetch_one(&mut connection)).await? {
                return Ok(Some(connection));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            sleep(PAUSE).await;
        }
    }

    /// Look after a connection that has the lock, and make another where it is
    /// lost.
    async fn keep(self, mut connection: PgConnection, tell: watch::Sender<bool>) {
        loop {
            sleep(LOOK).await;
            if within(connection.ping()).await.is_ok() {
                continue;
            }
            match self.lock(LONG_PATIENCE).await {
                Ok(Some(another)) => connection = another,
                Ok(None) => {
                    tell.send_replace(true);
                    return;
                }
                Err(error) => tracing::warn!(%error, "the lock of the database is not held now"),
            }
        }
    }
}

async fn within<T>(exchange: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    let done = timeout(EXCHANGE, exchange).await;
    done.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// Which database this is: another text for each copy of it.
async fn place(db: &Db, url: &str) -> Result<String> {
    const DATABASE: &str = "select oid::text from pg_database where datname = current_database()";
    const MAY_ASK: &str = "select has_function_privilege('pg_control_system()', 'execute')";
    const CLUSTER: &str = "select system_identifier::text from pg_control_system()";
    if let Some(path) = url.strip_prefix("sqlite:") {
        let found = std::fs::metadata(path).map_err(sqlx::Error::Io)?;
        // The number of a file that was removed is soon another's.
        let born = found.created().ok();
        let born = born.and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let born = born.unwrap_or_default().as_nanos();
        return Ok(format!("{} {born}", found.ino()));
    }
    let Db::Postgres { readers, .. } = db else {
        return Err(Error::Url);
    };
    let database: String = sqlx::query_scalar(DATABASE).fetch_one(readers).await?;
    let cluster: String = match sqlx::query_scalar(MAY_ASK).fetch_one(readers).await? {
        true => sqlx::query_scalar(CLUSTER).fetch_one(readers).await?,
        false => String::new(),
    };
    Ok(format!("{cluster} {database}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(name: &str, dir: &str) -> Holder {
        Holder {
            name: name.into(),
            host: "here".into(),
            dir: dir.into(),
        }
    }

    #[test]
    fn a_database_is_its_holders_until_it_is_copied_or_given_up() {
        let mut row = Row {
            holder: Some("a".into()),
            holder_host: Some("here".into()),
            holder_dir: Some("/a".into()),
            place: Some("1".into()),
        };
        assert!(row.admits(&holder("a", "/moved"), "1"));
        assert!(row.admits(&holder("new", "/a"), "1"));
        assert!(row.admits(&holder("b", "/b"), "2"));
        assert!(!row.admits(&holder("b", "/b"), "1"));
        row.place = Some(String::new());
        assert!(row.admits(&holder("b", "/b"), "1"));
        row.holder = None;
        assert!(row.admits(&holder("b", "/b"), ""));
    }
}
