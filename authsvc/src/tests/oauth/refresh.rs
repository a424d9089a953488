//! Refresh tokens: one use each, and what a second use means.

use super::super::house::House;
use super::{altered, form};

/// Let the grace of every used token be over.
async fn later(house: &House) {
    house
        .spoil("update refresh_tokens set used_us = used_us - 11000000")
        .await;
}

#[tokio::test]
async fn a_refresh_token_gives_the_next_tokens_of_the_same_session() {
    let house = House::open().await;
    let first = house.sign_in("ann").await;
    let next = house.refresh(&first.refresh_token()).await;
    assert_ne!(next.refresh_token(), first.refresh_token());
    let (_, before) = house.verify(first.token()).await;
    let (_, after) = house.verify(next.token()).await;
    assert_eq!(before.sid, after.sid);
    assert_ne!(before.jti, after.jti);
    assert!(house.is_active(first.token()).await && house.is_active(next.token()).await);
    house.close().await;
}

#[tokio::test]
async fn t105_a_refresh_token_that_is_used_again_ends_the_session() {
    let house = House::open().await;
    let first = house.sign_in("ann").await;
    let other = house.sign_in("ann").await;
    let next = house.refresh(&first.refresh_token()).await;
    later(&house).await;
    let answer = house.refresh(&first.refresh_token()).await;
    answer.is_oauth_error(400, "invalid_grant");
    assert_eq!(house.last_reason().await, "refresh-reuse");
    house
        .refresh(&next.refresh_token())
        .await
        .is_oauth_error(400, "invalid_grant");
    for token in [first.token(), next.token()] {
        assert!(!house.is_active(token).await);
    }
    assert!(house.is_active(other.token()).await);
    let sid = house.verify(first.token()).await.1.sid;
    assert_eq!(house.revocations().await, [("session".into(), sid)]);
    house.close().await;
}

#[tokio::test]
async fn a_client_that_missed_the_answer_may_ask_again_for_ten_seconds() {
    let house = House::open().await;
    let first = house.sign_in("ann").await.refresh_token();
    let missed = house.refresh(&first).await.refresh_token();
    let again = house.refresh(&first).await.refresh_token();
    let next = house.refresh(&again).await;
    assert!(house.is_active(next.token()).await);
    // What was missed is void: whoever has it should not.
    house
        .refresh(&missed)
        .await
        .is_oauth_error(400, "invalid_grant");
    assert_eq!(house.last_reason().await, "refresh-reuse");
    assert!(!house.is_active(next.token()).await);
    house.close().await;
}

#[tokio::test]
async fn nobody_asks_again_once_the_answer_was_used() {
    let house = House::open().await;
    let first = house.sign_in("ann").await.refresh_token();
    let second = house.refresh(&first).await.refresh_token();
    let third = house.refresh(&second).await;
    house
        .refresh(&first)
        .await
        .is_oauth_error(400, "invalid_grant");
    assert!(!house.is_active(third.token()).await);
    house.close().await;
}

#[tokio::test]
async fn of_many_who_use_one_token_at_once_one_goes_on() {
    let house = House::open().await;
    let first = house.sign_in("ann").await.refresh_token();
    let ask = || house.refresh(&first);
    let answers = tokio::join!(ask(), ask(), ask(), ask(), ask(), ask());
    let answers = <[_; 6]>::from(answers);
    // Each came within the grace; all but one of what they got is void.
    let tokens: Vec<_> = answers
        .iter()
        .map(|answer| answer.refresh_token())
        .collect();
    let mut good = 0;
    let mut conn = house.db.read().await.unwrap();
    for token in &tokens {
        let hash = crate::opaque::hash(token);
        let found = crate::store::refresh_tokens::find(&mut conn, &hash).await;
        good += usize::from(found.unwrap().unwrap().used_us.is_none());
    }
    assert_eq!(good, 1);
    drop(conn);
    house.close().await;
}

#[tokio::test]
async fn a_refresh_token_is_for_its_client_alone() {
    let house = House::open().await;
    let secret = house.confidential("robot").await;
    let token = house.sign_in("ann").await.refresh_token();
    let fields = [
        ("grant_type", "refresh_token"),
        ("client_id", "robot"),
        ("client_secret", secret.as_str()),
        ("refresh_token", token.as_str()),
    ];
    house
        .grant(&fields)
        .await
        .is_oauth_error(400, "invalid_grant");
    assert_eq!(house.last_reason().await, "other-client");
    house.refresh(&token).await.token();
    house.close().await;
}

#[tokio::test]
async fn a_refreshed_token_may_have_less_scope_and_never_more() {
    let house = House::open().await;
    let fields = [
        ("grant_type", "password"),
        ("client_id", "warrant"),
        ("username", "ann"),
        ("password", "pw"),
        ("scope", "read submit"),
    ];
    let token = house.grant(&fields).await.refresh_token();
    let ask = async |token: &str, scope: &str| {
        let fields = [
            ("grant_type", "refresh_token"),
            ("client_id", "warrant"),
            ("refresh_token", token),
            ("scope", scope),
        ];
        house.send(form("/oauth/token", &fields, &[])).await
    };
    ask(&token, "read control")
        .await
        .is_oauth_error(400, "invalid_scope");
    let less = ask(&token, "read").await;
    assert_eq!(less.body["scope"], "read");
    let all = ask(&less.refresh_token(), "").await;
    assert_eq!(all.body["scope"], "read submit");
    house.close().await;
}

#[tokio::test]
async fn what_is_no_refresh_token_is_none() {
    let house = House::open().await;
    let answer = house.sign_in("ann").await;
    let token = answer.refresh_token();
    let altered = altered(&token);
    for text in ["", "wrr_", answer.token(), &token[4..], &altered] {
        house
            .refresh(text)
            .await
            .is_oauth_error(400, "invalid_grant");
    }
    let fields = [("grant_type", "refresh_token"), ("client_id", "warrant")];
    house
        .grant(&fields)
        .await
        .is_oauth_error(400, "invalid_request");
    house.close().await;
}

#[tokio::test]
async fn a_session_ends_by_itself_after_its_days() {
    let house = House::open().await;
    let answer = house.sign_in("ann").await;
    house
        .spoil("update sessions set expires_us = created_us")
        .await;
    house
        .refresh(&answer.refresh_token())
        .await
        .is_oauth_error(400, "invalid_grant");
    assert!(!house.is_active(answer.token()).await);
    crate::prune::prune_once(&house.db, crate::clock::now_us())
        .await
        .unwrap();
    let mut conn = house.db.read().await.unwrap();
    let all = crate::store::sessions::list(&mut conn, None, None, 10)
        .await
        .unwrap();
    assert_eq!(all, []);
    drop(conn);
    house.close().await;
}
