-- A target's rate limit by the minute. Where `rate_limit`, which is by the second, is set too, that one counts: a
-- version that does not know this column has set it.
ALTER TABLE targets ADD COLUMN rate_limit_minute BIGINT;
