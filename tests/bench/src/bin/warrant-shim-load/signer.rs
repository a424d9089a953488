//! Warrants of the benchmark's own, in place of the auth service.

use std::path::Path;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey};
use warrant_shim::warrant::sha256;
use warrant_wire::launch::{Launch, Limits};
use warrant_wire::warrant::{MAX_LIFETIME_S, header};
use warrant_wire::{Claims, Request, RunId};

use crate::clock;

/// The name under which the shim knows the key.
const KEY_ID: &str = "bench";

/// Who may run what, and the key that says so.
pub(crate) struct Signer {
    key: SigningKey,
    user: String,
    uid: u32,
    launch: Vec<u8>,
}

impl Signer {
    /// Warrants for `user` to run `command`.
    ///
    /// Errors: the file holds no key; there is no command.
    pub(crate) fn new(
        key: &Path,
        user: &str,
        uid: u32,
        command: &[String],
    ) -> anyhow::Result<Self> {
        let seed = std::fs::read(key).context("--key")?;
        let seed: [u8; 32] = seed.as_slice().try_into().context("--key: no 32 bytes")?;
        let launch = Launch {
            limits: Limits {
                processes: 1,
                time_limit_s: 0,
                grace_ms: 1000,
                output_cap_bytes: 1 << 20,
                memory_bytes: 0,
            },
            argv: command
                .iter()
                .map(|word| word.clone().into_bytes())
                .collect(),
            env: vec![(b"PATH".to_vec(), b"/usr/bin:/bin".to_vec())],
            workdir: None,
            stdout: None,
            stderr: None,
            default_workdir: None,
        };
        Ok(Self {
            key: SigningKey::from_bytes(&seed),
            user: user.to_owned(),
            uid,
            launch: launch.encode()?,
        })
    }

    /// The request to admit a job by a warrant that is made now.
    ///
    /// Errors: the account's name cannot be in a warrant.
    pub(crate) fn admit(&self, run: RunId) -> anyhow::Result<Request> {
        let now_s = clock::wall()?.as_secs();
        let mut jti = [0; 16];
        for (to, from) in jti.iter_mut().zip(run.job.to_le_bytes()) {
            *to = from;
        }
        let claims = Claims {
            iss: "warrant".into(),
            aud: "local".into(),
            sub: self.user.clone(),
            uid: self.uid,
            job_sha256: sha256(&self.launch),
            jti,
            iat: now_s,
            nbf: now_s,
            exp: now_s + MAX_LIFETIME_S,
        };
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header(KEY_ID)),
            URL_SAFE_NO_PAD.encode(claims.encode()?)
        );
        let signature = self.key.sign(signed.as_bytes()).to_bytes();
        let warrant = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        Ok(Request::Admit {
            run,
            warrant: warrant.into_bytes(),
            launch: self.launch.clone(),
        })
    }
}
