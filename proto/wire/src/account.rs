//! Accounts of the machine: which texts can name one, and which user ids can
//! be a person's. Every part asks here, so that all of them answer alike.
//!
//! Only the name service (NSS) knows whether a text names an account. What is
//! refused before it is asked are texts that could be taken for something else
//! where names are written: paths, options, fields of account files, lines of
//! logs. No name is ever read as a number.

use std::ops::RangeInclusive;

/// Most bytes of the name of an account or of a group.
pub const MAX_NAME_BYTES: usize = 255;

/// What [`is_name`] accepts, for messages.
pub const NAME_RULE: &str = "1 to 255 bytes of UTF-8, without / : , NUL, CR, LF and ESC, not beginning with - and not . or ..";

/// The smallest user id of a person, where the site sets no other. Source:
/// `UID_MIN` of login.defs(5).
pub const MIN_UID: u32 = 1000;

/// The largest user id of a person: the two above it mean "none". Source:
/// chown(2), and the overflow ids of file systems.
pub const MAX_UID: u32 = u32::MAX - 2;

/// The user ids that systemd gives to services while they run. Source:
/// "Users, Groups, UIDs and GIDs on systemd Systems", `DynamicUser=`.
pub const DYNAMIC_UIDS: RangeInclusive<u32> = 61_184..=65_519;

/// The user ids that stand for no account in particular: the overflow ids of
/// the kernel, and "none" in 16 and in 32 bits.
pub const NOBODY_UIDS: [u32; 4] = [65_534, 65_535, u32::MAX - 1, u32::MAX];

/// Whether the name service may be asked about `name`, as an account or as a
/// group: see [`NAME_RULE`].
#[must_use]
pub fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && !name.starts_with('-')
        && !matches!(name, "." | "..")
        && !name.contains(['/', ':', ',', '\0', '\r', '\n', '\u{1b}'])
}

/// Whether an account with this user id may be a person's, where the site's
/// people have user ids in `range`. Root and nobody never are; systemd's
/// dynamic users are not, unless the site's range ends among their user ids:
/// then it says which of them are people's.
#[must_use]
pub fn is_person(uid: u32, range: &RangeInclusive<u32>) -> bool {
    range.contains(&uid)
        && uid != 0
        && !NOBODY_UIDS.contains(&uid)
        && (!DYNAMIC_UIDS.contains(&uid) || DYNAMIC_UIDS.contains(range.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t30_t134_a_name_is_refused_only_where_it_could_be_taken_for_something_else() {
        let longest = "n".repeat(255);
        for name in [
            "a",
            "Alice",
            "0day",
            "1000",
            "0x7f",
            "4294967295",
            "alice@example.org",
            "CORP\\alice",
            "alice+hpc",
            "+alice",
            "~alice",
            "first last",
            "a.",
            ".a",
            "...",
            "_",
            "$",
            "jürgen",
            "\u{430}nn",
            "a\"b",
            "a'b",
            "a%2fb",
            "a\tb",
            "Domain Users",
            "a=b",
            "*",
            "!",
            "#a",
            "@admins",
            &longest,
        ] {
            assert!(is_name(name), "{name:?}");
        }
        let too_long = "n".repeat(256);
        for name in [
            "",
            ".",
            "..",
            "-",
            "-a",
            "--help",
            "a/b",
            "/",
            "a:b",
            "a,b",
            "a\0",
            "a\r",
            "a\n",
            "\u{1b}[31m",
            "../../etc",
            &too_long,
            &"é".repeat(128),
        ] {
            assert!(!is_name(name), "{name:?}");
        }
    }

    #[test]
    fn t134_a_person_has_any_user_id_but_those_that_are_somebody_elses() {
        let all = MIN_UID..=MAX_UID;
        for uid in [
            1000,
            60_000,
            60_001,
            61_183,
            65_520,
            65_533,
            65_536,
            524_288,
            999_999_999,
            1_000_000_000,
            0x7fff_fffe,
            0x7fff_ffff,
            0x8000_0000,
            0x8000_0001,
            4_000_000_000,
            u32::MAX - 2,
        ] {
            assert!(is_person(uid, &all), "{uid}");
        }
        let never = [0, 65_534, 65_535, u32::MAX - 1, u32::MAX];
        for uid in [1, 999, 61_184, 64_000, 65_519].into_iter().chain(never) {
            assert!(!is_person(uid, &all), "{uid}");
        }
        for uid in never {
            assert!(!is_person(uid, &(0..=u32::MAX)), "{uid}");
        }
        // A site whose range ends among the dynamic ids has people there.
        let old = 1000..=65_000;
        assert!(is_person(64_000, &old) && !is_person(65_001, &old));
    }
}
