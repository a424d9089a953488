-- What the certificate says by which a client proves who it is, instead of a
-- secret: subject:, san-dns:, san-uri: or san-email: and the value.
alter table clients add column certificate text;
