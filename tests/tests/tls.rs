//! TLS as others speak it: curl, OpenSSL, Python, and `warrant`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use serde_json::Value;
use warrant_tests::python::Client;
use warrant_tests::service::{self, Service, Variables};
use warrant_tests::wait::until;
use warrant_tests::{Database, House, Setup};

/// An authority, and the directory where what it signs is put.
struct Authority {
    dir: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    params
}

impl Authority {
    fn new() -> Self {
        let mut own = params("authority");
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        own.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(own, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { dir, issuer }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// Sign `params`, and put certificate and key, one after the other, where
    /// they may be in use; the certificate.
    fn put(&self, name: &str, params: &CertificateParams) -> String {
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &*self.issuer).unwrap();
        fs::write(self.path(&format!("{name}.pem")), signed.pem()).unwrap();
        let fresh = self.path(&format!("{name}.new"));
        fs::write(&fresh, key.serialize_pem()).unwrap();
        fs::set_permissions(&fresh, Permissions::from_mode(0o600)).unwrap();
        fs::rename(fresh, self.path(&format!("{name}.key"))).unwrap();
        signed.pem()
    }

    fn server(&self) -> String {
        let mut server = params("server");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let localhost = "localhost".try_into().unwrap();
        server.subject_alt_names = vec![
            SanType::DnsName(localhost),
            SanType::IpAddress("127.0.0.1".parse().unwrap()),
        ];
        self.put("server", &server)
    }

    fn person(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) {
        let mut person = params(name);
        person.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut person);
        self.put(name, &person);
    }
}

fn curl(arguments: &[&str]) -> Output {
    let quiet = ["--silent", "--show-error", "--max-time", "20"];
    let mut curl = Command::new("curl");
    curl.env_clear()
        .args(quiet)
        .args(arguments)
        .output()
        .unwrap()
}

/// The certificate that is served at `address`, as OpenSSL prints it.
fn served(address: &str) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", address])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn without_breaks(text: &str) -> String {
    text.split_whitespace().collect()
}

fn with(mut variables: Variables, more: &[(&str, String)]) -> Variables {
    for (name, value) in more {
        variables.retain(|(known, _)| known != name);
        variables.push(((*name).to_owned(), value.clone()));
    }
    variables
}

/// The broker of `house` in another process, over TLS; and its address.
fn broker_over_tls(house: &mut House, authority: &Authority) -> (Service, String) {
    house.stop_broker();
    let file = house.path("run/tls-address");
    let more = [
        (
            "BROKER__LISTEN__TLS__CERTIFICATE",
            authority.path("server.pem"),
        ),
        ("BROKER__LISTEN__TLS__KEY", authority.path("server.key")),
        (
            "BROKER__LISTEN__ADDRESS_FILE",
            file.to_str().unwrap().to_owned(),
        ),
        // As many requests as come are to be answered.
        ("BROKER__LIMITS__UNAUTHENTICATED_PER_MINUTE", "0".to_owned()),
    ];
    let variables = with(house.variables(), &more);
    let arguments = ["serve", "--config", "/nonexistent/none.toml"];
    let log = house.path("tls-broker.log");
    let mut broker = Service::start("warrant-broker", &arguments, &variables, &log);
    let address = until("the broker to listen", || {
        assert!(broker.ended().is_none(), "{}", broker.log());
        fs::read_to_string(&file)
            .ok()
            .filter(|text| !text.is_empty())
    });
    (broker, address)
}

#[test]
fn t109_certificates_are_replaced_under_load_and_no_request_is_lost() {
    let authority = Authority::new();
    let first = authority.server();
    let mut house = House::open();
    let (broker, address) = broker_over_tls(&mut house, &authority);
    let url = format!("https://{address}/openapi.json");
    let ca = authority.path("ca.pem");
    let asking = Arc::new(AtomicBool::new(true));
    let answered = Arc::new(AtomicU32::new(0));
    let asker = |kept: bool| {
        let (asking, answered) = (asking.clone(), answered.clone());
        let (url, ca) = (url.clone(), ca.clone());
        std::thread::spawn(move || {
            let pem = fs::read(ca).unwrap();
            let root = ureq::tls::Certificate::from_pem(&pem).unwrap();
            let tls = ureq::tls::TlsConfig::builder()
                .root_certs(ureq::tls::RootCerts::new_with_certs(&[root]))
                .build();
            let agent = || -> ureq::Agent {
                let config = ureq::Agent::config_builder().tls_config(tls.clone());
                config.build().into()
            };
            let same = agent();
            while asking.load(Ordering::Relaxed) {
                let agent = if kept { same.clone() } else { agent() };
                let mut answer = agent.get(&url).call().expect("a request was lost");
                answer
                    .body_mut()
                    .read_to_vec()
                    .expect("an answer was cut off");
                answered.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let askers = [asker(true), asker(false)];
    assert!(without_breaks(&served(&address)).contains(&without_breaks(&first)));
    for round in 0..10 {
        let next = without_breaks(&authority.server());
        // A few are found without being told of.
        if round > 2 {
            kill(Pid::from_raw(broker.pid()), Signal::SIGHUP).unwrap();
        }
        let before = answered.load(Ordering::Relaxed);
        until("the new certificate to be served", || {
            without_breaks(&served(&address))
                .contains(&next)
                .then_some(())
        });
        until("requests under the new certificate", || {
            (answered.load(Ordering::Relaxed) > before + 2).then_some(())
        });
    }
    asking.store(false, Ordering::Relaxed);
    for asker in askers {
        asker.join().unwrap();
    }
    broker.stop();
    house.close();
}

#[test]
fn curl_reaches_the_broker_over_tls_and_is_told_to_stay_there() {
    let authority = Authority::new();
    authority.server();
    let mut house = House::open();
    let (broker, address) = broker_over_tls(&mut house, &authority);
    let ca = authority.path("ca.pem");
    let answer = curl(&[
        "--cacert",
        &ca,
        "--include",
        &format!("https://{address}/v1/jobs"),
    ]);
    let text = String::from_utf8_lossy(&answer.stdout).to_lowercase();
    assert!(text.starts_with("http/1.1 401"), "{text}");
    assert!(
        text.contains("strict-transport-security: max-age=31536000"),
        "{text}"
    );
    assert!(
        text.contains(&format!("realm=\"https://{address}/v1/token\"")),
        "{text}"
    );
    // Another authority's word, and no TLS at all.
    assert!(
        !curl(&[&format!("https://{address}/v1/jobs")])
            .status
            .success()
    );
    let plain = curl(&[&format!("http://{address}/v1/jobs")]);
    assert!(!plain.status.success() && plain.stdout.is_empty());
    broker.stop();
    house.close();
}

#[test]
fn a_broker_with_half_of_tls_does_not_start() {
    let house = House::open();
    let said = house.broker_refuses("BROKER__LISTEN__TLS__KEY", "/nonexistent/key.pem");
    assert!(
        said.contains("listen.tls.certificate and listen.tls.key"),
        "{said}"
    );
    house.close();
}

/// An installation whose auth service takes certificates, and its address.
fn with_certificates(authority: &Authority) -> (House, String) {
    authority.server();
    let setup = Setup::on(Database::Sqlite)
        .set("AUTHSVC__LISTEN__TCP", "127.0.0.1:0")
        .set(
            "AUTHSVC__LISTEN__TLS__CERTIFICATE",
            &authority.path("server.pem"),
        )
        .set("AUTHSVC__LISTEN__TLS__KEY", &authority.path("server.key"))
        .set("AUTHSVC__LISTEN__TLS__CLIENT_CA", &authority.path("ca.pem"))
        .set("AUTHSVC__CERTIFICATES__FROM", "cn")
        .set("AUTHSVC__OAUTH__URL", "https://jobs.example.org");
    let house = setup.open();
    let log = house.path("warrant-authsvc.log");
    let port = until("the auth service to say where it listens", || {
        let text = fs::read_to_string(&log).ok()?;
        let (_, rest) = text.split_once("tcp=127.0.0.1:")?;
        rest.split(|c: char| !c.is_ascii_digit())
            .next()
            .map(str::to_owned)
    });
    (house, format!("https://localhost:{port}"))
}

#[test]
fn users_and_programs_come_by_certificate_with_curl_python_and_warrant() {
    let authority = Authority::new();
    let (house, auth) = with_certificates(&authority);
    let ann = house.user("ann");
    drop(ann);
    let mut words = vec![
        "client", "add", "robot", "--owner", "ann", "--scope", "read",
    ];
    words.extend([
        "--grant",
        "client_credentials",
        "--tls-subject",
        "cn = Robot",
    ]);
    assert_eq!(house.authsvc_command(&words, ""), "");
    for name in ["ann", "robot"] {
        authority.person(name, |_| {});
    }
    authority.person("late", |params| {
        params.not_after = date_time_ymd(2021, 1, 1)
    });
    let token = format!("{auth}/oauth/token");
    let ca = authority.path("ca.pem");
    let login = "grant_type=urn:warrant:params:oauth:grant-type:certificate";
    let ask = |name: Option<&str>, body: &str| {
        let mut arguments = vec!["--cacert".to_owned(), ca.clone()];
        if let Some(name) = name {
            let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
            arguments.extend(["--cert".to_owned(), authority.path(&certificate)]);
            arguments.extend(["--key".to_owned(), authority.path(&key)]);
        }
        arguments.extend(["--data".to_owned(), body.to_owned(), token.clone()]);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        curl(&arguments)
    };
    let json = |output: Output| -> Value {
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let given = json(ask(Some("ann"), login));
    let bearer = format!(
        "Authorization: Bearer {}",
        given["access_token"].as_str().unwrap()
    );
    let jobs = format!("http://{}/v1/jobs", house.nobody().address());
    let seen = curl(&["--fail", "--header", &bearer, &jobs]);
    assert!(
        seen.status.success(),
        "{}",
        String::from_utf8_lossy(&seen.stderr)
    );
    assert_eq!(json(ask(None, login))["error"], "invalid_grant");
    assert!(!ask(Some("late"), login).status.success());
    let robot = "grant_type=client_credentials&client_id=robot";
    assert_eq!(json(ask(Some("robot"), robot))["scope"], "read");
    assert_eq!(json(ask(Some("ann"), robot))["error"], "invalid_client");

    let (certificate, key) = (authority.path("ann.pem"), authority.path("ann.key"));
    let variables = [
        ("AUTH", auth.as_str()),
        ("CA", ca.as_str()),
        ("CERTIFICATE", certificate.as_str()),
        ("KEY", key.as_str()),
    ];
    Client::OAuth.run(&house, "certificate.py", &variables);

    let host = format!("http://{}", house.nobody().address());
    let run = |words: &[&str]| {
        let own = [("HOME", "home"), ("XDG_STATE_HOME", "home/state")];
        let own = own.map(|(name, path)| (name.to_owned(), home(&house, path)));
        let words = [&["--host", &host], words].concat();
        service::run("warrant", &words, &own.to_vec(), "")
    };
    let mut words = vec!["login", "--certificate", &certificate, "--key", &key];
    words.extend(["--auth-host", &auth]);
    let told = run(&words);
    let complaint = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(complaint.contains("--ca-file"), "{complaint}");
    words.extend(["--ca-file", &ca]);
    let done = run(&words);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        said.contains("as ann"),
        "{said} {}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(run(&["jobs"]).status.success());
    house.close();
}

fn home(house: &House, path: &str) -> String {
    let path: PathBuf = house.path(path);
    Path::new(&path).to_str().unwrap().to_owned()
}
