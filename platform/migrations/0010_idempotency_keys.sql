-- What was asked for under an Idempotency-Key, and answered. Times are milliseconds since the epoch.
CREATE TABLE idempotency_keys (
    tenant TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    -- SHA-256 of method, path and body
    request TEXT NOT NULL,
    -- Who works on it, and until when nobody else does.
    owner TEXT NOT NULL,
    until BIGINT NOT NULL,
    -- JSON: the ids of what was made, written with it, so that who takes over makes it no second time.
    made TEXT,
    -- The answer, sealed, since it may show a secret; null until there is one.
    answer BYTEA,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
