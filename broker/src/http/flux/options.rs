//! Options of the job shell: `name=value` pairs.

use std::collections::BTreeMap;

/// Read `name=value,name=value`, as clients send it. What has no `=` is left
/// out, as the Flux RESTful server does it.
pub(super) fn from_client(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Read `-oname=value -oother=value`, as administrators write it.
pub fn from_flags(text: &str) -> BTreeMap<String, String> {
    let words = super::words::split(text).unwrap_or_default();
    let pairs = words.iter().filter_map(|word| {
        let (name, value) = word.split_once('=')?;
        Some((
            name.strip_prefix("-o").unwrap_or(name).to_owned(),
            value.to_owned(),
        ))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_read() {
        let flags = from_flags("-ompi=openmpi@5 -okey=value plain=x nothing");
        let pairs: Vec<_> = flags
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [("key", "value"), ("mpi", "openmpi@5"), ("plain", "x")]
        );
        assert_eq!(from_client("verbose=1,x.y=z,nothing").len(), 2);
    }
}
