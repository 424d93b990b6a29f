-- What happened. Rows come in any order and more than once; nothing here refers to the catalog,
-- whose targets may be gone by then.

CREATE TABLE events (
    tenant TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    event_type TEXT NOT NULL,
    accepted_at BIGINT NOT NULL,
    payload_size BIGINT NOT NULL,
    content_type TEXT NOT NULL,
    log_topic TEXT NOT NULL,
    log_partition BIGINT NOT NULL,
    log_offset BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX events_by_time ON events (tenant, accepted_at, id);

-- No index by event: a delivery was accepted when its event was, so an event's deliveries lie
-- together in deliveries_by_time.
CREATE TABLE deliveries (
    id TEXT COLLATE "C" PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL,
    event_id TEXT COLLATE "C" NOT NULL,
    target BIGINT NOT NULL,
    event_type TEXT NOT NULL,
    -- pending, retrying, delivered, exhausted, canceled
    status TEXT NOT NULL,
    -- attempts made * 4 + (0 pending, 1 retrying, 2 at an end): only ever grows
    progress BIGINT NOT NULL,
    accepted_at BIGINT NOT NULL,
    next_at BIGINT,
    updated_at BIGINT NOT NULL
);
CREATE INDEX deliveries_by_time ON deliveries (tenant, accepted_at, id, target);

-- Keyed by time before the delivery, whose id is a hash: so new rows come to the end, and do not
-- each touch a page of their own somewhere in the middle.
CREATE TABLE attempts (
    tenant TEXT COLLATE "C" NOT NULL,
    accepted_at BIGINT NOT NULL,
    delivery_id TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    status_code BIGINT,
    error TEXT,
    response TEXT,
    PRIMARY KEY (tenant, accepted_at, delivery_id, number)
) /* sqlite: WITHOUT ROWID */;
