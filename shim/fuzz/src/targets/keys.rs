//! Files of public keys.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use warrant_shim::keys::Keys;
use warrant_wire::warrant::header;

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "keys",
    run,
    seeds,
    words: &["\n", "\r\n", " ", "=", "k1 ", "#", "AAAA"],
};

fn run(input: &[u8]) {
    let mut keys = Keys::default();
    if keys.add(input).is_err() {
        return;
    }
    // What was read is what the lines say, and nothing else.
    let text = std::str::from_utf8(input).expect("a file that is read is text");
    let mut again = String::new();
    for line in text.lines() {
        let (kid, _) = line.split_once(' ').unwrap();
        let encoded = URL_SAFE_NO_PAD.encode(header(kid));
        let key = keys.signer(&encoded).expect("each line has its key");
        let line_again = format!("{kid} {}", URL_SAFE_NO_PAD.encode(key));
        assert_eq!(line, line_again, "a key has two forms");
        again.push_str(&line_again);
        again.push('\n');
    }
    assert_eq!(keys.count(), text.lines().count());
    assert!(keys.count() <= 64);
    assert_eq!(Keys::default().add(again.as_bytes()), Ok(()));
    assert_eq!(keys.add(again.as_bytes()).is_ok(), keys.count() == 0);
}

fn seeds() -> Vec<Vec<u8>> {
    let line = |kid: usize| {
        let key = ed25519_dalek::SigningKey::from_bytes(&[u8::try_from(kid).unwrap(); 32]);
        format!("k{kid} {}\n", URL_SAFE_NO_PAD.encode(key.verifying_key()))
    };
    [1..2, 1..4, 0..64]
        .map(|kids| kids.map(line).collect::<String>().into_bytes())
        .into()
}
