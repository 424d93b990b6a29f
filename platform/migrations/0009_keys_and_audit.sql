-- What an API key may do: words of manage, publish and read with a space between; null: all three, as keys of earlier
-- versions. A key that may not do everything for ever has `limited:` before its hash, so that a version that does not
-- know these columns refuses it rather than let it do everything.
ALTER TABLE api_keys ADD COLUMN scopes TEXT;
ALTER TABLE api_keys ADD COLUMN expires_at BIGINT;
ALTER TABLE api_keys ADD COLUMN last_used_at BIGINT;

-- Who changed what, written with the change. Nothing here refers to the catalog: it outlives what it tells of.
CREATE TABLE audit (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL,
    -- key, admin, system; and of a key, which
    actor TEXT NOT NULL,
    key_id BIGINT,
    key_prefix TEXT,
    -- create, update, delete, …
    action TEXT NOT NULL,
    -- tenant, key, target, filter, subscription, replay
    kind TEXT NOT NULL,
    -- the id of the thing; of a tenant its name
    thing TEXT NOT NULL,
    -- JSON, without secrets; null where there was or is nothing
    before TEXT,
    after TEXT
);
CREATE INDEX audit_by_tenant ON audit (tenant, id);
CREATE INDEX audit_by_thing ON audit (tenant, kind, thing, id);
CREATE INDEX audit_by_time ON audit (at);
