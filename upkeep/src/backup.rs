//! Backups of SQLite while the service runs.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg, OFlag};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use warrant_migrations::Db;
use warrant_trail::{Row, Trail, now_us, operator};

/// How long to wait for a lock of the database.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum Backup {
    /// The database is on a server.
    #[error("the database is on PostgreSQL: use pg_dump, as docs/BACKUP.md says")]
    Server,
    /// The file, or its directory, is not as it must be.
    #[error("{0}")]
    File(String),
    /// The operating system refused.
    #[error("{what}: {source}")]
    Os {
        /// The file.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// The database did not answer, or its copy is damaged.
    #[error("the copy cannot be made: {0}")]
    Sql(#[from] sqlx::Error),
    /// The audit trail cannot be told.
    #[error(transparent)]
    Trail(#[from] warrant_trail::Error),
}

/// Copy the SQLite database at `url` into `file`, as it is at one moment, while
/// the service goes on; returns the copy's size in bytes. The audit trail tells
/// of it. Broken off, it leaves `file` alone and a hidden file beside it, which
/// the next backup uses.
///
/// Errors: `file` is there already; it cannot be written; the database is on a
/// server or did not answer; the copy is damaged.
pub async fn backup(trail: &Trail, db: &Db, url: &str, file: &Path) -> Result<u64, Backup> {
    let (Db::Sqlite { .. }, Some(source)) = (db, url.strip_prefix("sqlite:")) else {
        return Err(Backup::Server);
    };
    let exists = || Backup::File(format!("{} exists already", file.display()));
    if fs::symlink_metadata(file).is_ok() {
        return Err(exists());
    }
    let partial = Partial::begin(file)?;
    tell(trail, db, file).await?;
    let mut conn = SqliteConnectOptions::new()
        .filename(source)
        .read_only(true)
        .busy_timeout(PATIENCE)
        .pragma("temp_store", "memory")
        .connect()
        .await?;
    let path = partial.path.to_string_lossy().into_owned();
    let copied = sqlx::query("vacuum into $1")
        .bind(&path)
        .execute(&mut conn)
        .await;
    conn.close().await?;
    copied?;
    look_over(&partial.path).await?;
    partial.finish(file)
}

/// Record who made the copy, so that the copy tells of itself.
async fn tell(trail: &Trail, db: &Db, file: &Path) -> Result<(), warrant_trail::Error> {
    let name = file.file_name().unwrap_or_default();
    let row = Row {
        time_us: now_us(),
        kind: "admin".into(),
        action: Some("backup".into()),
        outcome: "granted".into(),
        source: operator(),
        detail: Some(name.to_string_lossy().into_owned()),
        ..Row::default()
    };
    let mut tx = db.begin().await?;
    trail.append(&mut tx, vec![row]).await?;
    Ok(tx.commit().await?)
}

/// See that the copy is a whole database.
async fn look_over(path: &Path) -> Result<(), Backup> {
    let mut conn: SqliteConnection = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .immutable(true)
        .connect()
        .await?;
    let said: String = sqlx::query_scalar("pragma quick_check(1)")
        .fetch_one(&mut conn)
        .await?;
    conn.close().await?;
    if said == "ok" {
        return Ok(());
    }
    Err(Backup::File(
        "the copy is damaged, and so may be the database: see `pragma integrity_check`".into(),
    ))
}

/// The file while it is being written: for its owner alone, and locked.
struct Partial {
    path: PathBuf,
    lock: Flock<File>,
}

impl Partial {
    fn begin(file: &Path) -> Result<Self, Backup> {
        let name = file
            .file_name()
            .ok_or_else(|| Backup::File(format!("{} names no file", file.display())))?;
        let path = file.with_file_name(format!(".{}.partial", name.to_string_lossy()));
        let failed = os(&path);
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&path)
            .map_err(&failed)?;
        let busy = || {
            Backup::File(format!(
                "another backup into {} is under way",
                file.display()
            ))
        };
        let lock = Flock::lock(opened, FlockArg::LockExclusiveNonblock).map_err(|_| busy())?;
        let ours = lock.metadata().map_err(&failed)?;
        // It may have been finished by another between opening and locking.
        let there = fs::symlink_metadata(&path).map_err(|_| busy())?;
        if (ours.dev(), ours.ino()) != (there.dev(), there.ino()) || !ours.is_file() {
            return Err(busy());
        }
        lock.set_permissions(fs::Permissions::from_mode(0o600))
            .and_then(|()| lock.set_len(0))
            .map_err(&failed)?;
        Ok(Self { path, lock })
    }

    /// Give it its name, where nothing has that name.
    fn finish(self, file: &Path) -> Result<u64, Backup> {
        let failed = os(file);
        let bytes = self.lock.metadata().map_err(&failed)?.len();
        self.lock.sync_all().map_err(&failed)?;
        match fs::hard_link(&self.path, file) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(Backup::File(format!("{} exists already", file.display())));
            }
            linked => linked.map_err(&failed)?,
        }
        fs::remove_file(&self.path).map_err(&failed)?;
        let parent = file.parent().filter(|parent| parent.as_os_str() != "");
        File::open(parent.unwrap_or(Path::new(".")))
            .and_then(|dir| dir.sync_all())
            .map_err(&failed)?;
        Ok(bytes)
    }
}

fn os(path: &Path) -> impl Fn(std::io::Error) -> Backup + use<> {
    let what = path.display().to_string();
    move |source| Backup::Os {
        what: what.clone(),
        source,
    }
}
