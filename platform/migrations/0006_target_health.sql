-- Which targets fail, and what their owners are to be told. Times are milliseconds since the epoch.

CREATE TABLE target_health (
    target BIGINT PRIMARY KEY REFERENCES targets (id) ON DELETE CASCADE,
    -- A success, or when it was enabled: failures before that do not count. 0 for none.
    good_at BIGINT NOT NULL,
    -- The first failure after the last success; null while it does not fail.
    failing_since BIGINT,
    -- When it was found that it would be disabled if that goes on.
    warned_at BIGINT,
    -- When its contact was last written to.
    mailed_at BIGINT
);

-- What is still to be told: one row for each kind, however often it happened.
CREATE TABLE target_notices (
    target BIGINT NOT NULL REFERENCES targets (id) ON DELETE CASCADE,
    -- exhausted, failing, disabled
    kind TEXT NOT NULL,
    times BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    reason TEXT NOT NULL,
    -- 0 or 1: whether its operational event is in the log
    published BIGINT NOT NULL,
    -- When to look at it next.
    due_at BIGINT NOT NULL,
    PRIMARY KEY (target, kind)
) /* sqlite: WITHOUT ROWID */;
CREATE INDEX target_notices_by_due ON target_notices (due_at);
