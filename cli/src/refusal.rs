//! The server's reasons for a refusal, in one readable line.

use serde_json::Value;

use crate::terminal::visible;

/// Longest line printed, in characters.
const MAX_LENGTH: usize = 1000;

/// One line for an answer that is no success: the `Message`, `Error`, `Errors`
/// or `detail` of its body, the words of an auth service, else its status.
pub(crate) fn describe(status: u16, body: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    if let Ok(Value::Object(body)) = serde_json::from_str(body) {
        for field in ["Message", "Error", "Errors", "detail"] {
            match body.get(field) {
                Some(Value::String(text)) => parts.push(text.clone()),
                Some(Value::Array(list)) => {
                    parts.push(list.iter().map(item).collect::<Vec<_>>().join("; "));
                }
                _ => {}
            }
        }
    }
    parts.retain(|part| !part.is_empty());
    if parts.is_empty() {
        parts.extend(of_oauth(body));
    }
    if parts.is_empty() {
        return format!("the server answered with status {status} and gave no reason");
    }
    // "There was an issue." and its cause become one sentence.
    let last = parts.len() - 1;
    for part in parts.iter_mut().take(last) {
        part.truncate(part.trim_end_matches(['.', ':', ' ']).len());
    }
    let line: String = parts.join(": ").chars().take(MAX_LENGTH).collect();
    visible(line.trim()).into_owned()
}

/// The words of an auth service. Source: RFC 6749 §5.2.
fn of_oauth(body: &str) -> Option<String> {
    let body: Value = serde_json::from_str(body).ok()?;
    let said = [&body["error_description"], &body["error"]];
    let said = said.into_iter().find_map(Value::as_str)?;
    Some(said.to_owned()).filter(|said| !said.is_empty())
}

/// One entry of a list: a text, or the validation error of the FastAPI form
/// `{"loc": ["query", "limit"], "msg": "…"}`.
fn item(entry: &Value) -> String {
    let Value::Object(fields) = entry else {
        return entry
            .as_str()
            .map_or_else(|| entry.to_string(), str::to_owned);
    };
    let reason = fields.get("msg").and_then(Value::as_str).unwrap_or("wrong");
    let place = fields.get("loc").and_then(Value::as_array);
    let name = place.and_then(|loc| loc.last()).and_then(Value::as_str);
    name.map_or_else(|| reason.to_owned(), |name| format!("{name}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_of_a_refusal_becomes_one_line() {
        for (body, line) in [
            (r#"{"detail":"Job 5 not found"}"#, "Job 5 not found"),
            (
                r#"{"Message":"Invalid submit request","Errors":["a is wrong","b is wrong"]}"#,
                "Invalid submit request: a is wrong; b is wrong",
            ),
            (
                r#"{"Message":"There was an issue submitting that job.","Error":"no space"}"#,
                "There was an issue submitting that job: no space",
            ),
            (
                r#"{"detail":[{"type":"bool","loc":["query","details"],"msg":"Input should be a valid boolean"}]}"#,
                "details: Input should be a valid boolean",
            ),
        ] {
            assert_eq!(describe(400, body), line);
        }
    }

    #[test]
    fn an_answer_without_a_reason_shows_its_status() {
        for body in [
            "",
            "<html>Bad gateway</html>",
            "{}",
            "[]",
            r#"{"detail":""}"#,
        ] {
            assert_eq!(
                describe(502, body),
                "the server answered with status 502 and gave no reason"
            );
        }
    }

    #[test]
    fn a_reason_cannot_control_the_terminal_nor_fill_it() {
        assert_eq!(
            describe(400, r#"{"detail":"a\u001b[2J\nb"}"#),
            "a\\u{1b}[2J\\nb"
        );
        let long = format!(r#"{{"detail":"{}"}}"#, "x".repeat(100_000));
        assert_eq!(describe(400, &long).len(), MAX_LENGTH);
    }
}
