//! Parameters from the query and the body alike, with the same coercions and
//! the same refusals as the Flux RESTful server's framework. Source: FastAPI
//! and pydantic 2, lax mode.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::http::{HeaderMap, Uri};
use serde_json::Value;
use warrant_api::flux::BadParameter;
use warrant_door::body::{FORM, readable};
use warrant_door::media_type;

use super::fault::Fault;

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Query,
    Body,
}

impl Place {
    const fn word(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Body => "body",
        }
    }
}

/// The parameters of one request. Of a name given twice the last counts; the
/// query counts before the body.
#[derive(Debug, Default)]
pub(super) struct Params {
    given: BTreeMap<String, (Place, Value)>,
    wrong: Vec<BadParameter>,
}

impl Params {
    /// The parameters of a query.
    pub(super) fn of_query(uri: &Uri) -> Self {
        let pairs = form(uri.query().unwrap_or_default().as_bytes());
        let given = pairs.map(|(name, value)| (name, (Place::Query, Value::String(value))));
        Self {
            given: given.collect(),
            wrong: Vec::new(),
        }
    }

    /// The parameters of a query and a body: a JSON object or a form of either kind. A JSON
    /// object without `command`, where the query has one, is the environment.
    ///
    /// Errors: 422 for a body that is neither.
    pub(super) async fn of_request(
        uri: &Uri,
        headers: &mut HeaderMap,
        body: Bytes,
    ) -> Result<Self, Fault> {
        let mut params = Self::of_query(uri);
        let body = readable(headers, body).await;
        let body = body.map_err(|misread| Fault::detail(misread.status, misread.why))?;
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(params);
        }
        if media_type(headers) == FORM {
            let pairs: BTreeMap<String, String> = form(&body).collect();
            for (name, value) in pairs {
                params.add(name, Value::String(value));
            }
            return Ok(params);
        }
        match serde_json::from_slice(&body) {
            Ok(Value::Object(fields)) => {
                if params.given.contains_key("command") && !fields.contains_key("command") {
                    params.add("envars".into(), Value::Object(fields));
                } else {
                    fields
                        .into_iter()
                        .for_each(|(name, value)| params.add(name, value));
                }
                Ok(params)
            }
            Ok(Value::Null) => Ok(params),
            Ok(other) => Err(Fault::parameters(vec![BadParameter {
                kind: "dict_type".into(),
                loc: vec!["body".into()],
                msg: "Input should be a valid dictionary".into(),
                input: shown(&other),
            }])),
            Err(error) => Err(Fault::parameters(vec![BadParameter {
                kind: "json_invalid".into(),
                loc: vec!["body".into(), error.column().to_string()],
                msg: "JSON decode error".into(),
                input: Value::Object(serde_json::Map::new()),
            }])),
        }
    }

    /// What is asked for, always spelt the same, wherever it stands.
    pub(super) fn canonical(&self) -> Vec<u8> {
        let given = self.given.iter().map(|(name, (_, value))| (name, value));
        let pairs: Vec<(&String, Value)> = given
            .map(|(name, value)| (name, sorted(value.clone())))
            .collect();
        serde_json::json!(pairs).to_string().into_bytes()
    }

    fn add(&mut self, name: String, value: Value) {
        self.given.entry(name).or_insert((Place::Body, value));
    }

    /// The first of `names` that was given.
    pub(super) fn get(&self, names: &[&str]) -> Option<&Value> {
        names
            .iter()
            .find_map(|name| self.given.get(*name))
            .map(|(_, value)| value)
    }

    /// A text, if given; an empty one where it is not given as text.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        match self.given.get(name)?.clone() {
            (_, Value::String(text)) => Some(text),
            (_, Value::Null) => None,
            (place, value) => {
                self.wrong_at(
                    place,
                    name,
                    "string_type",
                    "Input should be a valid string",
                    &value,
                );
                None
            }
        }
    }

    /// A whole number, if given.
    pub(super) fn integer(&mut self, name: &str) -> Option<i64> {
        const UNREADABLE: &str =
            "Input should be a valid integer, unable to parse string as an integer";
        const FRACTION: &str =
            "Input should be a valid integer, got a number with a fractional part";
        let (place, value) = self.given.get(name)?.clone();
        let (kind, msg) = match &value {
            Value::Null => return None,
            Value::String(text) => match whole(text) {
                Some(number) => return Some(number),
                None => ("int_parsing", UNREADABLE),
            },
            Value::Number(number) => match number.as_i64().or_else(|| exact(number.as_f64()?)) {
                Some(number) => return Some(number),
                None if number.is_f64() => ("int_from_float", FRACTION),
                None => (
                    "int_parsing_size",
                    "Unable to parse input string as an integer, exceeded maximum size",
                ),
            },
            Value::Bool(truth) => return Some(i64::from(*truth)),
            Value::Array(_) | Value::Object(_) => ("int_type", "Input should be a valid integer"),
        };
        self.wrong_at(place, name, kind, msg, &value);
        None
    }

    /// A truth value under the first of `names` that was given.
    pub(super) fn truth(&mut self, names: &[&str]) -> Option<bool> {
        let name = *names.iter().find(|name| self.given.contains_key(**name))?;
        let (place, value) = self.given.get(name)?.clone();
        let word = match &value {
            Value::Null => return None,
            Value::Bool(truth) => return Some(*truth),
            Value::String(text) => text.to_ascii_lowercase(),
            Value::Number(number) => number.to_string(),
            Value::Array(_) | Value::Object(_) => {
                self.wrong_at(
                    place,
                    name,
                    "bool_type",
                    "Input should be a valid boolean",
                    &value,
                );
                return None;
            }
        };
        match word.as_str() {
            "1" | "true" | "t" | "yes" | "y" | "on" => return Some(true),
            "0" | "false" | "f" | "no" | "n" | "off" => return Some(false),
            _ => {}
        }
        let msg = "Input should be a valid boolean, unable to interpret input";
        self.wrong_at(place, name, "bool_parsing", msg, &value);
        None
    }

    /// One of the words in `allowed`, if given. Source: a `Literal` of pydantic.
    pub(super) fn word(&mut self, name: &str, allowed: &[&'static str]) -> Option<&'static str> {
        let (_, value) = self.given.get(name)?.clone();
        let given = value.as_str();
        let found = allowed.iter().find(|word| given == Some(word));
        if found.is_none() && !value.is_null() {
            let quoted: Vec<String> = allowed.iter().map(|word| format!("'{word}'")).collect();
            let msg = format!("Input should be {}", quoted.join(" or "));
            self.refuse(name, "literal_error", &msg);
        }
        found.copied()
    }

    /// Refuse a parameter, where it is given.
    pub(super) fn refuse(&mut self, name: &str, kind: &str, msg: &str) {
        if let Some((place, value)) = self.given.get(name).cloned() {
            self.wrong_at(place, name, kind, msg, &value);
        }
    }

    fn wrong_at(&mut self, place: Place, name: &str, kind: &str, msg: &str, input: &Value) {
        self.wrong.push(BadParameter {
            kind: kind.into(),
            loc: vec![place.word().into(), name.into()],
            msg: msg.into(),
            input: shown(input),
        });
    }

    /// See that everything read so far was what it should be.
    ///
    /// Errors: 422 that names each parameter that was not.
    pub(super) fn check(&mut self) -> Result<(), Fault> {
        if self.wrong.is_empty() {
            return Ok(());
        }
        Err(Fault::parameters(std::mem::take(&mut self.wrong)))
    }
}

/// The pairs of a form or a query, which were seen to be UTF-8.
fn form(bytes: &[u8]) -> impl Iterator<Item = (String, String)> {
    form_urlencoded::parse(bytes).map(|(name, value)| (name.into_owned(), value.into_owned()))
}

/// A value whose objects name their fields in order.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<String, Value> = fields
                .into_iter()
                .map(|(name, value)| (name, sorted(value)))
                .collect();
            Value::Object(sorted.into_iter().collect())
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => plain,
    }
}

/// A whole number as pydantic reads it: signs, spaces around, `3.0`.
fn whole(text: &str) -> Option<i64> {
    let text = text.trim();
    let text = text.split_once('.').map_or(text, |(whole, fraction)| {
        let zeros = !fraction.is_empty() && fraction.bytes().all(|byte| byte == b'0');
        if zeros { whole } else { text }
    });
    text.parse().ok()
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "the value is whole and in range"
)]
fn exact(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
}

/// A value as a refusal repeats it: not at any length.
fn shown(value: &Value) -> Value {
    match value {
        Value::String(text) => text.chars().take(200).collect::<String>().into(),
        Value::Array(_) => Value::Array(Vec::new()),
        Value::Object(_) => Value::Object(serde_json::Map::new()),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}
