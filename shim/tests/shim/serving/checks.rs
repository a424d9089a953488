//! When a monitor does not start.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen};

use super::house::{ALICE, BROKER, House, chmod, in_private, key, leaves_a_line, run, run_of};
use crate::house::until;

const NOT_ROOTS: &str = "must belong to root";
const WRITABLE: &str = "must be writable by root alone";

fn own(path: &Path, uid: u32) {
    chown(path, Some(uid), Some(uid)).unwrap();
}

#[test]
fn t89_whatever_decides_must_be_roots_alone() {
    in_private(|| {
        let mut house = House::open("");
        house.kill_monitor();
        for name in [
            "shim.toml",
            "keys",
            "keys/k1.pub",
            "state",
            "spool",
            "warrant-shim",
            ".",
        ] {
            let path = house.path(name);
            let (mode, owner) = fs::metadata(&path).map(|it| (it.mode(), it.gid())).unwrap();
            let shown = path.components().collect::<std::path::PathBuf>();
            own(&path, ALICE);
            house.assert_refuses(&format!("{}: {NOT_ROOTS}", shown.display()));
            chown(&path, Some(0), Some(owner)).unwrap();
            for bit in [0o020, 0o002] {
                chmod(&path, mode & 0o7777 | bit);
                house.assert_refuses(&format!("{}: {WRITABLE}", shown.display()));
            }
            // Sticky or not.
            chmod(&path, 0o1777);
            house.assert_refuses(WRITABLE);
            chmod(&path, mode & 0o7777);
        }
        house.start_monitor();
    });
}

#[test]
fn t89_links_are_not_followed() {
    in_private(|| {
        let mut house = House::open("");
        house.kill_monitor();
        for name in ["shim.toml", "keys", "keys/k1.pub", "state", "spool", "shim"] {
            let path = house.path(name);
            let real = house.path("real");
            fs::rename(&path, &real).unwrap();
            symlink(&real, &path).unwrap();
            house.assert_refuses(path.to_str().unwrap());
            fs::remove_file(&path).unwrap();
            fs::rename(&real, &path).unwrap();
        }
        house.start_monitor();
    });
}

#[test]
fn t40_without_its_pam_service_file_it_does_not_start() {
    in_private(|| {
        let house = House::unopened("");
        let text = fs::read_to_string(house.path("shim.toml")).unwrap();
        fs::write(
            house.path("shim.toml"),
            text.replace("pam = \"off\"", "pam = \"on\""),
        )
        .unwrap();
        // A private /etc/pam.d.
        run(
            "mount",
            &["-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/etc/pam.d"],
        );
        house.assert_refuses("/etc/pam.d/warrant");
        let file = Path::new("/etc/pam.d/warrant");
        fs::write(file, "account required pam_permit.so\n").unwrap();
        chmod(file, 0o664);
        house.assert_refuses("/etc/pam.d/warrant: must be writable by root alone");
        symlink("/etc/passwd", "/etc/pam.d/other").unwrap();
        fs::remove_file(file).unwrap();
        symlink("other", file).unwrap();
        house.assert_refuses("/etc/pam.d/warrant: must be a regular file");
    });
}

#[test]
fn t10_what_others_put_in_its_place_is_not_touched() {
    in_private(|| {
        let mut house = House::open("");
        house.kill_monitor();
        let socket = house.socket();
        // Its own stale socket is no hindrance.
        house.start_monitor();
        house.kill_monitor();
        fs::remove_file(&socket).unwrap();
        fs::write(&socket, "").unwrap();
        house.assert_refuses("is not a socket of ours");
        fs::remove_file(&socket).unwrap();
        symlink(house.path("alice/socket"), &socket).unwrap();
        house.assert_refuses("is not a socket of ours");
        fs::remove_file(&socket).unwrap();
        let planted = UnixListener::bind(&socket).unwrap();
        own(&socket, BROKER);
        house.assert_refuses("is not a socket of ours");
        assert!(socket.exists());
        drop(planted);
        fs::remove_file(&socket).unwrap();
        own(&house.path("shim"), BROKER);
        house.assert_refuses(NOT_ROOTS);
        own(&house.path("shim"), 0);
        // Neither the broker nor a user can put anything there.
        for uid in [BROKER, ALICE] {
            for dir in ["shim", "state", "spool", "keys", "."] {
                let path = house.path(dir).join("planted");
                let result = super::house::as_user(uid, || fs::write(&path, ""));
                assert!(result.is_err(), "{uid} {dir}");
            }
        }
        house.start_monitor();
    });
}

#[test]
fn t10_a_spool_of_another_mode_or_group_is_not_used() {
    in_private(|| {
        let mut house = House::open("");
        house.kill_monitor();
        let spool = house.path("spool");
        for mode in [0o700, 0o750, 0o2755, 0o2700] {
            chmod(&spool, mode);
            house.assert_refuses("must have mode 2750 and the broker's group");
        }
        chown(&spool, Some(0), Some(ALICE)).unwrap();
        chmod(&spool, 0o2750);
        house.assert_refuses("must have mode 2750 and the broker's group");
        chown(&spool, Some(0), Some(BROKER)).unwrap();
        chmod(&spool, 0o2750);
        chmod(&house.path("state"), 0o755);
        house.assert_refuses("must have mode 0700");
        chmod(&house.path("state"), 0o700);
        house.start_monitor();
    });
}

#[test]
fn t44_a_variable_that_meddles_is_refused_and_others_are_not_kept() {
    in_private(|| {
        let house = House::unopened("");
        for name in [
            "LD_PRELOAD",
            "LD_AUDIT",
            "MALLOC_PERTURB_",
            "GCONV_PATH",
            "LOCPATH",
            "NLSPATH",
            "TZ",
            "TZDIR",
            "GLIBC_TUNABLES",
            "RES_OPTIONS",
            "HOSTALIASES",
            "KRB5_CONFIG",
        ] {
            let status = house.end_of(house.command().env(name, "/nonexistent"));
            assert_eq!(status.code(), Some(78), "{name}");
        }
        let log = house.count_audit("the environment: must not have a variable");
        assert_eq!(log, 12, "{}", house.audit());
        let mut monitor = house.command().env("CANARY", "secret").spawn().unwrap();
        until("it serves", || house.count_audit("event=serving") == 1);
        let environ = format!("/proc/{}/environ", monitor.id());
        assert_eq!(fs::read(environ).unwrap(), b"");
        let name = fs::read_to_string(format!("/proc/{}/comm", monitor.id())).unwrap();
        assert_eq!(name, "warrant-shim\n");
        monitor.kill().unwrap();
        monitor.wait().unwrap();
    });
}

#[test]
fn t54_closed_standard_descriptors_are_taken_by_nothing_else() {
    in_private(|| {
        let house = House::unopened("");
        let script = "exec \"$0\" serve --policy \"$1\" <&- >&- 2>&- 9</etc/shadow";
        let mut monitor = std::process::Command::new("sh");
        monitor
            .args(["-c", script])
            .arg(house.path("warrant-shim"))
            .arg(house.path("shim.toml"));
        let mut monitor = monitor.env_clear().spawn().unwrap();
        until("it serves", || {
            super::house::as_user(BROKER, || {
                std::os::unix::net::UnixStream::connect(house.socket())
            })
            .is_ok()
        });
        let link = |fd: u32| fs::read_link(format!("/proc/{}/fd/{fd}", monitor.id())).unwrap();
        for fd in 0..3 {
            assert_eq!(link(fd), Path::new("/dev/null"));
        }
        for entry in fs::read_dir(format!("/proc/{}/fd", monitor.id())).unwrap() {
            // The connection of a moment ago may be gone by now.
            let target = fs::read_link(entry.unwrap().path());
            assert!(!target.is_ok_and(|target| target == Path::new("/etc/shadow")));
        }
        monitor.kill().unwrap();
        monitor.wait().unwrap();
    });
}

#[test]
fn t26_doubtful_keys_keep_it_from_starting() {
    in_private(|| {
        let house = House::unopened("");
        let keys = house.path("keys");
        let twin = keys.join("twin.pub");
        fs::copy(keys.join("k1.pub"), &twin).unwrap();
        house.assert_refuses("each key must have a name of its own");
        fs::write(&twin, "k2 AAAA\n").unwrap();
        house.assert_refuses("a key must be 32 bytes in base64url");
        fs::remove_file(&twin).unwrap();
        // What is not named like a key is not looked at.
        fs::write(keys.join("README"), "junk").unwrap();
        fs::remove_dir_all(&keys).unwrap();
        house.assert_refuses("keys");
    });
}

#[test]
fn t26_keys_change_while_it_serves_and_doubtful_ones_are_not_trusted() {
    in_private(|| {
        use super::house::{claims, sign};
        use warrant_wire::{Refusal, Report};
        let house = House::open("");
        let mut broker = house.connect();
        let launch = leaves_a_line();
        let mut job = 0;
        let mut ask = |number: u8, kid: &str| {
            job += 1;
            let run = run_of(job, 1);
            broker.send_admit(run, &sign(&key(number), kid, &claims(&launch)), &launch);
            match broker.report() {
                Report::Admitted { .. } => None,
                Report::Refused { refusal, .. } => Some(refusal),
                other => panic!("{other:?}"),
            }
        };
        let reload = || {
            let before = house.count_audit("event=keys-");
            house.signal_monitor("HUP");
            until("it has read them", || {
                house.count_audit("event=keys-") > before
            });
        };
        assert_eq!(ask(1, "k1"), None);
        // The next one is there before it is used.
        house.write_key("k2", &key(2));
        assert_eq!(ask(2, "k2"), Some(Refusal::KeyUnknown));
        reload();
        assert_eq!((ask(1, "k1"), ask(2, "k2")), (None, None));
        fs::remove_file(house.path("keys/k1.pub")).unwrap();
        reload();
        assert_eq!(
            (ask(1, "k1"), ask(2, "k2")),
            (Some(Refusal::KeyUnknown), None)
        );
        chmod(&house.path("keys/k2.pub"), 0o664);
        reload();
        assert_eq!(ask(2, "k2"), Some(Refusal::KeyUnknown));
        assert_eq!(house.count_audit("event=keys-refused"), 1);
        chmod(&house.path("keys/k2.pub"), 0o644);
        reload();
        assert_eq!(ask(2, "k2"), None);
    });
}

#[test]
fn t96_a_second_monitor_does_not_start_and_the_first_goes_on() {
    in_private(|| {
        let house = House::open("");
        house.assert_refuses("another monitor uses this directory");
        house.connect().admit(run_of(1, 1), &leaves_a_line());
    });
}

#[test]
fn t96_a_journal_of_another_version_is_left_alone() {
    in_private(|| {
        let mut house = House::open("");
        house.connect().admit(run_of(1, 1), &leaves_a_line());
        house.kill_monitor();
        let journal = house.path("state/journal");
        let mut bytes = fs::read(&journal).unwrap();
        bytes[4] += 1;
        fs::write(&journal, &bytes).unwrap();
        house.assert_refuses("another version");
        assert_eq!(fs::read(&journal).unwrap(), bytes);
    });
}

#[test]
fn keepers_must_have_an_account_of_no_other_use() {
    in_private(|| {
        let own = "must have a user id and a group of its own";
        for (name, complaint) in [
            ("root", "must not be root or nobody"),
            ("nobody", "must not be root or nobody"),
            ("nosuch", "there is no such account"),
            ("warrant", own),
            ("reader", own),
            ("wheely", own),
            ("alice", "must be outside of min_uid to max_uid"),
        ] {
            let house = House::unopened(&format!("keeper_user = \"{name}\""));
            house.assert_refuses(&format!("keeper_user: {complaint}"));
        }
    });
}

#[test]
fn the_broker_must_be_an_account_and_not_root() {
    in_private(|| {
        for (line, complaint) in [
            (
                "broker_user = \"root\"",
                "broker_user: must not be root or nobody",
            ),
            (
                "broker_user = \"nosuch\"",
                "broker_user: there is no such account",
            ),
            (
                "broker_group = \"root\"",
                "broker_group: must not be root's",
            ),
            (
                "broker_group = \"nosuch\"",
                "broker_group: there is no such group",
            ),
            ("nonsense", "line 8: must be a key, = and a value"),
        ] {
            House::unopened(line).assert_refuses(complaint);
        }
        let comment = format!("# {}", "x".repeat(64 * 1024));
        House::unopened(&comment).assert_refuses("must be at most 64 KiB");
        // And the monitor must be root itself.
        let house = House::unopened("");
        let mut monitor = std::process::Command::new("setpriv");
        monitor.args(["--reuid", "64001", "--regid", "64001", "--clear-groups"]);
        monitor
            .arg(house.path("warrant-shim"))
            .args(["serve", "--policy"]);
        let output = monitor
            .arg(house.path("shim.toml"))
            .env_clear()
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(78));
        assert_eq!(
            output.stderr,
            b"warrant-shim: this process: must run as root\n"
        );
    });
}

#[test]
fn it_ends_when_it_is_told_to_and_its_jobs_go_on() {
    in_private(|| {
        for signal in ["TERM", "INT"] {
            let mut house = House::open("");
            let run = run_of(1, if signal == "TERM" { 1 } else { 2 });
            let mut broker = house.connect();
            broker.admit(
                run,
                &super::house::launch(&[
                    "sh",
                    "-c",
                    "until [ -e go ]; do sleep 0.01; done; rm go; exit 5",
                ]),
            );
            broker.send_start(run);
            broker.started(run);
            house.signal_monitor(signal);
            assert!(house.wait_for_monitor().success());
            house.start_monitor();
            let mut broker = house.connect();
            broker.send_watch(run);
            broker.started(run);
            fs::write(house.path("alice/go"), "").unwrap();
            own(&house.path("alice/go"), ALICE);
            crate::house::assert_exited(&broker.ended(run), 5);
        }
    });
}

#[test]
fn a_socket_that_is_passed_on_is_served() {
    in_private(|| {
        let mut house = House::unopened("");
        fs::create_dir(house.path("shim")).unwrap();
        let listener = UnixListener::bind(house.socket()).unwrap();
        chmod(&house.socket(), 0o666);
        let script = "exec \"$0\" serve --policy \"$1\" 2>>\"$2\"";
        let mut monitor = std::process::Command::new("sh");
        monitor.args(["-c", script]).arg(house.path("warrant-shim"));
        monitor
            .arg(house.path("shim.toml"))
            .arg(house.path("audit.log"));
        let listener = std::os::fd::OwnedFd::from(listener);
        house.adopt(monitor.env_clear().stdin(listener).spawn().unwrap());
        let run = run_of(1, 1);
        let mut broker = house.connect();
        broker.admit(run, &leaves_a_line());
        broker.send_start(run);
        broker.started(run);
        broker.ended(run);
        // Others are turned away here as well.
        let socket = std::os::unix::net::UnixStream::connect(house.socket()).unwrap();
        assert!(super::house::Peer::new(socket).is_closed());
        assert_eq!(fs::metadata(house.socket()).unwrap().mode() & 0o777, 0o666);
        house.kill_monitor();
        // What listens must be a Unix stream socket.
        let (unix, inet) = (AddressFamily::Unix, AddressFamily::Inet);
        for (family, kind) in [(inet, SockType::Stream), (unix, SockType::SeqPacket)] {
            let mut monitor = std::process::Command::new("sh");
            monitor.args(["-c", script]).arg(house.path("warrant-shim"));
            monitor
                .arg(house.path("shim.toml"))
                .arg(house.path("audit.log"));
            let socket = nix::sys::socket::socket(family, kind, SockFlag::empty(), None).unwrap();
            if family == unix {
                let address = UnixAddr::new(&house.path("other")).unwrap();
                bind(socket.as_raw_fd(), &address).unwrap();
            }
            listen(&socket, Backlog::new(1).unwrap()).unwrap();
            let status = house.end_of(monitor.env_clear().stdin(socket));
            assert_eq!(status.code(), Some(78), "{family:?}");
        }
    });
}

#[test]
fn t67_what_it_makes_has_its_mode_whatever_the_mask() {
    in_private(|| {
        for (round, mask) in ["000", "077", "777"].iter().enumerate() {
            for dir in ["shim", "state", "spool"] {
                let _ = fs::remove_dir_all(House::unopened("").path(dir));
            }
            let mut house = House::unopened("");
            let script = format!("exec 2>>\"$2\"; umask {mask}; exec \"$0\" serve --policy \"$1\"");
            let mut monitor = std::process::Command::new("sh");
            monitor
                .args(["-c", &script])
                .arg(house.path("warrant-shim"));
            monitor
                .arg(house.path("shim.toml"))
                .arg(house.path("audit.log"));
            house.adopt(monitor.env_clear().spawn().unwrap());
            until("it serves", || house.count_audit("event=serving") > round);
            let run = run_of(1, 1);
            let mut broker = house.connect();
            broker.admit(run, &super::house::launch(&["echo", "hello"]));
            broker.send_start(run);
            broker.started(run);
            broker.ended(run);
            for (name, expected, group) in [
                ("shim", 0o755, 0),
                ("shim/shim.sock", 0o660, BROKER),
                ("state", 0o700, 0),
                ("state/journal", 0o600, 0),
                ("spool", 0o2750, BROKER),
                ("spool/0", 0o2750, BROKER),
                ("spool/0/1.0.1.run", 0o640, BROKER),
                ("spool/0/1.0.1.out", 0o640, BROKER),
                ("spool/0/1.0.1.idx", 0o640, BROKER),
            ] {
                let found = fs::metadata(house.path(name)).unwrap();
                let found = (found.mode() & 0o7777, found.uid(), found.gid());
                assert_eq!(found, (expected, 0, group), "{name} {mask}");
            }
        }
    });
}

#[test]
fn an_audit_that_nobody_reads_holds_up_nobody() {
    in_private(|| {
        use std::io::Read;
        let mut house = House::unopened("");
        let mut monitor = house
            .command()
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut audit = monitor.stderr.take().unwrap();
        house.adopt(monitor);
        let mut broker = house.connect();
        for _ in 0..3000 {
            let run = run_of(1, 1);
            broker.send_start(run);
            broker.not_started(run, Some(warrant_wire::Refusal::NotAdmitted));
        }
        let mut buffer = vec![0; 1 << 20];
        let count = audit.read(&mut buffer).unwrap();
        let text = String::from_utf8(buffer[..count].to_vec()).unwrap();
        assert!(text.ends_with('\n') && text.lines().count() < 3000);
        broker.send_start(run_of(1, 1));
        broker.report();
        let count = audit.read(&mut buffer).unwrap();
        let text = String::from_utf8(buffer[..count].to_vec()).unwrap();
        assert!(text.contains("event=audit-lost lines="), "{text}");
    });
}

#[test]
fn t132_what_it_must_write_to_is_written_to_before_it_serves() {
    in_private(|| {
        for dir in ["state", "spool"] {
            let mut house = House::unopened("");
            // Made as it should be, and then read-only.
            house.start_monitor();
            house.kill_monitor();
            let path = house.path(dir);
            let path = path.to_str().unwrap();
            super::house::run("mount", &["--bind", path, path]);
            super::house::run("mount", &["-o", "remount,bind,ro", path]);
            house.assert_refuses("Read-only file system");
            let checked = std::process::Command::new(house.path("warrant-shim"))
                .args(["check-policy", "--policy"])
                .arg(house.path("shim.toml"))
                .env_clear()
                .output()
                .unwrap();
            assert_eq!(checked.status.code(), Some(78));
            super::house::run("umount", &[path]);
        }
    });
}
