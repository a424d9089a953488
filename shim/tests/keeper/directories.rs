//! The directory that a job starts in.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use warrant_wire::{Cause, Launch, StartDir};

use crate::house::{ALICE, House, as_root, assert_exited};

fn bytes(path: &Path) -> Option<Vec<u8>> {
    Some(path.to_str().unwrap().into())
}

/// Where a launch starts, by its own word.
fn place(house: &House, launch: &Launch) -> String {
    let (outcome, output) = house.run(launch);
    assert_exited(&outcome, 0, &output);
    output.trim_end().to_owned()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_default_directory_that_cannot_be_used_gives_way_to_the_home_and_that_to_tmp() {
    as_root(|house| {
        let home = house.home("alice");
        let default = house.path("project");
        fs::create_dir(&default).unwrap();
        set_mode(&default, 0o755);
        let mut launch = house.launch(["/bin/pwd"]);
        launch.default_workdir = bytes(&default);
        assert_eq!(place(house, &launch), default.to_str().unwrap());

        let spoil: [fn(&Path); 4] = [
            |path| set_mode(path, 0o700),
            |path| set_mode(path, 0o711),
            |path| fs::remove_dir(path).unwrap(),
            |path| fs::write(path, "").unwrap(),
        ];
        for spoil in spoil {
            spoil(&default);
            assert_eq!(place(house, &launch), home.to_str().unwrap());
        }
        // A home is lost in the same ways, and belongs to somebody else then.
        chown(&home, Some(0), None).unwrap();
        for spoil in spoil {
            spoil(&home);
            assert_eq!(place(house, &launch), "/tmp");
        }
        launch.default_workdir = None;
        assert_eq!(place(house, &launch), "/tmp");
        launch.limits.processes = 3;
        assert_eq!(house.run(&launch).0.start_dir, StartDir::Tmp);
        launch.limits.processes = 1;
        launch.workdir = bytes(&home);
        let (outcome, output) = house.run(&launch);
        assert_eq!(outcome.wait_status, 125 << 8, "named, and not there");
        let why = "warrant: cannot change to the directory \"";
        assert!(output.starts_with(why), "{output}");
    });
}

/// The launch, with a working directory that no encoder would write.
fn with_workdir(launch: &mut Launch, path: &str) -> Vec<u8> {
    let text = |path: &[u8]| [&u32::try_from(path.len()).unwrap().to_le_bytes(), path].concat();
    let placeholder = vec![b'/'; path.len()];
    launch.workdir = Some(placeholder.clone());
    let (mut encoded, wanted) = (launch.encode().unwrap(), text(&placeholder));
    let mut places = encoded.windows(wanted.len());
    let at = places.rposition(|place| place == wanted).unwrap();
    encoded.splice(at..at + wanted.len(), text(path.as_bytes()));
    encoded
}

#[test]
fn t125_no_relative_directory_and_no_link_of_proc_is_the_servers() {
    as_root(|house| {
        let private = house.path("private");
        let inner = private.join("inner");
        fs::create_dir_all(inner.join("sub")).unwrap();
        set_mode(&private, 0o700);
        let alices = house.home("alice");
        for (name, target) in [
            ("cwd", "/proc/self/cwd"),
            ("root", "/proc/self/root"),
            ("thread", "/proc/thread-self/cwd"),
            ("parent", ".."),
        ] {
            symlink(target, alices.join(name)).unwrap();
        }
        let linked = ["cwd", "cwd/sub", "root", "root/tmp", "thread"]
            .map(|name| format!("{}/{name}", alices.display()));
        let plain = [
            ".",
            "..",
            "./sub",
            "sub",
            "../inner",
            "tmp",
            "/proc",
            "/proc/self",
            "/proc/self/cwd",
            "/proc/self/cwd/sub",
            "/proc/self/root",
            "/proc/self/root/tmp",
            "/proc/self/fd",
            "/proc/self/fd/3",
            "/proc/thread-self/cwd",
            "/proc/1/cwd",
            "/proc/1/root",
            "/dev/fd",
            "/dev/fd/3",
            "//proc//self/./cwd",
            "/tmp/../proc/self/cwd",
            "/../proc/self/cwd",
        ];
        let ran = alices.join("ran");
        let mut launch = house.script(&format!("touch {}; ls -a", ran.display()));
        for path in plain.into_iter().chain(linked.iter().map(String::as_str)) {
            let encoded = with_workdir(&mut launch, path);
            let run = house.start_bytes("alice", ALICE, &encoded, || {
                std::env::set_current_dir(&inner).unwrap();
            });
            let outcome = house.ended(run);
            let output = house.output(run);
            assert_eq!(outcome.cause, Cause::StartFailed, "{path}: {output}");
            let by_text = output.starts_with("warrant: workdir: must ");
            let by_kernel = output.starts_with("warrant: cannot change to the directory \"");
            assert!(by_text || by_kernel, "{path}: {output}");
            assert!(!ran.exists(), "{path}");
        }
        // Links that are no more than names lead where they say.
        let mut launch = house.launch(["/bin/pwd", "-P"]);
        launch.workdir = bytes(&alices.join("parent"));
        assert_eq!(place(house, &launch), house.path("home").to_str().unwrap());
    });
}
