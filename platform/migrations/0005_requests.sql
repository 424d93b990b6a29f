-- What an answer's headers said, of those that are kept. JSON: [["name", "value"], …]; null: none.
ALTER TABLE attempts ADD COLUMN response_headers TEXT;

-- How requests to a target are made, where not as usual: JSON of schemas::target::RequestOptions.
ALTER TABLE targets ADD COLUMN request TEXT;
-- The private key of its client certificate, sealed.
ALTER TABLE targets ADD COLUMN client_key BYTEA;
-- The seed of the ed25519 pair beside a secret (signature v1a), sealed.
ALTER TABLE target_secrets ADD COLUMN sealed_seed BYTEA;
