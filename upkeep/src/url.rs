//! What URLs give away.

use crate::Findings;

/// Whether a database's URL holds a password.
pub fn has_password(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else {
        return false;
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let query = query.split_once('#').map_or(query, |(query, _)| query);
    let authority = rest.split('/').next().unwrap_or_default();
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    let within = user
        .split_once(':')
        .is_some_and(|(_, password)| !password.is_empty());
    within || form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "password")
}

/// The role that a PostgreSQL URL names, if it does so in plain letters.
pub fn role_in(url: &str) -> Option<&str> {
    let rest = url
        .strip_prefix("postgres://")
        .or_else(|| url.strip_prefix("postgresql://"))?;
    let authority = rest.split(['/', '?']).next()?;
    let (user, _) = authority.rsplit_once('@')?;
    let role = user.split_once(':').map_or(user, |(role, _)| role);
    (!role.is_empty() && !role.contains('%')).then_some(role)
}

/// Warn of a URL for clients that is not encrypted and leaves this machine.
pub fn check_public_url(key: &str, url: &str, findings: &mut Findings) {
    let Some(rest) = url.strip_prefix("http://") else {
        return;
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let loopback = host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
    if !loopback {
        findings.warning(
            key,
            "http:// beyond this machine: passwords and tokens can be read on the way; use https://",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_found_wherever_a_url_may_hold_one() {
        for url in [
            "postgres://ann:secret@db/warrant",
            "postgresql://ann:se@cret@db/warrant",
            "postgres://db/warrant?user=ann&password=secret",
            "postgres://db/warrant?%70assword=secret",
        ] {
            assert!(has_password(url), "{url}");
        }
        for url in [
            "sqlite:/var/lib/a:b@c.db",
            "postgres://ann@db:5432/warrant",
            "postgres://ann:@db/warrant",
            "postgres://db/warrant?user=password",
            "postgres://postgres@%2Frun%2Fpostgresql/warrant",
        ] {
            assert!(!has_password(url), "{url}");
        }
    }

    #[test]
    fn the_role_of_a_url_is_found_or_none_is() {
        assert_eq!(role_in("postgres://ann:x@db/w"), Some("ann"));
        assert_eq!(role_in("postgresql://ann@%2Frun%2Fpg/w"), Some("ann"));
        for url in [
            "postgres://db/w",
            "postgres://a%20b@db/w",
            "sqlite:/x@y",
            "postgres://:x@db/w",
        ] {
            assert_eq!(role_in(url), None, "{url}");
        }
    }

    #[test]
    fn plain_http_is_warned_of_beyond_this_machine_alone() {
        let found = |url| {
            let mut findings = Findings::default();
            check_public_url("oauth.url", url, &mut findings);
            findings.all().len()
        };
        for url in [
            "http://jobs.example.org",
            "http://10.0.0.1:5000",
            "http://127.0.0.1.example.org",
            "http://localhost.example.org/",
        ] {
            assert_eq!(found(url), 1, "{url}");
        }
        for url in [
            "https://jobs.example.org",
            "http://127.0.0.1:5000",
            "http://[::1]:5000",
            "http://localhost/x",
        ] {
            assert_eq!(found(url), 0, "{url}");
        }
    }
}
