//! The files of the spool: records and indexes of output.

use warrant_wire::Refusal;
use warrant_wire::Stamp;
use warrant_wire::output::{ENTRY_BYTES, Entry, Stream};
use warrant_wire::record::{RECORD_BYTES, Record, Stamped, Ticket};

use super::frame::outcome;
use crate::Target;
use crate::meter;

pub(crate) const TARGET: Target = Target {
    name: "records",
    run,
    seeds,
    words: &["WRNR", "\u{1}", "\u{2}"],
};

fn run(input: &[u8]) {
    let (stamped, peak) = meter::peak(|| Stamped::decode(input));
    assert_eq!(peak, 0, "a record is read in place");
    match stamped {
        Ok(Stamped {
            stamp: None,
            record: Record::Empty,
        }) if input.iter().all(|byte| *byte == 0) => {
            assert!(input.len() <= RECORD_BYTES);
        }
        Ok(stamped) => assert_eq!(stamped.encode(), input, "a record has two forms"),
        Err(_) => {}
    }
    for entry in input.chunks(ENTRY_BYTES) {
        if let Ok(read) = Entry::decode(entry) {
            assert_eq!(read.encode(), entry, "an entry has two forms");
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let ticket = Ticket {
        keeper_pid: 4711,
        boot_id: [9; 16],
        started_us: 1_760_000_000_000_000,
    };
    let entry = |offset, stream| Entry {
        offset,
        time_us: 1,
        len: 24,
        rank: 3,
        stream,
    };
    let records = [
        Record::Empty,
        Record::Revoked,
        Record::Refused(Refusal::Shell),
        Record::Started(ticket),
        Record::Ended {
            ticket,
            outcome: outcome(),
            output_failed: true,
        },
    ]
    .map(|record| {
        let stamp = Some(Stamp {
            uid: 1001,
            job_sha256: [7; 32],
        });
        let plain = record.encode().to_vec();
        [plain, Stamped { stamp, record }.encode().to_vec()]
    })
    .into_iter()
    .flatten();
    let index = [entry(0, Stream::Stdout), entry(24, Stream::Stderr)].map(|entry| entry.encode());
    let nothing = [Vec::new(), vec![0; RECORD_BYTES], vec![0; RECORD_BYTES + 1]];
    records.chain([index.concat()]).chain(nothing).collect()
}
