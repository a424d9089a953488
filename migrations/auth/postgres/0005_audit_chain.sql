-- A hash chain under the audit trail: every row is sealed by a hash over its
-- fields and the hash of the row before it.
--
-- The rows that were there before wait in audit_unchained until they are taken
-- into the chain, in their order, when the database is first opened.

drop index audit_by_time;
drop index audit_by_subject;
alter table audit rename to audit_unchained;
alter index audit_pkey rename to audit_unchained_pkey;

create table audit (
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

create index audit_by_time on audit (time_us);

-- The last row's number and hash, and those of the last row that was pruned;
-- pruned_by is the row that tells of it.
create table audit_head (
    one bigint primary key check (one = 1),
    count bigint not null,
    hash text not null,
    pruned_count bigint not null,
    pruned_hash text not null,
    pruned_by bigint
);

insert into audit_head (one, count, hash, pruned_count, pruned_hash) values (
    1,
    0, '75d48a621571132d85314e4226b375f9e521007a30c575b1b03f6cd81f738549',
    0, '75d48a621571132d85314e4226b375f9e521007a30c575b1b03f6cd81f738549'
);

create function audit_refuses() returns trigger language plpgsql as $$
begin
    raise exception 'rows of audit are added and pruned, never changed';
end
$$;

-- To prune is to move pruned_count first.
create function audit_refuses_unless_pruned() returns trigger language plpgsql as $$
begin
    if old.seq > (select pruned_count from audit_head where one = 1) then
        raise exception 'rows of audit are added and pruned, never changed';
    end if;
    return old;
end
$$;

create trigger audit_is_never_changed before update on audit
    for each row execute function audit_refuses();
create trigger audit_is_never_cut before delete on audit
    for each row execute function audit_refuses_unless_pruned();
create trigger audit_is_never_emptied before truncate on audit
    for each statement execute function audit_refuses();
create trigger audit_head_never_goes_back before update on audit_head
    for each row when (new.count < old.count or new.pruned_count < old.pruned_count)
    execute function audit_refuses();
create trigger audit_head_stays before delete on audit_head
    for each row execute function audit_refuses();
create trigger audit_head_is_never_emptied before truncate on audit_head
    for each statement execute function audit_refuses();
