-- Jobs, their tasks, the runs of the tasks, and every change as an event.
-- Times are microseconds since the Unix epoch, UTC.

-- The last id of the last block of 64 that was taken.
create table sequences (
    name text primary key,
    value integer not null
) without rowid;

insert into sequences (name, value) values ('jobs', 0);

create table jobs (
    id integer primary key,
    owner text not null,
    owner_uid integer,
    name text not null,
    dialect text not null,
    state text not null,
    urgency integer not null,
    command text not null,
    workdir text,
    tasks integer not null,
    cores integer not null,
    gpus integer not null,
    exclusive boolean not null,
    time_limit_s integer not null,
    submitted_us integer not null,
    started_us integer,
    ended_us integer,
    cancel_us integer,
    attempt integer not null default 0,
    host text,
    node text,
    placement text,
    wait_status integer,
    exception_type text,
    exception_severity integer,
    exception_note text,
    events integer not null
);

create index jobs_queue on jobs (urgency desc, id) where state = 'queued';
create index jobs_by_state on jobs (state, id);
create index jobs_by_owner on jobs (owner, id);
create index jobs_by_owner_and_state on jobs (owner, state, id);

create table tasks (
    job_id integer not null references jobs (id),
    position integer not null,
    spec text not null,
    primary key (job_id, position)
) without rowid;

create table runs (
    job_id integer not null references jobs (id),
    position integer not null,
    attempt integer not null,
    engine text not null,
    host text not null,
    boot text not null,
    claimed_us integer not null,
    started_us integer,
    ended_us integer,
    wait_status integer,
    user_us integer,
    system_us integer,
    max_rss_bytes integer,
    output_bytes integer,
    dropped_bytes integer,
    primary key (job_id, position, attempt)
) without rowid;

create table events (
    job_id integer not null references jobs (id),
    seq integer not null,
    time_us integer not null,
    kind text not null,
    detail text,
    primary key (job_id, seq)
) without rowid;

-- How many jobs an owner (or everybody, as '') has among each 1024 ids: what
-- makes totals and far pages cheap.
create table job_counts (
    owner text not null,
    block integer not null,
    jobs integer not null,
    primary key (owner, block)
) without rowid;

-- Trigrams of what can be searched; rowid is the job's id.
create virtual table job_text using fts5 (text, content = '', tokenize = 'trigram');
create virtual table job_text_terms using fts5vocab (job_text, row);
