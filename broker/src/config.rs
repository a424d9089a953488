//! Configuration: defaults, then a file, then the environment. Names of the
//! Flux RESTful server's variables mean what they mean there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};
use warrant_api::address::listen_address;
use warrant_api::environment::passed_through;
use warrant_door::proxies::Proxies;
use warrant_door::tls::Files;
use warrant_upkeep::{has_password, read_argument, read_setting};
use zeroize::Zeroizing;

use crate::engine::local;
use crate::http::flux;
use crate::store::Load;

/// The broker's configuration. Source of the names in capitals: the Flux
/// RESTful server, versions 0.2 and 1.1.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// As whom jobs run.
    pub mode: Mode,
    /// Where jobs are recorded.
    pub database: Database,
    /// Where to listen.
    pub listen: Listen,
    /// How callers are known.
    pub auth: Auth,
    /// The broker's own directory.
    pub spool: Spool,
    /// The root-owned shim of multi-user mode.
    pub shim: Shim,
    /// How jobs are run.
    pub engine: Engine,
    /// The Flux RESTful API.
    pub flux: Flux,
    /// How much anybody may ask of it.
    pub limits: Limits,
    /// How the service ends.
    pub stop: Stop,
}

/// As whom jobs run. Source: `FLUX_SERVER_MODE` of the Flux RESTful server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// All as the broker's own account.
    #[default]
    SingleUser,
    /// Each as the user who asked for it, through the root-owned shim.
    MultiUser,
}

/// Where jobs are recorded.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// `sqlite:PATH` or `postgres://USER:PASSWORD@HOST/NAME`.
    pub url: String,
    /// A file that holds the URL, where it has a password in it.
    pub url_file: Option<PathBuf>,
    /// A file that holds the URL with which the tables are made and changed;
    /// the service itself never reads it.
    pub migrate_url_file: Option<PathBuf>,
}

impl std::fmt::Debug for Database {
    /// Leaves the URL out: it may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database")
            .field("url_file", &self.url_file)
            .field("migrate_url_file", &self.migrate_url_file)
            .finish_non_exhaustive()
    }
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: "sqlite:/var/lib/warrant/broker/broker.db".into(),
            url_file: None,
            migrate_url_file: None,
        }
    }
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// Address and port of the main listener.
    pub http: SocketAddr,
    /// The URL under which clients reach it; `http://` and `http` if unset.
    pub public_url: Option<String>,
    /// A file to write the address into once it is listened on: with port 0
    /// the system chooses a port.
    pub address_file: Option<PathBuf>,
    /// A Unix socket for the proxy in front.
    pub socket: Option<PathBuf>,
    /// Address and port of the listener for `/healthz`, `/readyz` and `/metrics`; a
    /// loopback address, since it authenticates no client. No listener if unset.
    pub admin: Option<SocketAddr>,
    /// The proxies that are trusted to name the client of a request.
    pub proxies: Vec<String>,
    /// Whether connections to the main listener begin with the PROXY protocol.
    pub proxy_protocol: bool,
    /// TLS on the main listener; plain HTTP where nothing is set.
    pub tls: Tls,
}

/// TLS on the main listener.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The certificate in PEM, and those between it and its root.
    pub certificate: Option<PathBuf>,
    /// Its private key in PEM, which its owner alone may read.
    pub key: Option<PathBuf>,
}

impl Tls {
    /// The files, where they are set; both or none are.
    pub fn files(&self) -> Option<Files> {
        let (certificate, key) = self.certificate.clone().zip(self.key.clone())?;
        Some(Files {
            certificate,
            key,
            client: None,
        })
    }
}

impl Listen {
    /// The URL under which clients reach the listener at `address`.
    pub fn url(&self, address: SocketAddr) -> String {
        let scheme = match self.tls.files() {
            Some(_) => "https",
            None => "http",
        };
        let public = self.public_url.clone();
        public.unwrap_or_else(|| format!("{scheme}://{address}"))
    }

    /// The proxies that are trusted.
    ///
    /// Errors: names the entry that is none.
    pub fn trusted(&self) -> anyhow::Result<Proxies> {
        Proxies::parse(&self.proxies).map_err(|why| anyhow::anyhow!("listen.proxies: {why}"))
    }

    fn check(&self) -> anyhow::Result<()> {
        self.trusted()?;
        anyhow::ensure!(
            self.admin.is_none_or(|admin| admin.ip().is_loopback()),
            "listen.admin: must be a loopback address, such as 127.0.0.1:5001, because clients are \
             not authenticated there. Have a proxy or an agent on this machine pass the metrics on"
        );
        anyhow::ensure!(
            self.tls.certificate.is_some() == self.tls.key.is_some(),
            "listen.tls.certificate and listen.tls.key: both are needed, or neither"
        );
        let plain = |url: &String| !url.starts_with("https://");
        anyhow::ensure!(
            self.tls.files().is_none() || !self.public_url.as_ref().is_some_and(plain),
            "listen.public_url: must begin with https:// where listen.tls is set"
        );
        Ok(())
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            http: SocketAddr::from(([127, 0, 0, 1], 5000)),
            public_url: None,
            address_file: None,
            admin: None,
            socket: None,
            proxies: vec!["user:www-data".into()],
            proxy_protocol: false,
            tls: Tls::default(),
        }
    }
}

/// How callers are known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// The auth service's Unix socket.
    pub socket: PathBuf,
    /// The issuer whose tokens count; empty for what the auth service calls itself.
    pub issuer: String,
    /// Whether callers must prove who they are. Where `false`, everybody who
    /// can connect may run anything as the broker's account.
    pub required: bool,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            socket: "/run/warrant-auth/authsvc.sock".into(),
            issuer: String::new(),
            required: true,
        }
    }
}

/// The broker's own directory: what it must remember beside the database
/// and, in single-user mode, the records and output of runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Spool {
    /// The directory.
    pub dir: PathBuf,
}

/// The root-owned shim of multi-user mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shim {
    /// Its Unix socket.
    pub socket: PathBuf,
    /// Its name, as in its policy: whom warrants are for.
    pub audience: String,
    /// Its spool, as in its policy: where the output of jobs is.
    pub spool: PathBuf,
    /// Who obtains warrants.
    pub warrants: Obtained,
}

/// Who obtains the warrants that jobs run by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obtained {
    /// The broker, on behalf of callers whose access token it holds.
    #[default]
    Mediated,
    /// Callers themselves: the broker cannot obtain any.
    Client,
}

impl Default for Shim {
    fn default() -> Self {
        Self {
            socket: "/run/warrant-shim/shim.sock".into(),
            audience: "local".into(),
            spool: "/var/spool/warrant".into(),
            warrants: Obtained::default(),
        }
    }
}

impl Default for Spool {
    fn default() -> Self {
        Self {
            dir: "/var/lib/warrant/broker/spool".into(),
        }
    }
}

/// How jobs are run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Engine {
    /// The shim's program.
    pub shim: PathBuf,
    /// Cores to share out; all of the machine's if unset.
    pub cores: Option<u32>,
    /// GPUs to share out; all that are found if unset.
    pub gpus: Option<u32>,
    /// Between a job's warning signal and SIGKILL, milliseconds.
    pub grace_ms: u32,
    /// How much output of a job is kept, MiB.
    pub output_cap_mib: u64,
    /// Server variables that jobs get besides the usual; `*` stands for anything.
    pub env_passthrough: Vec<String>,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            shim: "/usr/lib/warrant/warrant-shim".into(),
            cores: None,
            gpus: None,
            grace_ms: 5000,
            output_cap_mib: 1024,
            env_passthrough: Vec::new(),
        }
    }
}

/// The Flux RESTful API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flux {
    /// The most machines a job may ask for.
    pub nodes: u32,
    /// Whether jobs may ask for GPUs; where unset, if there are any.
    pub has_gpus: Option<bool>,
    /// Options for every job's shell: `-oname=value …`.
    pub option_flags: String,
    /// Whether every job is shown in the old, wrapped form as well.
    pub legacy_job: bool,
    /// Programs that count as launchers.
    pub launchers: Vec<String>,
}

impl Default for Flux {
    fn default() -> Self {
        Self {
            nodes: 1,
            has_gpus: None,
            option_flags: String::new(),
            legacy_job: false,
            launchers: flux::Settings::default().launchers,
        }
    }
}

/// How much anybody may ask of the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests a minute of each user; 0 is no limit.
    pub requests_per_minute: u32,
    /// Requests a minute of each address (of IPv6, each /64 network) that
    /// prove nothing, or nothing good; 0 is no limit.
    pub unauthenticated_per_minute: u32,
    /// Connections at a time.
    pub connections: u32,
    /// Connections at a time from each address (of IPv6, each /64 network).
    pub connections_per_source: u32,
    /// Long responses that each user may read at a time: outputs, whether
    /// followed or not, and lists of more than 64 KiB.
    pub readers_per_user: u32,
    /// How much of long responses may be made and not yet taken by the clients'
    /// connections, MiB in all.
    pub in_flight_mib: u32,
    /// How long a client may leave a response unread, seconds: in that time it
    /// must take 64 KiB or what there is. Then it is disconnected.
    pub write_timeout_s: u32,
    /// Jobs that may wait, of all users; each may have half of what the others
    /// leave of it, so that one alone may have half.
    pub queued_jobs: u64,
    /// MiB of the definitions of jobs that wait, shared in the same way.
    pub queued_mib: u64,
    /// Idempotency keys that are kept, of all users, each for 24 hours; shared in
    /// the same way.
    pub idempotency_keys: u64,
}

impl Limits {
    /// The most that may wait.
    pub fn queue(&self) -> Load {
        Load {
            jobs: self.queued_jobs,
            bytes: self.queued_mib.saturating_mul(1 << 20),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_minute: 0,
            unauthenticated_per_minute: 6000,
            connections: 4096,
            connections_per_source: 2048,
            readers_per_user: 256,
            in_flight_mib: 64,
            write_timeout_s: 30,
            queued_jobs: 200_000,
            queued_mib: 4096,
            idempotency_keys: 1_000_000,
        }
    }
}

/// How the service ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stop {
    /// After `POST /v1/service/stop`: the longest to wait for jobs that run,
    /// seconds. What still runs then lives on.
    pub grace_s: u64,
}

impl Default for Stop {
    fn default() -> Self {
        Self { grace_s: 30 }
    }
}

impl Config {
    /// Read the file at `path`, where there is one, and the environment.
    ///
    /// Errors: names what is unknown or unreadable, and where it stands.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let file = Figment::from(Toml::file(path));
        let url = file.extract_inner::<String>("database.url");
        anyhow::ensure!(
            !url.is_ok_and(|url| has_password(&url)),
            "database.url: holds a password; put the URL into a file of its own and name that as \
             database.url_file"
        );
        let mut config: Self = Figment::from(Serialized::defaults(Self::default()))
            .merge(file)
            .merge(Env::prefixed("BROKER__").split("__"))
            .extract()?;
        config.take_flux_variables(&|name| {
            std::env::var(name).ok().filter(|v| !v.trim().is_empty())
        })?;
        config.check()?;
        Ok(config)
    }

    /// Let the Flux RESTful server's variables override.
    fn take_flux_variables(
        &mut self,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> anyhow::Result<()> {
        match variable("FLUX_SERVER_MODE").as_deref() {
            None => {}
            Some("single-user") => self.mode = Mode::SingleUser,
            Some("multi-user") => self.mode = Mode::MultiUser,
            Some(other) => {
                anyhow::bail!("FLUX_SERVER_MODE must be single-user or multi-user, found {other:?}")
            }
        }
        let backend = variable("FLUX_AUTH_BACKEND").map(|name| name.trim().to_lowercase());
        match (backend.as_deref(), variable("FLUX_REQUIRE_AUTH")) {
            (Some("none"), _) => self.auth.required = false,
            (Some(_), _) => self.auth.required = true,
            (None, Some(word)) => self.auth.required = truth("FLUX_REQUIRE_AUTH", &word)?,
            (None, None) => {}
        }
        if let Some(number) = variable("FLUX_NUMBER_NODES") {
            self.flux.nodes = number
                .trim()
                .parse()
                .ok()
                .filter(|n| *n > 0)
                .ok_or_else(|| {
                    anyhow::anyhow!("FLUX_NUMBER_NODES must be a number from 1, found {number:?}")
                })?;
        }
        for name in ["FLUX_HAS_GPU", "FLUX_HAS_GPUS"] {
            if let Some(word) = variable(name) {
                self.flux.has_gpus = Some(truth(name, &word)?);
            }
        }
        if let Some(flags) = variable("FLUX_OPTION_FLAGS") {
            self.flux.option_flags = flags;
        }
        if let Some(word) = variable("FLUX_LEGACY_JOB") {
            self.flux.legacy_job = truth("FLUX_LEGACY_JOB", &word)?;
        }
        if let Some(list) = variable("FLUX_JOB_ENV_PASSTHROUGH") {
            let names = passed_through(&list).map(str::to_owned);
            self.engine.env_passthrough.extend(names);
        }
        self.take_address(variable)
    }

    /// `HOST` and `PORT` of the container images.
    fn take_address(&mut self, variable: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<()> {
        let (host, port) = (variable("HOST"), variable("PORT"));
        let address = listen_address(self.listen.http, host.as_deref(), port.as_deref());
        self.listen.http = address.map_err(anyhow::Error::msg)?;
        Ok(())
    }

    /// The database's URL.
    ///
    /// Errors: the file that should hold it cannot be read.
    pub fn database_url(&self) -> anyhow::Result<Zeroizing<String>> {
        match &self.database.url_file {
            Some(path) => read_setting(path).context("database.url_file"),
            None => Ok(Zeroizing::new(self.database.url.clone())),
        }
    }

    /// The URL with which the tables are made and changed: that in `file`, or
    /// in `database.migrate_url_file`, else the service's own.
    ///
    /// Errors: the file cannot be read.
    pub fn migrate_url(&self, file: Option<&Path>) -> anyhow::Result<Zeroizing<String>> {
        match (file, &self.database.migrate_url_file) {
            (Some(file), _) => read_argument(file).context("--url-file"),
            (None, Some(file)) => read_setting(file).context("database.migrate_url_file"),
            (None, None) => self.database_url(),
        }
    }

    /// See that what is set fits together.
    ///
    /// Errors: names what does not.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.mode == Mode::SingleUser || self.auth.required,
            "in multi-user mode every caller must be known: auth.required must be true"
        );
        anyhow::ensure!(
            (1..=1_000_000).contains(&self.limits.connections)
                && self.limits.connections_per_source > 0,
            "limits.connections must be 1 to 1000000, and limits.connections_per_source from 1"
        );
        self.option_flags()?;
        anyhow::ensure!(
            self.limits.readers_per_user > 0
                && (1..=65_536).contains(&self.limits.in_flight_mib)
                && (1..=86_400).contains(&self.limits.write_timeout_s),
            "limits.readers_per_user must be from 1, limits.in_flight_mib 1 to 65536, and \
             limits.write_timeout_s 1 to 86400"
        );
        anyhow::ensure!(
            self.limits.queued_jobs > 0
                && self.limits.queued_mib > 0
                && self.limits.idempotency_keys > 0,
            "limits.queued_jobs, limits.queued_mib and limits.idempotency_keys must be from 1"
        );
        self.listen.check()
    }

    /// The job shell's options for every job.
    fn option_flags(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let read = flux::from_flags(&self.flux.option_flags);
        let options =
            read.map_err(|why| anyhow::anyhow!("flux.option_flags (FLUX_OPTION_FLAGS): {why}"))?;
        local::options::check(&options)
            .map_err(|error| anyhow::anyhow!("FLUX_OPTION_FLAGS: {}", error.message))?;
        Ok(options)
    }

    /// What the local engine needs of it.
    pub fn local(&self) -> local::Settings {
        let (shim, spool) = match self.mode {
            Mode::SingleUser => (
                local::Shim::Own(self.engine.shim.clone()),
                self.spool.dir.clone(),
            ),
            Mode::MultiUser => (
                local::Shim::Root(self.shim.socket.clone()),
                self.shim.spool.clone(),
            ),
        };
        local::Settings {
            shim,
            spool,
            grace_ms: self.engine.grace_ms,
            output_cap_bytes: self.engine.output_cap_mib.saturating_mul(1 << 20),
            passthrough: self.engine.env_passthrough.clone(),
        }
    }

    /// What the Flux dialect needs of it, on a machine with `gpus` GPUs.
    /// The local engine is one machine, whatever may be asked for elsewhere.
    ///
    /// Errors: options for every job that cannot be read or honoured.
    pub fn flux_dialect(&self, gpus: u32) -> anyhow::Result<flux::Settings> {
        if self.flux.nodes > 1 {
            tracing::warn!(
                "flux.nodes (or FLUX_NUMBER_NODES) is {}, but there is one machine: jobs that ask \
                 for more are refused",
                self.flux.nodes
            );
        }
        Ok(flux::Settings {
            nodes: self.flux.nodes.min(1),
            gpus: self.flux.has_gpus.unwrap_or(gpus > 0),
            options: self.option_flags()?,
            legacy: self.flux.legacy_job,
            launchers: self.flux.launchers.clone(),
        })
    }
}

/// A yes or no as the Flux RESTful server reads it.
fn truth(name: &str, word: &str) -> anyhow::Result<bool> {
    match word.trim().to_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => anyhow::bail!("{name} must be one of 1, true, yes, on, 0, false, no, off"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> anyhow::Result<Config> {
        let mut config = Config::default();
        config.take_flux_variables(&|name| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value.to_string())
        })?;
        Ok(config)
    }

    #[test]
    fn authentication_is_on_unless_switched_off_in_so_many_words() {
        assert!(with(&[]).unwrap().auth.required);
        assert!(
            !with(&[("FLUX_AUTH_BACKEND", "none")])
                .unwrap()
                .auth
                .required
        );
        assert!(
            !with(&[("FLUX_REQUIRE_AUTH", "false")])
                .unwrap()
                .auth
                .required
        );
        assert!(
            with(&[("FLUX_REQUIRE_AUTH", "true")])
                .unwrap()
                .auth
                .required
        );
        let both = [
            ("FLUX_AUTH_BACKEND", "database"),
            ("FLUX_REQUIRE_AUTH", "no"),
        ];
        assert!(with(&both).unwrap().auth.required);
        assert!(with(&[("FLUX_REQUIRE_AUTH", "maybe")]).is_err());
    }

    #[test]
    fn unknown_modes_and_numbers_are_refused_by_name() {
        let error = with(&[("FLUX_SERVER_MODE", "both")])
            .unwrap_err()
            .to_string();
        assert!(error.contains("single-user or multi-user"), "{error}");
        assert!(with(&[("FLUX_NUMBER_NODES", "many")]).is_err());
    }

    #[test]
    fn both_spellings_of_the_gpu_switch_count() {
        for name in ["FLUX_HAS_GPU", "FLUX_HAS_GPUS"] {
            assert!(with(&[(name, "on")]).unwrap().flux_dialect(0).unwrap().gpus);
        }
        assert!(Config::default().flux_dialect(2).unwrap().gpus);
        assert!(
            !with(&[("FLUX_HAS_GPUS", "0")])
                .unwrap()
                .flux_dialect(2)
                .unwrap()
                .gpus
        );
    }

    #[test]
    fn the_shipped_file_says_what_the_defaults_are() {
        let shipped = include_str!("../../packaging/etc/broker.toml");
        let config: Config = Figment::from(Toml::string(shipped)).extract().unwrap();
        assert_eq!(config, Config::default());
    }

    #[test]
    fn a_database_url_is_never_printed() {
        let mut config = Config::default();
        config.database.url = "postgres://warrant:hunter2@db/warrant".into();
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn t108_a_password_in_the_file_is_refused_and_not_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("broker.toml");
        std::fs::write(&file, "[database]\nurl = 'postgres://w:hunter2@db/w'").unwrap();
        let error = format!("{:#}", Config::load(&file).unwrap_err());
        assert!(error.contains("database.url_file"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
