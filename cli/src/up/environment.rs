//! What a service finds in its environment.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use warrant_api::environment::matches;

/// The environment of a service.
pub(crate) enum Environment {
    /// Ours, with variables set and taken out.
    Ours {
        /// Set.
        with: Vec<(&'static str, OsString)>,
        /// Taken out.
        without: &'static [&'static str],
    },
    /// Nothing but these: what one service is told, another never sees.
    Only(Vec<(OsString, OsString)>),
}

/// The search path of the services.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Environment {
    /// A search path, and those of our variables whose names fit one of `ours`, in
    /// which `*` stands for anything; then `with`.
    pub(crate) fn only(ours: &[&str], with: Vec<(&'static str, OsString)>) -> Self {
        let wanted = |name: &OsString| {
            let fits = |pattern: &&str| matches(pattern.as_bytes(), name.as_bytes());
            ours.iter().any(fits)
        };
        let mut all = vec![("PATH".into(), PATH.into())];
        all.extend(std::env::vars_os().filter(|(name, _)| wanted(name)));
        all.extend(with.into_iter().map(|(name, value)| (name.into(), value)));
        Self::Only(all)
    }

    /// The same with those of our variables whose names are `wanted`, where no
    /// variable has that name yet.
    pub(crate) fn and_ours(mut self, wanted: impl Fn(&OsString) -> bool) -> Self {
        if let Self::Only(all) = &mut self {
            for (name, value) in std::env::vars_os().filter(|(name, _)| wanted(name)) {
                if !all.iter().any(|(known, _)| *known == name) {
                    all.push((name, value));
                }
            }
        }
        self
    }

    /// Make it the environment of a process to be.
    pub(crate) fn give_to(&self, command: &mut Command) {
        match self {
            Self::Ours { with, without } => {
                for name in *without {
                    command.env_remove(name);
                }
                command.envs(with.iter().map(|(name, value)| (name, value)));
            }
            Self::Only(all) => {
                command
                    .env_clear()
                    .envs(all.iter().map(|(name, value)| (name, value)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_environment_has_nothing_but_what_is_named() {
        let home = std::env::var_os("HOME");
        assert!(home.is_some(), "the test needs a variable to leave out");
        let Environment::Only(all) = Environment::only(
            &["CARGO_MANIFEST_DIR", "CARGO__*"],
            vec![("MINE", "1".into())],
        ) else {
            panic!("it inherits");
        };
        let names: Vec<_> = all.iter().filter_map(|(name, _)| name.to_str()).collect();
        assert_eq!(names, ["PATH", "CARGO_MANIFEST_DIR", "MINE"]);
    }
}
