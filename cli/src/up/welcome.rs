//! What `warrant up` says when the server is ready: lines to be pasted, which
//! read the secrets from their files and so show none.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use warrant_api::token::AuthInfo;

use crate::up::identity::{Identity, Kept};
use crate::up::programs;
use crate::up::tls::Tls;

/// What to say in the end when nobody has counted the jobs.
pub(crate) const FAREWELL: &str =
    "stopped; jobs that were running go on, and the next `warrant up` finds them";

/// A server, as it is told of.
pub(crate) struct Server<'a> {
    url: String,
    /// With TLS, the file that clients have to believe, where it is known.
    authority: Option<Option<&'a Path>>,
    /// Where it tells its health and its metrics.
    admin: SocketAddr,
}

impl<'a> Server<'a> {
    /// A server at an address, with this TLS, and its admin listener.
    pub(crate) fn new(
        address: &crate::server::Server,
        tls: Option<&'a Tls>,
        admin: SocketAddr,
    ) -> Self {
        Self {
            url: address.to_string(),
            authority: tls.map(Tls::authority),
            admin,
        }
    }

    /// How clients come to believe the certificate.
    fn trust(&self) -> String {
        let (why, file) = match self.authority {
            None => return String::new(),
            Some(None) => (
                "Where a machine does not know the authority that signed the certificate, clients \
                 need its file:",
                "AUTHORITY.pem".to_owned(),
            ),
            Some(Some(file)) => (
                "The certificate vouches for itself: clients need a copy.",
                quoted_path(file),
            ),
        };
        format!(
            "{why}\n\n  \
             export WARRANT_CA_FILE={file} CURL_CA_BUNDLE={file} SSL_CERT_FILE={file}\n\n"
        )
    }
}

/// The text, ending with a newline.
pub(crate) fn text(
    server: &Server<'_>,
    state_dir: &Path,
    identity: &Identity,
    auth: &AuthInfo,
) -> String {
    let url = &*server.url;
    let mut text = format!("\nWarrant is ready at {url}\n\n");
    let login = auth.backend != "none";
    // Writing to a String cannot fail.
    let _ = write_facts(&mut text, state_dir, identity, auth, login);
    let admin = server.admin;
    let _ = writeln!(
        text,
        "  Health    http://{admin}/readyz, and metrics at /metrics\n"
    );
    text.push_str(&server.trust());
    let _ = write_commands(&mut text, url, identity, auth, login);
    if !login || auth.password_login {
        let _ = write_curl(&mut text, url, identity, login);
    }
    text.push_str("Ctrl-C stops the server; jobs that are running then go on.\n\n");
    text
}

/// The text for the users of this machine, ending with a newline. `backend` is
/// how they prove who they are.
pub(crate) fn multi_user(
    server: &Server<'_>,
    state_dir: &Path,
    backend: &str,
    secret_key: &Kept,
) -> String {
    let url = &*server.url;
    let login = match backend {
        "pam" => "with the name and password of an account of this machine".to_owned(),
        other => format!("with the password that the {other} backend knows"),
    };
    let program = quoted_path(&programs::own_name());
    format!(
        "\nWarrant is ready at {url}\n\n  \
         Mode      multi-user: each job runs as the user who submits it\n  \
         Login     {login}\n  \
         Secret    {}; users of the Flux RESTful clients need it\n  \
         State     in {}\n  \
         Health    http://{}/readyz, and metrics at /metrics\n\n\
         {}\
         As any user of this machine:\n\n  \
         export FLUX_RESTFUL_HOST={}\n  \
         {program} login\n  \
         {program} submit --wait -- id\n\n\
         With the Flux RESTful client, and FLUX_TOKEN and FLUX_SECRET_KEY in the environment:\n\n  \
         export FLUX_USER=\"$(id -un)\"\n  \
         flux-restful-cli submit id\n\n\
         Ctrl-C stops the server; jobs that are running then go on.\n\n",
        place(secret_key, "FLUX_SECRET_KEY"),
        state_dir.display(),
        server.admin,
        server.trust(),
        quoted(url),
    )
}

fn write_facts(
    text: &mut String,
    state_dir: &Path,
    identity: &Identity,
    auth: &AuthInfo,
    login: bool,
) -> std::fmt::Result {
    if login {
        writeln!(text, "  User      {}", identity.user)?;
        let place = place(&identity.password, "FLUX_TOKEN");
        writeln!(text, "  Password  {place}")?;
    } else {
        writeln!(
            text,
            "  Login     none: everybody who reaches it may use it"
        )?;
    }
    if auth.shared_secret_handshake {
        let place = place(&identity.secret_key, "FLUX_SECRET_KEY");
        writeln!(text, "  Secret    {place}")?;
    }
    writeln!(text, "  State     in {}", state_dir.display())
}

fn place(kept: &Kept, variable: &str) -> String {
    match &kept.file {
        Some(file) => format!("in {}", file.display()),
        None => format!("that of {variable} in the environment"),
    }
}

fn write_commands(
    text: &mut String,
    url: &str,
    identity: &Identity,
    auth: &AuthInfo,
    login: bool,
) -> std::fmt::Result {
    let user = quoted(&identity.user);
    writeln!(text, "In another terminal:\n")?;
    writeln!(
        text,
        "  export FLUX_RESTFUL_HOST={} FLUX_USER={user}",
        quoted(url)
    )?;
    let secrets = [
        ("FLUX_TOKEN", login, &identity.password),
        (
            "FLUX_SECRET_KEY",
            auth.shared_secret_handshake,
            &identity.secret_key,
        ),
    ];
    for (variable, used, kept) in secrets {
        if let (true, Some(file)) = (used, &kept.file) {
            writeln!(text, "  export {variable}=\"$(cat {})\"", quoted_path(file))?;
        }
    }
    let program = quoted_path(&programs::own_name());
    writeln!(text, "  {program} submit --wait -- echo hello\n")?;
    writeln!(
        text,
        "With the Flux RESTful client, in the same terminal:\n"
    )?;
    writeln!(text, "  pip install flux-restful-client")?;
    writeln!(text, "  flux-restful-cli submit echo hello\n")
}

fn write_curl(text: &mut String, url: &str, identity: &Identity, login: bool) -> std::fmt::Result {
    let url = quoted(url);
    writeln!(text, "With curl:\n")?;
    let authorization = if login {
        // The password goes by file or pipe: arguments can be read by others.
        let (feed, source) = match &identity.password.file {
            Some(file) => ("", format!("password@{}", file.display())),
            None => ("printf %s \"$FLUX_TOKEN\" | ", "password@-".to_owned()),
        };
        writeln!(
            text,
            "  TOKEN=$({feed}curl -sS {url}/v1/login/access-token --data-urlencode {} \\",
            quoted(&format!("username={}", identity.user)),
        )?;
        writeln!(
            text,
            "    --data-urlencode {} | sed 's/.*\"access_token\": *\"\\([^\"]*\\)\".*/\\1/')",
            quoted(&source)
        )?;
        " -H \"Authorization: Bearer $TOKEN\""
    } else {
        ""
    };
    writeln!(
        text,
        "  ID=$(curl -sS {url}/v1/jobs/submit{authorization} -H 'Content-Type: application/json' \\"
    )?;
    writeln!(
        text,
        "    -d '{{\"command\": \"echo hello\"}}' | sed 's/.*\"id\": *\\([0-9]*\\).*/\\1/')"
    )?;
    writeln!(
        text,
        "  curl -sSN {url}/v1/jobs/$ID/output/stream{authorization}\n"
    )
}

/// A word as a shell reads it back. A NUL, the one thing that cannot be
/// quoted, is in no path and no variable.
fn quoted(word: &str) -> String {
    shlex::try_quote(word).map_or_else(|_| String::new(), |quoted| quoted.into_owned())
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn server(authority: Option<Option<&Path>>) -> Server<'_> {
        let scheme = if authority.is_some() { "https" } else { "http" };
        Server {
            url: format!("{scheme}://127.0.0.1:5000"),
            authority,
            admin: "127.0.0.1:5001".parse().unwrap(),
        }
    }

    fn welcome(in_files: bool, backend: &str) -> String {
        let keep = |name: &str| Kept {
            secret: Secret::new(format!("canary-{name}")),
            file: in_files.then(|| Path::new("/s t/secrets").join(name)),
        };
        let identity = Identity {
            user: "fluxuser".to_owned(),
            password: keep("flux_token"),
            secret_key: keep("flux_secret_key"),
        };
        let auth = AuthInfo {
            backend: backend.to_owned(),
            password_login: backend != "none",
            shared_secret_handshake: backend == "shared-secret",
            oidc: None,
        };
        text(&server(None), Path::new("/s t"), &identity, &auth)
    }

    #[test]
    fn no_secret_is_shown() {
        for in_files in [true, false] {
            for backend in ["shared-secret", "database", "none"] {
                assert!(!welcome(in_files, backend).contains("canary"));
            }
        }
    }

    #[test]
    fn users_of_this_machine_are_told_how_to_log_in_and_shown_no_secret() {
        let secret_key = Kept {
            secret: Secret::new("canary"),
            file: Some("/s t/secrets/flux_secret_key".into()),
        };
        for (backend, words) in [("pam", "account of this machine"), ("database", "database")] {
            let text = multi_user(&server(None), Path::new("/s t"), backend, &secret_key);
            assert!(
                text.contains(words) && text.contains("/s t/secrets"),
                "{text}"
            );
            assert!(!text.contains("canary"), "{text}");
        }
    }

    #[test]
    fn clients_are_told_whose_certificates_to_believe() {
        let secret_key = Kept {
            secret: Secret::new("canary"),
            file: None,
        };
        let says = |authority| {
            let server = server(authority);
            multi_user(&server, Path::new("/s"), "pam", &secret_key)
        };
        assert!(!says(None).contains("WARRANT_CA_FILE"));
        let own = says(Some(Some(Path::new("/my c.pem"))));
        assert!(
            own.contains("FLUX_RESTFUL_HOST=https://127.0.0.1:5000")
                || own.contains("FLUX_RESTFUL_HOST='https://127.0.0.1:5000'"),
            "{own}"
        );
        assert!(
            own.contains("WARRANT_CA_FILE='/my c.pem' CURL_CA_BUNDLE='/my c.pem'"),
            "{own}"
        );
        assert!(says(Some(None)).contains("WARRANT_CA_FILE=AUTHORITY.pem"));
    }

    #[test]
    fn secrets_are_read_from_their_files_whatever_the_name() {
        let text = welcome(true, "shared-secret");
        for line in [
            "export FLUX_TOKEN=\"$(cat '/s t/secrets/flux_token')\"",
            "export FLUX_SECRET_KEY=\"$(cat '/s t/secrets/flux_secret_key')\"",
            "--data-urlencode 'password@/s t/secrets/flux_token'",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn secrets_of_the_environment_are_left_there() {
        let text = welcome(false, "shared-secret");
        assert!(!text.contains("cat "), "{text}");
        assert!(text.contains("printf %s \"$FLUX_TOKEN\" | curl"), "{text}");
    }

    #[test]
    fn a_server_without_login_asks_for_no_secret() {
        let text = welcome(true, "none");
        for word in ["FLUX_TOKEN", "FLUX_SECRET_KEY", "Authorization"] {
            assert!(!text.contains(word), "{word}: {text}");
        }
        assert!(welcome(true, "database").contains("FLUX_TOKEN"));
        assert!(!welcome(true, "database").contains("FLUX_SECRET_KEY"));
    }
}
