//! Catalogs written in bulk: targets that are never called, for who measures what comes before them.

use anyhow::Result;
use platform::catalog::Catalog;
use platform::clock::Clock;
use platform::secrets::Sealer;
use sqlx::{AnyPool, AssertSqlSafe};

/// A catalog at this URL, migrated, whose secrets are sealed with this key.
pub async fn open(url: &str, key: &str) -> Result<Catalog> {
    let catalog = Catalog::open(url, Sealer::from_base64(key)?, Clock::system()).await?;
    catalog.migrate().await?;
    Ok(catalog)
}

/// Tenants, each with so many targets of every event of theirs, into an empty catalog.
pub async fn fill(pool: &AnyPool, tenants: &[(&str, u64)]) -> Result<()> {
    let mut first = 1;
    for (filter, (tenant, targets)) in (1..).zip(tenants) {
        let ids = format!(
            "WITH RECURSIVE n(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM n WHERE n + 1 < {})",
            first + targets
        );
        let mut statements = vec![
            format!("INSERT INTO tenants (name, created_at) VALUES ('{tenant}', 0)"),
            format!(
                "INSERT INTO filters (id, tenant, name, events, created_at, updated_at) \
                 VALUES ({filter}, '{tenant}', 'all', '[\"*\"]', 0, 0)"
            ),
            format!("INSERT INTO filter_events VALUES ('{tenant}', '*', {filter})"),
        ];
        if *targets > 0 {
            statements.extend([
                format!(
                    "{ids} INSERT INTO targets (id, tenant, url, headers, state, created_at, updated_at) \
                     SELECT n, '{tenant}', 'https://a.example/', '[]', 'active', 0, 0 FROM n"
                ),
                format!(
                    "{ids} INSERT INTO subscriptions (id, tenant, target, filter, active, created_at, updated_at) \
                     SELECT n, '{tenant}', n, {filter}, 1, 0, 0 FROM n"
                ),
            ]);
        }
        for statement in statements {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(pool).await?;
        }
        first += targets;
    }
    Ok(())
}
