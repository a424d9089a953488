-- What sessions, codes, devices and API keys came from. Times are microseconds
-- since the Unix epoch, UTC.

-- The session whose user let this one's client in, and with which it ends. None
-- where the user proved who they are for it, or chose that it goes on.
alter table sessions add column parent_id text;
create index sessions_by_parent on sessions (parent_id) where parent_id is not null;

-- The session that gave the code, or let the device in; none where what is made
-- of it goes on without that session.
alter table authorization_codes add column giver_id text;
create index authorization_codes_by_giver on authorization_codes (giver_id);
alter table device_codes add column giver_id text;
create index device_codes_by_giver on device_codes (giver_id);

-- The session with which the key ends, where it does.
alter table api_keys add column session_id text;
create index api_keys_by_session on api_keys (session_id) where session_id is not null;
-- What the user proved who they are with when the key was made: password,
-- certificate or provider. "token" marks keys that were made for an access
-- token, before a proof was needed.
alter table api_keys add column proof text not null default 'token';

-- When a provider had the user prove who they are, where it was one that did.
alter table web_sessions add column proven_us bigint;
