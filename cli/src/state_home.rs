//! Where this user's files belong.

use std::path::PathBuf;

/// `$XDG_STATE_HOME/warrant`, else `~/.local/state/warrant`; `None` when the
/// environment names neither. A relative `XDG_STATE_HOME` is ignored.
/// Source: XDG Base Directory Specification.
pub(crate) fn state_home() -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|base| base.join("warrant"))
}
