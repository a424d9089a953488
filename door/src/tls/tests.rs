//! The files, the handshake, and files that are replaced.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsConnector;

use super::*;

/// An authority that lives in memory.
struct Authority(CertifiedIssuer<'static, KeyPair>);

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    params
}

impl Authority {
    fn new(name: &str) -> Self {
        Self::until(name, 2120)
    }

    fn until(name: &str, year: i32) -> Self {
        let mut params = named(name);
        params.not_after = date_time_ymd(year, 1, 1);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn signed(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &*self.0).unwrap();
        Pair {
            certificate: signed.pem(),
            key: key.serialize_pem(),
            chain: vec![signed.der().clone()],
        }
    }

    /// A client that shows nothing, and remembers its sessions.
    fn visitor(&self, version: &'static SupportedProtocolVersion) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    fn client(&self, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = named("ann");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        self.signed(&params)
    }

    fn revoking(&self, serials: &[u64], until: i32) -> String {
        let revoked_certs = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let issuer: &Issuer<'_, _> = &self.0;
        list.signed_by(issuer).unwrap().pem().unwrap()
    }
}

#[derive(Clone)]
struct Pair {
    certificate: String,
    key: String,
    chain: Vec<CertificateDer<'static>>,
}

/// Files in a directory of a test's own.
struct Place {
    _dir: tempfile::TempDir,
    files: Files,
}

impl Place {
    fn new(pair: &Pair) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = Files {
            certificate: dir.path().join("certificate.pem"),
            key: dir.path().join("key.pem"),
            client: None,
        };
        let place = Self { _dir: dir, files };
        place.put(pair);
        place
    }

    fn put(&self, pair: &Pair) {
        fs::write(&self.files.certificate, &pair.certificate).unwrap();
        let fresh = self.files.key.with_extension("new");
        fs::write(&fresh, &pair.key).unwrap();
        fs::set_permissions(&fresh, Permissions::from_mode(0o600)).unwrap();
        fs::rename(fresh, &self.files.key).unwrap();
    }

    fn with_clients(mut self, authority: &Authority, crl: Option<&str>) -> Self {
        let beside = |name| self.files.key.with_file_name(name);
        let (ca, list) = (beside("ca.pem"), beside("crl.pem"));
        fs::write(&ca, authority.0.pem()).unwrap();
        let crl = crl.map(|text| {
            fs::write(&list, text).unwrap();
            list
        });
        self.files.client = Some(ClientFiles { ca, crl });
        self
    }

    fn open(&self) -> Result<Arc<Tls>, Error> {
        Tls::open(self.files.clone())
    }

    fn refused(&self, setting: &str, why: &str) {
        let message = self.open().unwrap_err().to_string();
        let starts = message.starts_with(&format!("{setting}: "));
        assert!(starts && message.contains(why), "{message}");
    }
}

/// What a client of `root` sees: its end of the connection.
async fn connect(
    tls: &Arc<Tls>,
    root: &Authority,
    own: Option<&Pair>,
    alpn: &[&str],
) -> (
    Result<tokio_rustls::client::TlsStream<DuplexStream>, std::io::Error>,
    Result<Option<Chain>, NotAccepted>,
) {
    let mut roots = RootCertStore::empty();
    roots.add(root.0.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            use rustls::pki_types::pem::PemObject;
            let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
            builder
                .with_client_auth_cert(own.chain.clone(), key)
                .unwrap()
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let serving = {
        let tls = tls.clone();
        tokio::spawn(async move {
            let (mut stream, chain) = tls.accept(theirs).await?;
            stream.write_all(b"hello").await.unwrap();
            stream.flush().await.unwrap();
            Ok(chain)
        })
    };
    let name = ServerName::try_from("localhost").unwrap();
    let client = TlsConnector::from(Arc::new(config))
        .connect(name, ours)
        .await;
    (client, serving.await.unwrap())
}

/// The server's certificate, as a client sees it.
async fn served(tls: &Arc<Tls>, root: &Authority) -> CertificateDer<'static> {
    let (client, _) = connect(tls, root, None, &[]).await;
    let client = client.unwrap();
    client.get_ref().1.peer_certificates().unwrap()[0].clone()
}

#[tokio::test]
async fn a_pair_of_certificate_and_key_is_served_over_http_1_alone() {
    let authority = Authority::new("root");
    let pair = authority.signed(&named("server"));
    let tls = Place::new(&pair).open().unwrap();
    let (client, _) = connect(&tls, &authority, None, &["h2", "http/1.1"]).await;
    let mut client = client.unwrap();
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let mut hello = [0; 5];
    client.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"hello");
    let (client, server) = connect(&tls, &authority, None, &["h2"]).await;
    assert!(client.is_err());
    assert!(matches!(server, Err(NotAccepted::Refused(_))), "{server:?}");
}

#[test]
fn t109_a_key_that_others_may_read_is_refused_with_its_mode() {
    let authority = Authority::new("root");
    let place = Place::new(&authority.signed(&named("server")));
    // Root's group is root; any other is others.
    let group = nix::unistd::Gid::from_raw(54_321);
    for wide in [0o640, 0o604, 0o644, 0o660, 0o620, 0o602, 0o610] {
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&place.files.key, None, Some(group.as_raw())).unwrap();
        }
        fs::set_permissions(&place.files.key, Permissions::from_mode(wide)).unwrap();
        place.refused("listen.tls.key", &format!("mode {wide:04o}"));
    }
    fs::set_permissions(&place.files.key, Permissions::from_mode(0o400)).unwrap();
    place.open().unwrap();
    fs::set_permissions(&place.files.certificate, Permissions::from_mode(0o664)).unwrap();
    place.refused("listen.tls.certificate", "mode 0664");
}

#[test]
fn t109_what_belongs_to_somebody_else_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let authority = Authority::new("root");
    let place = Place::new(&authority.signed(&named("server")));
    std::os::unix::fs::chown(&place.files.key, Some(65_534), None).unwrap();
    place.refused("listen.tls.key", "belongs to uid 65534");
}

#[test]
fn a_pair_that_does_not_fit_is_refused_by_the_setting() {
    let authority = Authority::new("root");
    let good = authority.signed(&named("server"));
    let other = authority.signed(&named("server"));
    let with = |change: fn(&mut CertificateParams)| {
        let mut params = named("server");
        change(&mut params);
        authority.signed(&params)
    };
    let place = Place::new(&Pair {
        key: other.key,
        ..good.clone()
    });
    place.refused("listen.tls.key", "is not the key of the certificate");
    place.put(&with(|params| params.not_after = date_time_ymd(2021, 1, 1)));
    place.refused("listen.tls.certificate", "expired");
    place.put(&with(|params| {
        params.not_before = date_time_ymd(2110, 1, 1)
    }));
    place.refused("listen.tls.certificate", "not valid before");
    place.put(&good);
    fs::write(&place.files.certificate, "nothing").unwrap();
    place.refused("listen.tls.certificate", "no certificates");
    place.put(&good);
    fs::write(&place.files.key, "nothing").unwrap();
    place.refused("listen.tls.key", "no private key");
    fs::remove_file(&place.files.key).unwrap();
    place.refused("listen.tls.key", "cannot be read");
    fs::create_dir(&place.files.key).unwrap();
    place.refused("listen.tls.key", "is not a file");
}

#[tokio::test]
async fn t109_a_pair_that_does_not_fit_leaves_the_old_one_in_place() {
    let authority = Authority::new("root");
    let (old, new) = (named("server"), named("server"));
    let (old, new) = (authority.signed(&old), authority.signed(&new));
    let place = Place::new(&old);
    let tls = place.open().unwrap();
    assert_eq!(tls.look(), Ok(false));
    fs::write(&place.files.certificate, &new.certificate).unwrap();
    let error = tls.look().unwrap_err().to_string();
    assert!(error.starts_with("listen.tls.key"), "{error}");
    assert_eq!(served(&tls, &authority).await, old.chain[0]);
    place.put(&new);
    assert_eq!(tls.look(), Ok(true));
    assert_eq!(served(&tls, &authority).await, new.chain[0]);
    fs::remove_file(&place.files.certificate).unwrap();
    assert!(tls.look().is_err());
    assert_eq!(served(&tls, &authority).await, new.chain[0]);
}

#[tokio::test]
async fn a_connection_goes_on_while_the_certificate_is_replaced() {
    let authority = Authority::new("root");
    let place = Place::new(&authority.signed(&named("server")));
    let tls = place.open().unwrap();
    let (client, _) = connect(&tls, &authority, None, &[]).await;
    place.put(&authority.signed(&named("server")));
    assert_eq!(tls.look(), Ok(true));
    let mut hello = [0; 5];
    client.unwrap().read_exact(&mut hello).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn t111_a_handshake_that_does_not_come_is_given_up() {
    let authority = Authority::new("root");
    let tls = Place::new(&authority.signed(&named("server")))
        .open()
        .unwrap();
    let (_held, theirs) = tokio::io::duplex(1024);
    let began = tokio::time::Instant::now();
    let late = tls.accept(theirs).await;
    assert!(matches!(late, Err(NotAccepted::Late)));
    let took = began.elapsed();
    assert!(
        (HANDSHAKE..HANDSHAKE + Duration::from_secs(1)).contains(&took),
        "{took:?}"
    );
}

#[tokio::test]
async fn t111_plain_http_is_no_handshake() {
    let authority = Authority::new("root");
    let tls = Place::new(&authority.signed(&named("server")))
        .open()
        .unwrap();
    let (mut ours, theirs) = tokio::io::duplex(1024);
    ours.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let refused = tls.accept(theirs).await;
    assert!(matches!(refused, Err(NotAccepted::Refused(_))));
}

#[tokio::test]
async fn a_clients_certificate_is_asked_for_and_not_needed() {
    let (authority, clients) = (Authority::new("root"), Authority::new("people"));
    let place = Place::new(&authority.signed(&named("server"))).with_clients(&clients, None);
    let tls = place.open().unwrap();
    let (client, shown) = connect(&tls, &authority, None, &[]).await;
    client.unwrap();
    assert!(shown.unwrap().is_none());
    assert!(tls.judge(&[]).is_err());
    let ann = clients.client(|_| {});
    let (_, shown) = connect(&tls, &authority, Some(&ann), &[]).await;
    let shown = shown.unwrap().unwrap();
    assert_eq!(&*shown, &ann.chain[..]);
    tls.judge(&shown).unwrap();
}

#[tokio::test]
async fn a_clients_certificate_that_does_not_count_ends_the_handshake() {
    let (authority, clients) = (Authority::new("root"), Authority::new("people"));
    let list = clients.revoking(&[77], 2120);
    let place = Place::new(&authority.signed(&named("server")));
    let tls = place.with_clients(&clients, Some(&list)).open().unwrap();
    let stranger = Authority::new("people");
    let cases = [
        (
            clients.client(|params| params.not_after = date_time_ymd(2021, 1, 1)),
            "certificate-expired",
        ),
        (
            clients.client(|params| params.not_before = date_time_ymd(2110, 1, 1)),
            "certificate-not-yet-valid",
        ),
        (
            clients.client(|params| params.serial_number = Some(SerialNumber::from(77_u64))),
            "certificate-revoked",
        ),
        (
            clients.client(|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }),
            "certificate-purpose",
        ),
    ];
    for (pair, word) in cases {
        let (_, shown) = connect(&tls, &authority, Some(&pair), &[]).await;
        let Err(NotAccepted::Refused(why)) = shown else {
            panic!("{word}: {shown:?}");
        };
        assert_eq!(reason(&why), Some(word));
    }
    // A client does not show what the server's list of authorities does not
    // name; one that does, all the same, is judged so.
    let theirs = stranger.client(|_| {});
    let why = tls.judge(&theirs.chain).unwrap_err();
    assert!(
        ["certificate-issuer", "certificate-signature"].contains(&reason(&why).unwrap()),
        "{why}"
    );
}

#[tokio::test]
async fn a_certificate_that_was_revoked_after_it_was_shown_counts_no_more() {
    let (authority, clients) = (Authority::new("root"), Authority::new("people"));
    let list = clients.revoking(&[1], 2120);
    let place = Place::new(&authority.signed(&named("server")));
    let place = place.with_clients(&clients, Some(&list));
    let tls = place.open().unwrap();
    let ann = clients.client(|params| params.serial_number = Some(SerialNumber::from(77_u64)));
    let (_, shown) = connect(&tls, &authority, Some(&ann), &[]).await;
    let shown = shown.unwrap().unwrap();
    tls.judge(&shown).unwrap();
    let path: PathBuf = place.files.client.clone().unwrap().crl.unwrap();
    fs::write(&path, clients.revoking(&[1, 77], 2120)).unwrap();
    assert_eq!(tls.look(), Ok(true));
    let why = tls.judge(&shown).unwrap_err();
    assert_eq!(reason(&why), Some("certificate-revoked"));
    // Of a list that is over nobody knows what it would say.
    fs::write(&path, clients.revoking(&[1], 2022)).unwrap();
    assert_eq!(tls.look(), Ok(true));
    let why = tls.judge(&shown).unwrap_err();
    assert_eq!(reason(&why), Some("revocation-list-expired"));
    fs::write(&path, "nothing").unwrap();
    let error = tls.look().unwrap_err().to_string();
    assert!(error.starts_with("listen.tls.client_crl"), "{error}");
}

#[test]
fn t109_an_authority_that_is_over_vouches_for_nobody() {
    let (authority, clients) = (Authority::new("root"), Authority::new("people"));
    let over = Authority::until("people of old", 2021);
    let place = Place::new(&authority.signed(&named("server"))).with_clients(&clients, None);
    let ca = place.files.client.clone().unwrap().ca;
    fs::write(&ca, format!("{}{}", over.0.pem(), clients.0.pem())).unwrap();
    let tls = place.open().unwrap();
    tls.judge(&clients.client(|_| {}).chain).unwrap();
    let why = tls.judge(&over.client(|_| {}).chain).unwrap_err();
    assert_eq!(reason(&why), Some("certificate-issuer"));
}

#[tokio::test]
async fn t103_where_certificates_are_shown_no_session_is_taken_up_again() {
    let (authority, clients) = (Authority::new("root"), Authority::new("people"));
    let plain = Place::new(&authority.signed(&named("server")));
    let asking = Place::new(&authority.signed(&named("server"))).with_clients(&clients, None);
    for (place, again) in [
        (plain, HandshakeKind::Resumed),
        (asking, HandshakeKind::Full),
    ] {
        let tls = place.open().unwrap();
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let config = Arc::new(authority.visitor(version));
            let first = kind_of_handshake(&tls, &config).await;
            assert_eq!(first, HandshakeKind::Full, "{version:?}");
            let second = kind_of_handshake(&tls, &config).await;
            assert_eq!(second, again, "{version:?}");
        }
    }
}

/// How a client with `config` gets a connection on which it is greeted.
async fn kind_of_handshake(tls: &Arc<Tls>, config: &Arc<ClientConfig>) -> HandshakeKind {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let serving = async {
        let (mut stream, _) = tls.accept(theirs).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.flush().await.unwrap();
        stream
    };
    let name = ServerName::try_from("localhost").unwrap();
    let visiting = async {
        let connector = TlsConnector::from(config.clone());
        let mut stream = connector.connect(name, ours).await.unwrap();
        stream.read_exact(&mut [0; 5]).await.unwrap();
        stream.get_ref().1.handshake_kind().unwrap()
    };
    let (_stream, kind) = tokio::join!(serving, visiting);
    kind
}

#[test]
fn an_authority_that_others_may_write_or_that_is_none_is_refused() {
    let (authority, clients) = (Authority::new("root"), Authority::new("people"));
    let place = Place::new(&authority.signed(&named("server"))).with_clients(&clients, None);
    let ca = place.files.client.clone().unwrap().ca;
    fs::set_permissions(&ca, Permissions::from_mode(0o666)).unwrap();
    place.refused("listen.tls.client_ca", "mode 0666");
    fs::set_permissions(&ca, Permissions::from_mode(0o644)).unwrap();
    fs::write(&ca, "nothing").unwrap();
    place.refused("listen.tls.client_ca", "no certificates");
}
