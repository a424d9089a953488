-- API keys: credentials that programs keep. Of the key itself only its SHA-256
-- is here, in hexadecimal. Rows stay after the key is revoked or over, so that
-- the audit trail can be read. Times are microseconds since the Unix epoch.

create table api_keys (
    id text primary key,
    hash text not null,
    subject text not null,
    uid integer,
    label text not null,
    scopes text not null,
    created_us integer not null,
    expires_us integer not null,
    last_used_us integer,
    last_used_from text,
    revoked_us integer
) without rowid;

create index api_keys_by_subject on api_keys (subject, created_us);
create index api_keys_by_revocation on api_keys (revoked_us) where revoked_us is not null;
