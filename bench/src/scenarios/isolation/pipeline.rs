//! The product that one part is measured on: in one process with everything embedded, or in one process over
//! services of its own names.

use super::super::{Context, distributed::find_key, random_key};
use crate::product::{Launch, Product};
use crate::world::World;
use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// Whose the nine targets are.
const TENANT: &str = "bench";
/// Partitions of its topics.
const PARTITIONS: u32 = 12;

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
    /// Starts one.
    pub async fn start(context: &Context, distributed: bool) -> Result<Self> {
        if distributed {
            let world = World::from_env().await?;
            world.create_database().await?;
            match Self::over(context, world.clone()).await {
                Ok(pipeline) => Ok(pipeline),
                Err(error) => {
                    clean_up(&world).await;
                    Err(error)
                }
            }
        } else {
            Self::embedded(context).await
        }
    }

    async fn embedded(context: &Context) -> Result<Self> {
        let folder = context.folder()?;
        let mut launch = Launch::new(&context.binary, folder.path(), &context.settings)?;
        launch.set("secrets.key", &random_key());
        let product = launch.dev().await?;
        let admin = std::fs::read_to_string(launch.data().join("admin-key")).context("the admin key")?;
        Ok(Self {
            product,
            key: launch.dev_key()?,
            admin: admin.trim().to_owned(),
            launch,
            world: None,
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
