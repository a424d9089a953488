//! Who may speak to the monitor, and how much of its time they get.

use std::io::{IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use warrant_wire::{JobSignal, Refusal, Report, Request, encode_request};

use super::house::{
    ALICE, BROKER, House, Peer, as_user, chmod, claims, in_private, key, launch, leaves_a_line,
    run_of, sign,
};
use crate::house::{DEADLINE, until};

/// An admission that would be accepted.
fn good_frame(house: &House, job: u64) -> Vec<u8> {
    let _ = house;
    let launch = leaves_a_line();
    encode_request(&Request::Admit {
        run: run_of(job, 1),
        warrant: sign(&key(1), "k1", &claims(&launch)),
        launch,
    })
}

/// Fails unless the broker is served.
#[track_caller]
fn assert_serves(house: &House, job: u64) {
    house.connect().admit(run_of(job, 1), &leaves_a_line());
}

fn open_files(house: &House) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", house.monitor_pid()))
        .unwrap()
        .count()
}

#[test]
fn t01_the_socket_is_for_the_brokers_group_alone() {
    in_private(|| {
        let house = House::open("");
        let error = as_user(ALICE, || UnixStream::connect(house.socket())).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
        assert_serves(&house, 1);
    });
}

#[test]
fn t02_on_an_open_socket_only_the_broker_is_listened_to() {
    in_private(|| {
        let house = House::open("");
        chmod(&house.socket(), 0o666);
        for uid in [ALICE, 0, BROKER + 1] {
            let socket = as_user(uid, || {
                let mut socket = UnixStream::connect(house.socket()).unwrap();
                let _ = socket.write_all(&good_frame(&house, 1));
                socket
            });
            assert!(Peer::new(socket).is_closed(), "{uid}");
            let line = format!("event=peer-refused uid={uid}");
            until("it is in the audit", || house.count_audit(&line) == 1);
        }
        assert_eq!(house.count_audit("event=admitted"), 0);
        assert_serves(&house, 2);
    });
}

/// Whoever got hold of a connection of the broker's.
#[test]
fn t04_each_message_must_be_the_brokers() {
    in_private(|| {
        let house = House::open("");
        for uid in [ALICE, 0] {
            let mut broker = house.connect();
            broker.admit(run_of(u64::from(uid) + 1, 1), &leaves_a_line());
            let frame = good_frame(&house, 100);
            as_user(uid, || broker.socket.write_all(&frame)).unwrap();
            assert!(broker.is_closed(), "{uid}");
        }
        // Half of a frame by the broker, half by another.
        let mut broker = house.connect();
        let frame = good_frame(&house, 100);
        broker.send_bytes(&frame[..10]).unwrap();
        as_user(ALICE, || broker.socket.write_all(&frame[10..])).unwrap();
        assert!(broker.is_closed());
        assert_eq!(house.count_audit("run=100.0.1"), 0);
        assert_serves(&house, 200);
    });
}

/// What counts is who connected, not who has that process id now.
#[test]
fn t04_a_peer_that_is_gone_is_judged_by_its_socket() {
    in_private(|| {
        let house = House::open("");
        chmod(&house.socket(), 0o666);
        house.signal_monitor("STOP");
        let mine = as_user(BROKER, || UnixStream::connect(house.socket())).unwrap();
        as_user(BROKER, || (&mine).write_all(&good_frame(&house, 1))).unwrap();
        drop(mine);
        let theirs = as_user(ALICE, || UnixStream::connect(house.socket())).unwrap();
        as_user(ALICE, || (&theirs).write_all(&good_frame(&house, 2))).unwrap();
        drop(theirs);
        house.signal_monitor("CONT");
        until("both were judged", || {
            house.count_audit("event=admitted run=1.0.1") == 1
                && house.count_audit("event=peer-refused uid=64011") == 1
        });
        assert_eq!(house.count_audit("run=2.0.1"), 0);
    });
}

#[test]
fn t05_a_malformed_frame_ends_its_connection_and_no_other() {
    in_private(|| {
        let house = House::open("");
        let mut other = house.connect();
        let good = good_frame(&house, 1);
        let with_length = |length: u32| [&length.to_le_bytes()[..], &good[4..]].concat();
        let length = u32::try_from(good.len() - 4).unwrap();
        let max = u32::try_from(warrant_wire::frame::MAX_FRAME_BYTES).unwrap();
        let signal = |number| {
            encode_request(&Request::Signal {
                run: run_of(1, 1),
                signal: JobSignal::Deliver(number),
            })
        };
        let mut unknown = good.clone();
        unknown[5] = 99;
        let mut version = good.clone();
        version[4] = 9;
        for (name, frame) in [
            ("no length", with_length(0)),
            ("too short", with_length(20)),
            ("too long", with_length(max + 1)),
            ("far too long", with_length(u32::MAX)),
            ("unknown kind", unknown),
            ("unknown version", version),
            ("signal 0", signal(0)),
            ("signal 65", signal(65)),
            ("not a frame", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ] {
            let mut peer = house.connect();
            peer.send_bytes(&frame).unwrap();
            assert!(peer.is_closed(), "{name}");
        }
        // An admission is over where its frame is: what is behind is the next.
        let mut peer = house.connect();
        peer.send_bytes(&with_length(length)).unwrap();
        assert_eq!(peer.report(), Report::Admitted { run: run_of(1, 1) });
        peer.send_bytes(&[0; 6]).unwrap();
        assert!(peer.is_closed());
        other.admit(run_of(2, 1), &leaves_a_line());
        assert_eq!(house.count_audit("event=connection-closed"), 10);
    });
}

#[test]
fn t06_a_frame_that_does_not_end_ends_its_connection_and_holds_up_nobody() {
    in_private(|| {
        let house = House::open("");
        let mut broker = house.connect();
        let run = run_of(1, 1);
        broker.admit(run, &launch(&["sleep", "1000"]));
        broker.send_start(run);
        broker.started(run);
        let begun = Instant::now();
        let frame = good_frame(&house, 2);
        let slow: Vec<_> = (0..20)
            .map(|_| {
                let mut peer = house.connect();
                peer.send_bytes(&frame[..5]).unwrap();
                peer
            })
            .collect();
        // More bytes do not buy more time.
        for (mut peer, byte) in slow.into_iter().zip(&frame[5..]) {
            let _ = peer.send_bytes(&[*byte]);
            assert!(peer.is_closed());
        }
        let took = begun.elapsed();
        assert!(
            took > Duration::from_secs(9) && took < Duration::from_secs(20),
            "{took:?}"
        );
        // Idle between frames, the broker has kept its connection.
        broker.send_signal(run, JobSignal::Kill);
        assert_eq!(broker.ended(run).cause, warrant_wire::Cause::Cancelled);
    });
}

#[test]
fn t06_ten_thousand_idle_connections_do_not_keep_the_broker_out() {
    in_private(|| {
        let house = House::open("");
        let run = run_of(1, 1);
        let mut broker = house.connect();
        broker.admit(run, &launch(&["sleep", "1000"]));
        broker.send_start(run);
        broker.started(run);
        drop(broker);
        let mut idle = std::collections::VecDeque::new();
        for _ in 0..10_000 {
            idle.push_back(house.connect());
            if idle.len() > 500 {
                idle.pop_front();
            }
        }
        let mut broker = house.connect();
        let asked = Instant::now();
        broker.send_watch(run);
        broker.started(run);
        broker.send_signal(run, JobSignal::Kill);
        broker.ended(run);
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert!(open_files(&house) < 100, "{}", open_files(&house));
        // The newest are there still, and heard of it; the others are not.
        idle.back_mut().unwrap().ended(run);
        idle.back_mut()
            .unwrap()
            .admit(run_of(2, 1), &leaves_a_line());
        assert!(idle.front_mut().unwrap().is_closed());
    });
}

/// As much work as the socket takes, from another connection.
#[test]
fn t06_a_cancel_is_heard_in_a_flood() {
    in_private(|| {
        let house = House::open("");
        let run = run_of(1, 1);
        let mut broker = house.connect();
        broker.admit(run, &launch(&["sleep", "1000"]));
        broker.send_start(run);
        broker.started(run);
        let flood = house.connect();
        flood.socket.set_nonblocking(true).unwrap();
        let bad = sign(&key(2), "k1", &claims(&leaves_a_line()));
        let frame = encode_request(&Request::Admit {
            run: run_of(2, 1),
            warrant: bad,
            launch: leaves_a_line(),
        });
        let frames = frame.repeat(1000);
        let mut sent = 0;
        let mut fill = || {
            as_user(BROKER, || {
                while let Ok(count) = (&flood.socket).write(&frames[sent % frame.len()..]) {
                    sent += count;
                }
            });
        };
        for _ in 0..50 {
            fill();
        }
        let asked = Instant::now();
        broker.send_signal(run, JobSignal::Kill);
        fill();
        broker.ended(run);
        assert!(
            asked.elapsed() < Duration::from_secs(1),
            "{:?}",
            asked.elapsed()
        );
        until("the flood to be read", || {
            house.count_audit("reason=signature") > 100
        });
    });
}

#[test]
fn t07_descriptors_are_not_taken() {
    in_private(|| {
        let house = House::open("");
        assert_serves(&house, 1);
        let before = open_files(&house);
        let (end, _other) = UnixStream::pair().unwrap();
        let all: Vec<OwnedFd> = (0..253)
            .map(|_| end.as_fd().try_clone_to_owned().unwrap())
            .collect();
        let numbers: Vec<i32> = all.iter().map(AsRawFd::as_raw_fd).collect();
        let frame = good_frame(&house, 100);
        for (round, count) in [1, 253].into_iter().cycle().take(1000).enumerate() {
            let mut peer = house.connect();
            let sent = as_user(BROKER, || {
                let control = [ControlMessage::ScmRights(&numbers[..count])];
                let parts = [IoSlice::new(&frame)];
                let socket = peer.socket.as_raw_fd();
                sendmsg::<()>(socket, &parts, &control, MsgFlags::MSG_NOSIGNAL, None)
            });
            // Where the kernel refuses them, nothing was sent at all.
            if sent.is_ok() {
                assert!(peer.is_closed(), "{round}");
            }
        }
        assert_eq!(house.count_audit("run=100.0.1"), 0);
        assert_serves(&house, 2);
        until("all connections are gone", || open_files(&house) <= before);
    });
}

/// Everybody is told of every run: those who do not listen are cut off.
#[test]
fn a_broker_that_takes_no_reports_is_cut_off() {
    in_private(|| {
        let house = House::open("");
        let mut deaf: Vec<_> = (0..63).map(|_| house.connect()).collect();
        let mut broker = house.connect();
        let run = run_of(1, 1);
        let ask = encode_request(&Request::Watch {
            run,
            same_boot: true,
        });
        let over = Instant::now() + DEADLINE;
        while house.count_audit("reason=\"takes no reports\"") < 63 {
            assert!(Instant::now() < over, "{}", house.audit());
            broker.send_bytes(&ask.repeat(1000)).unwrap();
            for _ in 0..1000 {
                broker.not_started(run, None);
            }
        }
        assert!(open_files(&house) < 20);
        // They find what was sent, and then the end.
        assert!(deaf[0].next().is_some());
        broker.admit(run_of(2, 1), &leaves_a_line());
    });
}

#[test]
fn whoever_connects_is_refused_with_a_reason_and_no_more() {
    in_private(|| {
        let house = House::open("");
        let mut broker = house.connect();
        let run = run_of(1, 1);
        let launch = leaves_a_line();
        let mut wrong = claims(&launch);
        wrong.aud = "elsewhere".into();
        broker.send_admit(run, &sign(&key(1), "k1", &wrong), &launch);
        broker.refused(run, Refusal::Audience);
        broker.send_admit(run, &sign(&key(2), "k1", &claims(&launch)), &launch);
        broker.refused(run, Refusal::Signature);
        broker.send_admit(run, &sign(&key(1), "k2", &claims(&launch)), &launch);
        broker.refused(run, Refusal::KeyUnknown);
        let audit = house.audit();
        for reason in ["audience", "signature", "key-unknown"] {
            let line = format!("event=refused run=1.0.1 reason={reason}\n");
            assert_eq!(audit.matches(&line).count(), 1, "{audit}");
        }
        assert!(!audit.contains("echo ran"), "{audit}");
        assert!(!audit.contains("eyJ"), "{audit}");
    });
}
