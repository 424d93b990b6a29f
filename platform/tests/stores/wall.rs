//! Row-level security: what a statement that forgot its tenant finds, and that no call forgets to say whose it is.

use crate::store::{ALL, START, Store, behind_the_wall, on_postgres, superuser, texts};
use platform::catalog::{AuditQuery, Catalog, CatalogError, Change, NewTarget, PostgresOptions, TargetPatch};
use platform::history::{DeliveryQuery, EventQuery, History};
use platform::replays::Replays;
use schemas::delivery::DeliveryStatus;
use schemas::history::HistoryRecord;
use schemas::ids::{DeliveryId, EventId};
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use std::collections::BTreeSet;
use std::task::Poll;
use std::time::Duration;

/// The tables that hold nothing of a tenant. Every other one must be walled.
const OF_NOBODY: [&str; 4] = ["change_head", "change_marks", "hookwright_migrations", "settings"];
const ACME: (&str, i64) = ("acme", 1);
const SPY: (&str, i64) = ("spy", 2);
/// What Postgres says to a row that a policy does not take.
const REFUSED: &str = "42501";

struct Table {
    name: String,
    /// Name and type of each column that can be written.
    columns: Vec<(String, String)>,
}

impl Table {
    /// The column that says whose a row is; none where its target does.
    fn tenant(&self) -> Option<&str> {
        if self.name == "tenants" {
            return Some("name");
        }
        let mut names = self.columns.iter().map(|(name, _)| name.as_str());
        names.find(|name| *name == "tenant")
    }

    /// A row of a tenant with a target of that number.
    fn insert(&self, (tenant, target): (&str, i64)) -> String {
        let values = self.columns.iter().map(|(name, of_type)| {
            let own = Some(name.as_str()) == self.tenant();
            match (name.as_str(), of_type.as_str()) {
                _ if own => format!("'{tenant}'"),
                ("target", _) => target.to_string(),
                ("id", "bigint") => target.to_string(),
                (_, "bigint") => (START.0 + target).to_string(),
                (_, "bytea") => "'\\x00'".to_owned(),
                (_, "text") => format!("'{tenant}''s'"),
                (name, of_type) => panic!("{}.{name}: a value of {of_type}?", self.name),
            }
        });
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        let values: Vec<String> = values.collect();
        format!(
            "INSERT INTO {} ({}) VALUES ({})",
            self.name,
            names.join(", "),
            values.join(", ")
        )
    }
}

async fn run(on: &mut AnyConnection, sql: &str) -> Result<u64, sqlx::Error> {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(on).await?;
    Ok(done.rows_affected())
}

async fn number(on: &mut AnyConnection, sql: &str) -> i64 {
    let row = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_one(on).await;
    row.unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
}

/// All tables that the schema has and that are a tenant's, partitions apart.
async fn tables(catalog: &Catalog) -> Vec<Table> {
    let rows = sqlx::query(
        "SELECT CAST(c.table_name AS TEXT), CAST(c.column_name AS TEXT), CAST(c.data_type AS TEXT) \
         FROM information_schema.columns c JOIN pg_class t ON t.relname = c.table_name \
         AND t.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) \
         WHERE c.table_schema = current_schema() AND c.is_identity = 'NO' AND NOT t.relispartition \
         ORDER BY c.table_name, c.ordinal_position",
    )
    .fetch_all(catalog.pool())
    .await
    .unwrap();
    let mut tables: Vec<Table> = Vec::new();
    for row in &rows {
        let (name, column) = (row.get::<String, _>(0), (row.get(1), row.get(2)));
        match tables.last_mut() {
            Some(table) if table.name == name => table.columns.push(column),
            _ => tables.push(Table {
                name,
                columns: vec![column],
            }),
        }
    }
    tables.retain(|table| !OF_NOBODY.contains(&table.name.as_str()));
    tables
}

/// Nothing refers to anything any more, so that each table can be tried by itself.
async fn cut_references(catalog: &Catalog) {
    let rows = sqlx::query(
        "SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', CAST(conrelid AS regclass), conname) FROM pg_constraint \
         WHERE contype = 'f' AND conparentid = 0 \
         AND connamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())",
    )
    .fetch_all(catalog.pool())
    .await
    .unwrap();
    for row in rows {
        let drop = AssertSqlSafe(row.get::<String, _>(0));
        sqlx::raw_sql(drop).execute(catalog.pool()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_table_of_tenants_keeps_them_apart_where_a_statement_does_not() {
    behind_the_wall(async |store: Store| {
        let catalog = store.catalog().await;
        catalog.check().await.unwrap();
        cut_references(&catalog).await;
        let tables = tables(&catalog).await;
        assert!(tables.len() >= 18, "{}", tables.len());
        let mut on = catalog.pool().acquire().await.unwrap();
        for whose in [ACME, SPY] {
            for table in &tables {
                let insert = table.insert(whose);
                run(&mut on, &insert)
                    .await
                    .unwrap_or_else(|error| panic!("{insert}: {error}"));
            }
        }
        for table in &tables {
            let name = &table.name;
            let count = format!("SELECT COUNT(*) FROM {name}");
            assert_eq!(number(&mut on, &count).await, 2, "{name}, without a tenant");
            let (first, _) = &table.columns[0];
            let mut seen = BTreeSet::new();
            for (tenant, _) in [ACME, SPY] {
                let begin = format!("BEGIN; SET LOCAL hookwright.tenant = '{tenant}'");
                run(&mut on, &begin).await.unwrap();
                assert_eq!(number(&mut on, &count).await, 1, "{name}: seen by {tenant}");
                let place = format!("SELECT CAST(ctid AS TEXT) FROM {name}");
                let row = sqlx::query(AssertSqlSafe(place)).fetch_one(&mut *on).await;
                seen.insert(row.unwrap().get::<String, _>(0));
                if let Some(column) = table.tenant() {
                    let own = format!("SELECT COUNT(*) FROM {name} WHERE {column} = '{tenant}'");
                    assert_eq!(number(&mut on, &own).await, 1, "{name}: seen by {tenant}");
                }
                let update = format!("UPDATE {name} SET {first} = {first}");
                assert_eq!(run(&mut on, &update).await.unwrap(), 1, "{name}: by {tenant}");
                let delete = format!("DELETE FROM {name}");
                assert_eq!(run(&mut on, &delete).await.unwrap(), 1, "{name}: by {tenant}");
                run(&mut on, "ROLLBACK").await.unwrap();
            }
            assert_eq!(seen.len(), 2, "{name}: each sees its own");
            // Nor can one be given a row, new or old, of another.
            let mut forbidden = vec![table.insert(SPY)];
            match table.tenant() {
                Some(column) => forbidden.push(format!("UPDATE {name} SET {column} = 'spy'")),
                None => forbidden.push(format!("UPDATE {name} SET target = 2")),
            }
            for statement in forbidden {
                run(&mut on, "BEGIN; SET LOCAL hookwright.tenant = 'acme'")
                    .await
                    .unwrap();
                let error = run(&mut on, &statement).await.unwrap_err();
                let code = error.as_database_error().and_then(|error| error.code());
                assert_eq!(code.as_deref(), Some(REFUSED), "{statement}: {error}");
                run(&mut on, "ROLLBACK").await.unwrap();
            }
            assert_eq!(number(&mut on, &count).await, 2, "{name}, without a tenant again");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_a_tenant_says_whose_it_is() {
    behind_the_wall(async |store: Store| {
        let (catalog, acme) = store.with_tenant().await;
        let (history, replays) = (History::new(&catalog), Replays::new(&catalog));
        let new = NewTarget::at("https://a.example/");
        let (made, _) = catalog.create_endpoint(&acme, new, texts(&["*"])).await.unwrap();
        let event = crate::history::event(&acme, "evt-1", &[made.id.0]);
        let attempt = crate::history::attempt(&acme, "evt-1", made.id.0, 1, DeliveryStatus::Exhausted);
        let records = [HistoryRecord::Event(event), HistoryRecord::Attempt(attempt)];
        history.write(&records).await.unwrap();
        // From now on nobody finds anything without saying so.
        for table in tables(&catalog).await {
            let sql = format!(
                "CREATE POLICY trap ON {} AS RESTRICTIVE USING (current_setting('hookwright.tenant', true) <> '')",
                table.name
            );
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(catalog.pool()).await.unwrap();
        }
        assert_eq!(catalog.list_tenants(10, None).await, Ok(vec![]), "the trap works");

        let event = EventId::new("evt-1").unwrap();
        let delivery = DeliveryId::derive(&event, made.id);
        let (c, h) = (&catalog, &history);
        c.get_tenant(&acme).await.unwrap();
        let (key, _) = c.create_key(&acme, "ci").await.unwrap();
        assert_eq!(c.list_keys(&acme, ALL).await.unwrap().len(), 1);
        c.revoke_key(&acme, key.id).await.unwrap();
        let (target, _) = c.create_target(&acme, NewTarget::at("https://b.example/")).await.unwrap();
        c.get_target(&acme, target.id).await.unwrap();
        assert_eq!(c.list_targets(&acme, ALL).await.unwrap().len(), 2);
        c.patch_target(&acme, target.id, TargetPatch::default()).await.unwrap();
        c.enable_target(&acme, target.id).await.unwrap();
        c.rotate_secret(&acme, target.id, Duration::from_secs(60)).await.unwrap();
        let filter = c.create_filter(&acme, "f".to_owned(), texts(&["*"])).await.unwrap();
        c.get_filter(&acme, filter.id).await.unwrap();
        assert_eq!(c.list_filters(&acme, ALL).await.unwrap().len(), 2);
        let name = Change::Set("g".to_owned());
        c.patch_filter(&acme, filter.id, name, Change::Keep).await.unwrap();
        let joined = c.create_subscription(&acme, target.id, filter.id, true).await.unwrap();
        c.get_subscription(&acme, joined.id).await.unwrap();
        assert_eq!(c.list_subscriptions(&acme, ALL).await.unwrap().len(), 2);
        c.patch_subscription(&acme, joined.id, Change::Set(true), Change::Keep, Change::Keep)
            .await
            .unwrap();
        assert_eq!(c.match_targets(&acme, "a.b").await.unwrap().len(), 2);
        assert_eq!(c.whole(&acme).await.unwrap().subscriptions.len(), 2);
        c.delete_subscription(&acme, joined.id).await.unwrap();
        c.delete_filter(&acme, filter.id, false).await.unwrap();
        c.delete_target(&acme, target.id, false).await.unwrap();
        let endpoint = c.get_endpoint(&acme, made.id).await.unwrap();
        assert_eq!(endpoint.events, texts(&["*"]));
        assert_eq!(c.list_endpoints(&acme, ALL).await.unwrap(), [endpoint]);
        c.patch_endpoint(&acme, made.id, Change::Keep, Change::Set(texts(&["x"])), Change::Keep)
            .await
            .unwrap();
        let everything = AuditQuery {
            kind: None,
            thing: None,
            from: None,
            to: None,
            page: ALL,
        };
        let noted = c.audit(&acme, &everything).await.unwrap();
        assert!(noted.len() > 10, "{noted:?}");
        assert_eq!(c.audit_of_all(Some(&acme), &everything).await, Ok(noted));
        c.claim(&acme, "once", "request", Duration::from_secs(60)).await.unwrap();

        h.event(&acme, &event).await.unwrap();
        h.delivery(&acme, &delivery).await.unwrap();
        assert_eq!(h.attempts(&acme, &delivery).await.unwrap().len(), 1);
        let events = EventQuery {
            limit: 10,
            ..EventQuery::default()
        };
        assert_eq!(h.events(&acme, &events).await.unwrap().len(), 1);
        let deliveries = DeliveryQuery {
            limit: 10,
            ..DeliveryQuery::default()
        };
        assert_eq!(h.deliveries(&acme, &deliveries).await.unwrap().len(), 1);
        assert!(h.placed(&acme, &delivery).await.is_ok());
        assert_eq!(h.targets_given_up(&acme, 10).await.unwrap().len(), 1);
        assert_eq!(replays.list(&acme, ALL).await, Ok(vec![]));
        c.delete_endpoint(&acme, made.id).await.unwrap();
        c.delete_tenant(&acme).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_still_has_a_tenant_goes_to_nobody() {
    behind_the_wall(async |store: Store| {
        let catalog = store.catalog().await;
        let mut given_up = catalog.pool().acquire().await.unwrap();
        // What a call has sent that is given up within its BEGIN: `sqlx` knows of no transaction.
        let begin = sqlx::raw_sql("BEGIN; SET LOCAL hookwright.tenant = 'acme'");
        begin.execute(&mut *given_up).await.unwrap();
        drop(given_up);
        let mut all = Vec::new();
        for _ in 0..catalog.pool().options().get_max_connections() {
            all.push(catalog.pool().acquire().await.unwrap());
        }
        for connection in &mut all {
            let named = sqlx::query("SELECT COALESCE(current_setting('hookwright.tenant', true), '')");
            let named = named.fetch_one(&mut **connection).await.unwrap();
            assert_eq!(named.get::<String, _>(0), "");
        }
    })
    .await;
}

// On one thread: no answer is there before it was waited for.
#[tokio::test]
async fn a_call_given_up_at_any_moment_leaves_no_tenant_on_its_connection() {
    behind_the_wall(async |store: Store| {
        let (catalog, acme) = store.with_tenant().await;
        let new = NewTarget::at("https://a.example/");
        let (target, _) = catalog.create_target(&acme, new).await.unwrap();
        let one = PostgresOptions {
            connections: 1,
            row_level_security: true,
            ..PostgresOptions::default()
        };
        let (sealer, clock) = (store.sealer.clone(), store.clock.clone());
        let catalog = Catalog::open_with(&store.url, sealer, clock, one).await.unwrap();
        for write in [false, true] {
            let mut given_up = 0;
            loop {
                let call = async {
                    if write {
                        catalog.enable_target(&acme, target.id).await.map(drop)
                    } else {
                        catalog.get_target(&acme, target.id).await.map(drop)
                    }
                };
                if ends_within(given_up + 1, call).await {
                    break;
                }
                given_up += 1;
                let left = "SELECT COALESCE(current_setting('hookwright.tenant', true), '')";
                let left: String = sqlx::query(left).fetch_one(catalog.pool()).await.unwrap().get(0);
                assert_eq!(left, "", "given up at wait {given_up}, writing: {write}");
            }
            assert!(given_up > 0, "it never waited");
        }
    })
    .await;
}

/// Whether a call ends before it has waited so often. The last time it is given up instead, with what it sent under
/// way.
async fn ends_within(waits: usize, call: impl Future<Output = Result<(), CatalogError>>) -> bool {
    let mut call = Box::pin(call);
    let mut waited = 0;
    std::future::poll_fn(|cx| match call.as_mut().poll(cx) {
        Poll::Ready(result) => {
            result.unwrap();
            Poll::Ready(true)
        }
        Poll::Pending => {
            waited += 1;
            if waited == waits {
                Poll::Ready(false)
            } else {
                Poll::Pending
            }
        }
    })
    .await
}

fn reason(result: Result<(), CatalogError>) -> String {
    match result {
        Err(CatalogError::Unavailable(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// How many tables have a policy of ours.
async fn policies(catalog: &Catalog) -> i64 {
    let mut on = catalog.pool().acquire().await.unwrap();
    let count = "SELECT COUNT(*) FROM pg_policies WHERE schemaname = current_schema()";
    number(&mut on, count).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn provisioning_puts_the_wall_up_and_takes_it_down() {
    behind_the_wall(async |store: Store| {
        let without = Store {
            row_level_security: false,
            ..store.clone()
        };
        let (open, acme) = without.with_tenant().await;
        assert_eq!(policies(&open).await, 0);
        let walled = store.open().await;
        let why = reason(walled.check().await);
        assert!(why.contains("run `hookwright provision`"), "{why}");
        walled.migrate().await.unwrap();
        walled.check().await.unwrap();
        let all = policies(&walled).await;
        assert_eq!(all, i64::try_from(tables(&walled).await.len()).unwrap());
        walled.get_tenant(&acme).await.unwrap();

        // A process that knows of no wall, of this version or an earlier one, finds what it always found.
        open.check().await.unwrap();
        assert_eq!(open.list_tenants(10, None).await.unwrap().len(), 1);
        let (target, _) = open
            .create_target(&acme, NewTarget::at("https://a.example/"))
            .await
            .unwrap();
        walled.get_target(&acme, target.id).await.unwrap();

        // Half taken down by hand, it does not count as one.
        let half = "ALTER TABLE target_secrets NO FORCE ROW LEVEL SECURITY";
        sqlx::raw_sql(half).execute(open.pool()).await.unwrap();
        let why = reason(walled.check().await);
        assert!(why.contains("target_secrets"), "{why}");
        walled.migrate().await.unwrap();
        walled.check().await.unwrap();

        open.migrate().await.unwrap();
        assert_eq!(policies(&open).await, 0);
        let mut on = open.pool().acquire().await.unwrap();
        let held = "SELECT COUNT(*) FROM pg_class WHERE relrowsecurity AND \
                    relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())";
        assert_eq!(number(&mut on, held).await, 0);
        assert!(reason(walled.check().await).contains("run `hookwright provision`"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_no_wall_holds_is_refused() {
    // The world's own.
    on_postgres(async |store: Store| {
        let store = Store {
            row_level_security: true,
            ..store
        };
        let why = reason(store.catalog().await.check().await);
        assert!(why.contains("is a superuser"), "{why}");
    })
    .await;
    behind_the_wall(async |store: Store| {
        let catalog = store.catalog().await;
        catalog.check().await.unwrap();
        let (_, name) = store.url.rsplit_once("%3D").unwrap();
        let sql = AssertSqlSafe(format!("ALTER ROLE {name} BYPASSRLS"));
        sqlx::raw_sql(sql).execute(&mut superuser().await).await.unwrap();
        let why = reason(catalog.check().await);
        assert!(why.contains(name) && why.contains("has BYPASSRLS"), "{why}");
    })
    .await;
}

#[tokio::test]
async fn sqlite_has_no_wall_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("store.db").display());
    let walled = PostgresOptions {
        row_level_security: true,
        ..PostgresOptions::default()
    };
    let (sealer, clock) = (
        platform::secrets::Sealer::random().0,
        platform::clock::Clock::system(),
    );
    let opened = Catalog::open_with(&url, sealer, clock, walled).await.map(drop);
    assert!(reason(opened).contains("only Postgres"));
}
