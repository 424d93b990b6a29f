//! Master keys that KMS keeps the key of, with the real protocol.

use crate::support::world;
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use platform::aws::{self, AwsSettings};
use platform::catalog::data_keys::{DataKeyError, DataKeys};
use platform::catalog::{Catalog, NewTarget, PostgresOptions};
use platform::clock::Clock;
use platform::secrets::kms::{KeyService, Kms};
use platform::secrets::{MasterKey, Sealer};
use schemas::ids::Tenant;
use tempfile::TempDir;

/// A database that is not there yet, KMS, and a key there.
struct World {
    folder: TempDir,
    client: Client,
    kms: Kms,
    key: String,
}

impl World {
    async fn new() -> Self {
        let settings = AwsSettings {
            // LocalStack has all services at one address.
            endpoint: Some(world("WORLD_SQS_ENDPOINT")),
            region: None,
        };
        let config = aws::load(&settings).await;
        let client = Client::new(&config);
        let key = new_key(&client).await;
        Self {
            folder: tempfile::tempdir().unwrap(),
            kms: Kms::new(&config),
            client,
            key,
        }
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.folder.path().join("store.db").display())
    }

    /// The keys as a process has them at its start.
    async fn keys(&self, key: &str, make: bool) -> Result<DataKeys, DataKeyError> {
        let service: (&dyn KeyService, &str) = (&self.kms, key);
        DataKeys::open(
            &self.url(),
            PostgresOptions::default(),
            &Clock::system(),
            service,
            make,
        )
        .await
    }

    async fn catalog(&self, sealer: Sealer) -> Catalog {
        let catalog = Catalog::open(&self.url(), sealer, Clock::system()).await.unwrap();
        catalog.migrate().await.unwrap();
        catalog
    }
}

async fn new_key(client: &Client) -> String {
    let made = client.create_key().send().await.unwrap();
    made.key_metadata.unwrap().arn.unwrap()
}

fn sealer(keys: DataKeys) -> Sealer {
    Sealer::new(keys.current, keys.others)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_key_is_made_once_and_opens_at_each_start() {
    let world = World::new().await;
    let error = world.keys(&world.key, false).await.unwrap_err();
    assert!(error.to_string().contains("hookwright provision"), "{error}");
    // Of several that make one at once all have the same.
    let (one, two, three) = tokio::join!(
        world.keys(&world.key, true),
        world.keys(&world.key, true),
        world.keys(&world.key, true)
    );
    let sealed = sealer(one.unwrap()).seal(b"attack at dawn");
    for keys in [two, three, world.keys(&world.key, false).await] {
        assert_eq!(*sealer(keys.unwrap()).open(&sealed).unwrap(), b"attack at dawn");
    }
    // The database alone opens nothing.
    let key = world.keys(&world.key, false).await.unwrap().current;
    assert!(!format!("{key:?}").is_empty());
    let (plain, encrypted) = world.kms.make(&world.key).await.unwrap();
    assert!(!encrypted.windows(8).any(|part| part == &plain[..8]));
    assert_eq!(*world.kms.decrypt(&world.key, &encrypted).await.unwrap(), *plain);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_key_of_the_configuration_to_one_of_kms_and_to_another() {
    let world = World::new().await;
    let text = Sealer::random().1;
    let own = || MasterKey::from_base64(&text).unwrap();
    let before = world.catalog(Sealer::new(own(), Vec::new())).await;
    let acme = Tenant::new("acme").unwrap();
    before.create_tenant(&acme).await.unwrap();
    let new = NewTarget::at("https://a.example/");
    let (target, _) = before.create_target(&acme, new).await.unwrap();
    let secret = before.target_details(target.id).await.unwrap().unwrap().keys;
    // It opens first, then it seals.
    let keys = world.keys(&world.key, true).await.unwrap();
    let mut between = Sealer::new(own(), vec![keys.current]);
    for step in 0..2 {
        let catalog = world.catalog(between).await;
        catalog.reseal(|_| {}).await.unwrap();
        let details = catalog.target_details(target.id).await.unwrap().unwrap();
        assert_eq!(details.keys, secret, "step {step}");
        let keys = world.keys(&world.key, false).await.unwrap();
        between = Sealer::new(keys.current, vec![own()]);
    }
    let catalog = world.catalog(between).await;
    catalog.reseal(|_| {}).await.unwrap();
    // Another key of KMS: the first one's data key opens as long as it is there.
    let other = new_key(&world.client).await;
    let keys = world.keys(&other, true).await.unwrap();
    assert_eq!(keys.others.len(), 1);
    let catalog = world.catalog(sealer(keys)).await;
    catalog.reseal(|_| {}).await.unwrap();
    assert_eq!(catalog.sealed_by().await.unwrap().len(), 1);
    let details = catalog.target_details(target.id).await.unwrap().unwrap();
    assert_eq!(details.keys, secret);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_may_not_be_used_is_said_at_the_start() {
    let world = World::new().await;
    let unknown = "arn:aws:kms:us-east-1:000000000000:key/00000000-0000-0000-0000-000000000000";
    let error = world.keys(unknown, true).await.unwrap_err();
    assert!(matches!(error, DataKeyError::Service(_)), "{error:?}");
    assert!(error.to_string().contains("NotFoundException"), "{error}");

    world.keys(&world.key, true).await.unwrap();
    world
        .client
        .disable_key()
        .key_id(&world.key)
        .send()
        .await
        .unwrap();
    let error = world.keys(&world.key, false).await.unwrap_err().to_string();
    assert!(error.contains("DisabledException"), "{error}");
    world.client.enable_key().key_id(&world.key).send().await.unwrap();
    world.keys(&world.key, false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_was_made_for_this_is_decrypted() {
    let world = World::new().await;
    let encrypt = world
        .client
        .encrypt()
        .key_id(&world.key)
        .plaintext(Blob::new([7; 32]));
    let foreign = encrypt
        .send()
        .await
        .unwrap()
        .ciphertext_blob
        .unwrap()
        .into_inner();
    let error = world.kms.decrypt(&world.key, &foreign).await.unwrap_err();
    assert!(
        error.to_string().contains("InvalidCiphertext"),
        "another context: {error}"
    );
    let (_, encrypted) = world.kms.make(&world.key).await.unwrap();
    for at in [0, encrypted.len() / 2, encrypted.len() - 1] {
        let mut bent = encrypted.clone();
        bent[at] ^= 1;
        assert!(world.kms.decrypt(&world.key, &bent).await.is_err(), "byte {at}");
    }
    let other = new_key(&world.client).await;
    assert!(world.kms.decrypt(&other, &encrypted).await.is_err());
}
