//! What `check-config` found, and how it is told.

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;

/// How `check-config` is to tell what it finds.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct CheckConfig {
    /// As one JSON object.
    #[arg(long)]
    json: bool,
    /// Exit with 1 where there are warnings.
    #[arg(long)]
    strict: bool,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It does not work so.
    Error,
    /// It works, and is weaker than it could be, or likely not what is meant.
    Warning,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// The setting, or what else it is about.
    pub key: String,
    /// What is wrong, and what to do; no secret.
    pub message: String,
}

/// Everything that was found, in the order in which it was looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Something that does not work.
    pub fn error(&mut self, key: &str, message: impl Into<String>) {
        self.add(Level::Error, key, message.into());
    }

    /// Something that is weak or doubtful.
    pub fn warning(&mut self, key: &str, message: impl Into<String>) {
        self.add(Level::Warning, key, message.into());
    }

    fn add(&mut self, level: Level, key: &str, message: String) {
        // An error of a setting begins with its name already.
        let own = message.strip_prefix(key);
        let message = own
            .and_then(|rest| rest.strip_prefix(": "))
            .unwrap_or(&message);
        self.0.push(Finding {
            level,
            key: key.to_owned(),
            message: message.replace('\n', " "),
        });
    }

    /// What was found.
    pub fn all(&self) -> &[Finding] {
        &self.0
    }

    fn count(&self, level: Level) -> usize {
        self.0
            .iter()
            .filter(|finding| finding.level == level)
            .count()
    }

    /// Write one line for each finding and one for all; returns the exit code:
    /// 2 where there are errors, 1 where there are warnings and `--strict` was
    /// asked for, else 0. `what` says what was checked.
    ///
    /// Errors: nobody reads it.
    pub fn tell(&self, options: CheckConfig, what: &str, out: &mut impl Write) -> io::Result<u8> {
        let (errors, warnings) = (self.count(Level::Error), self.count(Level::Warning));
        if options.json {
            let told = serde_json::json!({
                "checked": what,
                "errors": errors,
                "warnings": warnings,
                "findings": self.0,
            });
            writeln!(out, "{told}")?;
        } else {
            for Finding {
                level,
                key,
                message,
            } in &self.0
            {
                let level = match level {
                    Level::Error => "error",
                    Level::Warning => "warning",
                };
                writeln!(out, "{level}: {key}: {message}")?;
            }
            match (errors, warnings) {
                (0, 0) => writeln!(out, "The configuration is good: {what}.")?,
                (0, _) => writeln!(
                    out,
                    "The configuration can be used ({warnings} warnings): {what}."
                )?,
                _ => writeln!(
                    out,
                    "The configuration cannot be used: {errors} errors, {warnings} warnings."
                )?,
            }
        }
        Ok(match (errors, warnings) {
            (0, 0) => 0,
            (0, _) => u8::from(options.strict),
            _ => 2,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(findings: &Findings, json: bool, strict: bool) -> (u8, String) {
        let mut out = Vec::new();
        let code = findings
            .tell(CheckConfig { json, strict }, "all of it", &mut out)
            .unwrap();
        (code, String::from_utf8(out).unwrap())
    }

    #[test]
    fn warnings_count_only_where_that_is_asked_for_and_errors_always() {
        let mut findings = Findings::default();
        assert_eq!(told(&findings, false, true).0, 0);
        findings.warning("a.b", "is weak");
        assert_eq!(told(&findings, false, false).0, 0);
        assert_eq!(told(&findings, false, true).0, 1);
        findings.error("a.c", "a.c: is\nwrong");
        assert_eq!(told(&findings, false, false).0, 2);
        let lines = told(&findings, false, true).1;
        assert!(
            lines.starts_with("warning: a.b: is weak\nerror: a.c: is wrong\n"),
            "{lines}"
        );
    }

    #[test]
    fn as_json_it_is_one_line() {
        let mut findings = Findings::default();
        findings.error("k", "m");
        let (code, text) = told(&findings, true, false);
        assert_eq!((code, text.lines().count()), (2, 1));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["findings"][0]["level"], "error");
        assert_eq!(value["errors"], 1);
    }
}
