//! The settings that a person has made for a service of `warrant up`: in its file
//! in the state directory, and in variables of the environment.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;

use toml::{Table, Value};

use crate::failure::Failure;

/// The settings of one service.
#[derive(Debug)]
pub(crate) struct Written {
    file: PathBuf,
    table: Table,
    /// The beginning of the names of the service's variables.
    prefix: &'static str,
}

impl Written {
    /// The settings in `file`, if it is there, and in the variables whose names
    /// begin with `prefix`.
    ///
    /// Errors: `Refused` where the file cannot be read, or is not TOML.
    pub(crate) fn read(file: PathBuf, prefix: &'static str) -> Result<Self, Failure> {
        let refused =
            |why: &dyn std::fmt::Display| Failure::Refused(format!("{}: {why}", file.display()));
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(refused(&error)),
        };
        let table = text.parse::<Table>().map_err(|error| refused(&error))?;
        Ok(Self {
            file,
            table,
            prefix,
        })
    }

    /// The value of a key such as `listen.http`: that of the variable, which the
    /// service prefers as well, else that in the file. Lists are joined with commas.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        let set = std::env::var(self.variable(key)).ok();
        set.or_else(|| match self.value(key)? {
            Value::String(text) => Some(text.clone()),
            Value::Array(values) => {
                let texts: Vec<_> = values.iter().filter_map(Value::as_str).collect();
                Some(texts.join(","))
            }
            other @ (Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Table(_)) => Some(other.to_string()),
        })
    }

    /// The address and port that a key names, if it is set.
    ///
    /// Errors: `Refused` where it is another text.
    pub(crate) fn address(&self, key: &str) -> Result<Option<SocketAddr>, Failure> {
        let parsed = self.text(key).map(|text| {
            text.parse().map_err(|_| {
                Failure::Refused(format!(
                    "{key}: an IP address and a port are needed, found {text:?}"
                ))
            })
        });
        parsed.transpose()
    }

    /// Refuse the keys that `warrant up` decides itself, each with what to do
    /// instead of setting it.
    ///
    /// Errors: `Refused`, naming the key and where it is set.
    pub(crate) fn refuse(&self, decided: &[(&str, &str)]) -> Result<(), Failure> {
        for (key, instead) in decided {
            let variable = self.variable(key);
            let place = if std::env::var_os(&variable).is_some() {
                variable
            } else if self.value(key).is_some() {
                format!("{}: {key}", self.file.display())
            } else {
                continue;
            };
            return Err(Failure::Refused(format!(
                "{place}: `warrant up` decides this; {instead}"
            )));
        }
        Ok(())
    }

    fn value(&self, key: &str) -> Option<&Value> {
        let mut names = key.split('.');
        let first = self.table.get(names.next()?)?;
        names.try_fold(first, |value, name| value.as_table()?.get(name))
    }

    fn variable(&self, key: &str) -> String {
        let name = key.to_uppercase().replace('.', "__");
        format!("{}{name}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Written {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.toml");
        std::fs::write(&file, text).unwrap();
        Written::read(file, "NOBODY_SETS__").unwrap()
    }

    #[test]
    fn keys_are_found_by_their_whole_names() {
        let written = written(
            "mode = \"x\"\nbackends = [\"pam\", \"oidc\"]\n[listen]\nhttp = \"[::]:80\"\n\
             [listen.tls]\nkey = \"/k\"\n[engine]\ncores = 4\n",
        );
        for (key, value) in [
            ("mode", Some("x")),
            ("backends", Some("pam,oidc")),
            ("listen.http", Some("[::]:80")),
            ("listen.tls.key", Some("/k")),
            ("engine.cores", Some("4")),
            ("listen.tls.certificate", None),
            ("mode.http", None),
            ("spool.dir", None),
        ] {
            assert_eq!(written.text(key).as_deref(), value, "{key}");
        }
        let decided = [("spool.dir", "x"), ("listen.tls.key", "give --tls-key")];
        let Err(Failure::Refused(message)) = written.refuse(&decided) else {
            panic!("it is taken");
        };
        assert!(
            message.ends_with("listen.tls.key: `warrant up` decides this; give --tls-key"),
            "{message}"
        );
        written.refuse(&decided[..1]).unwrap();
    }
}
