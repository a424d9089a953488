-- Users, what proves who they are, and the login payloads already used.
-- Times are microseconds since the Unix epoch, UTC.

create table users (
    id bigint generated always as identity primary key,
    name text not null unique,
    password_hash text not null,
    superuser boolean not null,
    disabled boolean not null,
    created_us bigint not null,
    password_changed_us bigint not null
);

-- One row per login payload that carried an id; kept until the payload ends.
create table handshake_jtis (
    jti text primary key,
    expires_us bigint not null
);

create index handshake_jtis_by_expiry on handshake_jtis (expires_us);
