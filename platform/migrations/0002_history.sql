-- What happened. Rows come in any order and more than once; nothing here refers to the catalog,
-- whose targets may be gone by then.
--
-- All three are kept in the order of time, so that new rows come to the end; SQLite has the rows in
-- their primary key itself. By id there is one more index for events and one for deliveries: an id may
-- be a hash, so that each entry touches a page of its own somewhere in the middle.

CREATE TABLE events (
    tenant TEXT COLLATE "C" NOT NULL,
    accepted_at BIGINT NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    event_type TEXT NOT NULL,
    payload_size BIGINT NOT NULL,
    content_type TEXT NOT NULL,
    log_topic TEXT NOT NULL,
    log_partition BIGINT NOT NULL,
    log_offset BIGINT NOT NULL,
    PRIMARY KEY (tenant, accepted_at, id)
) /* sqlite: WITHOUT ROWID */;
CREATE UNIQUE INDEX events_by_id ON events (tenant, id);

-- No index by event: a delivery was accepted when its event was, so an event's deliveries lie
-- together.
CREATE TABLE deliveries (
    tenant TEXT COLLATE "C" NOT NULL,
    accepted_at BIGINT NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    target BIGINT NOT NULL,
    event_id TEXT COLLATE "C" NOT NULL,
    event_type TEXT NOT NULL,
    -- pending, retrying, delivered, exhausted, canceled
    status TEXT NOT NULL,
    -- attempts made * 4 + (0 pending, 1 retrying, 2 at an end): only ever grows
    progress BIGINT NOT NULL,
    next_at BIGINT,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, accepted_at, id)
) /* sqlite: WITHOUT ROWID */;
CREATE UNIQUE INDEX deliveries_by_id ON deliveries (id);

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
