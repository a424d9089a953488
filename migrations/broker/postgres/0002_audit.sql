-- Who asked for what: submitted and cancelled jobs, read output, and what was
-- refused. Every row is sealed by a hash over its fields and the hash of the
-- row before it. Times are microseconds since the Unix epoch, UTC.
--
-- There is no index by time: rows are nearly in that order, few people ask for
-- it, and every submit would pay.

create table job_audit (
    seq bigint primary key,
    time_us bigint not null,
    kind text not null,
    action text,
    outcome text not null,
    reason text,
    subject text,
    uid bigint,
    source text not null,
    audience text,
    jti text,
    job_id bigint,
    job_sha256 text,
    detail text,
    hash text not null
);

-- The last row's number and hash, and those of the last row that was pruned;
-- pruned_by is the row that tells of it.
create table job_audit_head (
    one bigint primary key check (one = 1),
    count bigint not null,
    hash text not null,
    pruned_count bigint not null,
    pruned_hash text not null,
    pruned_by bigint
);

insert into job_audit_head (one, count, hash, pruned_count, pruned_hash) values (
    1,
    0, '2845bdaa7c46f522a5474449bd209758d9b20f06a26a96e64a71903e05deb079',
    0, '2845bdaa7c46f522a5474449bd209758d9b20f06a26a96e64a71903e05deb079'
);

create function job_audit_refuses() returns trigger language plpgsql as $$
begin
    raise exception 'rows of job_audit are added and pruned, never changed';
end
$$;

-- To prune is to move pruned_count first.
create function job_audit_refuses_unless_pruned() returns trigger language plpgsql as $$
begin
    if old.seq > (select pruned_count from job_audit_head where one = 1) then
        raise exception 'rows of job_audit are added and pruned, never changed';
    end if;
    return old;
end
$$;

create trigger job_audit_is_never_changed before update on job_audit
    for each row execute function job_audit_refuses();
create trigger job_audit_is_never_cut before delete on job_audit
    for each row execute function job_audit_refuses_unless_pruned();
create trigger job_audit_is_never_emptied before truncate on job_audit
    for each statement execute function job_audit_refuses();
create trigger job_audit_head_never_goes_back before update on job_audit_head
    for each row when (new.count < old.count or new.pruned_count < old.pruned_count)
    execute function job_audit_refuses();
create trigger job_audit_head_stays before delete on job_audit_head
    for each row execute function job_audit_refuses();
create trigger job_audit_head_is_never_emptied before truncate on job_audit_head
    for each statement execute function job_audit_refuses();
