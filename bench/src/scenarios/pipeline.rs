//! The product that one part of a scenario is measured on, in one process, with names of its own in the services it
//! uses.

use super::{Context, distributed::find_key, random_key};
use crate::product::{Launch, Product};
use crate::world::World;
use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// Whose the nine targets are.
const TENANT: &str = "bench";
/// Partitions of its topics.
const PARTITIONS: u32 = 12;

/// What it stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Files.
    Files,
    /// Files, but for the database: Postgres.
    Postgres,
    /// Kafka, SQS, S3 and Postgres.
    Services,
}

/// A running product with a tenant.
pub struct Pipeline {
    /// The product.
    pub product: Product,
    /// How it was started.
    pub launch: Launch,
    /// The tenant's API key.
    pub key: String,
    /// The key for `/v1/admin`.
    pub admin: String,
    world: Option<World>,
    // Removed last.
    _folder: TempDir,
}

impl Pipeline {
    /// Whether it runs over Kafka, SQS, S3 and Postgres.
    pub fn is_on_services(&self) -> bool {
        self.world.is_some()
    }

    /// Starts one.
    pub async fn start(context: &Context, on: On) -> Result<Self> {
        if on == On::Files {
            return Self::dev(context, None).await;
        }
        let world = World::from_env().await?;
        world.create_database().await?;
        let started = match on {
            On::Services => Self::over(context, world.clone()).await,
            On::Postgres | On::Files => Self::dev(context, Some(world.clone())).await,
        };
        if started.is_err() {
            clean_up(&world).await;
        }
        started
    }

    /// `dev`, with its database in this world, if one is given.
    async fn dev(context: &Context, world: Option<World>) -> Result<Self> {
        let folder = context.folder()?;
        let mut launch = Launch::new(&context.binary, folder.path(), &context.settings)?;
        match &world {
            None => launch.set("secrets.key", &random_key()),
            Some(world) => {
                launch.set("secrets.key", &world.secrets_key);
                launch.set("store.url", &world.database_url);
                launch.run(&["provision"]).await?;
            }
        }
        let product = launch.dev().await?;
        let admin = std::fs::read_to_string(launch.data().join("admin-key")).context("the admin key")?;
        Ok(Self {
            product,
            key: launch.dev_key()?,
            admin: admin.trim().to_owned(),
            launch,
            world,
            _folder: folder,
        })
    }

    async fn over(context: &Context, world: World) -> Result<Self> {
        let folder = context.folder()?;
        let admin = random_key();
        let mut launch = Launch::new(&context.binary, folder.path(), &context.settings)?;
        launch.set("secrets.key", &world.secrets_key);
        launch.set("api.admin_key", &admin);
        std::fs::write(
            folder.path().join("hookwright.toml"),
            world.config(folder.path(), TENANT, PARTITIONS)?,
        )?;
        launch.run(&["provision"]).await?;
        launch.run(&["tenants", "create", TENANT]).await?;
        let printed = launch.run(&["keys", "create", "--tenant", TENANT]).await?;
        let key = find_key(&printed).context("`hookwright keys create` printed no key")?;
        Ok(Self {
            product: launch.start(&["all"]).await?,
            key: key.to_owned(),
            admin,
            launch,
            world: Some(world),
            _folder: folder,
        })
    }

    /// Kills the product, since what hangs is not waited for, and removes what it had in the services.
    pub async fn end(self) -> Result<()> {
        self.product.kill().await?;
        if let Some(world) = self.world {
            clean_up(&world).await;
        }
        Ok(())
    }
}

async fn clean_up(world: &World) {
    for left in world.clean_up().await {
        eprintln!("could not remove {left}");
    }
}
