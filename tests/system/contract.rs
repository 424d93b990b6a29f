//! The OpenAPI document, as others use it: requests made up of it are answered as it says, and clients made of it
//! work. The Python of `tests/contract` does both.

use crate::secs;
use crate::world::{node, python};
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;

/// Runs a script on the product, and tells all it said when it fails.
async fn run(script: &str, arguments: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contract");
    let mut command = Command::new(python());
    command
        .arg("-B")
        .arg(folder.join(script))
        .args(["--hookwright", env!("CARGO_BIN_EXE_hookwright")])
        .args(arguments)
        .stdin(Stdio::null());
    // The script has limits of its own, within these; killed, it could not stop the product.
    let output = tokio::time::timeout(secs(600), command.output()).await;
    let output = output.expect("within its limits").expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{script} {arguments:?}: {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
}

#[tokio::test]
async fn requests_made_up_of_the_document_are_answered_as_it_says() {
    run("fuzz.py", &["--cases", "100", "--seed", "1"]).await;
}

#[tokio::test]
async fn a_python_client_made_of_the_document_works() {
    run("clients.py", &["python"]).await;
}

#[tokio::test]
async fn a_typescript_client_made_of_the_document_works() {
    run("clients.py", &["typescript", "--node", &node()]).await;
}
