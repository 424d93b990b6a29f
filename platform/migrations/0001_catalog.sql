-- Who wants which events, and where they go. Times are milliseconds since the epoch.
-- Written for Postgres; catalog/migrate.rs says how it becomes SQLite's.

CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value BYTEA NOT NULL
);

CREATE TABLE tenants (
    name TEXT COLLATE "C" PRIMARY KEY,
    created_at BIGINT NOT NULL
);

CREATE TABLE api_keys (
    id BIGINT PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL REFERENCES tenants (name),
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    -- SHA-256 of the key, 64 hex digits: the key itself is kept nowhere. A key is 32 random bytes,
    -- so a slow hash with salt would add nothing.
    hash TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);
CREATE INDEX api_keys_by_tenant ON api_keys (tenant, id);

CREATE TABLE targets (
    id BIGINT PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL REFERENCES tenants (name),
    url TEXT NOT NULL,
    description TEXT,
    -- JSON: [["name", "value"], …]
    headers TEXT NOT NULL,
    contact TEXT,
    -- active, disabled, unverified
    state TEXT NOT NULL,
    disabled_reason TEXT,
    rate_limit BIGINT,
    -- JSON of a retry policy
    retry TEXT,
    timeout_ms BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX targets_by_tenant ON targets (tenant, id);

-- The secrets that sign a target's deliveries, sealed (secrets.rs). The newest has no end yet.
CREATE TABLE target_secrets (
    target BIGINT NOT NULL REFERENCES targets (id) ON DELETE CASCADE,
    id BIGINT NOT NULL,
    sealed BYTEA NOT NULL,
    expires_at BIGINT,
    PRIMARY KEY (target, id)
);

CREATE TABLE filters (
    id BIGINT PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL REFERENCES tenants (name),
    name TEXT NOT NULL,
    -- JSON: the patterns as they were given
    events TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX filters_by_tenant ON filters (tenant, id);

-- The patterns once more, one a row: what matching looks up.
CREATE TABLE filter_events (
    tenant TEXT COLLATE "C" NOT NULL,
    pattern TEXT COLLATE "C" NOT NULL,
    filter BIGINT NOT NULL REFERENCES filters (id) ON DELETE CASCADE,
    PRIMARY KEY (tenant, pattern, filter)
) /* sqlite: WITHOUT ROWID */;
CREATE INDEX filter_events_by_filter ON filter_events (filter);

CREATE TABLE subscriptions (
    id BIGINT PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL REFERENCES tenants (name),
    target BIGINT NOT NULL REFERENCES targets (id),
    filter BIGINT NOT NULL REFERENCES filters (id),
    -- 0 or 1
    active BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (target, filter)
);
CREATE INDEX subscriptions_by_tenant ON subscriptions (tenant, id);
CREATE INDEX subscriptions_by_filter ON subscriptions (filter, active, target);

-- What changed, for those who keep a copy in memory. The head is one row whose lock makes
-- writers take their numbers in the order in which they commit.
CREATE TABLE changes (
    seq BIGINT PRIMARY KEY,
    tenant TEXT NOT NULL,
    target BIGINT
);
CREATE TABLE change_head (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    seq BIGINT NOT NULL
);
INSERT INTO change_head (one, seq) VALUES (1, 0);
