//! TLS at this service's own address: users and clients by certificate.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::Method;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use warrant_api::oauth::CERTIFICATE_GRANT;
use warrant_api::token::AccessClaims;

use super::house::{Answer, House, Line, answer, request};
use crate::certificates::{From, Rule};
use crate::clock;
use crate::config::{Backend, Config, Mode};
use crate::store::clients::{self, Row};

/// An authority that signs the server's certificate and those of people.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
struct Own(CertificateDer<'static>, String);

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

impl Authority {
    fn new() -> Self {
        let mut params = named("authority");
        params.extended_key_usages.clear();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn sign(&self, params: &CertificateParams) -> Own {
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &*self.0).unwrap();
        Own(signed.der().clone(), key.serialize_pem())
    }

    /// A list on which these certificates stand.
    fn revoking(&self, serials: &[u64]) -> String {
        let revoked_certs = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            next_update: date_time_ymd(2120, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let issuer: &Issuer<'_, _> = &self.0;
        list.signed_by(issuer).unwrap().pem().unwrap()
    }

    fn of(&self, name: &str) -> Own {
        self.sign(&named(name))
    }

    /// A service that serves TLS and takes certificates of this authority.
    async fn house(&self, configure: impl FnOnce(&mut Config)) -> House {
        let dir = tempfile::tempdir().unwrap();
        let mut server = named("server");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
        let key = KeyPair::generate().unwrap();
        let signed = server.signed_by(&key, &*self.0).unwrap();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            path
        };
        let (certificate, key) = (
            put("c.pem", &signed.pem()),
            put("k.pem", &key.serialize_pem()),
        );
        let ca = put("ca.pem", &self.0.pem());
        House::open_in(dir, &[], |config| {
            config.listen.tls.certificate = Some(certificate);
            config.listen.tls.key = Some(key);
            config.listen.tls.client_ca = Some(ca);
            config.oauth.url = "https://jobs.example.org".into();
            config.oauth.mtls_url = Some("https://login.example.org".into());
            config.certificates.from = Some(From::Cn);
            configure(config);
        })
        .await
    }

    /// The answer to `request` over TLS, as whoever has `own`; none where the
    /// service ends the handshake.
    async fn ask(
        &self,
        house: &House,
        own: Option<&Own>,
        request: Request<Full<Bytes>>,
    ) -> Option<Answer> {
        Some(answer(self.connect(house, own).await?, request).await)
    }

    /// A connection over TLS, as whoever has `own`.
    async fn connect(&self, house: &House, own: Option<&Own>) -> Option<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        // In TLS 1.2 the client hears of a refusal before it asks anything.
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(Own(certificate, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder
                    .with_client_auth_cert(vec![certificate.clone()], key)
                    .unwrap()
            }
        };
        let stream = TcpStream::connect(house.tcp).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await.ok()
    }

    async fn post(&self, house: &House, own: Option<&Own>, body: &str) -> Answer {
        self.ask(house, own, form(body, &[])).await.unwrap()
    }
}

fn claims(house: &House, given: &Answer) -> Arc<AccessClaims> {
    let subjects = &house.service.oauth.subjects;
    subjects.claims(given.token(), clock::now_s()).unwrap()
}

fn form(body: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let headers: Vec<_> = kind.iter().chain(headers).copied().collect();
    request(Method::POST, "/oauth/token", &headers, body)
}

fn by_certificate() -> String {
    format!("grant_type={CERTIFICATE_GRANT}")
}

/// The last row of the trail: its outcome, its reason and its subject.
async fn last(house: &House) -> (String, Option<String>, Option<String>) {
    let row = house.audit().await.pop().unwrap();
    (row.outcome, row.reason, row.subject)
}

async fn is_refused(house: &House, answer: &Answer, word: &str) {
    assert_eq!(answer.status, 400, "{:?}", answer.body);
    assert_eq!(answer.body["error"], "invalid_grant", "{:?}", answer.body);
    assert_eq!(answer.body["reason"], "grant", "{:?}", answer.body);
    let (outcome, reason, _) = last(house).await;
    assert_eq!(
        (outcome.as_str(), reason.as_deref()),
        ("refused", Some(word))
    );
}

#[tokio::test]
async fn a_user_logs_in_by_certificate() {
    let authority = Authority::new();
    let house = authority.house(|_| {}).await;
    let ann = authority.of("ann");
    let given = authority.post(&house, Some(&ann), &by_certificate()).await;
    let claims = claims(&house, &given);
    assert_eq!(claims.sub, "ann");
    assert_eq!(
        given.headers["strict-transport-security"],
        "max-age=31536000"
    );
    let row = house.audit().await.pop().unwrap();
    assert_eq!(
        (row.kind.as_str(), row.outcome.as_str()),
        ("login", "granted")
    );
    assert_eq!(row.action.as_deref(), Some("certificate"));
    assert_eq!(row.subject.as_deref(), Some("ann"));
    assert_eq!(row.jti.as_deref(), Some(claims.jti.as_str()));
    // Nothing binds the token to the certificate: where it is used, none is seen.
    let about = house.get("/.well-known/oauth-authorization-server").await;
    assert!(!about.headers.contains_key("strict-transport-security"));
    let has = |field: &str, word: &str| {
        about.body[field]
            .as_array()
            .unwrap()
            .iter()
            .any(|other| other == word)
    };
    assert!(has("grant_types_supported", CERTIFICATE_GRANT));
    assert!(has(
        "token_endpoint_auth_methods_supported",
        "tls_client_auth"
    ));
    let alias = &about.body["mtls_endpoint_aliases"]["token_endpoint"];
    assert_eq!(alias, "https://login.example.org/oauth/token");
    assert!(
        about
            .body
            .get("tls_client_certificate_bound_access_tokens")
            .is_none()
    );
    house.close().await;
}

#[tokio::test]
async fn t103_a_certificate_is_judged_at_each_use_of_the_connection_it_was_shown_on() {
    let authority = Authority::new();
    let lists = tempfile::tempdir().unwrap();
    let list = lists.path().join("crl.pem");
    fs::write(&list, authority.revoking(&[1])).unwrap();
    let house = authority
        .house(|config| config.listen.tls.client_crl = Some(list.clone()))
        .await;
    let mut params = named("ann");
    params.serial_number = Some(SerialNumber::from(77_u64));
    let ann = authority.sign(&params);
    let stream = authority.connect(&house, Some(&ann)).await.unwrap();
    let mut line = Line::over(stream).await;
    line.ask(form(&by_certificate(), &[])).await.token();
    fs::write(&list, authority.revoking(&[1, 77])).unwrap();
    // The service looks at its files every other second.
    let deadline = Instant::now() + Duration::from_secs(20);
    let refused = loop {
        let answer = line.ask(form(&by_certificate(), &[])).await;
        if answer.status != 200 {
            break answer;
        }
        assert!(Instant::now() < deadline, "it counts on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    is_refused(&house, &refused, "certificate-revoked").await;
    house.close().await;
}

#[tokio::test]
async fn t28_in_multi_user_mode_a_certificate_stands_for_an_account_in_range_or_for_nobody() {
    let authority = Authority::new();
    for backend in [Backend::Database, Backend::Pam] {
        let house = authority
            .house(|config| {
                config.mode = Mode::MultiUser;
                config.warrants.broker_uid = Some(nix::unistd::geteuid().as_raw());
                config.accounts.min_uid = 1;
                config.backends = vec![backend];
                config.certificates.from = Some(From::Subject);
                let users = [
                    ("CN=Daemon Example", "daemon"),
                    ("CN=Root Example", "root"),
                    ("CN=Ghost Example", "no-such-account"),
                    ("CN=Nobody Example", "nobody"),
                ];
                config.certificates.users = users
                    .map(|(subject, name)| (subject.to_owned(), name.to_owned()))
                    .into();
            })
            .await;
        // As far as the database knows, each of them may come in.
        for name in ["daemon", "root", "no-such-account", "nobody"] {
            house.add(name, "pw").await;
        }
        let ask = async |name: &str| {
            let own = authority.of(name);
            authority.post(&house, Some(&own), &by_certificate()).await
        };
        let given = ask("Daemon Example").await;
        let claims = claims(&house, &given);
        assert_eq!((claims.sub.as_str(), claims.uid), ("daemon", Some(1)));
        let row = house.audit().await.pop().unwrap();
        assert_eq!((row.outcome.as_str(), row.uid), ("granted", Some(1)));
        for (name, reason) in [
            ("Root Example", "uid-range"),
            ("Ghost Example", "account-unknown"),
            ("Nobody Example", "uid-range"),
            ("daemon", "certificate-unmapped"),
            ("root", "certificate-unmapped"),
        ] {
            let answer = ask(name).await;
            is_refused(&house, &answer, reason).await;
        }
        house.close().await;
    }
}

#[tokio::test]
async fn t103_who_is_nobody_here_gets_nothing_for_a_certificate() {
    let authority = Authority::new();
    let house = authority.house(|_| {}).await;
    let ask = async |own: Option<&Own>| authority.post(&house, own, &by_certificate()).await;
    is_refused(&house, &ask(None).await, "certificate").await;
    is_refused(
        &house,
        &ask(Some(&authority.of("bob"))).await,
        "user-unknown",
    )
    .await;
    is_refused(
        &house,
        &ask(Some(&authority.of("a/b"))).await,
        "certificate-name",
    )
    .await;
    let mut two = named("ann");
    let another = DnType::CustomDnType(vec![2, 5, 4, 3]);
    two.distinguished_name.push(another, "bob");
    let two = authority.sign(&two);
    is_refused(&house, &ask(Some(&two)).await, "certificate-name").await;
    house.disable("ann").await;
    is_refused(
        &house,
        &ask(Some(&authority.of("ann"))).await,
        "user-disabled",
    )
    .await;
    house.close().await;

    let house = authority
        .house(|config| {
            config.certificates.from = Some(From::Subject);
            let users = &mut config.certificates.users;
            users.insert("cn = ANN".into(), "ann".into());
        })
        .await;
    let ask = async |own: Option<&Own>| authority.post(&house, own, &by_certificate()).await;
    ask(Some(&authority.of("Ann"))).await.token();
    is_refused(
        &house,
        &ask(Some(&authority.of("bob"))).await,
        "certificate-unmapped",
    )
    .await;
    house.close().await;
}

#[tokio::test]
async fn t103_no_header_and_nothing_that_was_handed_on_stands_for_a_certificate() {
    let authority = Authority::new();
    let house = authority.house(|_| {}).await;
    let ann = authority.of("ann");
    let pem = format!(":{}:", "MIIB");
    let said = [
        ("x-ssl-client-cert", pem.as_str()),
        ("x-ssl-client-s-dn", "CN=ann"),
        ("x-ssl-client-verify", "SUCCESS"),
        ("x-client-cert", pem.as_str()),
        ("client-cert", pem.as_str()),
        ("x-forwarded-client-cert", "Subject=\"CN=ann\""),
    ];
    let body = by_certificate();
    is_refused(&house, &house.send(form(&body, &said)).await, "certificate").await;
    let told = authority
        .ask(&house, None, form(&body, &said))
        .await
        .unwrap();
    is_refused(&house, &told, "certificate").await;
    // Nor does it say more than the certificate that was shown.
    let other = [("x-ssl-client-s-dn", "CN=fluxuser")];
    let given = authority.ask(&house, Some(&ann), form(&body, &other)).await;
    assert_eq!(claims(&house, &given.unwrap()).sub, "ann");
    house.close().await;
}

#[tokio::test]
async fn a_certificate_that_does_not_count_ends_the_handshake_and_is_recorded() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let house = authority.house(|_| {}).await;
    let mut expired = named("ann");
    expired.not_after = date_time_ymd(2021, 1, 1);
    let mut purpose = named("ann");
    purpose.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for (own, words) in [
        (authority.sign(&expired), &["certificate-expired"][..]),
        (authority.sign(&purpose), &["certificate-purpose"]),
        (
            stranger.of("ann"),
            &["certificate-issuer", "certificate-signature"],
        ),
    ] {
        let before = house.audit().await.len();
        let asked = authority
            .ask(&house, Some(&own), form(&by_certificate(), &[]))
            .await;
        assert!(asked.is_none(), "{words:?}: {asked:?}");
        let rows = house.audit().await;
        assert_eq!(rows.len(), before + 1, "{words:?}");
        let row = rows.last().unwrap();
        assert_eq!(
            (row.outcome.as_str(), row.source.as_str()),
            ("refused", "127.0.0.1")
        );
        let reason = row.reason.as_deref().unwrap();
        assert!(words.contains(&reason), "{words:?}: {reason}");
    }
    house.close().await;
}

#[tokio::test]
async fn t99_logins_by_certificate_are_throttled() {
    let authority = Authority::new();
    let house = authority.house(|_| {}).await;
    let nobody = authority.of("nobody-here");
    for _ in 0..10 {
        let refused = authority
            .post(&house, Some(&nobody), &by_certificate())
            .await;
        assert_eq!(refused.status, 400);
    }
    let refused = authority
        .post(&house, Some(&nobody), &by_certificate())
        .await;
    assert_eq!(refused.status, 429, "{:?}", refused.body);
    assert!(refused.headers.contains_key("retry-after"));
    // Others from the same place are not.
    let ann = authority.of("ann");
    authority
        .post(&house, Some(&ann), &by_certificate())
        .await
        .token();
    house.close().await;
}

async fn add_robot(house: &House, rule: &str) {
    let row = Row {
        id: "robot".into(),
        label: "Robot".into(),
        secret_hash: None,
        certificate: Some(Rule::subject(rule).unwrap().to_string()),
        owner: Some("ann".into()),
        grants: "client_credentials".into(),
        scopes: "read submit".into(),
        redirect_uris: String::new(),
        disabled: false,
        dpop: false,
        created_us: 0,
    };
    let mut tx = house.db.begin().await.unwrap();
    assert!(clients::insert(&mut tx, &row).await.unwrap());
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_client_proves_who_it_is_by_its_certificate_alone() {
    let authority = Authority::new();
    let house = authority.house(|_| {}).await;
    add_robot(&house, "cn = Robot").await;
    let (robot, ann) = (authority.of("robot"), authority.of("ann"));
    let body = "grant_type=client_credentials&client_id=robot";
    let given = authority.post(&house, Some(&robot), body).await;
    let claims = claims(&house, &given);
    assert_eq!(
        (claims.sub.as_str(), claims.client_id.as_str()),
        ("ann", "robot")
    );
    let secret = format!("{body}&client_secret=x");
    for (own, body, word) in [
        (None, body, "certificate"),
        (Some(&ann), body, "certificate-other"),
        (Some(&robot), secret.as_str(), "client"),
    ] {
        let refused = authority.post(&house, own, body).await;
        assert_eq!(refused.status, 401, "{:?}", refused.body);
        assert_eq!(refused.body["error"], "invalid_client");
        assert_eq!(refused.body["reason"], "client");
        assert_eq!(last(&house).await.1.as_deref(), Some(word));
    }
    // Over the broker's socket there is no certificate.
    let headers = [("x-ssl-client-s-dn", "CN=robot")];
    assert_eq!(house.send(form(body, &headers)).await.status, 401);
    assert_eq!(last(&house).await.1.as_deref(), Some("certificate"));
    house.close().await;
}

#[tokio::test]
async fn without_the_setting_certificates_are_nothing() {
    let authority = Authority::new();
    let house = authority
        .house(|config| config.certificates.from = None)
        .await;
    let refused = authority
        .post(&house, Some(&authority.of("ann")), &by_certificate())
        .await;
    assert_eq!(refused.body["error"], "unsupported_grant_type");
    let about = house.get("/.well-known/oauth-authorization-server").await;
    assert!(
        !about.body["grant_types_supported"]
            .to_string()
            .contains(CERTIFICATE_GRANT)
    );
    house.close().await;
}

#[tokio::test]
async fn t111_slow_handshakes_and_plain_http_hold_nobody_else() {
    let authority = Authority::new();
    let house = authority.house(|_| {}).await;
    let mut slow = Vec::new();
    for _ in 0..64 {
        slow.push(TcpStream::connect(house.tcp).await.unwrap());
    }
    let mut plain = TcpStream::connect(house.tcp).await.unwrap();
    plain
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut told = Vec::new();
    let _ = plain.read_to_end(&mut told).await;
    assert!(!told.starts_with(b"HTTP"), "{told:?}");
    let get = request(Method::GET, "/healthz", &[], "");
    assert_eq!(authority.ask(&house, None, get).await.unwrap().status, 200);
    // One address alone cannot take every place.
    while slow.len() < 256 {
        slow.push(TcpStream::connect(house.tcp).await.unwrap());
    }
    let mut beyond = TcpStream::connect(house.tcp).await.unwrap();
    assert_eq!(beyond.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert_eq!(house.get("/healthz").await.status, 200);
    house.close().await;
}
