//! The environment of a job: a few of the server's variables and the job's
//! own. Never the server's secrets. What says which job it is, is added where
//! the job is started.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use warrant_api::environment::{OF_EVERY_JOB, allows, matches};

use super::Shim;
use crate::model::TaskSpec;

/// Variables of the server that every job gets, where they are set; `*` at
/// the end stands for anything. Source: the Flux RESTful server, version 1.1.
const USUAL: [&str; 20] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TERM",
    "TZ",
    "TMPDIR",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "MANPATH",
    "LUA_PATH",
    "LUA_CPATH",
    "FLUX_EXEC_PATH",
    "FLUX_MODULE_PATH",
    "FLUX_CONNECTOR_PATH",
    "FLUX_PMI_LIBRARY_PATH",
];

/// Variables that no job sets for itself: who the user is, which job it is, and
/// what a service manager or sudo would say. Where jobs run as other users, the
/// shim leaves them out.
const RESERVED: [&str; 7] = [
    "USER",
    "LOGNAME",
    "FLUX_*",
    "WARRANT_*",
    "LISTEN_*",
    "NOTIFY_SOCKET",
    "SUDO_*",
];

/// What every job's environment starts from.
#[derive(Debug, Clone)]
pub(super) struct Base {
    variables: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What of a job's own is left out.
    reserved: &'static [&'static str],
}

impl Base {
    /// The usual variables of this process, and those that `passthrough`
    /// names. Jobs of other users get none that say who the broker is.
    pub(super) fn from_server(shim: &Shim, passthrough: &[String]) -> Self {
        let (usual, reserved) = match shim {
            Shim::Own(_) => (USUAL.as_slice(), RESERVED.as_slice()),
            Shim::Root(_) => (OF_EVERY_JOB.as_slice(), [].as_slice()),
        };
        Self {
            variables: Self::choose(std::env::vars_os(), usual, passthrough),
            reserved,
        }
    }

    fn choose(
        variables: impl Iterator<Item = (OsString, OsString)>,
        usual: &[&str],
        passthrough: &[String],
    ) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let allowed = |name: &[u8]| {
            let usual = usual.iter().copied();
            allows(usual.chain(passthrough.iter().map(String::as_str)), name)
        };
        variables
            .map(|(name, value)| (name.into_vec(), value.into_vec()))
            .filter(|(name, _)| allowed(name))
            .collect()
    }

    /// The environment of one task.
    pub(super) fn of_task(&self, task: &TaskSpec) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut env = self.variables.clone();
        let is_free = |name: &str| {
            let mut reserved = self.reserved.iter();
            !reserved.any(|pattern| matches(pattern.as_bytes(), name.as_bytes()))
        };
        for (name, value) in task.env.iter().filter(|(name, _)| is_free(name)) {
            env.insert(name.clone().into_bytes(), value.clone().into_bytes());
        }
        env.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str], passthrough: &[&str]) -> Vec<String> {
        let variables = names.iter().map(|name| ((*name).into(), "x".into()));
        let passthrough: Vec<String> = passthrough.iter().map(ToString::to_string).collect();
        let base = Base::choose(variables, &USUAL, &passthrough);
        base.into_keys()
            .map(|name| String::from_utf8_lossy(&name).into_owned())
            .collect()
    }

    #[test]
    fn the_servers_secrets_never_reach_a_job() {
        let names = [
            "FLUX_TOKEN",
            "FLUX_SECRET_KEY",
            "AUTHSVC__KEYS__DIR",
            "PATH",
            "LC_ALL",
        ];
        for passthrough in [&[][..], &["*"], &["FLUX_TOKEN", "AUTHSVC__*"]] {
            assert_eq!(chosen(&names, passthrough), ["LC_ALL", "PATH"]);
        }
    }

    #[test]
    fn the_operator_passes_more_by_name_or_pattern() {
        let names = ["SITE_A", "SITE_B", "OTHER", "MPI_HOME"];
        assert_eq!(
            chosen(&names, &["SITE_*", "MPI_HOME"]),
            ["MPI_HOME", "SITE_A", "SITE_B"]
        );
    }
}
