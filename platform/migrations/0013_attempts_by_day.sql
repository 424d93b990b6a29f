-- Postgres only.
-- Attempts, nearly all that history weighs, lie in a partition for each UTC day, so that a day past its time goes at once and
-- not row by row. history/days.rs makes the days and drops them. Times that no day is there for go to attempts_default,
-- and what was written before this, until the end of tomorrow, stays in attempts_before. Columns and key are what they
-- were: the version before this one reads and writes on.
DO $$
DECLARE
    day CONSTANT BIGINT := 86400000;
    -- The end of tomorrow: processes of the version before make no days, and are replaced by then.
    until CONSTANT BIGINT := (current_setting('hookwright.now')::BIGINT / day + 2) * day;
    owner RECORD;
    allowed RECORD;
BEGIN
    LOCK TABLE attempts IN ACCESS EXCLUSIVE MODE;
    ALTER TABLE attempts RENAME TO attempts_before;
    ALTER INDEX attempts_pkey RENAME TO attempts_before_pkey;
    CREATE TABLE attempts (LIKE attempts_before INCLUDING ALL EXCLUDING CONSTRAINTS) PARTITION BY RANGE (accepted_at);
    CREATE TABLE attempts_default PARTITION OF attempts DEFAULT;
    -- What a clock ahead of time has accepted. By tenant, since the key begins with it.
    FOR owner IN
        WITH RECURSIVE tenants (tenant) AS (
            SELECT MIN(tenant) FROM attempts_before
            UNION ALL
            SELECT (SELECT MIN(a.tenant) FROM attempts_before a WHERE a.tenant > t.tenant)
            FROM tenants t WHERE t.tenant IS NOT NULL
        )
        SELECT tenant FROM tenants WHERE tenant IS NOT NULL
    LOOP
        WITH ahead AS (
            DELETE FROM attempts_before a WHERE a.tenant = owner.tenant AND a.accepted_at >= until RETURNING a.*
        )
        INSERT INTO attempts_default SELECT * FROM ahead;
    END LOOP;
    -- Reads every row to see that it belongs there, unless a constraint that is known to hold says so: docs/operations.md has
    -- the one for large tables.
    EXECUTE format('ALTER TABLE attempts ATTACH PARTITION attempts_before FOR VALUES FROM (MINVALUE) TO (%s)', until);
    ALTER TABLE attempts_before DROP CONSTRAINT IF EXISTS attempts_before_days;
    -- Who may use the old table may use the new one.
    FOR allowed IN
        SELECT a.privilege_type AS privilege, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::TEXT END AS role
        FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.oid = 'attempts_before'::regclass AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('GRANT %s ON attempts TO %s', allowed.privilege, allowed.role);
    END LOOP;
END $$;
