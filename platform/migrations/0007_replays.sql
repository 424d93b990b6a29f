-- What is sent again, and how far that has come. Nothing here refers to the catalog: a target may be gone
-- by then, which the replay then says.
CREATE TABLE replays (
    id BIGINT PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL,
    target BIGINT NOT NULL,
    -- missed, failed, all, exhausted, one
    which TEXT NOT NULL,
    -- of one: the delivery
    delivery TEXT,
    from_at BIGINT NOT NULL,
    to_at BIGINT NOT NULL,
    -- waiting, running, done, failed, canceled
    state TEXT NOT NULL,
    -- why it failed
    error TEXT,
    -- JSON: where to go on
    place TEXT NOT NULL,
    percent BIGINT NOT NULL,
    examined BIGINT NOT NULL,
    sent BIGINT NOT NULL,
    lost BIGINT NOT NULL,
    -- when it was last somebody's turn to work on it: who waits longest goes first
    turn BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX replays_by_tenant ON replays (tenant, id);
CREATE INDEX replays_open ON replays (target, turn, id) WHERE state IN ('waiting', 'running');

-- Which process works on the replays of a target: one at a time, so that the target's rate is kept.
CREATE TABLE replay_leases (
    target BIGINT PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL,
    owner TEXT NOT NULL,
    until BIGINT NOT NULL
);

-- The few deliveries that were given up, among the many that were not.
CREATE INDEX deliveries_given_up ON deliveries (tenant, accepted_at, id) WHERE status IN ('exhausted', 'canceled');
