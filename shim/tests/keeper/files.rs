//! E. Descriptors and terminals; F. Directories and paths.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use warrant_wire::{Cause, RunFile};

use crate::house::{
    ALICE, BOB, House, Terminal, as_root, as_root_on, assert_exited, new_run, run_tool, until,
};

#[test]
fn t51_a_job_has_three_descriptors_whatever_the_monitor_has() {
    as_root(|house| {
        let files: Vec<File> = (0..1000)
            .map(|_| {
                let file = File::open("/etc/shadow").unwrap();
                fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
                file
            })
            .collect();
        assert!(files.last().unwrap().as_raw_fd() > 1000);
        for pam in [false, true] {
            if pam {
                house.use_pam("auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n");
            }
            let output = house.output_of("ls -l /proc/self/fd");
            let open: Vec<&str> = output
                .lines()
                .filter_map(|line| line.split_once(" -> ").map(|(_, target)| target))
                .collect();
            // The fourth is the directory that ls reads.
            assert_eq!(open.len(), 4, "{output}");
            assert_eq!(open[0], "/dev/null");
            assert!(open[1].starts_with("pipe:") && open[2].starts_with("pipe:"));
            assert!(open[3].starts_with("/proc/"), "{output}");
        }
    });
}

#[test]
fn a_job_may_open_its_own_output_by_name() {
    as_root(|house| {
        let output = house.output_of("echo one > /dev/stderr; echo two > /proc/self/fd/1");
        let mut lines: Vec<&str> = output.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["one", "two"]);
    });
}

#[test]
fn t52_a_job_cannot_look_into_its_keeper() {
    as_root(|house| {
        let (outcome, output) = house.run(&house.probe("peek"));
        assert_exited(&outcome, 0, &output);
    });
}

#[test]
fn t55_a_job_has_no_terminal_even_if_the_monitor_has() {
    as_root_on(Terminal::Yes, "", |house| {
        assert!(File::open("/dev/tty").is_ok(), "the test has one");
        let output = house.output_of(
            "tty; (: < /dev/tty) 2>&1
            read -r pid name state parent group session tty rest < /proc/$$/stat
            [ $session = $$ ] && [ $tty = 0 ] && echo alone",
        );
        assert!(output.contains("not a tty\n"), "{output}");
        assert!(output.contains("No such device or address"), "{output}");
        assert!(output.ends_with("alone\n"), "{output}");
    });
}

#[test]
fn t57_the_end_of_a_job_does_not_wait_for_who_holds_its_output() {
    as_root(|house| {
        for cgroups in [false, true] {
            if cgroups {
                house.use_cgroups();
            }
            let output = house.output_of(
                "(setsid sh -c 'trap \"\" TERM HUP; touch up; sleep 1000; echo late' &)
                until [ -e up ]; do sleep 0.01; done; rm up; echo over",
            );
            assert_eq!(output, "over\n");
        }
    });
}

/// A launch whose output goes to a file.
fn writing_to(house: &House, path: &std::path::Path) -> warrant_wire::Launch {
    let mut launch = house.script("echo text; echo error >&2");
    launch.stdout = Some(path.to_str().unwrap().into());
    launch
}

#[test]
fn t58_output_is_written_to_plain_files_of_the_user_alone() {
    as_root(|house| {
        let alices = house.home("alice");
        let target = house.path("target");
        fs::write(&target, "").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o666)).unwrap();
        symlink(&target, alices.join("link")).unwrap();
        symlink(alices.join("nosuch"), alices.join("dangling")).unwrap();
        run_tool(&["mkfifo", "-m", "666", alices.join("fifo").to_str().unwrap()]);
        run_tool(&[
            "mknod",
            "-m",
            "666",
            alices.join("full").to_str().unwrap(),
            "c",
            "1",
            "7",
        ]);
        let _socket = std::os::unix::net::UnixListener::bind(alices.join("socket")).unwrap();
        fs::write(house.home("bob").join("file"), "").unwrap();
        chown(house.home("bob").join("file"), Some(BOB), None).unwrap();
        for name in [
            "link",
            "dangling",
            "fifo",
            "full",
            "socket",
            ".",
            "../bob/file",
            "/etc/passwd",
            "/root/x",
            "/proc/1/mem",
        ] {
            let path = alices.join(name);
            let (outcome, output) = house.run(&writing_to(house, &path));
            assert_eq!(outcome.cause, Cause::StartFailed, "{name}");
            assert_eq!(outcome.wait_status, 125 << 8, "{name}");
            assert!(output.starts_with("warrant: cannot write to "), "{output}");
            assert_eq!(output.lines().count(), 1, "{output}");
        }
        // A pipe that somebody reads is no file either, and nobody is blocked.
        let reader = File::options()
            .read(true)
            .write(true)
            .open(alices.join("fifo"))
            .unwrap();
        let (outcome, _) = house.run(&writing_to(house, &alices.join("fifo")));
        assert_eq!(outcome.wait_status, 125 << 8);
        drop(reader);
        assert_eq!(fs::read_to_string(&target).unwrap(), "");

        let path = alices.join("out");
        for _ in 0..2 {
            let (outcome, output) = house.run(&writing_to(house, &path));
            assert_exited(&outcome, 0, &output);
            assert_eq!(output, "error\n");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "text\ntext\n");
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.mode() & 0o777), (ALICE, 0o600));

        let mut launch = writing_to(house, std::path::Path::new("relative"));
        launch.stderr = Some("/dev/null".into());
        let (outcome, output) = house.run(&launch);
        assert_exited(&outcome, 0, &output);
        assert_eq!(output, "");
        assert_eq!(
            fs::read_to_string(alices.join("relative")).unwrap(),
            "text\n"
        );
    });
}

#[test]
fn t60_a_directory_that_is_swapped_leads_nowhere_the_user_may_not_write() {
    as_root(|house| {
        let run = house.start(&house.script(
            "mkdir -p real; ln -sfn ../bob evil; touch up
            while [ ! -e stop ]; do
                mv -T real dir 2>/dev/null; mv -T dir real 2>/dev/null
                mv -T evil dir 2>/dev/null; mv -T dir evil 2>/dev/null
            done",
        ));
        let alices = house.home("alice");
        // Anybody may look into bob's directory, and nobody may write there.
        fs::set_permissions(house.home("bob"), fs::Permissions::from_mode(0o755)).unwrap();
        until("the race is on", || alices.join("up").exists());
        let mut written = 0;
        for number in 0..100 {
            let path = alices.join(format!("dir/out{number}"));
            let (outcome, _) = house.run(&writing_to(house, &path));
            written += usize::from(outcome.cause == Cause::Exited);
        }
        fs::write(alices.join("stop"), "").unwrap();
        house.ended(run);
        assert_eq!(fs::read_dir(house.home("bob")).unwrap().count(), 0);
        eprintln!("{written} of 100 were written");
    });
}

#[test]
fn t61_a_directory_that_the_user_cannot_enter_is_refused_and_none_other_taken() {
    as_root(|house| {
        fs::create_dir(house.path("roots")).unwrap();
        fs::set_permissions(house.path("roots"), fs::Permissions::from_mode(0o700)).unwrap();
        let mut launch = house.launch(["pwd"]);
        launch.workdir = Some(house.path("roots").to_str().unwrap().into());
        let (outcome, output) = house.run(&launch);
        assert_eq!(outcome.wait_status, 125 << 8);
        assert!(output.ends_with("\": Permission denied\n"), "{output}");

        launch.workdir = None;
        let home = format!("{}\n", house.home("alice").display());
        assert_eq!(house.run(&launch).1, home);
    });
}

#[test]
fn t63_a_program_that_cannot_be_executed_says_exactly_why() {
    as_root(|house| {
        let dir = house.path("programs");
        fs::create_dir(&dir).unwrap();
        let put = |name: &str, text: &str, mode: u32| {
            fs::write(dir.join(name), text).unwrap();
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        put("plain", "text", 0o644);
        put("interpreter", "#!/no/such/thing\n", 0o755);
        put("bare", "echo bare \"$1\"\n", 0o755);
        put("roots", "#!/bin/sh\n", 0o700);
        run_tool(&["mkfifo", "-m", "777", dir.join("fifo").to_str().unwrap()]);
        fs::create_dir(dir.join("noexec")).unwrap();
        run_tool(&[
            "mount",
            "-t",
            "tmpfs",
            "-o",
            "noexec",
            "none",
            dir.join("noexec").to_str().unwrap(),
        ]);
        put("noexec/tool", "#!/bin/sh\n", 0o755);
        for (name, code, why) in [
            ("nosuch", 127, "No such file or directory"),
            ("plain", 126, "Permission denied"),
            ("interpreter", 127, "No such file or directory"),
            ("roots", 126, "Permission denied"),
            ("fifo", 126, "Permission denied"),
            ("noexec/tool", 126, "Permission denied"),
            ("", 126, "Permission denied"),
            ("plain/x", 126, "Not a directory"),
        ] {
            let path = format!("{}/{name}", dir.display());
            let (outcome, output) = house.run(&house.launch([&path]));
            assert_eq!(outcome.cause, Cause::StartFailed, "{name}");
            assert_eq!(outcome.wait_status, code << 8, "{name}");
            assert_eq!(output, format!("warrant: {path}: {why}\n"));
        }
        let path = dir.join("bare");
        let (outcome, output) = house.run(&house.launch([path.to_str().unwrap(), "a b"]));
        assert_exited(&outcome, 0, &output);
        assert_eq!(output, "bare a b\n");
    });
}

#[test]
fn t63_setuid_programs_gain_nothing_unless_the_policy_lets_them() {
    as_root(|house| {
        let tool = house.path("id");
        fs::copy("/usr/bin/id", &tool).unwrap();
        chown(&tool, Some(BOB), Some(BOB)).unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o6755)).unwrap();
        let launch = house.launch([tool.to_str().unwrap(), "-u"]);
        assert_eq!(house.run(&launch).1, format!("{ALICE}\n"));
        house.policy.no_new_privs = false;
        assert_eq!(house.run(&launch).1, format!("{BOB}\n"));
    });
}

#[test]
fn t64_paths_are_made_of_run_ids() {
    as_root(|house| {
        house.use_cgroups();
        let run = house.start(&house.launch(["cat", "/proc/self/cgroup"]));
        assert_exited(&house.ended(run), 0, "");
        let output = house.output(run);
        let path = format!("/warrant-jobs/{}", run.id);
        assert!(output.lines().any(|line| line.ends_with(&path)), "{output}");
        assert!(
            house
                .spool_file(run, RunFile::Record)
                .ends_with(format!("{}.run", run.id))
        );
        assert_ne!(new_run(), run.id);
    });
}

#[test]
fn t67_masks_are_the_policys_and_the_spool_is_the_shims() {
    as_root(|house| {
        for (umask, expected) in [(0o077, "600"), (0o022, "644"), (0o027, "640")] {
            house.policy.umask = Some(umask);
            let launch = house
                .script("touch made; stat -c %a made; rm made")
                .encode()
                .unwrap();
            let run = house.start_bytes("alice", ALICE, &launch, || {
                nix::sys::stat::umask(nix::sys::stat::Mode::empty());
            });
            assert_exited(&house.ended(run), 0, &house.output(run));
            assert_eq!(house.output(run), format!("{expected}\n"));
            for file in [RunFile::Record, RunFile::Output, RunFile::Index] {
                let metadata = fs::metadata(house.spool_file(run, file)).unwrap();
                assert_eq!((metadata.uid(), metadata.mode() & 0o777), (0, 0o600));
            }
        }
    });
}
