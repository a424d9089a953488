//! Files that output goes to: new ones, and those of the user alone.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use warrant_wire::{Cause, Launch};

use crate::house::{ALICE, BOB, House, as_root, assert_exited, run_tool};

/// A directory where everybody may make files, as /tmp is.
fn commons(house: &House) -> std::path::PathBuf {
    let dir = house.path("commons");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o1777)).unwrap();
    dir
}

/// A file of a user's that everybody may read and write.
fn open_to_all(path: &Path, uid: u32) {
    fs::write(path, "before\n").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
    chown(path, Some(uid), Some(uid)).unwrap();
}

fn writing(house: &House, stdout: Option<&Path>, stderr: Option<&Path>) -> Launch {
    let mut launch = house.script("echo text; echo error >&2");
    let bytes = |path: &Path| path.to_str().unwrap().into();
    launch.stdout = stdout.map(bytes);
    launch.stderr = stderr.map(bytes);
    launch
}

/// Each of the two streams by itself is refused this file.
#[track_caller]
fn assert_refused(house: &House, path: &Path, why: &str) {
    let launches = [
        ("output.stdout.path", writing(house, Some(path), None)),
        ("output.stderr.path", writing(house, None, Some(path))),
    ];
    for (field, launch) in launches {
        let (outcome, output) = house.run(&launch);
        assert_eq!(outcome.cause, Cause::StartFailed, "{path:?}: {output}");
        assert_eq!(outcome.wait_status, 125 << 8, "{path:?}");
        let place = path.display();
        assert_eq!(
            output,
            format!("warrant: cannot write to \"{place}\" ({field}): {why}\n")
        );
    }
}

#[test]
fn t124_a_file_of_another_user_is_not_written_to_whoever_may_write_it() {
    as_root(|house| {
        let commons = commons(house);
        let (bobs, roots) = (commons.join("result.txt"), commons.join("roots"));
        open_to_all(&bobs, BOB);
        open_to_all(&roots, 0);
        for path in [&bobs, &roots] {
            assert_refused(house, path, "it belongs to another user");
            assert_eq!(fs::read_to_string(path).unwrap(), "before\n");
        }
        let path = commons.join("new");
        let (outcome, output) = house.run(&writing(house, Some(&path), Some(&path)));
        assert_exited(&outcome, 0, &output);
        assert_eq!(fs::read_to_string(&path).unwrap(), "text\nerror\n");
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.mode() & 0o777), (ALICE, 0o600));
    });
}

#[test]
fn t124_a_file_with_several_names_or_behind_a_link_is_not_written_to() {
    as_root(|house| {
        let (commons, alices) = (commons(house), house.home("alice"));
        let own = alices.join("own");
        open_to_all(&own, ALICE);
        let names = ["hard", "soft", "dangling", "pipe", "null", "tape", "dir"];
        let [hard, soft, dangling, pipe, null, tape, dir] = names.map(|name| commons.join(name));
        fs::hard_link(&own, &hard).unwrap();
        symlink(&own, &soft).unwrap();
        symlink(alices.join("nosuch"), &dangling).unwrap();
        run_tool(&["mkfifo", "-m", "666", pipe.to_str().unwrap()]);
        run_tool(&["mknod", "-m", "666", null.to_str().unwrap(), "c", "1", "3"]);
        run_tool(&["mknod", "-m", "666", tape.to_str().unwrap(), "c", "9", "0"]);
        fs::create_dir(&dir).unwrap();
        for path in [&own, &hard] {
            chown(path, Some(ALICE), None).unwrap();
            assert_refused(house, path, "it has other names as well");
        }
        for path in [&soft, &dangling, &pipe, &null, &tape, &dir] {
            assert_refused(house, path, "it is not a plain file");
        }
        assert_eq!(fs::read_to_string(&own).unwrap(), "before\n");
        assert!(!alices.join("nosuch").exists());
        // With one name again, it is added to.
        fs::remove_file(&hard).unwrap();
        let (outcome, output) = house.run(&writing(house, Some(&own), None));
        assert_exited(&outcome, 0, &output);
        assert_eq!(fs::read_to_string(&own).unwrap(), "before\ntext\n");
    });
}

#[test]
fn t124_a_pipe_that_is_refused_has_not_been_opened() {
    as_root(|house| {
        let pipe = commons(house).join("pipe");
        run_tool(&["mkfifo", "-m", "666", pipe.to_str().unwrap()]);
        chown(&pipe, Some(ALICE), Some(ALICE)).unwrap();
        let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_NONBLOCK;
        let reader = nix::fcntl::open(&pipe, flags, nix::sys::stat::Mode::empty()).unwrap();
        assert_refused(house, &pipe, "it is not a plain file");
        // A writer that has come and gone would be told as a hangup.
        let mut fds = [nix::poll::PollFd::new(
            std::os::fd::AsFd::as_fd(&reader),
            nix::poll::PollFlags::POLLIN,
        )];
        assert_eq!(nix::poll::poll(&mut fds, 0_u8), Ok(0));
    });
}

#[test]
fn t124_a_file_that_appears_between_look_and_open_is_not_written_to() {
    as_root(|house| {
        let commons = commons(house);
        let path = commons.join("result.txt");
        let (bobs, alices) = (commons.join("bobs"), house.home("alice").join("hers"));
        open_to_all(&bobs, BOB);
        open_to_all(&alices, ALICE);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Root stands for both: bob, and alice's other programs.
            scope.spawn(|| {
                let next = commons.join("next");
                while !is_over.load(Ordering::Relaxed) {
                    let _ = fs::remove_file(&path);
                    let _ = fs::hard_link(&bobs, &path);
                    let _ = symlink(&alices, &next);
                    let _ = fs::rename(&next, &path);
                }
            });
            for _ in 0..50 {
                house.run(&writing(house, Some(&path), None));
            }
            is_over.store(true, Ordering::Relaxed);
        });
        for path in [&bobs, &alices] {
            assert_eq!(fs::read_to_string(path).unwrap(), "before\n", "{path:?}");
        }
    });
}

#[test]
fn t124_every_rank_writes_to_the_file_that_the_first_has_made() {
    as_root(|house| {
        let path = commons(house).join("all");
        let mut launch = writing(house, Some(&path), Some(&path));
        launch.limits.processes = 7;
        let (outcome, output) = house.run(&launch);
        assert_exited(&outcome, 0, &output);
        let text = fs::read_to_string(&path).unwrap();
        let count = |line: &str| text.lines().filter(|it| *it == line).count();
        assert_eq!((count("text"), count("error")), (7, 7), "{text}");
    });
}

#[test]
fn t124_no_output_goes_through_what_a_process_has_open() {
    as_root(|house| {
        let alices = house.home("alice");
        symlink("/proc/self/cwd", alices.join("cwd")).unwrap();
        for path in [
            "/proc/self/cwd/out".into(),
            "/proc/self/root/tmp/out".into(),
            "/dev/fd/1".into(),
            alices.join("cwd/out"),
        ] {
            let (outcome, output) = house.run(&writing(house, Some(&path), None));
            assert_eq!(outcome.wait_status, 125 << 8, "{path:?}: {output}");
        }
        assert!(!alices.join("out").exists());
    });
}

#[test]
fn dev_null_discards_output_and_a_relative_path_needs_the_directory_it_is_relative_to() {
    as_root(|house| {
        let null = Path::new("/dev/null");
        let (outcome, output) = house.run(&writing(house, Some(null), Some(null)));
        assert_exited(&outcome, 0, &output);
        assert_eq!(output, "");

        let relative = Path::new("relative");
        let alices = house.home("alice");
        let mut launch = writing(house, Some(relative), None);
        launch.default_workdir = Some("/nonexistent".into());
        let (outcome, output) = house.run(&launch);
        assert_eq!(outcome.wait_status, 125 << 8);
        let why = "it is relative to a directory that cannot be used\n";
        assert!(output.ends_with(why), "{output}");
        assert!(!alices.join("relative").exists());
        File::create(alices.join("relative")).unwrap();
        chown(alices.join("relative"), Some(ALICE), None).unwrap();
        launch.default_workdir = None;
        let (outcome, output) = house.run(&launch);
        assert_exited(&outcome, 0, &output);
        assert_eq!(
            fs::read_to_string(alices.join("relative")).unwrap(),
            "text\n"
        );
    });
}
