//! Who walks, in an installation of either sort.

use super::table::{FOREIGN, FOREIGN_CANCEL, FOREIGN_OUTPUT};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::pkcs8::DecodePrivateKey;
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};
use warrant_tests::fake_auth::now_s;
use warrant_tests::handshake::part;
use warrant_tests::village::{ALICE, BOB, CAROL, DAVE, OLGA};
use warrant_tests::wait::until;
use warrant_tests::{Account, Database, Flux, House, Plan, Setup, Village};

/// Who walks, in the columns' order.
pub(super) const WALKERS: [&str; 16] = [
    "nobody",
    "somebody with a token of noise",
    "the owner, too late",
    "the owner, with a token for the auth service",
    "somebody disabled",
    "the owner, after logging out",
    "the owner's key with read",
    "another user",
    "the owner",
    "an operator",
    "an administrator",
    "an administrator without the scope admin",
    "the owner with read",
    "the owner with submit",
    "the owner with control",
    "the owner with admin",
];

/// Where a job is everybody's to see, or its user's alone.
#[derive(Debug)]
pub(super) enum Site {
    /// Single-user mode.
    House(Box<House>),
    /// Multi-user mode.
    Village(Box<Village>),
}

impl Site {
    /// Single-user mode.
    pub(super) fn house(database: Database) -> Self {
        let setup = Setup::on(database)
            .set("FLUX_ADMIN_USERS", CAROL.name)
            .set("FLUX_OPERATOR_USERS", OLGA.name);
        Self::House(Box::new(setup.open()))
    }

    /// Multi-user mode; `None` where this is not root.
    pub(super) fn village(database: Database) -> Option<Self> {
        let plan = Plan::default()
            .on(database)
            .set("FLUX_OPERATOR_USERS", OLGA.name);
        Some(Self::Village(Box::new(plan.open()?)))
    }

    /// The status that stands in the table, where jobs are as they are here.
    pub(super) const fn status(&self, told: u16) -> u16 {
        match (self, told) {
            (Self::House(_), FOREIGN | FOREIGN_OUTPUT | FOREIGN_CANCEL) => 403,
            (Self::Village(_), FOREIGN) => 404,
            (Self::Village(_), FOREIGN_OUTPUT) => 200,
            (Self::Village(_), FOREIGN_CANCEL) => 400,
            (_, status) => status,
        }
    }

    pub(super) fn nobody(&self) -> Flux {
        match self {
            Self::House(house) => house.nobody(),
            Self::Village(village) => village.nobody(),
        }
    }

    fn user(&self, account: Account) -> Flux {
        match self {
            Self::House(house) => house.user(account.name),
            Self::Village(village) => village.user(account),
        }
    }

    fn authsvc(&self, words: &[&str]) {
        match self {
            Self::House(house) => house.authsvc_command(words, ""),
            Self::Village(village) => village.authsvc_command(words, ""),
        };
    }

    /// The routes that the program has.
    pub(super) fn routes(&self) -> Vec<String> {
        let output = match self {
            Self::House(house) => {
                let output =
                    house.command("warrant-broker", &["routes", "--config", "/nonexistent"]);
                String::from_utf8(output.stdout).unwrap()
            }
            Self::Village(village) => village.broker_command(&["routes"]),
        };
        let route = |line: &str| {
            let mut words = line.split(' ');
            format!("{} {}", words.next().unwrap(), words.next().unwrap())
        };
        output.lines().map(route).collect()
    }

    /// Tokens with `scopes`, as programs get them.
    fn tokens(&self, account: Account, scopes: &str) -> Value {
        let form = format!(
            "grant_type=password&client_id=warrant&username={}&password={}&scope={}",
            account.name,
            House::password(account.name),
            scopes.replace(' ', "+")
        );
        self.nobody().post_form("/oauth/token", &form).with(200)
    }

    fn with_scopes(&self, account: Account, scopes: &str) -> Flux {
        let tokens = self.tokens(account, scopes);
        self.nobody()
            .with_token(tokens["access_token"].as_str().unwrap())
    }

    /// The key by which the auth service signs, and its name.
    fn signing_key(&self) -> (String, SigningKey) {
        let dir = match self {
            Self::House(house) => house.path("keys"),
            Self::Village(village) => village.path("auth/keys"),
        };
        let files = std::fs::read_dir(dir).unwrap();
        let mut paths = files.map(|file| file.unwrap().path());
        let path = paths.find(|path| path.extension().is_some_and(|end| end == "pem"));
        let path = path.unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let (_, kid) = name.split_once('-').unwrap();
        let pem = std::fs::read_to_string(&path).unwrap();
        (kid.to_owned(), SigningKey::from_pkcs8_pem(&pem).unwrap())
    }

    /// The token of `user` with other claims, signed as it should be.
    fn altered(&self, user: &Flux, claims: &[(&str, Value)]) -> Flux {
        let (kid, key) = self.signing_key();
        let payload = user.token().split('.').nth(1).unwrap();
        let payload = URL_SAFE_NO_PAD.decode(payload).unwrap();
        let mut all: Value = serde_json::from_slice(&payload).unwrap();
        for (name, value) in claims {
            all[name] = value.clone();
        }
        let header = json!({"alg": "EdDSA", "kid": kid, "typ": "at+jwt"});
        let text = format!("{}.{}", part(&header), part(&all));
        let signature = URL_SAFE_NO_PAD.encode(key.sign(text.as_bytes()).to_bytes());
        self.nobody().with_token(&format!("{text}.{signature}"))
    }

    /// A user of another name, and a job of that user's that has ended.
    pub(super) fn owner(&self) -> (Flux, i64) {
        let owner = match self {
            Self::House(house) => house.user("odile"),
            Self::Village(village) => village.user(BOB),
        };
        let job = owner.submit("echo odd");
        owner.finished(job);
        (owner, job)
    }

    /// Everybody, and a job of the owner's that has ended.
    pub(super) fn walkers(&self) -> (Vec<Flux>, i64) {
        let owner = self.user(ALICE);
        let job = owner.submit("echo of-the-owner");
        owner.finished(job);
        let label = json!({"label": "walker", "scopes": "read", "expires_in_days": 1});
        let key = owner
            .create_key(ALICE.name, &House::password(ALICE.name), &label)
            .with(201);
        let now = now_s();
        let late = [("iat", json!(now - 900)), ("exp", json!(now - 300))];
        let other_audience = [("aud", json!("warrant-authsvc"))];
        // The same in all but what is wrong with the others.
        assert_eq!(self.altered(&owner, &[]).get("/v1/nodes").status, 200);
        // Tokens of the first version count at both services until they expire.
        let first = self.altered(&owner, &[("iss", json!("warrant"))]);
        for path in ["/v1/nodes", "/v1/keys"] {
            assert_eq!(first.get(path).status, 200, "{path}");
        }
        let disabled = self.user(DAVE);
        self.authsvc(&["user", "disable", DAVE.name]);
        let gone = self.tokens(ALICE, "read submit control");
        let refresh = gone["refresh_token"].as_str().unwrap();
        let end = format!("token={refresh}&client_id=warrant");
        self.nobody().post_form("/oauth/revoke", &end).with(200);
        let gone = self
            .nobody()
            .with_token(gone["access_token"].as_str().unwrap());
        for ended in [&disabled, &gone] {
            until("the end to be known to the broker", || {
                (ended.get("/v1/nodes").status == 401).then_some(())
            });
        }
        let administrator = self.user(CAROL);
        let walkers = vec![
            self.nobody(),
            self.nobody().with_token("bm9pc2U.bm9pc2U.bm9pc2U"),
            self.altered(&owner, &late),
            self.altered(&owner, &other_audience),
            disabled,
            gone,
            self.nobody().with_token(key["key"].as_str().unwrap()),
            self.user(BOB),
            owner.clone(),
            self.user(OLGA),
            administrator.clone(),
            self.with_scopes(CAROL, "read submit control"),
            self.with_scopes(ALICE, "read"),
            self.with_scopes(ALICE, "submit"),
            self.with_scopes(ALICE, "control"),
            self.altered(&owner, &[("scope", json!("admin"))]),
        ];
        assert_eq!(walkers.len(), WALKERS.len());
        (walkers, job)
    }

    /// The broker, which was told to stop, ends.
    pub(super) fn stopped(self) {
        match self {
            Self::House(mut house) => assert!(house.broker_ended().success()),
            Self::Village(mut village) => assert!(village.broker_ended().success()),
        }
    }
}
