//! Options of the job shell: names and values. Source: flux-shell(1).

use std::collections::BTreeMap;

use super::validate::plain;
use serde_json::Value;

/// Options by their names.
pub(super) type Options = BTreeMap<String, String>;

/// Read `name=value,name=value`, as clients send it, or a dictionary.
///
/// Errors: the part that is neither.
pub(super) fn from_text(text: &str) -> Result<Options, String> {
    if text.trim_start().starts_with('{') {
        let read = super::literal::dictionary(text);
        return read.ok_or_else(|| "option_flags: is no dictionary of names and values".to_owned());
    }
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    parts
        .map(|part| match part.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            Some(_) | None => Err(format!(
                "option_flags: {part:?} must be name=value; a value that holds a comma can be sent \
                 in a JSON object"
            )),
        })
        .collect()
}

/// Read a JSON object; `{"output": {"stdout": {"path": "x"}}}` is
/// `output.stdout.path`.
///
/// Errors: the option that is not text, a number or a truth value.
pub(super) fn from_object(fields: &serde_json::Map<String, Value>) -> Result<Options, String> {
    let mut options = Options::new();
    flatten("", fields, &mut options)?;
    Ok(options)
}

fn flatten(
    above: &str,
    fields: &serde_json::Map<String, Value>,
    into: &mut Options,
) -> Result<(), String> {
    for (name, value) in fields {
        let name = format!("{above}{name}");
        match (value, plain(value)) {
            (_, Some(value)) => drop(into.insert(name, value)),
            (Value::Object(below), _) => flatten(&format!("{name}."), below, into)?,
            _ => {
                return Err(format!(
                    "option_flags: {name} must be text, a number, true or false"
                ));
            }
        }
    }
    Ok(())
}

/// Read `-oname=value -oother=value`, as administrators write it. A name
/// alone means the value 1. Source: flux-submit(1), `--setopt`.
///
/// Errors: the word that is no option.
pub fn from_flags(text: &str) -> Result<BTreeMap<String, String>, String> {
    let words = super::words::split(text).map_err(|error| error.to_string())?;
    let mut options = Options::new();
    for word in words.iter().filter(|word| *word != "-o") {
        let bare = word.strip_prefix("-o").unwrap_or(word);
        match bare.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                options.insert(name.to_owned(), value.to_owned());
            }
            None if bare.len() < word.len() => {
                options.insert(bare.to_owned(), "1".to_owned());
            }
            Some(_) | None => return Err(format!("{word:?} must be -oname=value")),
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pairs(options: &Options) -> Vec<(&str, &str)> {
        options
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect()
    }

    #[test]
    fn every_spelling_is_read() {
        let flags = from_flags("-ompi=openmpi@5 -okey=value plain=x -o a=b -overbose").unwrap();
        assert_eq!(
            pairs(&flags),
            [
                ("a", "b"),
                ("key", "value"),
                ("mpi", "openmpi@5"),
                ("plain", "x"),
                ("verbose", "1")
            ]
        );
        let text = from_text(" verbose=1,x.y=a=b,").unwrap();
        assert_eq!(pairs(&text), [("verbose", "1"), ("x.y", "a=b")]);
        assert_eq!(from_text("{'a': 1, 'b': 'c,d'}").unwrap()["b"], "c,d");
        let nested = json!({"output": {"stdout": {"path": "/x"}}, "verbose": 2, "a": true});
        let nested = from_object(nested.as_object().unwrap()).unwrap();
        assert_eq!(
            pairs(&nested),
            [
                ("a", "True"),
                ("output.stdout.path", "/x"),
                ("verbose", "2")
            ]
        );
    }

    #[test]
    fn what_is_no_option_is_named() {
        for text in ["nothing", "a=1,nothing", "a=1,=nothing", "{nothing}"] {
            assert!(
                from_text(text).unwrap_err().starts_with("option_flags: "),
                "{text}"
            );
        }
        for wrong in [
            json!({"a": 1, "x": {"y": null}}),
            json!({"x": {"y": [1]}, "z": "1"}),
        ] {
            let error = from_object(wrong.as_object().unwrap()).unwrap_err();
            assert!(error.contains("x.y"), "{error}");
        }
        for flags in ["nothing", "-o=1", "-oa='"] {
            assert!(from_flags(flags).is_err(), "{flags}");
        }
    }
}
