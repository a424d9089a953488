-- Jobs, their tasks, the runs of the tasks, and every change as an event.
-- Times are microseconds since the Unix epoch, UTC.

create extension if not exists pg_trgm;

-- A value is the last of a block of 64 ids, which belong to who took it.
create sequence job_ids as bigint start with 64 increment by 64;

create table jobs (
    id bigint primary key,
    owner text not null,
    owner_uid bigint,
    name text not null,
    dialect text not null,
    state text not null,
    urgency bigint not null,
    command text not null,
    workdir text,
    tasks bigint not null,
    cores bigint not null,
    gpus bigint not null,
    exclusive boolean not null,
    time_limit_s bigint not null,
    submitted_us bigint not null,
    started_us bigint,
    ended_us bigint,
    cancel_us bigint,
    attempt bigint not null default 0,
    host text,
    node text,
    placement text,
    wait_status bigint,
    exception_type text,
    exception_severity bigint,
    exception_note text,
    events bigint not null
) with (fillfactor = 80);

create index jobs_queue on jobs (urgency desc, id) where state = 'queued';
create index jobs_by_state on jobs (state, id);
create index jobs_by_owner on jobs (owner, id);
create index jobs_by_owner_and_state on jobs (owner, state, id);

create table tasks (
    job_id bigint not null references jobs (id),
    position bigint not null,
    spec text not null,
    primary key (job_id, position)
);

create table runs (
    job_id bigint not null references jobs (id),
    position bigint not null,
    attempt bigint not null,
    engine text not null,
    host text not null,
    boot text not null,
    claimed_us bigint not null,
    started_us bigint,
    ended_us bigint,
    wait_status bigint,
    user_us bigint,
    system_us bigint,
    max_rss_bytes bigint,
    output_bytes bigint,
    dropped_bytes bigint,
    primary key (job_id, position, attempt)
);

create table events (
    job_id bigint not null references jobs (id),
    seq bigint not null,
    time_us bigint not null,
    kind text not null,
    detail text,
    primary key (job_id, seq)
);

-- How many jobs an owner (or everybody, as '') has among each 1024 ids: what
-- makes totals and far pages cheap.
create table job_counts (
    owner text not null,
    block bigint not null,
    jobs bigint not null,
    primary key (owner, block)
) with (fillfactor = 50);

-- Trigrams of what can be searched, in lower case. A table of its own, so
-- that a job's change of state does not touch the index.
create table job_text (
    job_id bigint primary key references jobs (id),
    text text not null
);
create index job_text_trigrams on job_text using gin (text gin_trgm_ops);
