//! Making a key. It outlives whatever it is asked for with, so that it takes a
//! proof of its user, given for this very request: no token, cookie or key
//! suffices, whoever shows it.

use std::time::Instant;

use warrant_api::keys::{CreatedKey, NewKey};
use warrant_api::scope::Scopes;

use super::{ApiKeys, DAY_US, MAX_LABEL, Refused, info, session, text};
use crate::audit::{Event, Sort};
use crate::clock;
use crate::directory::scopes_of;
use crate::login::Proven;
use crate::source::Source;
use crate::store::api_keys::{self as store, ApiKey};
use crate::store::{sessions, users};
use crate::user_name::UserName;

/// A key that somebody asks for.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    /// The user, who gave a proof for this.
    pub(crate) proven: &'a Proven,
    /// What the key shall be.
    pub(crate) new: NewKey,
    /// The session with which it ends, where it does.
    pub(crate) session: Option<&'a str>,
    /// Where the request comes from.
    pub(crate) source: Source,
}

/// What a key may be, once that is checked.
struct Fit {
    label: String,
    scopes: Scopes,
    days: u32,
}

impl ApiKeys {
    /// Make the key that `wish` asks for.
    ///
    /// Errors: [`Refused`].
    pub(crate) async fn create(&self, wish: Wish<'_>) -> Result<CreatedKey, Refused> {
        let mut event = Event {
            action: Some("create"),
            subject: Some(wish.proven.user.name.clone()),
            uid: wish.proven.uid,
            ..Event::new(Sort::Key, wish.source.clone())
        };
        let made = self.make(wish, &mut event).await;
        made.map_err(|refused| self.refuse(event, refused))
    }

    async fn make(&self, wish: Wish<'_>, event: &mut Event) -> Result<CreatedKey, Refused> {
        let proven = wish.proven;
        let user = &proven.user;
        let fit = self.fit(wish.new, scopes_of(user.role))?;
        let most = u64::from(self.config.per_minute);
        if let Err(wait_s) = self.made.take(&user.name, most, Instant::now()) {
            return Err(Refused::Rate(wait_s));
        }
        let (id, key) = text::generate()?;
        let now_us = clock::now_us();
        let row = ApiKey {
            hash: text::hash(key.expose()),
            subject: user.name.clone(),
            uid: user.uid.map(i64::from),
            label: fit.label,
            scopes: fit.scopes.to_string(),
            created_us: now_us,
            expires_us: now_us.saturating_add(i64::from(fit.days) * DAY_US),
            last_used_us: None,
            last_used_from: None,
            revoked_us: None,
            session_id: wish.session.map(str::to_owned),
            proof: proven.by.name().to_owned(),
            id,
        };
        event.jti = Some(session(&row.id));
        event.detail = Some(match &row.session_id {
            Some(session) => format!("{}, ends with session {session}", row.proof),
            None => row.proof.clone(),
        });
        self.write(&row, proven, event).await?;
        Ok(CreatedKey {
            key: key.expose().to_owned(),
            info: info(row),
        })
    }

    /// Write the key down, if its user may still have it, with the password that
    /// was proved, and the session with which it ends has not ended.
    async fn write(&self, row: &ApiKey, proven: &Proven, event: &Event) -> Result<(), Refused> {
        let place = self.login.audit.place()?;
        let most = i64::from(self.config.per_user);
        let mut tx = self.login.db.begin().await?;
        if !self
            .login
            .sessions
            .directory
            .hold(&mut tx, &row.subject)
            .await?
        {
            return Err(Refused::User(crate::login::Wrong::Disabled));
        }
        if let Some(password_us) = proven.password_us {
            let name = UserName::parse(&row.subject);
            let name = name.map_err(|_| Refused::User(crate::login::Wrong::Name))?;
            let held = users::hold(&mut tx, &name).await?;
            if held.is_none_or(|held| held.password_changed_us != password_us) {
                return Err(Refused::User(crate::login::Wrong::Password));
            }
        }
        if let Some(id) = &row.session_id
            && sessions::hold(&mut tx, id, row.created_us).await?.is_none()
        {
            return Err(Refused::Token);
        }
        if !store::insert(&mut tx, row, most).await? {
            return Err(Refused::Full(most));
        }
        tx.commit().await?;
        place.granted(event.clone());
        Ok(())
    }

    /// What `new` asks for, if the site and the user's role allow as much.
    fn fit(&self, new: NewKey, role: Scopes) -> Result<Fit, Refused> {
        let label = new.label.trim();
        if label.is_empty()
            || label.chars().count() > MAX_LABEL
            || label.chars().any(char::is_control)
        {
            return Err(Refused::Form(format!(
                "label: 1 to {MAX_LABEL} characters are allowed, and none that control"
            )));
        }
        let days = new.expires_in_days.unwrap_or(self.config.default_days);
        if !(1..=self.config.max_days).contains(&days) {
            let most = self.config.max_days;
            return Err(Refused::Form(format!(
                "expires_in_days: 1 to {most} are allowed"
            )));
        }
        let most = role.and(self.config.scopes);
        let scopes = new.scopes.unwrap_or(most);
        if scopes.is_empty() {
            return Err(Refused::Form("scopes: at least one is needed".into()));
        }
        if !scopes.within(most) {
            return Err(Refused::Scopes(most));
        }
        Ok(Fit {
            label: label.to_owned(),
            scopes,
            days,
        })
    }
}
