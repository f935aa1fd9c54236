//! The files by which operators run perch.

use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn compose(variables: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new("docker-compose");
    command.current_dir(root()).arg("config").env_remove("POSTGRES_PASSWORD").env_remove("PERCH_OWNER_TOKEN");
    let output = command.envs(variables.iter().copied()).output().expect("docker-compose: run `make test`");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn the_compose_file_is_sound_and_wants_its_secrets() {
    let password = ("POSTGRES_PASSWORD", "secret1");
    let (is_sound, said) = compose(&[password, ("PERCH_OWNER_TOKEN", "0123456789abcdef")]);
    assert!(is_sound, "{said}");
    assert!(said.contains("postgres://perch:secret1@postgres/perch"), "{said}");
    assert!(said.contains("condition: service_healthy"), "{said}");
    let (is_sound, said) = compose(&[password]);
    assert!(!is_sound && said.contains("PERCH_OWNER_TOKEN"), "{said}");
    let (is_sound, said) = compose(&[("PERCH_OWNER_TOKEN", "0123456789abcdef")]);
    assert!(!is_sound && said.contains("POSTGRES_PASSWORD"), "{said}");
}

#[test]
fn the_systemd_unit_is_sound() {
    let unit = std::fs::read_to_string(root().join("deploy/perch.service")).expect("the unit is there");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("perch.service");
    let here = unit.replace("/usr/local/bin/perch", env!("CARGO_BIN_EXE_perch"));
    assert_ne!(here, unit);
    std::fs::write(&path, here).expect("the unit can be written");
    let output = Command::new("systemd-analyze").arg("verify").arg(&path).output();
    let output = output.expect("systemd-analyze: run `make test`");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("perch.service"), "{said}");
}

/// No Docker engine is at hand; this holds at least that what the Dockerfile names is there.
#[test]
fn the_dockerfile_names_what_is_there() {
    let text = std::fs::read_to_string(root().join("Dockerfile")).expect("the Dockerfile is there");
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("the manifest is there");
    let rust = manifest
        .split_once("rust-version = \"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .expect("a version")
        .0;
    assert!(text.contains(&format!("FROM rust:{rust}-")), "the image has the Rust that Cargo.toml asks for");
    assert!(text.contains("USER perch") && text.contains("VOLUME /data") && text.contains("HEALTHCHECK"));
    assert!(root().join("Cargo.lock").is_file(), "for --locked");
}
