//! Sessions: that every login has one, and that what ends, ends.

use std::time::{Duration, Instant};

use serde_json::json;
use warrant_api::token::Role;

use super::super::house::{House, SECRET, credentials, login};
use crate::prune::look_at_groups;
use crate::sessions::{Session, end_account};
use crate::store::sessions;

async fn session(house: &House, token: &str) -> Session {
    let (_, claims) = house.verify(token).await;
    let mut conn = house.db.read().await.unwrap();
    let found = sessions::find(&mut conn, &claims.sid).await.unwrap();
    found.expect("the session is not there")
}

#[tokio::test]
async fn every_login_opens_a_session_that_its_token_names() {
    let house = House::open().await;
    let form = house.login("ann", "pw", "192.0.2.1").await;
    let handshake = house.handshake(credentials("ann", "pw")).await;
    for (answer, source) in [(form, "192.0.2.1"), (handshake, "local")] {
        let body = answer.body.as_object().unwrap();
        assert_eq!(body.len(), 3, "existing clients know no more: {body:?}");
        let (_, claims) = house.verify(answer.token()).await;
        let session = session(&house, answer.token()).await;
        assert_eq!(
            (session.subject.as_str(), session.source.as_str()),
            ("ann", source)
        );
        assert_eq!((session.role, session.by_group), (Role::User, false));
        assert_eq!(
            (session.client_id.as_str(), session.scopes),
            ("flux", claims.scope)
        );
        assert_eq!(
            session.expires_us / 1_000_000,
            i64::try_from(claims.exp).unwrap()
        );
        assert_ne!(claims.sid, claims.jti);
        assert!(house.is_active(answer.token()).await);
    }
    house.login("ann", "wrong", "192.0.2.1").await;
    let mut conn = house.db.read().await.unwrap();
    assert_eq!(
        sessions::list(&mut conn, None, None, 10)
            .await
            .unwrap()
            .len(),
        2
    );
    drop(conn);
    house.close().await;
}

#[tokio::test]
async fn where_no_session_can_be_written_nobody_gets_a_token() {
    let house = House::open().await;
    house.spoil("drop table refresh_tokens").await;
    house.spoil("drop table sessions").await;
    let answer = house.login("ann", "pw", "192.0.2.1").await;
    answer.is_refused(
        503,
        "Logins are not possible at the moment. The user database is unavailable.",
    );
    house.close().await;
}

#[tokio::test]
async fn t105_a_change_of_the_account_ends_everything_at_once() {
    let house = House::open_multi_user(|_| {}).await;
    let legacy = house.login("daemon", "pw", "192.0.2.1").await;
    let answer = house.sign_in("daemon").await;
    let other = house.sign_in("bin").await;
    house.exchange(answer.token()).await.token();
    let mut tx = house.db.begin().await.unwrap();
    end_account(&mut tx, "daemon", "password-changed")
        .await
        .unwrap();
    tx.commit().await.unwrap();
    for token in [legacy.token(), answer.token()] {
        assert_eq!(house.known(token).await, json!({"active": false}));
        // It was ended behind the running service's back.
        let deadline = Instant::now() + Duration::from_secs(5);
        while house.exchange(token).await.status == 200 {
            assert!(Instant::now() < deadline, "there are warrants still");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let answer = house.exchange(token).await;
        answer.is_no_warrant("invalid_request", "session-ended");
    }
    house
        .refresh(&answer.refresh_token())
        .await
        .is_oauth_error(400, "invalid_grant");
    house.exchange(other.token()).await.token();
    let ended = session(&house, answer.token()).await;
    assert_eq!(ended.ended_reason.as_deref(), Some("password-changed"));
    let kinds: Vec<_> = house
        .revocations()
        .await
        .into_iter()
        .map(|(kind, _)| kind)
        .collect();
    assert_eq!(kinds, ["session", "session", "account"]);
    // The change does not keep anybody out.
    house.sign_in("daemon").await;
    house.close().await;
}

#[tokio::test]
async fn t105_who_was_disabled_behind_our_back_gets_nothing_more() {
    let house = House::open().await;
    let answer = house.sign_in("ann").await;
    house.disable("ann").await;
    assert!(!house.is_active(answer.token()).await);
    house
        .refresh(&answer.refresh_token())
        .await
        .is_oauth_error(400, "invalid_grant");
    assert_eq!(house.last_reason().await, "user-disabled");
    house.close().await;
}

/// A house where members of the group `daemon` are operators, and one of them
/// is signed in; then it is another group whose members are.
async fn group_left(looked_at: bool) -> (House, String, String) {
    let house = House::open_multi_user(|config| {
        config.operator_groups = vec!["no-such-group".into(), "daemon".into()];
    })
    .await;
    let answer = house.sign_in("daemon").await;
    let (_, claims) = house.verify(answer.token()).await;
    assert_eq!(
        (claims.role, claims.scope.to_string().as_str()),
        (Role::Operator, "read submit control admin")
    );
    assert!(session(&house, answer.token()).await.by_group);
    house.exchange(answer.token()).await.token();
    assert!(house.is_active(answer.token()).await);
    let house = House::open_multi_user_in_again(house, "bin").await;
    if looked_at {
        look_at_groups(&house.service.oauth.sessions).await.unwrap();
    }
    (house, answer.token().to_owned(), answer.refresh_token())
}

impl House {
    async fn open_multi_user_in_again(house: Self, group: &str) -> Self {
        let dir = house.close().await;
        Self::open_in(dir, &[("FLUX_SECRET_KEY", SECRET)], |config| {
            config.mode = crate::config::Mode::MultiUser;
            config.accounts.min_uid = 1;
            config.warrants.broker_uid = Some(nix::unistd::geteuid().as_raw());
            config.operator_groups = vec![group.to_owned()];
        })
        .await
    }
}

#[tokio::test]
async fn t105_who_left_the_group_has_a_lesser_role_at_the_next_refresh() {
    let (house, _, refresh) = group_left(false).await;
    let next = house.refresh(&refresh).await;
    assert_eq!(next.body["scope"], "read submit control");
    let (_, claims) = house.verify(next.token()).await;
    assert_eq!(claims.role, Role::User);
    assert!(!session(&house, next.token()).await.by_group);
    house.close().await;
}

#[tokio::test]
async fn t105_who_left_the_group_gets_no_warrant_and_no_session_stays() {
    let (house, token, refresh) = group_left(false).await;
    house
        .exchange(&token)
        .await
        .is_no_warrant("invalid_request", "session-ended");
    assert!(!house.is_active(&token).await);
    let ended = session(&house, &token).await;
    assert_eq!(ended.ended_reason.as_deref(), Some("group-left"));
    let rows = house.audit().await.into_iter();
    let told: Vec<_> = rows.filter(|row| row.kind == "session").collect();
    let [row] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(
        (row.action.as_deref(), row.source.as_str()),
        (Some("end"), "service")
    );
    assert_eq!(row.subject.as_deref(), Some(ended.subject.as_str()));
    assert_eq!(row.detail, Some(format!("{} group-left", ended.id)));
    house
        .refresh(&refresh)
        .await
        .is_oauth_error(400, "invalid_grant");
    house.close().await;
}

#[tokio::test]
async fn t105_who_left_the_group_is_found_without_being_asked_for() {
    let (house, token, _) = group_left(true).await;
    let sid = house.verify(&token).await.1.sid;
    assert_eq!(house.revocations().await, [("session".to_owned(), sid)]);
    house.close().await;
}

#[tokio::test]
async fn a_role_is_the_highest_that_anything_gives() {
    let variables = [
        ("FLUX_SECRET_KEY", SECRET),
        ("FLUX_ADMIN_USERS", "ann"),
        ("FLUX_OPERATOR_USERS", "ann,bob"),
    ];
    let house = House::open_with(&variables, |_| {}).await;
    house.add("bob", "pw").await;
    house.add("carl", "pw").await;
    for (user, role) in [
        ("ann", Role::Administrator),
        ("bob", Role::Operator),
        ("carl", Role::User),
    ] {
        let answer = house.send(login(user, "pw", "192.0.2.1")).await;
        assert_eq!(house.verify(answer.token()).await.1.role, role);
    }
    house.close().await;
}

#[tokio::test]
async fn t105_whoever_logs_out_gets_no_warrant_from_that_moment_on() {
    let house = House::open_multi_user(|_| {}).await;
    let token = house
        .login("daemon", "pw", "192.0.2.1")
        .await
        .token()
        .to_owned();
    house.exchange(&token).await.token();
    let fields = [("token", token.as_str()), ("client_id", "flux")];
    assert_eq!(house.post("/oauth/revoke", &fields).await.status, 200);
    let answer = house.exchange(&token).await;
    answer.is_no_warrant("invalid_request", "session-ended");
    house.close().await;
}
