//! Pages, and the headers that each is sent with.

use std::sync::LazyLock;

use askama::Template;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use warrant_door::Prefix;

/// The one style sheet, part of every page.
pub(crate) const STYLE: &str = include_str!("../../templates/style.css");

/// Nothing but the one style sheet is loaded, nothing is run, forms go to this
/// server alone, and no page is shown within another. Source: Content Security
/// Policy Level 3.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    let text = format!(
        "default-src 'none'; style-src 'sha256-{style}'; img-src data:; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

const RESOURCES: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

tokio::task_local! {
    /// The path that the server of the request being answered is reached below.
    static PREFIX: Prefix;
}

/// Middleware that answers for a server below `prefix`: every link, redirect and
/// cookie of a page names a path of this server.
pub(crate) async fn below(State(prefix): State<Prefix>, request: Request, next: Next) -> Response {
    PREFIX.scope(prefix, next.run(request)).await
}

/// The path that the server is reached below.
pub(crate) fn prefix() -> Prefix {
    PREFIX.try_with(Clone::clone).unwrap_or_default()
}

/// The path by which a browser asks for a route of this server.
pub(crate) fn at(route: &str) -> String {
    prefix().add(route)
}

/// A page that says one thing.
#[derive(Template)]
#[template(path = "message.html")]
pub(crate) struct Message<'a> {
    /// The heading.
    pub(crate) title: &'a str,
    /// The thing.
    pub(crate) text: &'a str,
    /// A link to go on by: the address, as a browser is to ask for it, and words.
    pub(crate) link: Option<(&'a str, &'a str)>,
    /// Where the browser goes on by itself.
    pub(crate) goes_on: Option<&'a str>,
}

impl Message<'_> {
    /// The page.
    pub(crate) fn page(&self, status: StatusCode) -> Response {
        let mut response = page(status, self);
        if self.goes_on.is_some() {
            // What is in this page is for its destination alone.
            let never = HeaderValue::from_static("no-referrer");
            response
                .headers_mut()
                .insert(header::REFERRER_POLICY, never);
        }
        response
    }
}

/// A page that says what is wrong.
pub(crate) fn refusal(status: StatusCode, text: &str) -> Response {
    let title = match status {
        StatusCode::NOT_FOUND => "There is nothing here",
        StatusCode::FORBIDDEN => "This was not done",
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => "Not now",
        _ => "This cannot be done",
    };
    let message = Message {
        title,
        text,
        link: None,
        goes_on: None,
    };
    message.page(status)
}

/// `response`, which says after how many seconds to try again, where it should.
pub(crate) fn later(mut response: Response, wait_s: Option<u64>) -> Response {
    if let Some(wait_s) = wait_s {
        let wait = HeaderValue::from(wait_s);
        response.headers_mut().insert(header::RETRY_AFTER, wait);
    }
    response
}

/// 503.
pub(crate) fn unavailable() -> Response {
    let mut response = refusal(
        StatusCode::SERVICE_UNAVAILABLE,
        "That is not possible at the moment. Try again in a while.",
    );
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

/// A page.
pub(crate) fn page(status: StatusCode, template: &impl Template) -> Response {
    let text = match template.render() {
        Ok(text) => text,
        Err(error) => {
            tracing::error!(%error, "a page could not be made");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    // With the policy no-referrer, browsers would not say of our own forms
    // where they come from. Source: Fetch Standard, "append a request Origin
    // header".
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (RESOURCES, "same-origin"),
    ];
    let mut response = (status, headers, text).into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    response
}

/// 303 to a route of this server.
pub(crate) fn see_other(route: &str) -> Response {
    let Ok(location) = HeaderValue::try_from(at(route)) else {
        return refusal(StatusCode::BAD_REQUEST, "There is no such address.");
    };
    let uncached = HeaderValue::from_static("no-store");
    let headers = [
        (header::LOCATION, location),
        (header::CACHE_CONTROL, uncached),
    ];
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// A moment, in microseconds since the Unix epoch, as people read it.
pub(crate) fn moment(time_us: i64) -> String {
    let text = warrant_trail::utc(time_us);
    let minute = text.get(..16).unwrap_or_default().replace('T', " ");
    format!("{minute} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_into_a_page_stays_text() {
        let message = Message {
            title: "<script>",
            text: "\"><b>",
            link: Some(("/a\"b", "'x'")),
            goes_on: None,
        };
        let text = message.render().unwrap();
        assert!(!text.contains("<script") && !text.contains("<b>"), "{text}");
        assert!(!text.contains("/a\"b"), "{text}");
    }

    #[test]
    fn the_style_sheet_of_a_page_is_the_one_that_the_policy_names() {
        let message = Message {
            title: "",
            text: "",
            link: None,
            goes_on: None,
        };
        let text = message.render().unwrap();
        let (_, rest) = text.split_once("<style>").unwrap();
        let (style, _) = rest.split_once("</style>").unwrap();
        assert_eq!(style, STYLE);
        assert_eq!(text.matches("<style").count(), 1);
    }

    #[test]
    fn a_moment_is_told_to_the_minute() {
        assert_eq!(moment(0), "1970-01-01 00:00 UTC");
    }
}
