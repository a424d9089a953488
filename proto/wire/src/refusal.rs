//! Why the shim does not do what it was asked for: stable codes, for the
//! audit and for whoever asked.

use crate::cursor::Malformed;

/// Declares the reasons with their number, their stable name and a text.
macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $word:literal, $text:literal;)*) => {
        /// A reason for a refusal.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Refusal {
            $($(#[$doc])* $name,)*
        }

        impl Refusal {
            /// Every reason there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The number on the wire.
            #[must_use]
            pub fn code(self) -> u8 {
                match self { $(Self::$name => $code,)* }
            }

            /// The name in the audit; it never changes.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// What to tell a person.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            pub(crate) fn from_code(code: u8) -> Result<Self, Malformed> {
                match code {
                    $($code => Ok(Self::$name),)*
                    _ => Err(Malformed("refusal: unknown reason")),
                }
            }
        }
    };
}

refusals! {
    /// The warrant is not one, or not in its one form.
    WarrantMalformed = 1, "warrant-malformed", "the warrant is malformed";
    /// No trusted key has the warrant's key id.
    KeyUnknown = 2, "key-unknown", "the warrant is signed with a key that is not trusted";
    /// The signature is not the key's.
    Signature = 3, "signature", "the warrant's signature is wrong";
    /// Another issuer.
    Issuer = 4, "issuer", "the warrant is from another issuer";
    /// Another shim.
    Audience = 5, "audience", "the warrant is for another machine";
    /// It does not count yet.
    NotYet = 6, "not-yet-valid", "the warrant is not valid yet";
    /// It has ended.
    Expired = 7, "expired", "the warrant has expired";
    /// It lives longer than a warrant may, or ends before it begins.
    Lifetime = 8, "lifetime", "the warrant's life is longer than allowed";
    /// The launch is not the one that was signed.
    Hash = 9, "hash", "the warrant is for another job";
    /// It was used before.
    AlreadyUsed = 10, "already-used", "the warrant was used before";
    /// The launch's fixed part is malformed.
    LaunchMalformed = 11, "launch-malformed", "the launch description is malformed";
    /// The launch asks for more than the policy allows.
    Limits = 12, "limits", "the job asks for more than this machine's policy allows";
    /// The journal cannot be written.
    Journal = 13, "journal-unavailable", "the shim cannot write its journal now";
    /// Too many admissions wait.
    Full = 14, "too-many-admitted", "too many jobs wait to be started";
    /// There is no admission for the run.
    NotAdmitted = 15, "not-admitted", "no warrant was admitted for the job";
    /// The clock went back behind a time that was seen before.
    Clock = 16, "clock-set-back", "the machine's clock is behind a time it showed before";
    /// The user id is outside the policy's range.
    UidRange = 17, "uid-range", "the account's user id is outside the allowed range";
    /// There is no such account.
    AccountUnknown = 18, "account-unknown", "there is no such account";
    /// The account cannot be looked up now.
    AccountUnavailable = 19, "account-unavailable", "the directory of accounts (NSS) does not answer now";
    /// Name and user id are not of one account.
    AccountMismatch = 20, "account-mismatch", "the account's name and user id do not agree";
    /// The policy denies the account.
    AccountDenied = 21, "account-denied", "the account may not run jobs here";
    /// The account is in a group that the policy denies.
    GroupDenied = 22, "group-denied", "a group of the account may not run jobs here";
    /// The account's password is locked.
    AccountLocked = 23, "account-locked", "the account is locked";
    /// The account or its password has expired.
    AccountExpired = 24, "account-expired", "the account has expired";
    /// The login shell lets nobody in.
    Shell = 25, "shell", "the account's login shell lets nobody in";
    /// PAM's account phase says no.
    PamAccount = 26, "pam-account", "the account is not allowed in at this time";
    /// PAM's session phase failed.
    PamSession = 27, "pam-session", "the session could not be opened";
    /// The job's control group cannot be made.
    Cgroup = 28, "cgroup", "the job's control group could not be made";
    /// The start was noted and the shim ended before it began; this attempt
    /// never will.
    LostStart = 29, "lost-start", "the start was cut off before it began";
    /// This monitor serves another mode.
    Mode = 30, "mode", "the shim does not take such requests in this mode";
    /// The keeper could not be made ready.
    Unprepared = 31, "unprepared", "the job's process could not be prepared";
    /// Too many admissions of this user wait.
    Share = 32, "share", "your share of the jobs that may wait to be started is used up; wait until some have started, or cancel some";
    /// The spool belongs to another job store than the broker's, or the broker
    /// has not said which its is.
    OtherStore = 50, "other-store", "the shim serves another job store";
    /// What there is under the run's number is another job's, or another user's.
    OtherJob = 51, "other-job", "the job's number was used by another job before";
    /// The job's number is far beyond all that were used.
    JobNumber = 52, "job-number", "the job's number is out of range";
}

impl Refusal {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_passing(self) -> bool {
        match self {
            Self::Journal
            | Self::Full
            | Self::Share
            | Self::Clock
            | Self::AccountUnavailable
            | Self::Cgroup
            | Self::LostStart
            | Self::Unprepared
            | Self::OtherStore => true,
            Self::WarrantMalformed
            | Self::KeyUnknown
            | Self::Signature
            | Self::Issuer
            | Self::Audience
            | Self::NotYet
            | Self::Expired
            | Self::Lifetime
            | Self::Hash
            | Self::AlreadyUsed
            | Self::LaunchMalformed
            | Self::Limits
            | Self::NotAdmitted
            | Self::UidRange
            | Self::AccountUnknown
            | Self::AccountMismatch
            | Self::AccountDenied
            | Self::GroupDenied
            | Self::AccountLocked
            | Self::AccountExpired
            | Self::Shell
            | Self::PamAccount
            | Self::PamSession
            | Self::Mode
            | Self::OtherJob
            | Self::JobNumber => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_number_and_a_name_of_its_own() {
        for (at, refusal) in Refusal::ALL.iter().enumerate() {
            assert_eq!(Refusal::from_code(refusal.code()), Ok(*refusal));
            let before = &Refusal::ALL[..at];
            assert!(before.iter().all(|other| other.word() != refusal.word()));
        }
        assert!(Refusal::from_code(0).is_err());
    }
}
