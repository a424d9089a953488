//! Where a house keeps its jobs and users: a file, or a database of its own
//! on a PostgreSQL server.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

/// Which sort of database a house is built on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// Two files of its own.
    Sqlite,
    /// A new database on the server with this URL; dropped with the house.
    Postgres(String),
    /// Databases that are there and up to date already, by their URLs, and
    /// stay.
    At {
        /// The auth service's.
        authsvc: String,
        /// The broker's.
        broker: String,
    },
}

impl Database {
    /// The PostgreSQL server that `WARRANT_TEST_POSTGRES` names, if any.
    ///
    /// Errors: panics where there is none and `WARRANT_REQUIRE_POSTGRES=1`.
    pub fn postgres() -> Option<Self> {
        if let Ok(url) = std::env::var("WARRANT_TEST_POSTGRES") {
            return Some(Self::Postgres(url));
        }
        let why = "left out: WARRANT_TEST_POSTGRES names no PostgreSQL server";
        let required = std::env::var("WARRANT_REQUIRE_POSTGRES");
        assert_ne!(required.as_deref(), Ok("1"), "{why}");
        eprintln!("{why}");
        None
    }

    /// A new, empty database in or for the directory `dir`.
    pub fn create(&self, dir: &Path, name: &str) -> Created {
        match self {
            Self::Sqlite => Created {
                broker: format!("sqlite:{}", dir.join("broker.db").display()),
                authsvc: format!("sqlite:{}", dir.join("auth.db").display()),
                on: None,
            },
            Self::At { authsvc, broker } => Created {
                broker: broker.clone(),
                authsvc: authsvc.clone(),
                on: None,
            },
            Self::Postgres(server) => {
                administer(server, format!("create database {name}")).unwrap();
                let (base, _) = server.rsplit_once('/').unwrap();
                let url = format!("{base}/{name}");
                Created {
                    broker: url.clone(),
                    authsvc: url,
                    on: Some((server.clone(), name.to_owned())),
                }
            }
        }
    }
}

/// A database that is there. Dropped, it is gone.
#[derive(Debug)]
pub struct Created {
    /// The broker's URL.
    pub broker: String,
    /// The auth service's URL.
    pub authsvc: String,
    on: Option<(String, String)>,
}

impl Drop for Created {
    fn drop(&mut self) {
        if let Some((server, name)) = &self.on {
            let gone = administer(server, format!("drop database {name} with (force)"));
            if let Err(error) = gone {
                eprintln!("the database {name} stays: {error}");
            }
        }
    }
}

/// Run statements in the database at `url`, one after another.
///
/// Errors: panics with what the database says.
pub fn execute(url: &str, sql: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // These are texts of tests alone.
    let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    runtime.block_on(async {
        match url.strip_prefix("sqlite:") {
            Some(path) => {
                let options = SqliteConnectOptions::new().filename(path);
                let mut connection = options.connect().await.unwrap();
                sql.execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            }
            None => {
                let mut connection = PgConnection::connect(url).await.unwrap();
                sql.execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            }
        }
    });
}

/// The one number that a statement gives in the database at `url`.
///
/// Errors: panics with what the database says.
pub fn number(url: &str, sql: &str) -> i64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // These are texts of tests alone.
    let sql = AssertSqlSafe(sql.to_owned());
    runtime.block_on(async {
        match url.strip_prefix("sqlite:") {
            Some(path) => {
                let options = SqliteConnectOptions::new().filename(path);
                let mut connection = options.connect().await.unwrap();
                let number = sqlx::query_scalar(sql).fetch_one(&mut connection).await;
                connection.close().await.unwrap();
                number.unwrap()
            }
            None => {
                let mut connection = PgConnection::connect(url).await.unwrap();
                let number = sqlx::query_scalar(sql).fetch_one(&mut connection).await;
                connection.close().await.unwrap();
                number.unwrap()
            }
        }
    })
}

fn administer(server: &str, sql: String) -> sqlx::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut connection = PgConnection::connect(server).await?;
        // No value can name a database: this text is made from names alone.
        sqlx::query(AssertSqlSafe(sql))
            .execute(&mut connection)
            .await?;
        connection.close().await
    })
}
