//! The built program as a process: what a shell, a script and the kernel see.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const WARRANT: &str = env!("CARGO_BIN_EXE_warrant");

#[allow(
    clippy::disallowed_methods,
    reason = "the test is about the process itself"
)]
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    command
}

fn warrant(arguments: &[&str]) -> Output {
    command(WARRANT).args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_server_that_is_not_there_exits_3_and_says_what_to_do() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let url = format!("http://{}", free.unwrap());
    let output = warrant(&["nodes", "--host", &url]);
    assert_eq!(output.status.code(), Some(3));
    let message = stderr(&output);
    assert!(message.starts_with("warrant: ") && message.contains(&url));
    assert!(message.contains("warrant up"), "{message}");
    assert_eq!(output.stdout, b"");
}

#[test]
fn a_senseless_command_line_exits_2() {
    for line in [
        &[][..],
        &["submit"],
        &["info"],
        &["info", "../nodes"],
        &["nodes", "--host", "localhost"],
        &["logs", "--follow", "--json", "1"],
        &["up", "--listen", "everywhere"],
    ] {
        assert_eq!(warrant(line).status.code(), Some(2), "{line:?}");
    }
}

#[test]
fn the_completions_offer_what_a_person_may_type_and_no_more() {
    for shell in ["bash", "zsh", "fish"] {
        let output = warrant(&["completions", shell]);
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains("submit"), "{shell}");
        assert!(!script.contains("tethered"), "{shell}");
    }
}

#[test]
fn a_tethered_process_ends_when_its_parent_is_killed() {
    // The shell says the number of its child, then waits to be killed.
    let script = format!("{WARRANT} --tethered $$ /bin/sleep 600 & echo $!; wait");
    let mut parent = command("/bin/sh")
        .args(["-c", &script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut number = String::new();
    let mut output = parent.stdout.take().unwrap();
    while !number.ends_with('\n') {
        let mut byte = [0];
        output.read_exact(&mut byte).unwrap();
        number.push(char::from(byte[0]));
    }
    let child = format!("/proc/{}", number.trim());
    let runs_sleep = || {
        // Empty once it has ended, whether or not it has been waited for.
        let line = std::fs::read_to_string(Path::new(&child).join("cmdline"));
        line.is_ok_and(|line| line.starts_with("/bin/sleep"))
    };
    wait_until("the child has become the program", runs_sleep);
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait_until("the child has ended", || !runs_sleep());
}

#[test]
fn a_process_of_another_parent_is_not_tethered() {
    let output = warrant(&["--tethered", "1", "/bin/echo", "started"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, b"");
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
