-- Which auth service may serve this database.

create table user_store (
    one integer primary key check (one = 1),
    -- A name that stays with the service's keys, and where these are; place is
    -- the file or database in which that was noted, so that a copy of it is
    -- nobody's.
    holder text,
    holder_host text,
    holder_dir text,
    place text
);

insert into user_store (one) values (1);
