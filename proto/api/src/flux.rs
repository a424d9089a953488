//! Bodies of the Flux RESTful API.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

/// A value, or the empty string where it is not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum OrEmpty<T> {
    /// The value.
    Is(T),
    /// Not known yet: `""`.
    Not(Empty),
}

impl<T> OrEmpty<T> {
    /// Not known yet.
    pub const NOT: Self = Self::Not(Empty::Empty);
}

impl<T> From<Option<T>> for OrEmpty<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::NOT, Self::Is)
    }
}

/// The empty string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Empty {
    /// `""`
    #[serde(rename = "")]
    Empty,
}

impl PartialSchema for Empty {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String);
        text.enum_values(Some([""])).into()
    }
}

impl ToSchema for Empty {}

/// JSON's `null`, where there is nothing to say.
#[derive(Debug, Clone, Copy)]
pub struct Null;

impl PartialSchema for Null {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::Null).into()
    }
}

impl ToSchema for Null {}

/// Any JSON.
fn anything() -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(SchemaType::AnyValue)
        .into()
}

/// A number or a text.
fn number_or_text() -> RefOr<Schema> {
    let kinds = [Type::Integer, Type::String].into_iter();
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter(kinds))
        .into()
}

/// What went wrong with a job. Each is `""` while the job is active.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExceptionInfo {
    /// Whether something did.
    pub occurred: OrEmpty<bool>,
    /// 0 (fatal) to 7.
    pub severity: OrEmpty<u8>,
    /// `alloc`, `cancel`, `timeout` or `exec`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Why, in words.
    pub note: String,
}

/// A job. Times are seconds since the Unix epoch, with a fraction. Source:
/// Flux's job-list, and what version 1.1 of the Flux RESTful server adds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobInfo {
    /// Its id.
    pub id: i64,
    /// The account it runs as.
    pub userid: u32,
    /// The user who submitted it.
    pub username: String,
    /// 0 to 31; 16 is the default.
    pub urgency: u8,
    /// What orders the queue.
    pub priority: u8,
    /// When it was submitted.
    pub t_submit: f64,
    /// When its dependencies were met.
    pub t_depend: f64,
    /// When it got its priority.
    pub t_priority: f64,
    /// When it began to wait for resources.
    pub t_sched: f64,
    /// When it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub t_run: Option<f64>,
    /// When its processes were gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub t_cleanup: Option<f64>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub t_inactive: Option<f64>,
    /// `SCHED`, `RUN` or `INACTIVE`.
    pub state: String,
    /// The program's name.
    pub name: String,
    /// The directory it asked to start in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Its processes.
    pub ntasks: u32,
    /// Its cores, in all.
    pub ncores: u32,
    /// Seconds it may run; 0 means no limit.
    pub duration: f64,
    /// The machines it runs or ran on.
    pub nnodes: OrEmpty<u32>,
    /// The ranks of those machines.
    pub ranks: String,
    /// Their names.
    pub nodelist: String,
    /// Whether it ended well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success: Option<bool>,
    /// Whether an exception occurred.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exception_occurred: Option<bool>,
    /// The exception's type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exception_type: Option<String>,
    /// The exception's severity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exception_severity: Option<u8>,
    /// The exception's note.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exception_note: Option<String>,
    /// `COMPLETED`, `FAILED`, `CANCELED`, `TIMEOUT`; `""` while it is active.
    pub result: String,
    /// When its time limit ends it; 0 means never.
    pub expiration: OrEmpty<f64>,
    /// Notes of the scheduler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
    /// The status of wait(2).
    pub waitstatus: OrEmpty<i32>,
    /// The exit code; -128 where it was cancelled before it ran.
    pub returncode: OrEmpty<i32>,
    /// Seconds it has run.
    pub runtime: f64,
    /// What else people should know of it, in words: that it started in another
    /// directory, for one. Of a single job, once it has ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Bytes of output that were not kept: beyond the limit of its output, or
    /// since they could not be stored. A line in the output says so as well. 0
    /// while it runs. Not of Flux.
    #[serde(default)]
    pub dropped_bytes: i64,
    /// What went wrong.
    pub exception: ExceptionInfo,
}

/// One job, with what lists leave out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobDetails {
    /// What lists say as well.
    #[serde(flatten)]
    pub info: JobInfo,
    /// The program and its arguments; absent unless `details` asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// What it used; absent unless `details` asks for it, and until its end is
    /// on record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageInfo>,
}

/// What a job used, over all its processes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageInfo {
    /// Seconds of processor time in user mode.
    pub user_s: f64,
    /// Seconds of processor time in the kernel.
    pub system_s: f64,
    /// The most memory that one of its processes held at a time.
    pub max_rss_bytes: i64,
    /// Bytes of output that were kept.
    pub output_bytes: i64,
    /// Bytes of output that were not kept.
    pub dropped_bytes: i64,
}

/// Notes of the scheduler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Annotations {
    /// From the scheduler itself.
    pub sched: SchedAnnotation,
}

/// What a job was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SchedAnnotation {
    /// Such as `rank0/core[0-1]`.
    pub resource_summary: String,
}

/// A job in a plain list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobRef {
    /// Its id.
    pub id: i64,
}

/// The plain list of jobs, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobRefs {
    /// The jobs.
    pub jobs: Vec<JobRef>,
}

/// A list of jobs, as it was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum JobList {
    /// Plain.
    Ids(JobRefs),
    /// With `details` and `listing`.
    Array(Vec<JobInfo>),
    /// With `details`: by their ids.
    ById(BTreeMap<String, JobInfo>),
}

/// A page of found jobs. Source: DataTables' server-side processing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Found {
    /// The jobs, newest first.
    pub data: Vec<JobInfo>,
    /// As asked: a string, or the number 1.
    #[schema(schema_with = number_or_text)]
    pub draw: serde_json::Value,
    /// How many jobs there are in all.
    #[serde(rename = "recordsTotal")]
    pub records_total: i64,
    /// How many are in this page.
    #[serde(rename = "recordsFiltered")]
    pub records_filtered: i64,
}

/// The parameters of a submission, as a JSON body or a form; every one may
/// stand in the query instead.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SubmitBody {
    /// The program and its arguments: one text, split as a POSIX shell does
    /// it (no shell runs), or a list.
    #[schema(value_type = String)]
    pub command: serde_json::Value,
    /// Processes, with ranks from 0; 1 if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_tasks: Option<i64>,
    /// Cores for each process; 1 if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores_per_task: Option<i64>,
    /// GPUs for each process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus_per_task: Option<i64>,
    /// Machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_nodes: Option<i64>,
    /// Whether the job wants its machines to itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<bool>,
    /// Options of the job shell: `name=value,name=value`; an object in JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub option_flags: Option<String>,
    /// Environment variables to add.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envars: Option<BTreeMap<String, String>>,
    /// The directory to start in, an absolute path. The job fails where it
    /// cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Where there is no `workdir`: the directory to start in if it can be
    /// used, an absolute path. Else the job starts in its user's home, or in
    /// `/tmp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_workdir: Option<String>,
    /// Seconds it may run; 0 means no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<i64>,
    /// Whether the command is a launcher (`nextflow`, `snakemake`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_launcher: Option<bool>,
}

/// A job was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Submitted {
    /// `Job submit.`, or what became of a launcher.
    #[serde(rename = "Message")]
    pub message: String,
    /// The job's id; `MANY` for a launcher.
    #[schema(schema_with = number_or_text)]
    pub id: serde_json::Value,
}

/// A submission was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unsubmitted {
    /// What is wrong, in short.
    #[serde(rename = "Message")]
    pub message: String,
    /// Everything that is wrong with the parameters.
    #[serde(rename = "Errors", skip_serializing_if = "Option::is_none")]
    pub errors: Option<Vec<String>>,
    /// What is wrong beyond the parameters.
    #[serde(rename = "Error", skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What became of a request to cancel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cancelled {
    /// `Job is requested to cancel.`, or why it cannot be.
    #[serde(rename = "Message")]
    pub message: String,
    /// The id as it was given.
    pub id: String,
}

/// The header that names the one stream of a job, `stdout` or `stderr`, that
/// an answer holds; absent where it holds both.
pub const OUTPUT_STREAM: &str = "output-stream";

/// What a job has written so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Output {
    /// Lines with their newlines; absent where there are none yet.
    #[serde(rename = "Output", skip_serializing_if = "Option::is_none")]
    pub output: Option<Vec<String>>,
    /// Says that there are none yet.
    #[serde(rename = "Message", skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The machines that are up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Nodes {
    /// Their host names.
    pub nodes: Vec<String>,
}

/// A refusal in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Detail {
    /// Why.
    pub detail: String,
}

/// A parameter that is not what it should be. Source: FastAPI's answer 422.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BadParameter {
    /// The rule it breaks: `int_parsing`, `bool_parsing`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it stands: `query` or `body`, then its name.
    pub loc: Vec<String>,
    /// The rule in words.
    pub msg: String,
    /// What was given.
    #[schema(schema_with = anything)]
    pub input: serde_json::Value,
}

/// Parameters that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BadParameters {
    /// Each of them.
    pub detail: Vec<BadParameter>,
}

/// The answer to a submission that must come again with a warrant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NeedsWarrant {
    /// What to do, in words.
    pub detail: String,
    /// What would be run, encoded, in base64. Look at it before you ask for a
    /// warrant: whoever has that may run these bytes as you, once.
    pub launch: String,
    /// The SHA-256 of those bytes, in lower-case hexadecimal.
    pub job_sha256: String,
    /// The machine that the warrant must be for.
    pub audience: String,
}
