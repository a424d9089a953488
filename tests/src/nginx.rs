//! A real nginx of a test's own with the shipped configuration, of which names,
//! ports and paths alone are replaced.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal;

use crate::ports::free_address;
use crate::processes::send;
use crate::wait::until;
use crate::{House, Setup};

/// The file that the package ships.
const SHIPPED: &str = include_str!("../../packaging/nginx/warrant.conf");

/// What puts the shipped file's locations below the path `/warrant`, as
/// `docs/PROXY.md` tells administrators.
pub const BELOW_A_PATH: &str = r"/\.warrant/!s#location (= )?/#location \1/warrant/#";

/// Where an nginx will listen, and the path that Warrant is below there.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// For TLS.
    pub tls: u16,
    plain: u16,
    path: &'static str,
}

impl Ports {
    /// Two that nobody listens on now.
    pub fn free() -> Self {
        let free = || free_address().port();
        Self {
            tls: free(),
            plain: free(),
            path: "",
        }
    }

    /// The same, with Warrant below the path `/warrant` of the host.
    pub fn below_a_path(self) -> Self {
        Self {
            path: "/warrant",
            ..self
        }
    }

    /// The URL of the server.
    pub fn url(self) -> String {
        format!("https://localhost:{}{}", self.tls, self.path)
    }

    /// What the services are told of the nginx in front of them.
    pub fn tell(self, setup: Setup) -> Setup {
        let own = format!("[\"uid:{}\"]", nix::unistd::geteuid());
        setup
            .set("BROKER__LISTEN__PUBLIC_URL", &self.url())
            .set("AUTHSVC__OAUTH__URL", &self.url())
            .set("BROKER__LISTEN__PROXIES", &own)
            .set("AUTHSVC__LISTEN__PROXIES", &own)
    }
}

/// A running nginx. Dropped, it is stopped.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    dir: tempfile::TempDir,
    ports: Ports,
    log: Arc<Mutex<String>>,
}

impl Nginx {
    /// In front of `house`.
    pub fn before(house: &House, ports: Ports) -> Self {
        let run = |name| house.path("run").join(name);
        Self::start(ports, &run("broker.sock"), &run("auth.sock"))
    }

    /// In front of whatever listens on these sockets; it answers when this returns.
    ///
    /// Errors: panics where nginx is not installed (`./dev test` does that) or
    /// refuses the file.
    pub fn start(ports: Ports, broker: &Path, authsvc: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let own = rcgen::generate_simple_self_signed(names).unwrap();
        fs::write(path("cert.pem"), own.cert.pem()).unwrap();
        fs::write(path("key.pem"), own.signing_key.serialize_pem()).unwrap();
        let mut text = SHIPPED.to_owned();
        for (shipped, here) in [
            (
                "listen [::]:443 ",
                format!("listen 127.1.1.1:{} ", ports.tls),
            ),
            ("listen 443 ", format!("listen 127.0.0.1:{} ", ports.tls)),
            (
                "listen [::]:80;",
                format!("listen 127.1.1.1:{};", ports.plain),
            ),
            ("listen 80;", format!("listen 127.0.0.1:{};", ports.plain)),
            ("/etc/ssl/certs/jobs.example.org.pem", path("cert.pem")),
            ("/etc/ssl/private/jobs.example.org.key", path("key.pem")),
            ("/dev/log", path("log")),
            (
                "/run/warrant-auth/authsvc.sock",
                authsvc.to_str().unwrap().to_owned(),
            ),
            (
                "/run/warrant/broker.sock",
                broker.to_str().unwrap().to_owned(),
            ),
            ("jobs.example.org", "localhost".to_owned()),
        ] {
            assert!(text.contains(shipped), "the shipped file has no {shipped}");
            text = text.replace(shipped, &here);
        }
        fs::write(path("warrant.conf"), text).unwrap();
        if !ports.path.is_empty() {
            let mut sed = Command::new("sed");
            sed.args(["-i", "-E", BELOW_A_PATH, &path("warrant.conf")]);
            assert!(sed.status().unwrap().success());
        }
        let log = listen_to(&dir.path().join("log"));
        fs::write(path("nginx.conf"), main_file(dir.path())).unwrap();
        let mut child = Command::new("/usr/sbin/nginx")
            .args([
                "-p",
                dir.path().to_str().unwrap(),
                "-c",
                &path("nginx.conf"),
            ])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(path("stderr")).unwrap())
            .spawn()
            .expect("nginx is needed (./dev test installs it)");
        until("nginx to listen", || {
            let said = fs::read_to_string(path("stderr")).unwrap_or_default();
            assert!(child.try_wait().unwrap().is_none(), "{said}");
            std::net::TcpStream::connect(("127.0.0.1", ports.tls)).ok()
        });
        Self {
            child,
            dir,
            ports,
            log,
        }
    }

    /// Its certificate, which vouches for itself.
    pub fn certificate(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    /// What it has sent to the system's log.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// A curl to it, with the path last.
    pub fn curl_command(&self, path: &str, arguments: &[&str]) -> Command {
        let mut curl = Command::new("curl");
        curl.env_clear()
            .args(["--silent", "--show-error", "--max-time", "60", "--cacert"])
            .arg(self.certificate())
            .args(arguments)
            .arg(format!("{}{path}", self.ports.url()));
        curl
    }

    /// What curl gets: the status, and the answer's head and body.
    pub fn curl(&self, path: &str, arguments: &[&str]) -> (u16, String) {
        let more = [arguments, &["--include", "--write-out", "\n%{http_code}"]].concat();
        let Output { stdout, stderr, .. } = self.curl_command(path, &more).output().unwrap();
        let text = String::from_utf8_lossy(&stdout).into_owned();
        let (answer, status) = text.rsplit_once('\n').unwrap();
        let status = status.parse().unwrap();
        assert_ne!(status, 0, "{}", String::from_utf8_lossy(&stderr));
        (status, answer.to_owned())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        send(self.child.id().try_into().unwrap(), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// The rest of nginx's configuration: everything in `dir`.
fn main_file(dir: &Path) -> String {
    let dir = dir.display();
    let user = if nix::unistd::geteuid().is_root() {
        "user root;\n"
    } else {
        ""
    };
    let kept = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let kept: String = kept
        .iter()
        .map(|name| format!("    {name}_temp_path {dir}/{name};\n"))
        .collect();
    format!(
        "{user}daemon off;\npid {dir}/pid;\nerror_log stderr;\nworker_processes 1;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n{kept}    include {dir}/warrant.conf;\n}}\n"
    )
}

/// A system's log; what is written there.
fn listen_to(path: &Path) -> Arc<Mutex<String>> {
    let socket = UnixDatagram::bind(path).unwrap();
    let log = Arc::new(Mutex::new(String::new()));
    let kept = log.clone();
    std::thread::spawn(move || {
        let mut piece = [0; 16 * 1024];
        while let Ok(read) = socket.recv(&mut piece) {
            let text = String::from_utf8_lossy(piece.get(..read).unwrap_or_default());
            let mut log = kept.lock().unwrap();
            log.push_str(&text);
            log.push('\n');
        }
    });
    log
}

/// A name and a password as HTTP Basic spells them.
pub fn basic(pair: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(pair)
}
