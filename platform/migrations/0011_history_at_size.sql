-- What is counted of history, in the transaction that writes what it counts: for each hour and each day, by target and
-- event type. history/tally.rs says what a tally holds.
CREATE TABLE stats (
    tenant TEXT COLLATE "C" NOT NULL,
    -- 0: all targets
    target BIGINT NOT NULL,
    -- '': all event types; '*': those beyond the hundred that are counted apart
    event_type TEXT COLLATE "C" NOT NULL,
    -- 3600000 or 86400000
    span BIGINT NOT NULL,
    -- when it begins
    at BIGINT NOT NULL,
    -- JSON of a tally
    tally TEXT NOT NULL,
    PRIMARY KEY (tenant, target, event_type, span, at)
) /* sqlite: WITHOUT ROWID */;
-- Rows are put in once for each hour and then only updated beside their keys, so indexes cost little.
CREATE INDEX stats_by_type ON stats (tenant, event_type, span, at, target);
CREATE INDEX stats_by_target ON stats (tenant, target, span, at, event_type);
CREATE INDEX stats_by_time ON stats (at);

-- What lists of deliveries and events may be narrowed by, each in the order of the list. Those that were not delivered
-- are few among many, so they have indexes by status that the others are not in.
CREATE INDEX deliveries_by_target ON deliveries (tenant, target, accepted_at, id);
CREATE INDEX deliveries_by_type ON deliveries (tenant, event_type, accepted_at, id);
CREATE INDEX deliveries_by_status ON deliveries (tenant, status, accepted_at, id)
    WHERE status IN ('pending', 'retrying', 'exhausted', 'canceled');
CREATE INDEX deliveries_by_target_status ON deliveries (tenant, target, status, accepted_at, id)
    WHERE status IN ('pending', 'retrying', 'exhausted', 'canceled');
CREATE INDEX events_by_type ON events (tenant, event_type, accepted_at, id);

-- Why an event had no target when it was recorded: a word of history/unmatched.rs; null for one that had, or that an
-- earlier release has recorded.
ALTER TABLE events ADD COLUMN unmatched TEXT;
CREATE INDEX events_unmatched ON events (tenant, accepted_at, id) WHERE unmatched IS NOT NULL;
