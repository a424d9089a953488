//! What the service manager and the monitor have of each other: a listening
//! socket, and news.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::house::{House, chmod, in_private, leaves_a_line, run_of};
use crate::house::{DEADLINE, until};

/// Takes the socket from standard input, as systemd passes it by StandardInput=.
const AS_STDIN: &str = "exec \"$0\" serve --policy \"$1\" 2>>\"$2\"";
/// Takes it as descriptor 3, as systemd passes it otherwise.
const AS_THREE: &str =
    "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve --policy \"$1\" 2>>\"$2\"";

/// A listening socket that others have as well, and how to start a monitor.
fn listening(house: &House) -> UnixListener {
    let _ = fs::create_dir(house.path("shim"));
    let _ = fs::remove_file(house.socket());
    let listener = UnixListener::bind(house.socket()).unwrap();
    chmod(&house.socket(), 0o666);
    listener
}

fn start(house: &House, script: &str, listener: &UnixListener, manager: Option<&Path>) -> Child {
    let mut monitor = Command::new("sh");
    monitor.args(["-c", script]).env_clear();
    if let Some(manager) = manager {
        monitor
            .env("NOTIFY_SOCKET", manager)
            .env("WATCHDOG_USEC", "60000");
    }
    let socket: OwnedFd = listener.as_fd().try_clone_to_owned().unwrap();
    monitor
        .arg(house.path("warrant-shim"))
        .arg(house.path("shim.toml"))
        .arg(house.path("audit.log"))
        .stdin(Stdio::from(socket))
        .spawn()
        .unwrap()
}

fn is_blocking(listener: &UnixListener) -> bool {
    let flags = fcntl(listener, FcntlArg::F_GETFL).unwrap();
    !OFlag::from_bits_truncate(flags).contains(OFlag::O_NONBLOCK)
}

/// What `systemctl reload` once did: the socket's flags belong to everybody
/// who has the socket.
#[test]
fn t133_a_listening_socket_that_others_make_blocking_is_served_on() {
    in_private(|| {
        for (round, script) in [AS_STDIN, AS_THREE].into_iter().enumerate() {
            let mut house = House::unopened("");
            let listener = listening(&house);
            let monitor = start(&house, script, &listener, None);
            house.adopt(monitor);
            let job = |number| 10 * round as u64 + number;
            let mut first = house.connect();
            first.admit(run_of(job(1), 1), &leaves_a_line());
            listener.set_nonblocking(false).unwrap();
            // The broker is restarted: the next connection is taken, and then
            // no other one waits.
            for number in 2..5 {
                let mut broker = house.connect();
                broker.admit(run_of(job(number), 1), &leaves_a_line());
                listener.set_nonblocking(false).unwrap();
                assert!(is_blocking(&listener));
            }
            first.admit(run_of(job(5), 1), &leaves_a_line());
            house.signal_monitor("TERM");
            assert!(house.wait_for_monitor().success());
        }
    });
}

#[test]
fn t133_the_service_manager_hears_that_it_serves_and_then_of_each_turn_of_its_loop() {
    in_private(|| {
        let mut house = House::unopened("");
        let listener = listening(&house);
        let place = house.path("notify");
        let manager = UnixDatagram::bind(&place).unwrap();
        manager.set_read_timeout(Some(DEADLINE)).unwrap();
        let next = || {
            let mut buffer = [0; 64];
            let count = manager.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..count].to_vec()).unwrap()
        };
        let monitor = start(&house, AS_THREE, &listener, Some(&place));
        assert_eq!(next(), "READY=1");
        house.adopt(monitor);
        for _ in 0..5 {
            assert_eq!(next(), "WATCHDOG=1");
        }
        // What hangs says nothing.
        house.signal_monitor("STOP");
        let many_turns = Duration::from_secs(1);
        manager.set_read_timeout(Some(many_turns)).unwrap();
        until("it is silent", || manager.recv(&mut [0; 64]).is_err());
        house.signal_monitor("CONT");
        manager.set_read_timeout(Some(DEADLINE)).unwrap();
        assert_eq!(next(), "WATCHDOG=1");
        // Nothing of this is left in the environment.
        let environment = format!("/proc/{}/environ", house.monitor_pid());
        assert_eq!(fs::read(environment).unwrap(), b"");
    });
}

#[test]
fn a_ping_is_answered_to_whoever_asked() {
    in_private(|| {
        let house = House::open("");
        let (mut broker, mut other) = (house.connect(), house.connect());
        let run = run_of(0, 0);
        broker.send(&warrant_wire::Request::Ping { run });
        assert_eq!(broker.report(), warrant_wire::Report::Pong { run });
        other.admit(run_of(1, 1), &leaves_a_line());
    });
}
