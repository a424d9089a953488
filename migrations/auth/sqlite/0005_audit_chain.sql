-- A hash chain under the audit trail: every row is sealed by a hash over its
-- fields and the hash of the row before it.
--
-- The rows that were there before wait in audit_unchained until they are taken
-- into the chain, in their order, when the database is first opened.

drop index audit_by_time;
drop index audit_by_subject;
alter table audit rename to audit_unchained;

create table audit (
    seq integer primary key,
    time_us integer not null,
    kind text not null,
    action text,
    outcome text not null,
    reason text,
    subject text,
    uid integer,
    source text not null,
    audience text,
    jti text,
    job_id integer,
    job_sha256 text,
    detail text,
    hash text not null
) strict;

create index audit_by_time on audit (time_us);

-- The last row's number and hash, and those of the last row that was pruned;
-- pruned_by is the row that tells of it.
create table audit_head (
    one integer primary key check (one = 1),
    count integer not null,
    hash text not null,
    pruned_count integer not null,
    pruned_hash text not null,
    pruned_by integer
) strict;

insert into audit_head (one, count, hash, pruned_count, pruned_hash) values (
    1,
    0, '75d48a621571132d85314e4226b375f9e521007a30c575b1b03f6cd81f738549',
    0, '75d48a621571132d85314e4226b375f9e521007a30c575b1b03f6cd81f738549'
);

create trigger audit_is_never_changed before update on audit
begin
    select raise(abort, 'rows of audit are added and pruned, never changed');
end;

-- To prune is to move pruned_count first.
create trigger audit_is_never_cut before delete on audit
when old.seq > (select pruned_count from audit_head where one = 1)
begin
    select raise(abort, 'rows of audit are added and pruned, never changed');
end;

create trigger audit_head_never_goes_back before update on audit_head
when new.count < old.count or new.pruned_count < old.pruned_count
begin
    select raise(abort, 'the head of audit never goes back');
end;

create trigger audit_head_stays before delete on audit_head
begin
    select raise(abort, 'the head of audit never goes back');
end;
