//! What the service manager is told, and what becomes of a part that hangs.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::Signal;
use warrant_tests::database::Database;
use warrant_tests::house::Setup;
use warrant_tests::processes::send;
use warrant_tests::wait::{PATIENCE, until};

/// More turns of any loop than can be missed.
const MANY_TURNS: Duration = Duration::from_secs(1);

#[test]
fn t133_both_services_tell_when_they_serve_and_that_their_loops_turn() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("notify");
    let manager = UnixDatagram::bind(&place).unwrap();
    let (heard, hearing) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok(count) = manager.recv(&mut buffer) {
            let text = String::from_utf8(buffer[..count].to_vec()).unwrap();
            if heard.send(text).is_err() {
                return;
            }
        }
    });
    let next = || hearing.recv_timeout(PATIENCE).unwrap();
    let hears = |word: &str| until(word, || (next() == word).then_some(()));
    let mut house = Setup::on(Database::Sqlite)
        .set("NOTIFY_SOCKET", place.to_str().unwrap())
        .set("WATCHDOG_USEC", "60000")
        .open();
    // The auth service's, then the broker's.
    hears("READY=1");
    hears("READY=1");
    house.kill_authsvc();
    for _ in 0..100 {
        assert_eq!(next(), "WATCHDOG=1");
    }
    send(house.broker_pid(), Signal::SIGSTOP);
    until("the broker is silent", || {
        hearing.recv_timeout(MANY_TURNS).is_err().then_some(())
    });
    send(house.broker_pid(), Signal::SIGCONT);
    hears("WATCHDOG=1");
    house.stop_broker();
    hears("STOPPING=1");
    house.start_authsvc();
    hears("READY=1");
    for _ in 0..100 {
        assert_eq!(next(), "WATCHDOG=1");
    }
    house.start_broker();
    house.close();
}

/// In single-user mode the monitor is the broker's own child.
#[test]
fn t133_a_monitor_of_the_brokers_own_that_hangs_is_replaced_and_no_job_is_lost() {
    let house = Setup::on(Database::Sqlite).open();
    let admin = house.admin();
    let before = admin.submit_script("sleep 1000");
    admin.wait_until(before, "RUN");
    let monitor = house.monitor();
    send(monitor.pid, Signal::SIGSTOP);
    until("the broker to notice", || {
        let logs = house.logs();
        logs.contains("the shim's monitor does not answer")
            .then_some(())
    });
    let after = admin.submit_script("exit 3");
    assert_eq!(admin.finished(after)["returncode"], 3);
    assert_ne!(house.monitor().pid, monitor.pid);
    assert_eq!(admin.info(before)["state"], "RUN");
    house.close();
}

#[test]
fn t133_every_unit_is_watched_and_none_shares_its_socket_with_its_reload() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
    let mut services = 0;
    for entry in fs::read_dir(units).unwrap().flatten() {
        let (name, text) = (entry.file_name(), fs::read_to_string(entry.path()).unwrap());
        if !name.to_str().unwrap().ends_with(".service") {
            continue;
        }
        services += 1;
        let has = |line: &str| text.lines().any(|other| other == line);
        assert!(has("Type=notify"), "{name:?}");
        assert!(text.contains("\nWatchdogSec="), "{name:?}");
        assert!(text.contains("\nTimeoutStopSec="), "{name:?}");
        // systemd makes this one blocking for whatever it starts for the unit.
        assert!(!has("StandardInput=socket"), "{name:?}");
    }
    assert_eq!(services, 4);
}
