-- Sessions of browsers. What a browser shows is kept as its SHA-256 in
-- base64url alone. Times are microseconds since the Unix epoch, UTC.

create table web_sessions (
    hash text primary key,
    session_id text not null unique references sessions (id) on delete cascade,
    -- The browser, in a few words.
    agent text not null,
    -- When the session ends however often it is used. When it ends unless it is
    -- used is in sessions.expires_us.
    ends_us bigint not null
);
