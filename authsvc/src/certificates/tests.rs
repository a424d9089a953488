//! Names as people write them and as certificates hold them.

use std::collections::BTreeMap;

use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SanType};

use super::*;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"))
}

/// What a certificate with these parts of its subject, in its order, says.
fn certificate(parts: &[(DnType, DnValue)], others: Vec<SanType>) -> Named {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in parts {
        params.distinguished_name.push(kind.clone(), value.clone());
    }
    params.subject_alt_names = others;
    let signed = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    Named::read(signed.der()).unwrap()
}

fn utf8(text: &str) -> DnValue {
    DnValue::Utf8String(text.into())
}

#[test]
fn a_subject_is_the_same_in_other_case_spaces_and_escapes() {
    let held = certificate(
        &[
            (
                DnType::CountryName,
                DnValue::PrintableString("DE".try_into().unwrap()),
            ),
            (DnType::OrganizationName, utf8("Example, Inc.")),
            (DnType::CommonName, utf8("Ann  Example ")),
        ],
        Vec::new(),
    );
    for text in [
        "CN=Ann Example,O=Example\\, Inc.,C=DE",
        "cn=ANN EXAMPLE,o=example\\2c inc.,c=de",
        " CN = Ann   Example , O = Example\\, Inc. , C = DE ",
        "2.5.4.3=\\41nn Example,2.5.4.10=Example\\2C\\20Inc.,2.5.4.6=DE",
        "CN=\\ Ann Example\\ ,O=Example\\, Inc.,C=DE",
    ] {
        assert_eq!(held.subject, Some(name(text)), "{text}");
    }
    for text in [
        "CN=Ann Example",
        "C=DE,O=Example\\, Inc.,CN=Ann Example",
        "CN=AnnExample,O=Example\\, Inc.,C=DE",
        "CN=Ann Example,O=Example,C=DE",
        "CN=Ann Example,CN=Ann Example,O=Example\\, Inc.,C=DE",
        "CN=Ann Example+O=Example\\, Inc.,C=DE",
    ] {
        assert_ne!(held.subject, Some(name(text)), "{text}");
    }
}

#[test]
fn letters_that_look_alike_are_not_the_same() {
    let kelvin = certificate(&[(DnType::CommonName, utf8("\u{212a}arl"))], Vec::new());
    assert_ne!(kelvin.subject, Some(name("CN=karl")));
    assert_eq!(kelvin.subject, Some(name("CN=\\e2\\84\\aaARL")));
}

#[test]
fn what_is_no_name_is_refused() {
    let long = format!("CN={}", "a".repeat(5000));
    let many = vec!["CN=a"; 65].join(",");
    for text in [
        "", "CN", "CN=", "CN=a,", ",CN=a", "XX=a", "CN=a;O=b", "CN=\"a\"", "CN=a\\", "CN=a\\4",
        "CN=\\ff", "CN=\\z", "1.02.3=a", "5=a", "1..2=a", &long, &many,
    ] {
        assert!(Name::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_subject_that_has_none_is_nobodys() {
    let empty = certificate(&[], Vec::new());
    assert_eq!(empty.subject, None);
    let rule = Rule::subject("CN=a").unwrap();
    assert!(!rule.fits(&empty));
}

fn san(dns: &[&str], emails: &[&str], uris: &[&str]) -> Vec<SanType> {
    let text = |text: &&str| (*text).try_into().unwrap();
    let dns = dns.iter().map(|name| SanType::DnsName(text(name)));
    let emails = emails.iter().map(|name| SanType::Rfc822Name(text(name)));
    let uris = uris.iter().map(|name| SanType::URI(text(name)));
    dns.chain(emails).chain(uris).collect()
}

#[test]
fn a_rule_is_kept_as_text_and_fits_one_thing_alone() {
    let held = certificate(
        &[(DnType::CommonName, utf8("robot"))],
        san(
            &["a.example.org", "b.example.org"],
            &["Robot@Example.org"],
            &["spiffe://example.org/Robot"],
        ),
    );
    for (rule, fits) in [
        (Rule::subject("CN=Robot"), true),
        (Rule::subject("CN=robot,O=x"), false),
        (Rule::dns("B.example.org"), true),
        (Rule::dns("example.org"), false),
        (Rule::dns("robot"), false),
        (Rule::email("Robot@example.ORG"), true),
        (Rule::email("robot@example.org"), false),
        (Rule::uri("spiffe://example.org/Robot"), true),
        (Rule::uri("spiffe://example.org/robot"), false),
        (Rule::uri("spiffe://example.org/"), false),
    ] {
        let rule = rule.unwrap();
        assert_eq!(rule.fits(&held), fits, "{rule}");
        assert_eq!(Rule::read(&rule.to_string()), Some(rule));
    }
    for text in ["", "subject", "subject:", "san-ip:1", "CN=a", "san-dns:*.a"] {
        assert_eq!(Rule::read(text), None, "{text}");
    }
}

#[test]
fn t103_a_certificate_is_one_users_or_nobodys() {
    let table = |pairs: &[(&str, &str)]| {
        let pairs = pairs
            .iter()
            .map(|(key, user)| ((*key).to_owned(), (*user).to_owned()));
        pairs.collect::<BTreeMap<_, _>>()
    };
    let ann = certificate(
        &[
            (DnType::OrganizationName, utf8("X")),
            (DnType::CommonName, utf8("ann")),
        ],
        san(&[], &["ann@Example.org"], &[]),
    );
    let two = certificate(
        &[
            (DnType::CommonName, utf8("ann")),
            (DnType::CustomDnType(vec![2, 5, 4, 3]), utf8("root")),
        ],
        san(&[], &["ann@example.org", "root@example.org"], &[]),
    );
    let found =
        |users: &Users, named: &Named| users.user(named).map(|user| user.as_str().to_owned());
    let good = Ok("ann".to_owned());

    let users = Users::new(From::Cn, &table(&[])).unwrap();
    assert_eq!(found(&users, &ann), good);
    assert_eq!(found(&users, &two), Err("certificate-name"));
    for bad in ["-a", "a\nb", "a/b", ""] {
        let odd = certificate(&[(DnType::CommonName, utf8(bad))], Vec::new());
        assert_eq!(found(&users, &odd), Err("certificate-name"), "{bad:?}");
    }

    let users = Users::new(From::Subject, &table(&[("cn=ANN, o=x", "ann")])).unwrap();
    assert_eq!(found(&users, &ann), good);
    assert_eq!(found(&users, &two), Err("certificate-unmapped"));

    let users = Users::new(From::SanEmail, &table(&[("ann@EXAMPLE.org", "ann")])).unwrap();
    assert_eq!(found(&users, &ann), good);
    assert_eq!(found(&users, &two), Err("certificate-name"));

    let users = Users::new(From::Cn, &table(&[("bob", "ann")])).unwrap();
    assert_eq!(found(&users, &ann), Err("certificate-unmapped"));

    for bad in [[("a@b", "")], [("a@b", "-a")], [("a@b", "a:b")]] {
        let error = Users::new(From::SanEmail, &table(&bad)).unwrap_err();
        assert!(
            error.message.starts_with("certificates.users: \"a@b\""),
            "{error}"
        );
    }
}
