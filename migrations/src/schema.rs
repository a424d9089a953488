//! The two schemas and their numbered migrations. A file never changes after
//! a release; both databases have files of the same names.

use std::collections::BTreeMap;

use sqlx::migrate::{Migrate, Migrator};

use crate::{Db, Error, Result, on};

/// Whose tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// Jobs, tasks, runs, events.
    Broker,
    /// Users and what proves who they are.
    Auth,
}

impl Schema {
    fn migrator(self, db: &Db) -> Migrator {
        let (mut migrator, table) = match (self, db) {
            (Self::Broker, Db::Sqlite { .. }) => {
                (sqlx::migrate!("./broker/sqlite"), "broker_migrations")
            }
            (Self::Broker, Db::Postgres { .. }) => {
                (sqlx::migrate!("./broker/postgres"), "broker_migrations")
            }
            (Self::Auth, Db::Sqlite { .. }) => (sqlx::migrate!("./auth/sqlite"), "auth_migrations"),
            (Self::Auth, Db::Postgres { .. }) => {
                (sqlx::migrate!("./auth/postgres"), "auth_migrations")
            }
        };
        migrator.dangerous_set_table_name(table);
        migrator
    }

    /// Apply every migration that `db` does not have yet. Where none is
    /// missing, no right to change anything is needed.
    ///
    /// Errors: [`Error::MayNotMigrate`]; a migration fails, or one that was
    /// applied has changed since.
    pub async fn migrate(self, db: &Db) -> Result<()> {
        if matches!(db, Db::Postgres { .. }) {
            match self.check(db).await {
                Ok(()) => return Ok(()),
                Err(Error::Outdated(_)) => self.check_may_migrate(db).await?,
                Err(error) => return Err(error),
            }
        }
        let migrator = self.migrator(db);
        match db {
            Db::Sqlite { writer, .. } => migrator.run(writer).await?,
            Db::Postgres { writers, .. } => migrator.run(writers).await?,
        }
        Ok(())
    }

    /// See that `db` takes what is written: a row is written as it is, and that
    /// is rolled back.
    ///
    /// Errors: the database, its file or the disk is read-only, or it is locked.
    pub async fn check_writable(self, db: &Db) -> Result<()> {
        let sql = match self {
            Self::Broker => "update job_audit_head set count = count where one = 1",
            Self::Auth => "update audit_head set count = count where one = 1",
        };
        let mut tx = db.begin().await?;
        on!(&mut tx, |db| sqlx::query(sql).execute(db).await.map(drop))?;
        tx.rollback().await
    }

    /// See that `db` has exactly this program's migrations.
    ///
    /// Errors: [`Error::Outdated`] names what is missing or unknown.
    pub async fn check(self, db: &Db) -> Result<()> {
        let migrator = self.migrator(db);
        let table: &str = &migrator.table_name;
        let applied = match db {
            Db::Sqlite { writer, .. } => {
                let mut conn = writer.acquire().await?;
                conn.ensure_migrations_table(table).await?;
                conn.list_applied_migrations(table).await?
            }
            Db::Postgres { writers, .. } => {
                let mut conn = writers.acquire().await?;
                match conn.list_applied_migrations(table).await {
                    Ok(applied) => applied,
                    Err(_) => {
                        drop(conn);
                        // There are tables, and the role may not look at them.
                        if self.has_tables(db).await? {
                            self.check_rights(db).await?;
                        }
                        return Err(Error::Outdated("no migration was ever applied".into()));
                    }
                }
            }
        };
        let applied: BTreeMap<i64, _> = applied.iter().map(|m| (m.version, &m.checksum)).collect();
        for migration in migrator.iter() {
            match applied.get(&migration.version) {
                None => return Err(Error::Outdated(format!("{} is missing", migration.version))),
                Some(sum) if **sum != migration.checksum => {
                    return Err(Error::Outdated(format!("{} differs", migration.version)));
                }
                Some(_) => {}
            }
        }
        match applied
            .keys()
            .find(|version| !migrator.version_exists(**version))
        {
            Some(version) => Err(Error::Outdated(format!(
                "{version} is from a newer program"
            ))),
            None => Ok(()),
        }
    }
}
