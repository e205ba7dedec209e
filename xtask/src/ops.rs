//! Tests of ops/ against the real programs that will read it.

use std::path::PathBuf;

use crate::run::{output, program, root};

fn nats_server() -> PathBuf {
    let path = root().join(".local/bin/nats-server");
    assert!(path.is_file(), "there is no nats-server at {}: run `cargo xtask setup`", path.display());
    path
}

fn checked(config: &str) -> Result<String, String> {
    let names = ["SHIELD_1", "WRITER_1", "SPEAKER_1", "ROUTE"].map(|name| format!("{name}_PASSWORD"));
    let passwords = names.iter().map(String::as_str).chain(["OPERATOR_PASSWORD"]).map(|name| (name, "aPassword"));
    output(program(nats_server()).args(["-t", "-c", config]).envs(passwords))
}

#[test]
fn nats_server_accepts_its_configuration() {
    checked("ops/nats/arqon.conf").expect("nats-server -t");
}

#[test]
fn a_cluster_is_accepted_too() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let users = std::fs::read_to_string(root().join("ops/nats/users.conf")).expect("ops/nats/users.conf");
    let single = std::fs::read_to_string(root().join("ops/nats/arqon.conf")).expect("ops/nats/arqon.conf");
    let (head, cluster) = single.split_once("# cluster {").expect("the block of a cluster, as a comment");
    let cluster =
        format!("# cluster {{{cluster}").replace("\n# ", "\n").replace("# cluster", "cluster").replace('…', "x");
    std::fs::write(folder.path().join("users.conf"), users).expect("a temporary file");
    std::fs::write(folder.path().join("arqon.conf"), format!("{head}{cluster}")).expect("a temporary file");
    checked(&folder.path().join("arqon.conf").to_string_lossy()).expect("nats-server -t");
}

#[test]
fn a_broken_configuration_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("bad.conf");
    std::fs::write(&path, "jetstream { store_dirr: 1 }").expect("a temporary file");
    checked(&path.to_string_lossy()).expect_err("an unknown key");
}
