//! Splitting a command as Python's `shlex.split` does: POSIX quoting, no
//! comments, no expansion. The error texts are Python's too, since clients
//! have always seen those. Source: Python's shlex documentation.

/// Why a command cannot be split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsplit {
    /// A quotation mark has no partner.
    #[error("No closing quotation")]
    Quotation,
    /// A backslash stands at the very end.
    #[error("No escaped character")]
    Escape,
}

/// The words of `text`.
///
/// Errors: an open quotation or escape.
pub(super) fn split(text: &str) -> Result<Vec<String>, Unsplit> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\\' => {
                let escaped = letters.next().ok_or(Unsplit::Escape)?;
                word.get_or_insert_default().push(escaped);
            }
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next().ok_or(Unsplit::Quotation)? {
                        '\'' => break,
                        other => word.push(other),
                    }
                }
            }
            '"' => quoted(&mut letters, word.get_or_insert_default())?,
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Within double quotes a backslash escapes only itself and the quote.
fn quoted(letters: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), Unsplit> {
    loop {
        match letters.next().ok_or(Unsplit::Quotation)? {
            '"' => return Ok(()),
            '\\' => match letters.next().ok_or(Unsplit::Escape)? {
                escaped @ ('"' | '\\') => word.push(escaped),
                other => word.extend(['\\', other]),
            },
            other => word.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_apart_as_python_splits_them() {
        for (text, words) in [
            ("echo hello world", vec!["echo", "hello", "world"]),
            ("  a\tb\r\nc  ", vec!["a", "b", "c"]),
            (
                "sh -c 'echo \"x y\"; exit 3'",
                vec!["sh", "-c", "echo \"x y\"; exit 3"],
            ),
            (
                r#"a\ b "c \"d\" \n" e''f"#,
                vec!["a b", r#"c "d" \n"#, "ef"],
            ),
            ("echo '' \"\"", vec!["echo", "", ""]),
            ("echo #not a comment", vec!["echo", "#not", "a", "comment"]),
            ("$HOME *", vec!["$HOME", "*"]),
            ("", vec![]),
        ] {
            assert_eq!(split(text).unwrap(), words, "{text}");
        }
    }

    #[test]
    fn open_quotations_and_escapes_are_named() {
        assert_eq!(
            split("echo 'x").unwrap_err().to_string(),
            "No closing quotation"
        );
        assert_eq!(
            split("echo \"x").unwrap_err().to_string(),
            "No closing quotation"
        );
        assert_eq!(
            split("echo x\\").unwrap_err().to_string(),
            "No escaped character"
        );
        assert_eq!(
            split("echo \"x\\").unwrap_err().to_string(),
            "No escaped character"
        );
    }
}
