-- Idempotency keys: what clients call their submissions, and which job each
-- became, so that a submission that is sent again is not another job. Written
-- with the job, and removed after a day.
create table submit_keys (
    owner text not null,
    -- -1 where users are known by their names alone.
    owner_uid bigint not null,
    key text not null,
    -- The SHA-256 of the submission, in base64url.
    request_sha256 text not null,
    job_id bigint not null,
    made_us bigint not null,
    primary key (owner, owner_uid, key)
);

create index submit_keys_made on submit_keys (made_us);
