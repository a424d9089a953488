//! Templates in the paths of output files: `{{id}}`, `{{taskid}}` and the
//! like, which are replaced when a process starts.
//! Source: flux-core, "job-mustache-templates" of its manual pages.

/// The digits of F58. Source: Flux RFC 19.
const F58: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// What a tag is replaced by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// The job's id.
    Id(Encoding),
    /// The job's name: the last part of its program's path.
    Name,
    /// How many machines the job has.
    NodeCount,
    /// How many processes the job has.
    Size,
    /// The number of the machine within the job, or within the server's machines.
    NodeIndex,
    /// The machine's host name.
    NodeName,
    /// The numbers of the job's cores on the machine.
    Cores,
    /// How many cores the job has on the machine.
    CoreCount,
    /// The numbers of the job's GPUs on the machine.
    Gpus,
    /// The process's rank.
    Rank,
}

/// How an id is spelt. Source: Flux RFC 19.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Base 58 behind `ƒ`.
    F58,
    /// Base 58 behind a plain `f`.
    F58Plain,
    /// Decimal.
    Dec,
    /// Hexadecimal behind `0x`.
    Hex,
    /// Hexadecimal in four groups of four digits.
    DotHex,
}

/// A part of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes that stand for themselves.
    Text(&'a [u8]),
    /// What stands between `{{` and `}}`.
    Tag(&'a [u8]),
}

impl Tag {
    /// The tag of this name; `None` where there is none.
    pub fn parse(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"id" | b"jobid" | b"id.f58" | b"jobid.f58" => Self::Id(Encoding::F58),
            b"id.f58plain" | b"jobid.f58plain" => Self::Id(Encoding::F58Plain),
            b"id.dec" | b"jobid.dec" => Self::Id(Encoding::Dec),
            b"id.hex" | b"jobid.hex" => Self::Id(Encoding::Hex),
            b"id.dothex" | b"jobid.dothex" => Self::Id(Encoding::DotHex),
            b"name" => Self::Name,
            b"nnodes" => Self::NodeCount,
            b"size" | b"ntasks" => Self::Size,
            b"node.id" | b"node.broker_rank" => Self::NodeIndex,
            b"node.name" => Self::NodeName,
            b"node.cores" => Self::Cores,
            b"node.ncores" => Self::CoreCount,
            b"node.gpus" => Self::Gpus,
            b"taskid" | b"task.id" | b"task.rank" | b"task.index" | b"task.localid" => Self::Rank,
            _ => return None,
        })
    }
}

impl Encoding {
    /// The id `id` in this spelling.
    pub fn spell(self, id: u64) -> String {
        match self {
            Self::F58 => format!("ƒ{}", f58(id)),
            Self::F58Plain => format!("f{}", f58(id)),
            Self::Dec => id.to_string(),
            Self::Hex => format!("{id:#x}"),
            Self::DotHex => {
                let [a, b, c, d, e, f, g, h] = id.to_be_bytes();
                format!("{a:02x}{b:02x}.{c:02x}{d:02x}.{e:02x}{f:02x}.{g:02x}{h:02x}")
            }
        }
    }
}

fn f58(mut id: u64) -> String {
    let mut digits: Vec<u8> = Vec::new();
    loop {
        let digit = usize::try_from(id % 58).unwrap_or_default();
        digits.extend(F58.get(digit));
        id /= 58;
        if id == 0 {
            break;
        }
    }
    digits.iter().rev().copied().map(char::from).collect()
}

/// The pieces of a template, in their order. A `{{` without its `}}` stands
/// for itself.
pub fn pieces(mut template: &[u8]) -> impl Iterator<Item = Piece<'_>> {
    std::iter::from_fn(move || {
        if let Some(rest) = template.strip_prefix(b"{{")
            && let Some((tag, rest)) = split_at(rest, b"}}")
        {
            template = rest.get(2..).unwrap_or_default();
            return Some(Piece::Tag(tag));
        }
        // Behind the first letter, which may be a brace that opens nothing.
        let (first, rest) = template.split_at_checked(1)?;
        let ordinary = split_at(rest, b"{{").map_or(rest, |(ordinary, _)| ordinary);
        let (text, rest) = template.split_at_checked(first.len().saturating_add(ordinary.len()))?;
        template = rest;
        Some(Piece::Text(text))
    })
}

/// What stands before the first `mark`, and the rest from there on.
fn split_at<'a>(bytes: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(mark.len()).position(|part| part == mark)?;
    bytes.split_at_checked(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_spelt_as_flux_spells_it() {
        let id = 6_787_342_413_402_046;
        for (encoding, spelt) in [
            (Encoding::F58, "ƒuzzybunny"),
            (Encoding::F58Plain, "fuzzybunny"),
            (Encoding::Dec, "6787342413402046"),
            (Encoding::Hex, "0x181d0d4d850fbe"),
            (Encoding::DotHex, "0018.1d0d.4d85.0fbe"),
        ] {
            assert_eq!(encoding.spell(id), spelt);
        }
        assert_eq!(Encoding::F58Plain.spell(0), "f1");
        assert_eq!(Encoding::F58Plain.spell(57), "fz");
        assert_eq!(Encoding::F58Plain.spell(58), "f21");
    }

    #[test]
    fn a_template_comes_apart_at_its_tags() {
        let read = |template: &'static str| -> String {
            pieces(template.as_bytes())
                .map(|piece| match piece {
                    Piece::Text(text) => format!("[{}]", std::str::from_utf8(text).unwrap()),
                    Piece::Tag(tag) => format!("<{}>", std::str::from_utf8(tag).unwrap()),
                })
                .collect()
        };
        for (template, apart) in [
            ("", ""),
            ("/tmp/out", "[/tmp/out]"),
            ("{{id}}", "<id>"),
            ("a{{id}}{{taskid}}b", "[a]<id><taskid>[b]"),
            ("a{{id", "[a][{{id]"),
            ("a}}{{}}", "[a}}]<>"),
            ("{{{id}}}", "<{id>[}]"),
            ("{a}{b", "[{a}{b]"),
        ] {
            assert_eq!(read(template), apart, "{template}");
        }
    }
}
