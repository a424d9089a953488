//! Where the programs of the product are.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// What there is instead of naming a program in a setting.
pub(crate) const INSTEAD: &str = "the programs are found beside this one, or in PATH";

/// Find a program beside this one, or where a package puts those that people
/// do not call (`bin/../lib/warrant`), else in `PATH`.
///
/// Errors: `Refused`, with the places searched.
pub(crate) fn find(name: &str) -> Result<PathBuf, Failure> {
    let own_place = std::env::current_exe().ok();
    let beside = own_place.as_deref().and_then(Path::parent);
    let packaged = beside
        .and_then(Path::parent)
        .map(|above| above.join("lib/warrant"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = beside
        .map(Path::to_path_buf)
        .into_iter()
        .chain(packaged)
        .chain(std::env::split_paths(&path));
    find_in(name, places).ok_or_else(|| {
        let beside = beside.map_or_else(String::new, |dir| format!("{} or ", dir.display()));
        Failure::Refused(format!(
            "the program {name} is neither in {beside}in PATH: install it there"
        ))
    })
}

/// How to call this program from a shell: by its name where `PATH` finds it
/// under that, else by its path.
pub(crate) fn own_name() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = std::env::current_exe().unwrap_or_default();
    let name = Path::new(env!("CARGO_PKG_NAME"));
    match find_in(env!("CARGO_PKG_NAME"), std::env::split_paths(&path)) {
        Some(found) if found.canonicalize().ok() == own.canonicalize().ok() => name.to_owned(),
        Some(_) | None if own.is_absolute() => own,
        Some(_) | None => name.to_owned(),
    }
}

/// A relative place depends on where the user happens to be: it is skipped.
fn find_in(name: &str, places: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    places
        .filter(|place| place.is_absolute())
        .map(|place| place.join(name))
        .find(|program| {
            fs::metadata(program)
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn the_first_place_with_a_program_wins() {
        let scratch = Scratch::new();
        let place = |name: &str| {
            let dir = scratch.path(name);
            fs::create_dir(&dir).unwrap();
            dir
        };
        let (empty, plain, good, late) = (place("a"), place("b"), place("c"), place("d"));
        for (dir, mode) in [(&plain, 0o644), (&good, 0o755), (&late, 0o755)] {
            fs::write(dir.join("p"), "").unwrap();
            fs::set_permissions(dir.join("p"), fs::Permissions::from_mode(mode)).unwrap();
        }
        let places = [PathBuf::from("."), empty, plain, good.clone(), late];
        assert_eq!(find_in("p", places.into_iter()), Some(good.join("p")));
    }
}
