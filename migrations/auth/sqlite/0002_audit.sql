-- What was given and what was refused: a row for each login and each warrant.
-- Rows are only ever added. Times are microseconds since the Unix epoch, UTC.

create table audit (
    id integer primary key,
    time_us integer not null,
    kind text not null,
    outcome text not null,
    reason text,
    subject text,
    uid integer,
    source text not null,
    audience text,
    jti text,
    job_sha256 text
);

create index audit_by_time on audit (time_us);
create index audit_by_subject on audit (subject, time_us);
