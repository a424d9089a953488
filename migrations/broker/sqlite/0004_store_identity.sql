-- Which store this is: a number that goes with every copy of it, and that the
-- spools it is used with know; and which broker may serve it.

create table job_store (
    one integer primary key check (one = 1),
    id text not null,
    -- The broker that serves it: a name that stays with its directory, and
    -- where that is; place is the file or database in which that was noted, so
    -- that a copy of it is nobody's.
    holder text,
    holder_host text,
    holder_dir text,
    place text
) strict;

insert into job_store (one, id) values (1, lower(hex(randomblob(16))));

-- The SHA-256 of what a job runs, in hexadecimal: the records and output of a
-- run count only for the job that has it. Jobs from before have none.
alter table jobs add column job_sha256 text;
