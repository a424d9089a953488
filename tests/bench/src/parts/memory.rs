//! Memory of the processes of an installation. Source: the kernel's
//! documentation of `/proc/PID/smaps_rollup`.

use crate::house::House;
use crate::report::{Cell, Table};

/// MiB that the idle broker may take.
const BROKER_AIM: f64 = 40.0;

/// A table to be filled by [`look`].
pub(crate) fn table(on: &str) -> Table {
    Table::new(
        "memory",
        format!("memory, {on}"),
        &[
            "process",
            "when",
            "Rss MiB",
            "Pss MiB",
            "private MiB",
            "aim",
        ],
    )
}

/// Look at the processes of `house` now.
///
/// Errors: one of them is gone.
pub(crate) fn look(table: &mut Table, house: &House, when: &str, aim: bool) -> anyhow::Result<()> {
    for (name, id) in house.process_ids() {
        let text = std::fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
        let rss = mib(&text, &["Rss:"]);
        table.row([
            Cell::text(name),
            Cell::text(when),
            Cell::number(rss, ""),
            Cell::number(mib(&text, &["Pss:"]), ""),
            Cell::number(mib(&text, &["Private_Clean:", "Private_Dirty:"]), ""),
            if aim && name == "broker" {
                Cell::aim(format!("< {BROKER_AIM} MiB"), rss < BROKER_AIM)
            } else {
                Cell::none()
            },
        ]);
    }
    Ok(())
}

/// The sum of some fields.
fn mib(rollup: &str, names: &[&str]) -> f64 {
    let fields = rollup.lines().filter_map(|line| {
        let (name, rest) = line.split_at_checked(line.find(':')? + 1)?;
        let kib: f64 = rest.trim().strip_suffix(" kB")?.parse().ok()?;
        names.contains(&name).then_some(kib)
    });
    fields.sum::<f64>() / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_added_by_their_names() {
        let text = "5555-7777 ---p 00000000 00:00 0 [rollup]\nRss:    2048 kB\nPss:    1024 kB\n\
            Private_Clean:   512 kB\nPrivate_Dirty:   256 kB\n";
        assert_eq!(mib(text, &["Rss:"]), 2.0);
        assert_eq!(mib(text, &["Private_Clean:", "Private_Dirty:"]), 0.75);
    }
}
