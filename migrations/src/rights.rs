//! What each service does with its tables on PostgreSQL, and so what its role
//! may do: every right is in this list, and a role that has another is told of.
//!
//! The tables belong to a role that only `migrate` and the pruning of the
//! audit trail use. A service that is taken over can then change no schema,
//! read no table of the other service, and rewrite no row of its audit trail.

use sqlx::{Postgres, QueryBuilder};

use crate::{Db, Error, Result, Schema};

/// What may be done with one table.
#[derive(Debug, Clone, Copy)]
struct Use {
    table: &'static str,
    /// Of the whole table.
    rights: &'static [&'static str],
    /// Columns that may be updated where not all may.
    columns: &'static [&'static str],
}

const fn table(table: &'static str, rights: &'static [&'static str]) -> Use {
    Use {
        table,
        rights,
        columns: &[],
    }
}

/// The head of an audit trail: it moves on, and what was pruned stays.
const fn head(table: &'static str) -> Use {
    Use {
        table,
        rights: &["select"],
        columns: &["count", "hash"],
    }
}

/// The row that names the service that a database belongs to.
const fn held(table: &'static str) -> Use {
    Use {
        table,
        rights: &["select"],
        columns: &["holder", "holder_host", "holder_dir", "place"],
    }
}

const ALL: &[&str] = &["select", "insert", "update", "delete"];
const KEPT: &[&str] = &["select", "insert", "update"];
const ADDED: &[&str] = &["select", "insert"];
const ADDED_AND_FORGOTTEN: &[&str] = &["select", "insert", "delete"];
const READ: &[&str] = &["select"];

/// By the auth service.
const AUTH: [Use; 19] = [
    held("user_store"),
    table("users", ALL),
    table("handshake_jtis", ADDED_AND_FORGOTTEN),
    table("id_tokens", ADDED_AND_FORGOTTEN),
    table("sign_ins", ADDED_AND_FORGOTTEN),
    table("dpop_proofs", ADDED_AND_FORGOTTEN),
    table("dpop_secret", ADDED),
    table("sessions", ALL),
    // They go with their session.
    table("refresh_tokens", KEPT),
    table("web_sessions", ADDED),
    table("clients", ALL),
    table("authorization_codes", ALL),
    table("device_codes", ALL),
    table("revocations", ADDED_AND_FORGOTTEN),
    table("api_keys", KEPT),
    table("audit", ADDED),
    head("audit_head"),
    table("audit_unchained", READ),
    table("auth_migrations", READ),
];

/// By the broker.
const BROKER: [Use; 11] = [
    held("job_store"),
    table("jobs", KEPT),
    table("tasks", ADDED),
    table("runs", ALL),
    table("events", ADDED),
    table("job_counts", KEPT),
    table("submit_keys", ALL),
    table("job_text", ADDED),
    table("job_audit", ADDED),
    head("job_audit_head"),
    table("broker_migrations", READ),
];

/// Every right that there is on a table. Source: PostgreSQL's manual, 5.8.
const RIGHTS: [&str; 7] = [
    "select",
    "insert",
    "update",
    "delete",
    "truncate",
    "references",
    "trigger",
];

/// What a role may and may not do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The role.
    pub role: String,
    /// Rights that the service needs and the role has not.
    pub lacking: Vec<String>,
    /// What the role may do although the service never does it.
    pub excess: Vec<String>,
}

impl Schema {
    fn uses(self) -> &'static [Use] {
        match self {
            Self::Auth => &AUTH,
            Self::Broker => &BROKER,
        }
    }

    /// Sequences whose numbers are drawn by name.
    fn sequences(self) -> &'static [&'static str] {
        match self {
            Self::Auth => &[],
            Self::Broker => &["job_ids"],
        }
    }

    /// Whose it is: what the SQL of this schema belongs to.
    pub const fn service(self) -> &'static str {
        match self {
            Self::Auth => "warrant-authsvc",
            Self::Broker => "warrant-broker",
        }
    }

    /// Let `role` do with the tables what the service does, and nothing else.
    /// Done again, it changes nothing.
    ///
    /// Errors: [`Error::Role`] where there is no such role, it is the one that
    /// asks, or the database is SQLite, which knows no roles; the database
    /// refuses.
    pub async fn grant(self, db: &Db, role: &str) -> Result<()> {
        let Db::Postgres { writers, .. } = db else {
            return Err(Error::Role("SQLite knows no roles".into()));
        };
        let mut tx = writers.begin().await?;
        let (known, own): (bool, bool) = sqlx::query_as(
            "select exists (select 1 from pg_roles where rolname = $1), $1 = current_user",
        )
        .bind(role)
        .fetch_one(&mut *tx)
        .await?;
        if !known {
            return Err(Error::Role(format!("there is no role {role:?}")));
        }
        if own {
            return Err(Error::Role(format!(
                "{role:?} is the role that owns the tables: grant to another"
            )));
        }
        let schema: String = sqlx::query_scalar("select current_schema()")
            .fetch_one(&mut *tx)
            .await?;
        let (role, schema) = (quoted(role), quoted(&schema));
        let mut statements = vec![format!("grant usage on schema {schema} to {role}")];
        for Use {
            table,
            rights,
            columns,
        } in self.uses()
        {
            statements.push(format!("revoke all on {schema}.{table} from {role}"));
            let mut rights: Vec<String> = rights.iter().map(|right| (*right).into()).collect();
            if !columns.is_empty() {
                rights.push(format!("update ({})", columns.join(", ")));
            }
            let rights = rights.join(", ");
            statements.push(format!("grant {rights} on {schema}.{table} to {role}"));
        }
        for sequence in self.sequences() {
            let on = format!("on sequence {schema}.{sequence}");
            statements.push(format!("revoke all {on} from {role}"));
            statements.push(format!("grant usage {on} to {role}"));
        }
        for statement in statements {
            // Names cannot be bound; these are ours, and the role's is quoted.
            QueryBuilder::<Postgres>::new(statement)
                .build()
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// What the role of this connection may do that the service does not need,
    /// and the reverse. On SQLite there is nothing to say.
    ///
    /// Errors: the database did not answer.
    pub async fn standing(self, db: &Db) -> Result<Standing> {
        let Db::Postgres { readers, .. } = db else {
            return Ok(Standing::default());
        };
        let mut conn = readers.acquire().await?;
        let role: String = sqlx::query_scalar("select current_user::text")
            .fetch_one(&mut *conn)
            .await?;
        let mut standing = Standing {
            role,
            ..Standing::default()
        };
        let needed: Vec<(&str, &str)> = self
            .uses()
            .iter()
            .flat_map(|used| used.rights.iter().map(|right| (used.table, *right)))
            .collect();
        // Of every table here: whether the role may do it.
        let found: Vec<(String, String, bool)> = sqlx::query_as(
            "select c.relname::text, r, has_table_privilege(c.oid, r)
             from pg_class c, unnest($1::text[]) r
             where c.relnamespace = (select oid from pg_namespace where nspname = current_schema())
               and c.relkind in ('r', 'p', 'v', 'm', 'f')",
        )
        .bind(RIGHTS.map(str::to_owned).to_vec())
        .fetch_all(&mut *conn)
        .await?;
        let may = |table: &str, right: &str| {
            found
                .iter()
                .any(|(t, r, may)| t == table && r == right && *may)
        };
        for (table, right) in &needed {
            if !may(table, right) {
                standing.lacking.push(format!("{right} on {table}"));
            }
        }
        for used in self.uses() {
            for column in used.columns {
                let may: Option<bool> = sqlx::query_scalar(
                    "select has_column_privilege(to_regclass($1), $2, 'update')",
                )
                .bind(used.table)
                .bind(column)
                .fetch_one(&mut *conn)
                .await?;
                if may != Some(true) {
                    let lacking = format!("update of {column} on {}", used.table);
                    standing.lacking.push(lacking);
                }
            }
        }
        for sequence in self.sequences() {
            let may: Option<bool> =
                sqlx::query_scalar("select has_sequence_privilege(to_regclass($1), 'usage')")
                    .bind(sequence)
                    .fetch_one(&mut *conn)
                    .await?;
            if may != Some(true) {
                standing.lacking.push(format!("usage of {sequence}"));
            }
        }
        let (superuser, powerful, owner, creates, temporary): (bool, bool, bool, bool, bool) =
            sqlx::query_as(
                "select rolsuper, rolcreatedb or rolcreaterole or rolreplication or rolbypassrls,
                        exists (select 1 from pg_class
                                where relnamespace = (select oid from pg_namespace
                                                      where nspname = current_schema())
                                  and relkind = 'r' and pg_has_role(relowner, 'usage')),
                        coalesce(has_schema_privilege(current_schema(), 'create'), false)
                            or has_database_privilege(current_database(), 'create'),
                        has_database_privilege(current_database(), 'temporary')
                 from pg_roles where rolname = current_user",
            )
            .fetch_one(&mut *conn)
            .await?;
        // Whoever may do all of it is told so in one line.
        if superuser {
            standing.excess.push("everything: a superuser".into());
            return Ok(standing);
        }
        for (so, what) in [
            (powerful, "make databases or roles, or pass by row security"),
            (owner, "change the tables, which are its own"),
            (creates, "make tables and functions (create)"),
            (temporary, "make temporary tables"),
        ] {
            if so {
                standing.excess.push(what.into());
            }
        }
        if !owner {
            for (table, right, may) in &found {
                if *may && !needed.contains(&(table.as_str(), right.as_str())) {
                    standing.excess.push(format!("{right} on {table}"));
                }
            }
        }
        standing.excess.sort();
        Ok(standing)
    }

    /// See that the role of this connection may do what the service does.
    ///
    /// Errors: [`Error::Lacking`] names the role and what it lacks.
    pub async fn check_rights(self, db: &Db) -> Result<()> {
        let Standing { role, lacking, .. } = self.standing(db).await?;
        if lacking.is_empty() {
            return Ok(());
        }
        Err(Error::Lacking {
            role,
            lacking: lacking.join(", "),
            service: self.service(),
        })
    }

    /// Whether a migration was ever applied, as far as names tell.
    pub(crate) async fn has_tables(self, db: &Db) -> Result<bool> {
        let Db::Postgres { readers, .. } = db else {
            return Ok(true);
        };
        // In whatever schema: a role that may not use it has none of its own.
        const SQL: &str =
            "select exists (select 1 from pg_class where relname = $1 and relkind = 'r')";
        let known = self.uses().last().map_or("", |used| used.table);
        Ok(sqlx::query_scalar(SQL)
            .bind(known)
            .fetch_one(readers)
            .await?)
    }

    /// See that the role of this connection may change the schema.
    ///
    /// Errors: [`Error::MayNotMigrate`] names the role.
    pub(crate) async fn check_may_migrate(self, db: &Db) -> Result<()> {
        let Db::Postgres { writers, .. } = db else {
            return Ok(());
        };
        let tables: Vec<String> = self
            .uses()
            .iter()
            .map(|used| used.table.to_owned())
            .collect();
        let (role, may): (String, bool) = sqlx::query_as(
            "select current_user::text,
                    coalesce(has_schema_privilege(current_schema(), 'create'), false)
                    and coalesce((select bool_and(pg_has_role(relowner, 'usage')) from pg_class
                         where relnamespace = (select oid from pg_namespace
                                               where nspname = current_schema())
                           and relname = any ($1)), true)",
        )
        .bind(tables)
        .fetch_one(writers)
        .await?;
        if may {
            Ok(())
        } else {
            Err(Error::MayNotMigrate(role))
        }
    }
}

/// An identifier as SQL spells any.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The SQL with which the administrator of a PostgreSQL server makes a database
/// and its three roles, for psql.
pub const ROLES: &str = include_str!("../roles.sql");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The tables that a schema's files leave behind.
    fn made(directory: &str) -> BTreeSet<String> {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
        let mut files: Vec<_> = std::fs::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        let mut tables = BTreeSet::new();
        for file in files {
            let text = std::fs::read_to_string(file).unwrap();
            for line in text.lines() {
                let words: Vec<&str> = line.split([' ', ';', '(']).collect();
                match words.as_slice() {
                    ["create", "table", "if", "not", "exists", name, ..]
                    | ["create", "table", name, ..] => assert!(tables.insert((*name).to_owned())),
                    ["drop", "table", name, ..] => assert!(tables.remove(*name), "{name}"),
                    ["alter", "table", from, "rename", "to", to, ..] => {
                        assert!(tables.remove(*from), "{from}");
                        tables.insert((*to).to_owned());
                    }
                    _ => {}
                }
            }
        }
        tables
    }

    #[test]
    fn every_table_is_in_the_list_of_what_is_done_with_it() {
        for (schema, directory) in [
            (Schema::Auth, "auth/postgres"),
            (Schema::Broker, "broker/postgres"),
        ] {
            let mut tables = made(directory);
            assert!(tables.len() > 5, "{tables:?}");
            tables.insert(match schema {
                Schema::Auth => "auth_migrations".into(),
                Schema::Broker => "broker_migrations".into(),
            });
            let listed: BTreeSet<String> = schema
                .uses()
                .iter()
                .map(|used| used.table.to_owned())
                .collect();
            assert_eq!(listed, tables, "migrations/src/rights.rs");
        }
    }

    #[test]
    fn a_name_cannot_end_its_quotes() {
        assert_eq!(
            quoted("a\"; drop table users; --"),
            "\"a\"\"; drop table users; --\""
        );
    }
}
