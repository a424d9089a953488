//! Sessions: whoever was given access tokens.

use sqlx::FromRow;
use warrant_api::scope::Scopes;
use warrant_api::token::Role;
use warrant_migrations::{Conn, Result, Spelt, Tx, on};

use super::{revocations, undecodable};
use crate::sessions::{Kind, Session};

#[derive(FromRow)]
struct Row {
    id: String,
    kind: String,
    subject: String,
    uid: Option<i64>,
    role: String,
    by_group: bool,
    scopes: String,
    client_id: String,
    jkt: Option<String>,
    source: String,
    created_us: i64,
    last_used_us: i64,
    expires_us: i64,
    ended_us: Option<i64>,
    ended_reason: Option<String>,
    parent_id: Option<String>,
}

impl Row {
    fn read(self) -> Result<Session> {
        let uid = self.uid.map(u32::try_from).transpose();
        Ok(Session {
            kind: Kind::parse(&self.kind).ok_or_else(|| undecodable("kind"))?,
            role: read_role(&self.role).ok_or_else(|| undecodable("role"))?,
            scopes: read_scopes(&self.scopes)?,
            uid: uid.map_err(|_| undecodable("uid"))?,
            id: self.id,
            subject: self.subject,
            by_group: self.by_group,
            client_id: self.client_id,
            jkt: self.jkt,
            source: self.source,
            created_us: self.created_us,
            last_used_us: self.last_used_us,
            expires_us: self.expires_us,
            ended_us: self.ended_us,
            ended_reason: self.ended_reason,
            parent: self.parent_id,
        })
    }
}

/// The name under which a role is kept.
pub(crate) fn role_name(role: Role) -> &'static str {
    match role {
        Role::User => "user",
        Role::Operator => "operator",
        Role::Administrator => "administrator",
    }
}

fn read_role(name: &str) -> Option<Role> {
    [Role::User, Role::Operator, Role::Administrator]
        .into_iter()
        .find(|role| role_name(*role) == name)
}

/// Scopes as they are kept.
///
/// Errors: they are none.
pub(super) fn read_scopes(text: &str) -> Result<Scopes> {
    text.parse().map_err(|_| undecodable("scopes"))
}

/// Add a session; false, and nothing is added, where its user's password is no
/// longer the one set at `password_us` or the user may not log in. Whoever changes
/// the user meanwhile waits until the session can be seen, and so ended. One
/// statement, which may stand alone.
///
/// Errors: the database did not answer.
pub(crate) async fn insert(
    tx: &mut Tx,
    session: &Session,
    password_us: Option<i64>,
) -> Result<bool> {
    const PLAIN: &str =
        "insert into sessions (id, kind, subject, uid, role, by_group, scopes, client_id, source,
             created_us, last_used_us, expires_us, jkt, parent_id)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
    const PROVEN: Spelt = Spelt {
        sqlite: "insert into sessions (id, kind, subject, uid, role, by_group, scopes, client_id,
                     source, created_us, last_used_us, expires_us, jkt, parent_id)
                 select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14
                 from users where name = $3 and password_changed_us = $15 and not disabled",
        postgres: "insert into sessions (id, kind, subject, uid, role, by_group, scopes,
                       client_id, source, created_us, last_used_us, expires_us, jkt, parent_id)
                   select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14
                   from users where name = $3 and password_changed_us = $15 and not disabled
                   for share",
    };
    let sql = match password_us {
        None => PLAIN,
        Some(_) => PROVEN.on(tx),
    };
    let scopes = session.scopes.to_string();
    let rows = on!(tx, |db| {
        let mut query = sqlx::query(sql)
            .bind(&session.id)
            .bind(session.kind.name())
            .bind(&session.subject)
            .bind(session.uid.map(i64::from))
            .bind(role_name(session.role))
            .bind(session.by_group)
            .bind(&scopes)
            .bind(&session.client_id)
            .bind(&session.source)
            .bind(session.created_us)
            .bind(session.last_used_us)
            .bind(session.expires_us)
            .bind(session.jkt.as_deref())
            .bind(session.parent.as_deref());
        if let Some(password_us) = password_us {
            query = query.bind(password_us);
        }
        query.execute(db).await.map(|done| done.rows_affected())
    })?;
    Ok(rows == 1)
}

/// The session `id`, whether or not it has ended.
///
/// Errors: the database did not answer.
pub(crate) async fn find(conn: &mut Conn, id: &str) -> Result<Option<Session>> {
    const SQL: &str = "select * from sessions where id = $1";
    let row: Option<Row> = on!(conn, |db| sqlx::query_as(SQL)
        .bind(id)
        .fetch_optional(db)
        .await)?;
    row.map(Row::read).transpose()
}

/// The session `id`, if it has not ended by `now_us`, nor the one with which it
/// ends, and its token `jti` was not revoked.
///
/// Errors: the database did not answer.
pub(crate) async fn find_alive(
    conn: &mut Conn,
    id: &str,
    jti: &str,
    now_us: i64,
) -> Result<Option<Session>> {
    const SQL: &str = "select * from sessions
         where id = $1 and ended_us is null and expires_us > $3
             and not exists (select 1 from revocations where kind = 'token' and value = $2)
             and (parent_id is null or exists
                 (select 1 from sessions p where p.id = sessions.parent_id
                  and p.ended_us is null and p.expires_us > $3))";
    let row: Option<Row> = on!(conn, |db| sqlx::query_as(SQL)
        .bind(id)
        .bind(jti)
        .bind(now_us)
        .fetch_optional(db)
        .await)?;
    row.map(Row::read).transpose()
}

/// Use the session `id` at `now_us`: nobody else uses or ends it before the
/// transaction is over. `None` where it has ended, or the one with which it ends.
///
/// Errors: the database did not answer.
pub(crate) async fn hold(tx: &mut Tx, id: &str, now_us: i64) -> Result<Option<Session>> {
    const SQL: &str = "update sessions set last_used_us = $2
         where id = $1 and ended_us is null and expires_us > $2
             and (parent_id is null or exists
                 (select 1 from sessions p where p.id = sessions.parent_id
                  and p.ended_us is null and p.expires_us > $2))
         returning *";
    let row: Option<Row> = on!(tx, |db| sqlx::query_as(SQL)
        .bind(id)
        .bind(now_us)
        .fetch_optional(db)
        .await)?;
    row.map(Row::read).transpose()
}

/// When the session `id` ends by itself, if it has not ended at `now_us`: a
/// browser's for want of use, but for that at the time told second.
///
/// Errors: the database did not answer.
pub(crate) async fn ends(tx: &mut Tx, id: &str, now_us: i64) -> Result<Option<Ends>> {
    const SQL: &str = "select s.expires_us as now_us, coalesce(w.ends_us, s.expires_us) as last_us
         from sessions s left join web_sessions w on w.session_id = s.id
         where s.id = $1 and s.ended_us is null and s.expires_us > $2";
    Ok(on!(tx, |db| sqlx::query_as(SQL)
        .bind(id)
        .bind(now_us)
        .fetch_optional(db)
        .await)?)
}

/// When a session ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub(crate) struct Ends {
    /// If it is not used again.
    pub(crate) now_us: i64,
    /// However often it is used.
    pub(crate) last_us: i64,
}

/// Whether the session `id` has not ended at `now_us`.
///
/// Errors: the database did not answer.
pub(crate) async fn is_alive(conn: &mut Conn, id: &str, now_us: i64) -> Result<bool> {
    const SQL: &str = "select exists
        (select 1 from sessions where id = $1 and ended_us is null and expires_us > $2)";
    Ok(on!(conn, |db| sqlx::query_scalar(SQL)
        .bind(id)
        .bind(now_us)
        .fetch_one(db)
        .await)?)
}

/// Write down the role that the user of the session has by now.
///
/// Errors: the database did not answer.
pub(crate) async fn set_role(tx: &mut Tx, id: &str, role: Role, by_group: bool) -> Result<()> {
    const SQL: &str = "update sessions set role = $2, by_group = $3 where id = $1";
    on!(tx, |db| sqlx::query(SQL)
        .bind(id)
        .bind(role_name(role))
        .bind(by_group)
        .execute(db)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// Bind the session to another key: the next that its client proved to have.
///
/// Errors: the database did not answer.
pub(crate) async fn set_key(tx: &mut Tx, id: &str, jkt: &str) -> Result<()> {
    const SQL: &str = "update sessions set jkt = $2 where id = $1";
    on!(tx, |db| sqlx::query(SQL)
        .bind(id)
        .bind(jkt)
        .execute(db)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// Sessions with something in common.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Of<'a> {
    /// The one with this id.
    Id(&'a str),
    /// Those of this user.
    Subject(&'a str),
    /// Those of this client.
    Client(&'a str),
    /// All of them.
    All,
}

/// End sessions at `now_us` for `reason`, one stable word, with what came from
/// them, and say so in the revocation feed; returns how many had not ended before.
///
/// Errors: the database did not answer.
pub(crate) async fn end(tx: &mut Tx, of: Of<'_>, reason: &str, now_us: i64) -> Result<usize> {
    const ID: &str = "update sessions set ended_us = $2, ended_reason = $3
         where id = $1 and ended_us is null returning id";
    const SUBJECT: &str = "update sessions set ended_us = $2, ended_reason = $3
         where subject = $1 and ended_us is null and expires_us > $2 returning id";
    const CLIENT: &str = "update sessions set ended_us = $2, ended_reason = $3
         where client_id = $1 and ended_us is null and expires_us > $2 returning id";
    // Whatever the value: that the statements take the same.
    const ALL: &str = "update sessions set ended_us = $2, ended_reason = $3
         where $1 = '' and ended_us is null and expires_us > $2 returning id";
    let (sql, value) = match of {
        Of::All => (ALL, ""),
        Of::Id(id) => (ID, id),
        Of::Subject(subject) => (SUBJECT, subject),
        Of::Client(client) => (CLIENT, client),
    };
    let ended: Vec<(String,)> = on!(tx, |db| sqlx::query_as(sql)
        .bind(value)
        .bind(now_us)
        .bind(reason)
        .fetch_all(db)
        .await)?;
    ended_with_theirs(tx, ended, now_us).await
}

/// Tell the revocation feed of these sessions, which have just ended, and end
/// what came from them: the sessions of clients and devices that they let in,
/// their API keys, and codes that nobody has used yet. Returns how many sessions
/// were given.
///
/// Errors: the database did not answer.
pub(super) async fn ended_with_theirs(
    tx: &mut Tx,
    ended: Vec<(String,)>,
    now_us: i64,
) -> Result<usize> {
    const CHILDREN: Spelt = Spelt {
        sqlite: "update sessions set ended_us = $2, ended_reason = 'parent-ended'
             where parent_id in (select value from json_each($1)) and ended_us is null
             returning id",
        postgres: "update sessions set ended_us = $2, ended_reason = 'parent-ended'
             where parent_id in (select json_array_elements_text($1::json)) and ended_us is null
             returning id",
    };
    const UNUSED: [Spelt; 2] = [
        Spelt {
            sqlite: "delete from authorization_codes
                 where giver_id in (select value from json_each($1)) and used_us is null",
            postgres: "delete from authorization_codes
                 where giver_id in (select json_array_elements_text($1::json)) and used_us is null",
        },
        Spelt {
            sqlite: "delete from device_codes
                 where giver_id in (select value from json_each($1))",
            postgres: "delete from device_codes
                 where giver_id in (select json_array_elements_text($1::json))",
        },
    ];
    if ended.is_empty() {
        return Ok(0);
    }
    let mut ids: Vec<String> = ended.into_iter().map(|(id,)| id).collect();
    let count = ids.len();
    let givers = serde_json::json!(ids).to_string();
    let sql = CHILDREN.on(tx);
    let children: Vec<(String,)> = on!(tx, |db| sqlx::query_as(sql)
        .bind(&givers)
        .bind(now_us)
        .fetch_all(db)
        .await)?;
    for spelt in UNUSED {
        let sql = spelt.on(tx);
        on!(tx, |db| sqlx::query(sql)
            .bind(&givers)
            .execute(db)
            .await
            .map(drop))?;
    }
    let keys = super::api_keys::revoke_of_sessions(tx, &givers, now_us).await?;
    ids.extend(children.into_iter().map(|(id,)| id));
    ids.extend(keys);
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    revocations::insert_sessions(tx, &ids, now_us).await?;
    Ok(count)
}

/// The latest `limit` sessions of one user or of all, the oldest first; those
/// that are alive at `now_us`, or all that are still known.
///
/// Errors: the database did not answer.
pub(crate) async fn list(
    conn: &mut Conn,
    subject: Option<&str>,
    alive_at_us: Option<i64>,
    limit: i64,
) -> Result<Vec<Session>> {
    const SQL: &str = "select * from sessions
         where ($1 = '' or subject = $1)
             and ($2 = 0 or (ended_us is null and expires_us > $2 and (parent_id is null or exists
                 (select 1 from sessions p where p.id = sessions.parent_id
                  and p.ended_us is null and p.expires_us > $2))))
         order by created_us desc, id desc limit $3";
    let rows: Vec<Row> = on!(conn, |db| sqlx::query_as(SQL)
        .bind(subject.unwrap_or_default())
        .bind(alive_at_us.unwrap_or_default())
        .bind(limit)
        .fetch_all(db)
        .await)?;
    let mut sessions = rows
        .into_iter()
        .map(Row::read)
        .collect::<Result<Vec<_>>>()?;
    sessions.reverse();
    Ok(sessions)
}

/// At most `limit` sessions after the id `after` that are alive at `now_us`
/// and whose role came from a group, by id.
///
/// Errors: the database did not answer.
pub(crate) async fn list_by_group(
    conn: &mut Conn,
    after: &str,
    now_us: i64,
    limit: i64,
) -> Result<Vec<Session>> {
    const SQL: &str = "select * from sessions
         where by_group and ended_us is null and id > $1 and expires_us > $2
         order by id limit $3";
    let rows: Vec<Row> = on!(conn, |db| sqlx::query_as(SQL)
        .bind(after)
        .bind(now_us)
        .bind(limit)
        .fetch_all(db)
        .await)?;
    rows.into_iter().map(Row::read).collect()
}
