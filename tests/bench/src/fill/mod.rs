//! Filling the store with jobs that are over, in the form in which the broker
//! leaves them, but faster than it could be asked to.

use std::time::Instant;

use sqlx::QueryBuilder;
use warrant_migrations::{Db, Spelt, Tx, on};

mod made_up;

pub(crate) use made_up::{ABSENT, COMMON, ORDINARY, PIECES, RARE};

/// Jobs made up at a time.
const BATCH: i64 = 50_000;

/// Add jobs with the ids `from..=to` to the broker's store at `url`, while no
/// broker uses it. Returns how many seconds it took.
///
/// Errors: the database refuses, most likely because its schema is not the
/// one that the statements here were written for.
pub(crate) async fn fill(url: &str, from: i64, to: i64) -> anyhow::Result<f64> {
    let began = Instant::now();
    let db = Db::open(url).await?;
    prepare(&db).await?;
    let mut first = from;
    while first <= to {
        let last = to.min(first + BATCH - 1);
        let mut tx = db.begin().await?;
        batch(&mut tx, first, last).await?;
        tx.commit().await?;
        first = last + 1;
    }
    finish(&db, to).await?;
    db.close().await;
    Ok(began.elapsed().as_secs_f64())
}

async fn batch(tx: &mut Tx, first: i64, last: i64) -> anyhow::Result<()> {
    if let Tx::Postgres(tx) = &mut *tx {
        // References need no check, and statements may take longer than the
        // broker's.
        const SETTINGS: [&str; 2] = [
            "set local session_replication_role = replica",
            "set local statement_timeout = 0",
        ];
        for setting in SETTINGS {
            sqlx::query(setting).execute(&mut **tx).await?;
        }
    }
    on!(tx, |db| sqlx::query(made_up::CREATE)
        .execute(db)
        .await
        .map(drop))?;
    made_up::lists(tx).await?;
    on!(tx, |db| {
        let make = sqlx::query(made_up::MAKE).bind(first).bind(last);
        make.bind(made_up::RARE_JOB).execute(db).await.map(drop)
    })?;
    let text = made_up::TEXT.on(tx);
    for statement in made_up::RECORD.into_iter().chain([text]) {
        on!(tx, |db| sqlx::query(statement).execute(db).await.map(drop))?;
    }
    for table in made_up::DROP {
        on!(tx, |db| sqlx::query(table).execute(db).await.map(drop))?;
    }
    Ok(())
}

/// Make way for a great many rows at once.
async fn prepare(db: &Db) -> anyhow::Result<()> {
    // Trigrams are gathered in memory for longer than usual.
    const GATHER: &str = "insert into job_text (job_text, rank) values ('hashsize', 67108864)";
    // An index of trigrams is made faster from all rows than row by row.
    const INDEXES: &str = "create table if not exists set_aside as \
        select indexdef from pg_indexes where schemaname = current_schema() \
        and tablename = 'job_text' and indexdef ilike '% using gin %'";
    const ASIDE: &str = "do $$ declare name text; begin \
        for name in select indexname from pg_indexes where schemaname = current_schema() \
        and tablename = 'job_text' and indexdef ilike '% using gin %' \
        loop execute format('drop index %I', name); end loop; end $$";
    match db {
        Db::Sqlite { writer, .. } => {
            sqlx::query(GATHER).execute(writer).await?;
        }
        Db::Postgres { writers: pool, .. } => {
            for statement in [INDEXES, ASIDE] {
                sqlx::query(statement).execute(pool).await?;
            }
        }
    }
    Ok(())
}

/// Leave the database as it would be after a quiet night.
async fn finish(db: &Db, last: i64) -> anyhow::Result<()> {
    const USUAL: &str = "insert into job_text (job_text, rank) values ('hashsize', 1048576)";
    const BACK: [&str; 5] = [
        "set statement_timeout = 0",
        "set maintenance_work_mem = '512MB'",
        "do $$ declare def text; begin for def in select indexdef from set_aside \
         loop execute def; end loop; end $$",
        "drop table set_aside",
        "vacuum analyze",
    ];
    const SEQUENCE: Spelt = Spelt {
        sqlite: "update sequences set value = $1 where name = 'jobs'",
        postgres: "select setval('job_ids', $1)",
    };
    let mut tx = db.begin().await?;
    let sql = SEQUENCE.on(&tx);
    on!(&mut tx, |db| sqlx::query(sql)
        .bind(last)
        .execute(db)
        .await
        .map(drop))?;
    tx.commit().await?;
    match db {
        Db::Sqlite { writer, .. } => {
            sqlx::query(USUAL).execute(writer).await?;
        }
        Db::Postgres { writers: pool, .. } => {
            let mut connection = pool.acquire().await?;
            for statement in BACK {
                sqlx::query(statement).execute(&mut *connection).await?;
            }
            connection.close().await?;
        }
    }
    Ok(())
}

/// Insert rows of texts, numbered from 0, into a list.
async fn insert_list<const N: usize>(
    tx: &mut Tx,
    sql: &'static str,
    rows: &[[String; N]],
) -> sqlx::Result<()> {
    on!(tx, |db| {
        let mut insert = QueryBuilder::new(sql);
        insert.push_values(rows.iter().enumerate(), |mut row, (k, texts)| {
            row.push_bind(i64::try_from(k).unwrap_or_default());
            for text in texts {
                row.push_bind(text);
            }
        });
        insert.build().execute(db).await.map(drop)
    })
}
