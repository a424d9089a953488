//! Variables of the environment that jobs get from the server's.

/// Variables that every job gets where they are set: the language and the time zone.
pub const OF_EVERY_JOB: [&str; 4] = ["LANG", "LANGUAGE", "LC_*", "TZ"];

/// Variables that no job gets, whatever else is set: secrets and settings of the
/// services, and what a service manager tells them.
pub const OF_NO_JOB: [&str; 10] = [
    "AUTHSVC__*",
    "BROKER__*",
    "WARRANT_API_KEY",
    "WARRANT_DATABASE_URL",
    "FLUX_OIDC_*",
    "FLUX_SECREY_KEY",
    "FLUX_SECRET_KEY",
    "FLUX_TOKEN",
    "LISTEN_*",
    "NOTIFY_SOCKET",
];

/// The names in a value of `FLUX_JOB_ENV_PASSTHROUGH`, which commas separate.
pub fn passed_through(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
}

/// Whether a job may get the variable `name` because `patterns` allow it.
pub fn allows<'a>(patterns: impl IntoIterator<Item = &'a str>, name: &[u8]) -> bool {
    let fits = |pattern: &str| matches(pattern.as_bytes(), name);
    patterns.into_iter().any(fits) && !OF_NO_JOB.into_iter().any(fits)
}

/// Whether `name` fits `pattern`, in which each `*` stands for any bytes.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => {
            (0..=name.len()).any(|at| name.get(at..).is_some_and(|tail| matches(rest, tail)))
        }
        Some((letter, rest)) => name
            .split_first()
            .is_some_and(|(first, tail)| first == letter && matches(rest, tail)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything_but_never_for_a_secret() {
        for (pattern, name, allowed) in [
            ("SITE_*", "SITE_A", true),
            ("SITE_*", "SITE_", true),
            ("SITE_*", "SIT", false),
            ("*_HOME", "MPI_HOME", true),
            ("*", "ANYTHING", true),
            ("*", "FLUX_TOKEN", false),
            ("*", "BROKER__DATABASE__URL", false),
            ("WARRANT_DATABASE_URL", "WARRANT_DATABASE_URL", false),
            ("FLUX_*", "FLUX_EXEC_PATH", true),
        ] {
            assert_eq!(
                allows([pattern], name.as_bytes()),
                allowed,
                "{pattern} {name}"
            );
        }
        let names: Vec<_> = passed_through("SITE_*, MPI_HOME,, ").collect();
        assert_eq!(names, ["SITE_*", "MPI_HOME"]);
    }
}
