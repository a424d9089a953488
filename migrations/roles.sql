-- A database for Warrant on PostgreSQL, and three roles:
--
--   warrant_owner    owns the tables; only `migrate` and `audit prune` use it
--   warrant_authsvc  what the auth service is
--   warrant_broker   what the broker is
--
-- For psql, as a superuser, once. Passwords are not in here: give each role its
-- own with \password, or let pg_hba.conf say who may be whom.

create role warrant_owner login;
create role warrant_authsvc login;
create role warrant_broker login;

create database warrant owner warrant_owner;
revoke all on database warrant from public;
grant connect on database warrant to warrant_authsvc, warrant_broker;

\connect warrant
alter schema public owner to warrant_owner;
revoke all on schema public from public;

-- What is left, with a file that holds the owner's URL; again after each upgrade:
--
--   warrant-authsvc migrate --url-file FILE --grant-to warrant_authsvc
--   warrant-broker  migrate --url-file FILE --grant-to warrant_broker
--
-- Where database.migrate_url_file names the file, `migrate` alone does it.
