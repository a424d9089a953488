//! The settings of the pages on which people sign in.

use serde::Deserialize;

use super::Config;
use super::settings::in_range;
use crate::error::Result;

/// The longest that anybody may stay signed in, in days.
const MAX_DAYS: u64 = 30;

/// The pages on which people sign in.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Web {
    /// Hours after which a browser that is not used is signed out.
    pub(crate) idle_hours: u64,
    /// Days after which every browser is.
    pub(crate) max_days: u64,
}

impl Default for Web {
    fn default() -> Self {
        Self {
            idle_hours: 12,
            max_days: 7,
        }
    }
}

impl Config {
    /// Check what is set for the pages.
    ///
    /// Errors: a value is not allowed; the message names the key.
    pub(super) fn check_web(&self) -> Result<()> {
        let days = self.web.max_days;
        in_range("web.max_days", days, 1, MAX_DAYS)?;
        in_range("web.idle_hours", self.web.idle_hours, 1, days * 24)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_not_allowed_is_named() {
        for (idle_hours, max_days, key) in [
            (0, 7, "web.idle_hours"),
            (25, 1, "web.idle_hours"),
            (12, 0, "web.max_days"),
            (12, 31, "web.max_days"),
        ] {
            let web = Web {
                idle_hours,
                max_days,
            };
            let config = Config {
                web,
                ..Config::default()
            };
            let message = config.check_web().unwrap_err().message;
            assert!(message.starts_with(key), "{key}: {message}");
        }
        Config::default().check_web().unwrap();
    }
}
