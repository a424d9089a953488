//! Reading a dictionary that Python printed: `{'A': '1', 'B': "x y"}`. The
//! existing clients put it into the query. JSON objects are read as well.
//! Source: Python's `repr` of str, int, float, bool.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

/// The dictionary, its values as text; `None` where it is none, or holds
/// anything but plain values.
pub(super) fn dictionary(text: &str) -> Option<BTreeMap<String, String>> {
    let mut letters = text.trim().chars().peekable();
    let mut found = BTreeMap::new();
    expect(&mut letters, '{')?;
    loop {
        skip(&mut letters);
        if letters.next_if_eq(&'}').is_some() {
            break;
        }
        let name = value(&mut letters)?;
        skip(&mut letters);
        expect(&mut letters, ':')?;
        skip(&mut letters);
        found.insert(name, value(&mut letters)?);
        skip(&mut letters);
        if letters.next_if_eq(&',').is_none() {
            expect(&mut letters, '}')?;
            break;
        }
    }
    skip(&mut letters);
    letters.next().is_none().then_some(found)
}

fn skip(letters: &mut Peekable<Chars<'_>>) {
    while letters
        .next_if(|letter| letter.is_ascii_whitespace())
        .is_some()
    {}
}

fn expect(letters: &mut Peekable<Chars<'_>>, wanted: char) -> Option<()> {
    letters.next_if_eq(&wanted).map(drop)
}

fn value(letters: &mut Peekable<Chars<'_>>) -> Option<String> {
    match *letters.peek()? {
        quote @ ('\'' | '"') => {
            letters.next();
            quoted(letters, quote)
        }
        _ => bare(letters),
    }
}

/// A number or a truth value, as Python's `str` prints it.
fn bare(letters: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut text = String::new();
    while let Some(letter) = letters
        .next_if(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '-' | '.'))
    {
        text.push(letter);
    }
    match text.as_str() {
        "True" | "true" => Some("True".into()),
        "False" | "false" => Some("False".into()),
        number if number.parse::<f64>().is_ok_and(f64::is_finite) => Some(text),
        _ => None,
    }
}

fn quoted(letters: &mut Peekable<Chars<'_>>, quote: char) -> Option<String> {
    let mut text = String::new();
    loop {
        match letters.next()? {
            letter if letter == quote => return Some(text),
            '\\' => match letters.next()? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                'b' => text.push('\u{8}'),
                'f' => text.push('\u{c}'),
                'x' => text.push(char::from_u32(number(letters, 2)?)?),
                'u' => text.push(unit(letters)?),
                'U' => text.push(char::from_u32(number(letters, 8)?)?),
                escaped @ ('\\' | '\'' | '"' | '/') => text.push(escaped),
                _ => return None,
            },
            letter => text.push(letter),
        }
    }
}

/// What stands behind `\u`: a letter, or the first half of a pair, as JSON
/// spells the letters beyond 16 bits; `None` for half a pair.
fn unit(letters: &mut Peekable<Chars<'_>>) -> Option<char> {
    let first = number(letters, 4)?;
    if !(0xD800..0xDC00).contains(&first) {
        return char::from_u32(first);
    }
    expect(letters, '\\')?;
    expect(letters, 'u')?;
    let second = number(letters, 4)?.checked_sub(0xDC00)?;
    let letter = 0x1_0000 + ((first - 0xD800) << 10) + second;
    (second < 0x400).then(|| char::from_u32(letter)).flatten()
}

fn number(letters: &mut Peekable<Chars<'_>>, digits: usize) -> Option<u32> {
    (0..digits).try_fold(0_u32, |number, _| {
        Some(number << 4 | letters.next()?.to_digit(16)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Vec<(String, String)>> {
        Some(dictionary(text)?.into_iter().collect())
    }

    #[test]
    fn what_python_prints_is_read() {
        let pairs = [
            ("A", "1"),
            ("B", "x y"),
            ("C", "it's"),
            ("D", "5"),
            ("E", "True"),
        ];
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(a, b)| (a.to_string(), b.to_string()))
            .collect();
        let text = r#"{'A': '1', 'B': 'x y', 'C': "it's", 'D': 5, 'E': True}"#;
        assert_eq!(read(text), Some(pairs));
        assert_eq!(
            read(r"{'A': '\n\x41\u00e9\\'}"),
            Some(vec![("A".into(), "\nAé\\".into())])
        );
        assert_eq!(
            read(r"{'A': '\ud83d\ude00', 'B': '\U0001f600'}"),
            Some(vec![("A".into(), "😀".into()), ("B".into(), "😀".into())])
        );
        assert_eq!(read("{}"), Some(vec![]));
    }

    #[test]
    fn json_is_read_as_well() {
        assert_eq!(
            read(r#"{"A":"b","N":1.5}"#).map(|pairs| pairs.len()),
            Some(2)
        );
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "{",
            "{'A'}",
            "{'A': }",
            "{'A': 'b'",
            "{'A': ['b']}",
            "{'A': None}",
            "{'A': {'B': 'c'}}",
            "{'A': 'b'} x",
            "['A']",
            "{'A': open('x')}",
            "{'A': nan}",
            r"{'A': '\ud83d'}",
            r"{'A': '\ud83dx'}",
            r"{'A': '\ud83d\u0041'}",
            r"{'A': '\ud83d\ue000'}",
            r"{'A': '\ude00\ud83d'}",
            r"{'A': '\Uffffffff'}",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
