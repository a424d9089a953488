//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use warrant_api::scope::Scopes;

use crate::duration;
use crate::job::JobId;
use crate::limits::Accepted;

const CONNECTION: &str = "Server and login";

/// Submit jobs to a Warrant or Flux RESTful server, and watch them.
#[derive(Debug, Parser)]
#[command(name = "warrant", version)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) connection: Connection,

    /// Print the server's JSON, one document, instead of a table
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the server is and who we are to it.
///
/// An API key in WARRANT_API_KEY is used in place of any login. Otherwise
/// the password is taken from FLUX_TOKEN, from a file, or asked for on the
/// terminal; FLUX_SECRET_KEY is the secret shared with the server, if any.
#[derive(Debug, Args)]
pub(crate) struct Connection {
    /// Address of the server [default: that of the stored login, else
    /// http://127.0.0.1:5000]
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "FLUX_RESTFUL_HOST",
        help_heading = CONNECTION
    )]
    pub(crate) host: Option<String>,

    /// User name at the server [default: that of the stored login, else your account's]
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "FLUX_USER",
        help_heading = CONNECTION
    )]
    pub(crate) user: Option<String>,

    /// File with the password, `-` for standard input [default: FLUX_TOKEN, else a prompt]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help_heading = CONNECTION
    )]
    pub(crate) password_file: Option<PathBuf>,

    /// File with certificates of authorities to believe besides the machine's
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "WARRANT_CA_FILE",
        help_heading = CONNECTION
    )]
    pub(crate) ca_file: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Submit a job
    Submit(Submit),
    /// List jobs, the newest first
    Jobs(Jobs),
    /// Show one job
    Info {
        /// The job
        id: JobId,
    },
    /// Print the output of a job
    Logs {
        /// Go on until the job ends
        #[arg(short, long)]
        follow: bool,
        /// The job
        id: JobId,
    },
    /// Cancel jobs
    Cancel {
        /// The jobs
        #[arg(required = true, value_name = "ID")]
        ids: Vec<JobId>,
    },
    /// List the nodes that are up
    Nodes,
    /// Log in once, for later commands too
    Login(Login),
    /// End the stored login
    Logout,
    /// Make, list and revoke API keys, for programs that run without you
    #[command(subcommand)]
    Keys(Keys),
    /// Start a server on this machine, with everything it needs
    Up(Up),
    /// Check the audit trails of a server on this machine
    #[command(subcommand)]
    Audit(Audit),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// How to log in: with a password, unless another way is named.
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Show a code, to be typed in on the server's page in a browser anywhere;
    /// the login goes on until it is ended
    #[arg(long, conflicts_with_all = ["browser", "certificate"])]
    pub(crate) device: bool,

    /// Show the address of the server's page, to be opened in a browser on
    /// this machine; the login goes on until it is ended
    #[arg(long, conflicts_with = "certificate")]
    pub(crate) browser: bool,

    /// What the login is good for, with --device and --browser: some of read,
    /// submit, control and admin [default: all that you may do]
    #[arg(long, value_name = "SCOPES", value_parser = scopes)]
    pub(crate) scopes: Option<Scopes>,

    /// Log in by this certificate, in PEM, instead of a password
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) certificate: Option<PathBuf>,

    /// The certificate's private key, in PEM
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) key: Option<PathBuf>,

    /// Address of the auth service, where the server is none itself
    /// [default: what the server says]
    #[arg(long, value_name = "URL", env = "WARRANT_AUTH_HOST")]
    pub(crate) auth_host: Option<String>,
}

/// What to run, and with what.
#[derive(Debug, Args)]
pub(crate) struct Submit {
    /// Number of tasks
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) num_tasks: Option<u32>,

    /// Cores for each task
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) cores_per_task: Option<u32>,

    /// GPUs for each task
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) gpus_per_task: Option<u32>,

    /// Number of nodes
    #[arg(short = 'N', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) nodes: Option<u32>,

    /// Share the nodes with no other job
    #[arg(short = 'x', long)]
    pub(crate) exclusive: bool,

    /// End the job after this time: seconds, 90s, 10m, 2h, 1d or H:MM:SS; 0 for no limit
    #[arg(short, long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) time_limit: Option<u64>,

    /// Directory in which the job starts; it fails where the server has none of
    /// that name [default: this one if it can be used there, else the home
    /// directory, else /tmp]
    #[arg(short = 'C', long, value_name = "DIR", value_parser = absolute)]
    pub(crate) workdir: Option<String>,

    /// A variable for the job's environment; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,

    /// A shell option of Flux; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = shell_option)]
    pub(crate) option: Vec<(String, String)>,

    /// The command is a workflow manager that submits jobs of its own
    #[arg(long)]
    pub(crate) launcher: bool,

    /// Print the output as it comes, and exit as the job does
    #[arg(short, long, conflicts_with = "launcher")]
    pub(crate) wait: bool,

    /// Address of the auth service, where jobs need a warrant of your own
    /// [default: that of the server]
    #[arg(long, value_name = "URL", env = "WARRANT_AUTH_HOST")]
    pub(crate) auth_host: Option<String>,

    /// A variable that the server may add to the job's environment, where
    /// jobs need a warrant of your own; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) accept_env: Vec<String>,

    /// A limit that the site sets otherwise than usual, where jobs need a warrant
    /// of your own: output_cap_bytes, grace_ms, memory_bytes, or time_limit_s where
    /// you ask for none; with commas between, or repeated
    #[arg(
        long,
        value_name = "NAME=NUMBER",
        env = "WARRANT_ACCEPT_LIMITS",
        value_delimiter = ','
    )]
    pub(crate) accept_limit: Vec<Accepted>,

    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// What to do with API keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Make a key; it is printed this once
    ///
    /// This takes your password, or your certificate, although you are logged in.
    /// Users whom a provider signs in make their keys on the server's page, /account.
    Create {
        /// What it may be used for, of read, submit, control and admin, with
        /// commas between [default: all that you may]
        #[arg(short, long, value_name = "SCOPES", value_parser = scopes)]
        scopes: Option<Scopes>,
        /// Days until it ends [default: the server's choice]
        #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        days: Option<u32>,
        /// Prove who you are by this certificate, in PEM, instead of a password
        #[arg(long, value_name = "FILE", requires = "key")]
        certificate: Option<PathBuf>,
        /// The certificate's private key, in PEM
        #[arg(long, value_name = "FILE", requires = "certificate")]
        key: Option<PathBuf>,
        /// Address of the auth service, where the server does not forward this
        /// [default: that of the server; for certificates, what the server says]
        #[arg(long, value_name = "URL", env = "WARRANT_AUTH_HOST")]
        auth_host: Option<String>,
        /// What you call it
        label: String,
    },
    /// List the keys that count
    List {
        /// Those of another user; for administrators
        #[arg(long, value_name = "USER")]
        of: Option<String>,
    },
    /// Revoke keys
    #[command(group = clap::ArgGroup::new("which").required(true))]
    Revoke {
        /// All of them
        #[arg(long, group = "which")]
        all: bool,
        /// Those of another user; for administrators
        #[arg(long, value_name = "USER")]
        of: Option<String>,
        /// Their ids
        #[arg(value_name = "ID", group = "which")]
        ids: Vec<String>,
    },
}

fn scopes(text: &str) -> Result<Scopes, String> {
    let scopes: Scopes = text
        .replace(',', " ")
        .parse()
        .map_err(|_| "read, submit, control and admin are allowed".to_owned())?;
    if scopes.is_empty() {
        return Err("at least one is needed".to_owned());
    }
    Ok(scopes)
}

/// Which jobs to list.
#[derive(Debug, Args)]
pub(crate) struct Jobs {
    /// List every job that the server has
    #[arg(short, long, conflicts_with = "limit")]
    pub(crate) all: bool,

    /// List at most this many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 25,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,

    /// List the jobs that contain this text, or are in this state: queued,
    /// running, completed, failed, timeout or cancelled
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) search: Option<String>,

    /// List the jobs of all users; for operators and administrators
    #[arg(short = 'A', long)]
    pub(crate) all_users: bool,
}

/// How to run the server.
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Directory for everything the server keeps [default: ~/.local/state/warrant/up;
    /// for root, /var/lib/warrant-up]
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,

    /// Address and port to listen on; port 0 takes a free one [default: HOST and
    /// PORT, else 127.0.0.1:5000]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Option<SocketAddr>,

    /// Speak TLS, with the certificate in this file, followed by those between
    /// it and its root
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Its key, which nobody else may read
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// PostgreSQL instead of the embedded database. Give a URL that contains a
    /// password by the variable: every user of this machine can read arguments
    #[arg(
        long,
        value_name = "URL",
        env = "WARRANT_DATABASE_URL",
        hide_env_values = true
    )]
    pub(crate) database: Option<String>,

    /// Let jobs use this many cores [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) cores: Option<u32>,

    /// Print the address alone, and no logs
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// What to do with the audit trails.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// See that no row was changed, added between or taken away
    ///
    /// Prints the count of rows and the last one's hash of each trail. Kept
    /// elsewhere and given back later, they prove that nothing was rewritten
    /// since. Exits with 0 where both trails hold, 1 where one does not, and
    /// 2 where one cannot be read.
    Verify(AuditVerify),
}

/// Where the trails are.
#[derive(Debug, Args)]
pub(crate) struct AuditVerify {
    /// Directory of the server that `warrant up` runs [default: as there; for
    /// root without one, the services of the installed package]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["broker_config", "authsvc_config"])]
    pub(crate) state_dir: Option<PathBuf>,

    /// The PostgreSQL database that `warrant up` was given
    #[arg(
        long,
        value_name = "URL",
        env = "WARRANT_DATABASE_URL",
        hide_env_values = true
    )]
    pub(crate) database: Option<String>,

    /// Configuration of the broker, where the services run by themselves
    #[arg(long, value_name = "FILE", requires = "authsvc_config")]
    pub(crate) broker_config: Option<PathBuf>,

    /// Configuration of the auth service
    #[arg(long, value_name = "FILE", requires = "broker_config")]
    pub(crate) authsvc_config: Option<PathBuf>,

    /// What was printed before of the broker's trail
    #[arg(long, value_name = "COUNT:HEAD")]
    pub(crate) broker_kept: Option<Kept>,

    /// What was printed before of the auth service's trail
    #[arg(long, value_name = "COUNT:HEAD")]
    pub(crate) authsvc_kept: Option<Kept>,
}

/// A count of rows and the last one's hash, kept since an earlier check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    count: u64,
    head: String,
}

impl Kept {
    /// The hash and the count.
    pub(crate) fn parts(&self) -> (&str, u64) {
        (&self.head, self.count)
    }
}

impl std::str::FromStr for Kept {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hash = |text: &str| {
            text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        text.split_once(':')
            .filter(|(_, head)| hash(head))
            .and_then(|(count, head)| {
                Some(Self {
                    count: count.parse().ok()?,
                    head: head.to_owned(),
                })
            })
            .ok_or("it must look like COUNT:HEAD, a number and 64 hexadecimal digits")
    }
}

impl Submit {
    /// The directory to start in if it can be used there, where none is named:
    /// the one that the job is submitted from, as with sbatch(1) and
    /// flux-submit(1). `None` where that has no name, or none in UTF-8.
    pub(crate) fn default_workdir(&self) -> Option<String> {
        if self.workdir.is_some() {
            return None;
        }
        let here = std::env::current_dir().ok()?;
        here.into_os_string().into_string().ok()
    }
}

/// A directory as the server can find it, whatever directory we are in.
fn absolute(text: &str) -> Result<String, String> {
    let path = std::path::absolute(text).map_err(|error| error.to_string())?;
    let path = path.into_os_string().into_string();
    path.map_err(|_| "the directory that we are in has a name that is not UTF-8".to_owned())
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("it must look like NAME=VALUE".to_owned()),
    }
}

/// The API takes shell options as one text, separated by commas.
fn shell_option(text: &str) -> Result<(String, String), String> {
    if text.contains(',') {
        return Err("a shell option must not contain a comma".to_owned());
    }
    if text.starts_with('-') {
        return Err("give the name without -o".to_owned());
    }
    variable(text)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    fn submit(arguments: &[&str]) -> Result<Submit, clap::Error> {
        let line = ["warrant", "submit"].iter().chain(arguments);
        let Command::Submit(submit) = CommandLine::try_parse_from(line)?.command else {
            panic!("another command");
        };
        Ok(submit)
    }

    #[test]
    fn what_was_kept_is_a_count_and_a_hash() {
        let hash = "0a".repeat(32);
        let kept: Kept = format!("12:{hash}").parse().unwrap();
        assert_eq!(kept.parts(), (hash.as_str(), 12));
        for wrong in [
            "",
            "12",
            "12:0a",
            &hash,
            &format!("-1:{hash}"),
            &format!("1:{hash}0"),
        ] {
            assert!(wrong.parse::<Kept>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn options_end_where_the_command_begins() {
        for line in [
            &["-n", "2", "--", "ls", "-l", "--json"][..],
            &["-n", "2", "ls", "-l", "--json"],
        ] {
            let submit = submit(line).unwrap();
            assert_eq!(submit.num_tasks, Some(2));
            assert_eq!(submit.command, ["ls", "-l", "--json"]);
        }
    }

    #[test]
    fn a_variable_may_hold_any_value() {
        let submit = submit(&["-e", "A=b=c, d", "-e", "E=", "-o", "pty.capture=1", "x"]).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(submit.env, [pair("A", "b=c, d"), pair("E", "")]);
        assert_eq!(submit.option, [pair("pty.capture", "1")]);
    }

    #[test]
    fn senseless_options_are_refused() {
        for line in [
            &[][..],
            &["-n", "0", "x"],
            &["-e", "A", "x"],
            &["-e", "=b", "x"],
            &["-o", "a=1,b=2", "x"],
            &["-t", "soon", "x"],
            &["--wait", "--launcher", "x"],
        ] {
            assert_eq!(submit(line).unwrap_err().exit_code(), 2, "{line:?}");
        }
    }
}
