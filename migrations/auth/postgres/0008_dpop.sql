-- Keys to which sessions and their tokens are bound (DPoP, RFC 9449). Times are
-- microseconds since the Unix epoch, UTC.

-- The thumbprint of the key that the session's client proves to have.
alter table sessions add column jkt text;

-- Whether the client gets nothing without a proof.
alter table clients add column dpop boolean not null default false;

-- Proofs that were used, by the digest of key and id; kept until they are too
-- old to count. The difference of the numbers tells how many there are.
create table dpop_proofs (
    seq bigint generated always as identity primary key,
    mark text not null unique,
    expires_us bigint not null
);

create index dpop_proofs_by_expiry on dpop_proofs (expires_us);

-- What all processes make their nonces with; one row.
create table dpop_secret (
    id bigint primary key check (id = 1),
    secret text not null
);
