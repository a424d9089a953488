-- Users whom others prove. Times are microseconds since the Unix epoch, UTC.

-- Who proves the user: database (by the password kept here), pam or oidc.
-- Without a password kept here, password_hash is empty.
alter table users add column backend text not null default 'database';
-- Whom a provider calls so: the SHA-256 of issuer and subject, in base64url.
alter table users add column identity text;

create unique index users_by_identity on users (identity);

-- ID tokens that were exchanged, by SHA-256; kept until they expire.
create table id_tokens (
    hash text primary key,
    expires_us bigint not null
);

create index id_tokens_by_expiry on id_tokens (expires_us);

-- Browsers that were sent to a provider, by the SHA-256 of their state.
create table sign_ins (
    hash text primary key,
    -- The SHA-256 of the browser's cookie.
    browser text not null,
    provider text not null,
    -- The path to go on to.
    next text not null,
    source text not null,
    expires_us bigint not null
);

create index sign_ins_by_source on sign_ins (source);
create index sign_ins_by_expiry on sign_ins (expires_us);

-- The command line may exchange ID tokens.
update clients
set grants = grants || ' urn:ietf:params:oauth:grant-type:token-exchange'
where id = 'warrant';
