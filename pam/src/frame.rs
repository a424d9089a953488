//! The frame, which is as long as its longest content: nothing about a
//! password shows from outside, and nothing has to be measured while reading.

use std::fmt;

use warrant_wire::account::{MAX_NAME_BYTES, is_name};

/// Most bytes of a service's name.
const MAX_SERVICE_BYTES: usize = 32;
/// Most bytes of a password.
pub const MAX_PASSWORD_BYTES: usize = 1024;
/// Most bytes of the answer to a second question.
pub const MAX_CODE_BYTES: usize = 255;
/// The version of the frame.
const VERSION: u8 = 2;

/// The size of a frame: the version; service and name, each behind its length
/// (one byte); the password behind its length (two bytes, little endian); the
/// code behind its length (one byte). What a field leaves free is zero.
pub const FRAME_BYTES: usize = 1
    + (1 + MAX_SERVICE_BYTES)
    + (1 + MAX_NAME_BYTES)
    + (2 + MAX_PASSWORD_BYTES)
    + (1 + MAX_CODE_BYTES);

/// What is wrong with a question or its frame; nothing of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

/// Whether this is the password of this user, as far as this service of PAM
/// is concerned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    service: &'a str,
    name: &'a str,
    password: &'a [u8],
    code: &'a [u8],
}

impl fmt::Debug for Question<'_> {
    /// Leaves password and code out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question")
            .field("service", &self.service)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<'a> Question<'a> {
    /// A question.
    ///
    /// Errors: the service is not 1 to 32 of `A-Z a-z 0-9 _ -`; the name is
    /// none that the name service may be asked about; the password is not 1 to
    /// 1024 bytes without a zero byte.
    pub fn new(service: &'a str, name: &'a str, password: &'a [u8]) -> Result<Self, Malformed> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let service_fits = (1..=MAX_SERVICE_BYTES).contains(&service.len())
            && service.bytes().all(|byte| plain(byte) || byte == b'-');
        if !service_fits {
            return Err(Malformed("the service is not 1 to 32 of A-Z a-z 0-9 _ -"));
        }
        if !is_name(name) {
            return Err(Malformed("the name is not one of a user"));
        }
        if !(1..=MAX_PASSWORD_BYTES).contains(&password.len()) || password.contains(&0) {
            return Err(Malformed(
                "the password is not 1 to 1024 bytes without a zero byte",
            ));
        }
        Ok(Self {
            service,
            name,
            password,
            code: b"",
        })
    }

    /// The question with the answer to what PAM asks besides the password, such
    /// as a one-time code; empty where there is none.
    ///
    /// Errors: it is longer than 255 bytes, or holds a zero byte.
    pub fn with_code(self, code: &'a [u8]) -> Result<Self, Malformed> {
        if code.len() > MAX_CODE_BYTES || code.contains(&0) {
            return Err(Malformed(
                "the code is not at most 255 bytes without a zero byte",
            ));
        }
        Ok(Self { code, ..self })
    }

    /// The service, which names a file of `/etc/pam.d`.
    #[must_use]
    pub const fn service(&self) -> &'a str {
        self.service
    }

    /// The user.
    #[must_use]
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// The password.
    #[must_use]
    pub const fn password(&self) -> &'a [u8] {
        self.password
    }

    /// The answer to what is asked besides the password; empty where there is
    /// none.
    #[must_use]
    pub const fn code(&self) -> &'a [u8] {
        self.code
    }

    /// Writes the question into `frame`, which the caller wipes afterwards.
    pub fn encode(&self, frame: &mut [u8; FRAME_BYTES]) {
        let texts = [self.service.as_bytes(), self.name.as_bytes(), self.code];
        // None is longer than 255.
        let [service, name, code] =
            texts.map(|text| [u8::try_from(text.len()).unwrap_or_default()]);
        let password = u16::try_from(self.password.len()).unwrap_or_default();
        let password = password.to_le_bytes();
        let fields: [(&[u8], &[u8], usize); 5] = [
            (&[VERSION], &[], 0),
            (&service, self.service.as_bytes(), MAX_SERVICE_BYTES),
            (&name, self.name.as_bytes(), MAX_NAME_BYTES),
            (&password, self.password, MAX_PASSWORD_BYTES),
            (&code, self.code, MAX_CODE_BYTES),
        ];
        let mut to = frame.iter_mut();
        for (length, content, room) in fields {
            let rest = room.saturating_sub(content.len());
            let bytes = length.iter().chain(content).copied();
            let bytes = bytes.chain(std::iter::repeat_n(0, rest));
            bytes.zip(&mut to).for_each(|(byte, place)| *place = byte);
        }
    }

    /// Reads a frame.
    ///
    /// Errors: anything that [`Question::encode`] would not have written.
    pub fn decode(frame: &'a [u8; FRAME_BYTES]) -> Result<Self, Malformed> {
        let mut rest = frame.as_slice();
        if take(&mut rest, 1)? != [VERSION] {
            return Err(Malformed("the frame is of another version"));
        }
        let service = field(&mut rest, 1, MAX_SERVICE_BYTES)?;
        let name = field(&mut rest, 1, MAX_NAME_BYTES)?;
        let password = field(&mut rest, 2, MAX_PASSWORD_BYTES)?;
        let code = field(&mut rest, 1, MAX_CODE_BYTES)?;
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| FORM);
        Self::new(text(service)?, text(name)?, password)?.with_code(code)
    }
}

const FORM: Malformed = Malformed("the frame's fields are not what their lengths say");

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Result<&'a [u8], Malformed> {
    let (taken, behind) = rest.split_at_checked(bytes).ok_or(FORM)?;
    *rest = behind;
    Ok(taken)
}

/// The content of a field of `room` bytes behind a length of `width` bytes.
fn field<'a>(rest: &mut &'a [u8], width: usize, room: usize) -> Result<&'a [u8], Malformed> {
    let length = match take(rest, width)? {
        [length] => usize::from(*length),
        [low, high] => usize::from(u16::from_le_bytes([*low, *high])),
        _ => return Err(FORM),
    };
    let (content, free) = take(rest, room)?.split_at_checked(length).ok_or(FORM)?;
    if free.iter().any(|byte| *byte != 0) {
        return Err(FORM);
    }
    Ok(content)
}

/// What is answered, as one byte. No answer, and any other byte, is
/// [`Verdict::Unavailable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the user's password, and the account may be used now.
    Accepted,
    /// It is not, or it may not.
    Denied,
    /// PAM asks for something besides the password, such as a one-time code,
    /// and there was no answer to that.
    CodeNeeded,
    /// It is, and the password has expired.
    PasswordExpired,
    /// It is, and the account has expired.
    AccountExpired,
    /// It is, and PAM's account rules do not let the account in now.
    NotNow,
    /// Nobody can tell now.
    Unavailable,
}

impl Verdict {
    /// The verdict's byte.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Accepted => b'A',
            Self::Denied => b'D',
            Self::CodeNeeded => b'C',
            Self::PasswordExpired => b'P',
            Self::AccountExpired => b'E',
            Self::NotNow => b'N',
            Self::Unavailable => b'U',
        }
    }

    /// The verdict that a byte says.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            b'A' => Self::Accepted,
            b'D' => Self::Denied,
            b'C' => Self::CodeNeeded,
            b'P' => Self::PasswordExpired,
            b'E' => Self::AccountExpired,
            b'N' => Self::NotNow,
            _ => Self::Unavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(question: Question<'_>) -> [u8; FRAME_BYTES] {
        let mut frame = [0xff; FRAME_BYTES];
        question.encode(&mut frame);
        frame
    }

    #[test]
    fn a_question_is_read_as_it_was_written() {
        let longest = [7; MAX_PASSWORD_BYTES];
        for (service, name, password, code) in [
            ("l", "a", &b"x"[..], &b""[..]),
            (
                &"s".repeat(32),
                &"n".repeat(255),
                &longest,
                &[b'1'; MAX_CODE_BYTES],
            ),
            ("su-l", "ann@example.org", "pässwörd".as_bytes(), b"123 456"),
            ("su-l", "CORP\\Ann", b"x", b"1"),
        ] {
            let question = Question::new(service, name, password).unwrap();
            let question = question.with_code(code).unwrap();
            assert_eq!(Question::decode(&frame(question)), Ok(question));
        }
    }

    #[test]
    fn t30_a_hostile_service_name_or_password_is_no_question() {
        let long = "a".repeat(256);
        for service in [
            "",
            "../login",
            "a/b",
            "a.b",
            "a b",
            "a\0",
            "a\n",
            "é",
            &long[..33],
        ] {
            assert!(Question::new(service, "ann", b"x").is_err(), "{service:?}");
        }
        for name in [
            "", "-a", "a/b", "..", "a\0", "a\n", "a\r", "a\u{1b}", "a:b", "a,b", &long,
        ] {
            assert!(Question::new("login", name, b"x").is_err(), "{name:?}");
        }
        for password in [&b""[..], b"a\0b", &[b'x'; MAX_PASSWORD_BYTES + 1]] {
            assert!(Question::new("login", "ann", password).is_err());
        }
        let question = Question::new("login", "ann", b"x").unwrap();
        for code in [&b"1\x002"[..], &[b'1'; MAX_CODE_BYTES + 1]] {
            assert!(question.with_code(code).is_err());
        }
    }

    #[test]
    fn changing_any_byte_changes_or_breaks_the_question() {
        let question = Question::new("login", "ann", b"horse").unwrap();
        let good = frame(question.with_code(b"123").unwrap());
        for at in 0..FRAME_BYTES {
            for byte in [0, 1, 2, b'a', 0x7f, 0x80, 0xff, good[at].wrapping_add(1)] {
                let mut changed = good;
                changed[at] = byte;
                if let Ok(question) = Question::decode(&changed) {
                    assert_eq!(frame(question), changed, "at {at}");
                }
            }
        }
    }

    #[test]
    fn only_one_byte_means_yes() {
        for code in 0..=u8::MAX {
            let verdict = Verdict::from_code(code);
            assert_eq!(
                verdict == Verdict::Accepted,
                code == Verdict::Accepted.code()
            );
        }
        assert_eq!(Verdict::from_code(Verdict::Denied.code()), Verdict::Denied);
    }

    #[test]
    fn debugging_a_question_shows_no_password() {
        let question = Question::new("login", "ann", b"canary").unwrap();
        let question = question.with_code(b"canary").unwrap();
        let shown = format!("{question:?}");
        let bytes = format!("{:?}", b"canary");
        assert!(shown.contains("ann"));
        assert!(!shown.contains("canary") && !shown.contains(&bytes));
    }
}
