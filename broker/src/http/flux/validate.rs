//! What a submission asks for, and whether it may.

use std::collections::BTreeMap;

use serde_json::Value;
use warrant_api::flux::Unsubmitted;

use super::fault::Fault;
use super::options::{self, Options};
use super::params::Params;
use super::{Settings, literal, words};
use crate::model::TaskSpec;

/// The most processes of a job, cores or GPUs of a process.
const MOST: i64 = 4096;

/// What Flux knows of a job and a submission here cannot say, with what says
/// it instead. A parameter that means nothing to Flux either is left alone, as
/// the Flux RESTful server does it.
const UNSUPPORTED: [(&str, &str); 36] = [
    ("attributes", ""),
    ("bank", ""),
    ("begin_time", ""),
    ("constraints", ""),
    ("cores", ": use cores_per_task"),
    ("cwd", ": use workdir"),
    ("dependencies", ""),
    ("dependency", ""),
    ("duration", ": use runtime"),
    ("env", ": use envars"),
    ("environment", ": use envars"),
    ("error", ": use option_flags, output.stderr.path"),
    ("gpus", ": use gpus_per_task"),
    ("input", ""),
    ("memory", ""),
    ("name", ""),
    ("ncores", ": use cores_per_task"),
    ("nnodes", ": use num_nodes"),
    ("nodes", ": use num_nodes"),
    ("nslots", ": use num_tasks"),
    ("ntasks", ": use num_tasks"),
    ("num_slots", ": use num_tasks"),
    ("output", ": use option_flags, output.stdout.path"),
    ("priority", ""),
    ("project", ""),
    ("queue", ""),
    ("requires", ""),
    ("rlimit", ""),
    ("setattr", ""),
    ("setopt", ": use option_flags"),
    ("shell_options", ": use option_flags"),
    ("signal", ""),
    ("stdin", ""),
    ("stdout", ": use option_flags, output.stdout.path"),
    ("time_limit", ": use runtime"),
    ("urgency", ""),
];

/// A submission as it was sent.
#[derive(Debug)]
pub(super) struct Wish {
    command: Command,
    num_tasks: Option<i64>,
    cores_per_task: Option<i64>,
    gpus_per_task: Option<i64>,
    num_nodes: Option<i64>,
    exclusive: bool,
    options: Result<Options, String>,
    envars: Option<BTreeMap<String, String>>,
    workdir: Option<String>,
    default_workdir: Option<String>,
    runtime: i64,
    /// Whether the command is said to be a launcher.
    pub(super) is_launcher: bool,
}

#[derive(Debug)]
enum Command {
    Text(String),
    Words(Vec<String>),
}

/// Why a submission does not become a job.
#[derive(Debug)]
pub(super) enum Wrong {
    /// 400 with these words.
    Refused(Unsubmitted),
    /// The program is not one of the launchers. Source: the Flux RESTful
    /// server answers this with 200.
    NoLauncher(String),
}

/// A submission that is refused with these words.
pub(super) fn invalid(errors: Vec<String>) -> Unsubmitted {
    Unsubmitted {
        message: "Invalid submit request".into(),
        errors: Some(errors),
        error: None,
    }
}

impl Wrong {
    fn errors(errors: Vec<String>) -> Self {
        Self::Refused(invalid(errors))
    }

    fn issue(error: String) -> Self {
        let message = "There was an issue submitting that job.".into();
        Self::Refused(Unsubmitted {
            message,
            errors: None,
            error: Some(error),
        })
    }
}

impl Wish {
    /// Read a submission's parameters.
    ///
    /// Errors: 422 for what has the wrong type; 400 where there is no command.
    pub(super) fn read(params: &mut Params) -> Result<Self, Fault> {
        let command = match params.get(&["command"]) {
            Some(Value::Array(items)) => {
                match items.iter().map(plain).collect::<Option<Vec<String>>>() {
                    Some(words) => Command::Words(words),
                    None => {
                        params.refuse("command", "string_type", "Input should be a list of texts");
                        Command::Words(Vec::new())
                    }
                }
            }
            _ => Command::Text(params.text("command").unwrap_or_default()),
        };
        let options = match params.get(&["option_flags"]) {
            Some(Value::Object(fields)) => options::from_object(fields),
            _ => options::from_text(&params.text("option_flags").unwrap_or_default()),
        };
        let envars = match params.get(&["envars"]) {
            None | Some(Value::Null) => Some(BTreeMap::new()),
            Some(Value::Object(fields)) => dictionary(fields),
            Some(Value::String(text)) if text.trim().is_empty() => Some(BTreeMap::new()),
            Some(Value::String(text)) => literal::dictionary(text),
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_)) => None,
        };
        let wish = Self {
            command,
            num_tasks: params.integer("num_tasks"),
            cores_per_task: params.integer("cores_per_task"),
            gpus_per_task: params.integer("gpus_per_task"),
            num_nodes: params.integer("num_nodes"),
            exclusive: params.truth(&["exclusive"]).unwrap_or(false),
            options,
            envars,
            workdir: params.text("workdir").filter(|workdir| !workdir.is_empty()),
            default_workdir: params.text("default_workdir").filter(|dir| !dir.is_empty()),
            runtime: params.integer("runtime").unwrap_or(0),
            is_launcher: params.truth(&["is_launcher"]).unwrap_or(false),
        };
        for (name, instead) in UNSUPPORTED {
            let msg = format!("This server does not support {name}{instead}");
            params.refuse(name, "extra_forbidden", &msg);
        }
        params.check()?;
        let empty = match &wish.command {
            Command::Text(text) => text.is_empty(),
            Command::Words(words) => words.is_empty(),
        };
        if empty {
            let message = "A 'command' is minimally required.".into();
            return Err(Fault::unsubmitted(Unsubmitted {
                message,
                errors: None,
                error: None,
            }));
        }
        Ok(wish)
    }

    /// The task that is wished for.
    ///
    /// Errors: everything that is wrong with the parameters, at once; then
    /// what is wrong with the command.
    pub(super) fn check(self, settings: &Settings) -> Result<TaskSpec, Wrong> {
        let errors = Complaints {
            settings,
            num_tasks: self.num_tasks,
            cores_per_task: self.cores_per_task,
            gpus_per_task: self.gpus_per_task,
            num_nodes: self.num_nodes,
            runtime: self.runtime,
            options: self.options.as_ref(),
            envars: self.envars.is_some(),
        }
        .list();
        if !errors.is_empty() {
            return Err(Wrong::errors(errors));
        }
        let argv = match self.command {
            Command::Text(text) => {
                words::split(&text).map_err(|unsplit| Wrong::issue(unsplit.to_string()))?
            }
            Command::Words(words) => words,
        };
        let Some(program) = argv.first().filter(|program| !program.is_empty()) else {
            return Err(Wrong::errors(vec!["'command' is required.".into()]));
        };
        if self.is_launcher && !settings.launchers.contains(program) {
            return Err(Wrong::NoLauncher(program.clone()));
        }
        let mut options = settings.options.clone();
        options.extend(self.options.unwrap_or_default());
        let count =
            |n: Option<i64>, default: u32| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(default);
        Ok(TaskSpec {
            argv,
            env: self.envars.unwrap_or_default(),
            // A directory that was named stands for itself.
            default_workdir: self.default_workdir.filter(|_| self.workdir.is_none()),
            workdir: self.workdir,
            tasks: count(self.num_tasks, 1),
            cores_per_task: count(self.cores_per_task, 1),
            gpus_per_task: count(self.gpus_per_task, 0),
            memory_bytes: 0,
            exclusive: self.exclusive,
            time_limit_s: u64::try_from(self.runtime).unwrap_or(0),
            options,
        })
    }
}

/// The parameters that have rules, gathered to be judged together.
struct Complaints<'a> {
    settings: &'a Settings,
    num_tasks: Option<i64>,
    cores_per_task: Option<i64>,
    gpus_per_task: Option<i64>,
    num_nodes: Option<i64>,
    runtime: i64,
    options: Result<&'a Options, &'a String>,
    envars: bool,
}

impl Complaints<'_> {
    /// Everything that is wrong. Source of the texts and their order: the
    /// Flux RESTful server.
    fn list(&self) -> Vec<String> {
        let mut errors = Vec::new();
        let nodes = self.settings.nodes;
        if let Some(asked) = self.num_nodes.filter(|asked| *asked > i64::from(nodes)) {
            errors.push(format!(
                "The server only has {nodes} nodes, you requested {asked}"
            ));
        }
        errors.extend(self.options.err().cloned());
        for name in self.options.into_iter().flat_map(BTreeMap::keys) {
            if name.contains("-o") {
                errors.push(format!(
                    "Please provide keys without -o, {name} is invalid."
                ));
            }
        }
        if self.gpus_per_task.is_some() && !self.settings.gpus {
            let text = "This server does not support gpus: gpus_per_task cannot be set.";
            errors.push(text.into());
        }
        if self.runtime < 0 {
            errors.push(format!("Runtime must be >= 0, found {}", self.runtime));
        }
        for (name, value) in [
            ("num_tasks", self.num_tasks),
            ("cores_per_task", self.cores_per_task),
            ("gpus_per_task", self.gpus_per_task),
            ("num_nodes", self.num_nodes),
        ] {
            match value {
                Some(n) if n < 1 => errors.push(format!("Parameter {name} must be >= 1")),
                Some(n) if n > MOST && name != "num_nodes" => {
                    errors.push(format!("Parameter {name} must be <= {MOST}"));
                }
                Some(_) | None => {}
            }
        }
        if !self.envars {
            errors.push("Environment variables must be key/value pairs (dict)".into());
        }
        errors
    }
}

/// A plain JSON value as Python's `str` prints it.
pub(super) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(true) => Some("True".into()),
        Value::Bool(false) => Some("False".into()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn dictionary(fields: &serde_json::Map<String, Value>) -> Option<BTreeMap<String, String>> {
    fields
        .iter()
        .map(|(name, value)| Some((name.clone(), plain(value)?)))
        .collect()
}
