//! Memory of the processes of an installation. Source: the kernel's
//! documentation of `/proc/PID/smaps_rollup`.

use crate::report::{Cell, Table};

/// MiB that the idle broker may take.
const BROKER_AIM: f64 = 40.0;

/// A table to be filled by [`look`].
pub(crate) fn table(part: &'static str, title: String) -> Table {
    Table::new(
        part,
        title,
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

/// Look at these processes now.
///
/// Errors: one of them is gone.
pub(crate) fn look(
    table: &mut Table,
    processes: &[(&'static str, u32)],
    when: &str,
    aim: bool,
) -> anyhow::Result<()> {
    for (name, id) in processes.iter().copied() {
        let Resident { rss, pss, private } = resident(id)?;
        table.row([
            Cell::text(name),
            Cell::text(when),
            Cell::number(rss, ""),
            Cell::number(pss, ""),
            Cell::number(private, ""),
            if aim && name == "broker" {
                Cell::aim(format!("< {BROKER_AIM} MiB"), rss < BROKER_AIM)
            } else {
                Cell::none()
            },
        ]);
    }
    Ok(())
}

/// What a process has in memory, MiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resident {
    /// All of it.
    pub(crate) rss: f64,
    /// Where several have something, a share of that.
    pub(crate) pss: f64,
    /// What it alone has.
    pub(crate) private: f64,
}

/// Look at one process now.
///
/// Errors: it is gone.
pub(crate) fn resident(id: u32) -> anyhow::Result<Resident> {
    let text = std::fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
    Ok(Resident {
        rss: mib(&text, &["Rss:"]),
        pss: mib(&text, &["Pss:"]),
        private: mib(&text, &["Private_Clean:", "Private_Dirty:"]),
    })
}

/// What a process has in memory now, MiB: a look that costs little.
///
/// Errors: it is gone.
pub(crate) fn rss(id: u32) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    Ok(mib(&text, &["VmRSS:"]))
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
