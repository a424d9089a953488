-- Who is signed in, through which client, and what ended. Times are
-- microseconds since the Unix epoch, UTC; names ending in _s are seconds.
-- What proves anything is kept as its SHA-256 in base64url alone.

-- Whoever was given access tokens. One that ended, or expired, counts no more.
create table sessions (
    id text primary key,
    kind text not null,
    subject text not null,
    uid bigint,
    role text not null,
    -- Whether the role came from a group of the machine.
    by_group boolean not null,
    scopes text not null,
    client_id text not null,
    source text not null,
    created_us bigint not null,
    last_used_us bigint not null,
    expires_us bigint not null,
    ended_us bigint,
    ended_reason text
);

create index sessions_by_subject on sessions (subject);
create index sessions_by_client on sessions (client_id);
create index sessions_by_expiry on sessions (expires_us);
create index sessions_by_group on sessions (id) where by_group and ended_us is null;

-- At most one of a session is unused. One that was used is kept as long as
-- the session, so that a second use is noticed.
create table refresh_tokens (
    hash text primary key,
    session_id text not null references sessions (id) on delete cascade,
    issued_us bigint not null,
    used_us bigint,
    -- What its user was given instead of it.
    successor text,
    expires_us bigint not null
);

create index refresh_tokens_by_session on refresh_tokens (session_id);

-- Programs that may ask for tokens. One without a secret is public.
create table clients (
    id text primary key,
    label text not null,
    secret_hash text,
    -- The user as whom it acts by itself.
    owner text,
    -- Words with a space between.
    grants text not null,
    scopes text not null,
    -- One a line.
    redirect_uris text not null,
    disabled boolean not null,
    created_us bigint not null
);

insert into clients
    (id, label, secret_hash, owner, grants, scopes, redirect_uris, disabled, created_us)
values
    ('warrant', 'Warrant command line', null, null,
     'password refresh_token authorization_code urn:ietf:params:oauth:grant-type:device_code',
     'read submit control admin', 'http://127.0.0.1/callback', false, 0);

create table authorization_codes (
    hash text primary key,
    client_id text not null,
    redirect_uri text not null,
    -- PKCE, S256.
    challenge text not null,
    subject text not null,
    scopes text not null,
    expires_us bigint not null,
    used_us bigint,
    -- The session that was made of it.
    session_id text
);

create index authorization_codes_by_subject on authorization_codes (subject);
create index authorization_codes_by_expiry on authorization_codes (expires_us);

create table device_codes (
    hash text primary key,
    user_code text not null unique,
    client_id text not null,
    scopes text not null,
    expires_us bigint not null,
    interval_s bigint not null,
    polled_us bigint,
    -- approved or denied, by whom, and for what.
    decision text,
    subject text
);

create index device_codes_by_subject on device_codes (subject);
create index device_codes_by_expiry on device_codes (expires_us);

-- What counts no more although it has not expired, in the order in which it
-- became so; kept until nothing of it can be alive.
create table revocations (
    seq bigint generated always as identity primary key,
    kind text not null,
    value text not null,
    before_s bigint,
    time_us bigint not null,
    until_us bigint not null
);

create index revocations_by_value on revocations (kind, value);
create index revocations_by_end on revocations (until_us);
