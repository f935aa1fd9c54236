//! The page in a real browser against the real binary; the scenarios are in `tests/browser/scenarios/`.

use std::path::{Path, PathBuf};
use std::process::Command;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn run(scenario: &str) {
    let tests = folder("tests/browser");
    assert!(tests.join("node_modules").is_dir(), "the browser's driver is not installed: run `make test`");
    let mut node = Command::new("node");
    node.current_dir(&tests).args(["page.mjs", env!("CARGO_BIN_EXE_perch"), scenario]);
    node.env_remove("DATABASE_URL").env_remove("PERCH_OWNER_TOKEN");
    let output = node.output().expect("node can be started");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains(": ok"), "{said}{complained}");
}

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        const RUN: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { run(stringify!($name)); })*
    };
}

scenarios!(
    together,
    terminals,
    visitors,
    carets,
    offline,
    refusals,
    reading,
    branches,
    finding,
    tree,
    uploads,
    split,
    phone,
    large,
    mark,
    unwritten,
    reset,
    closed_offline,
    following,
    handover,
    asks_to_type,
    looks,
    looks_dialogs,
    looks_git,
    looks_visitors,
    keyboard,
    git_own_names,
    git_hunks,
    git_pull_arrives,
    git_conflicts,
    git_takes,
    git_keeps,
    git_blame_gutter,
    git_rebase,
    git_ssh_key,
    git_https_token,
    read_only,
    folder_download,
    write_link,
    guest_names,
    fork_to_write,
    preview_beside,
    embedding,
);

#[test]
fn each_scenario_is_run() {
    let output = Command::new("node").arg("page.mjs").current_dir(folder("tests/browser")).output();
    let said = String::from_utf8(output.expect("node can be started").stdout).unwrap();
    let there: Vec<_> = said.lines().filter(|name| !RUN.contains(name)).collect();
    assert!(said.lines().count() >= RUN.len(), "{said}");
    assert!(there.is_empty(), "not run: {there:?}");
}

/// The output of `program` in `static/`, where `tests/install.sh` has installed what it needs.
fn in_static(program: &str, arguments: &[&str]) -> (bool, String) {
    let folder = folder("static");
    assert!(folder.join("node_modules").is_dir(), "the page's packages are not installed: run `make test`");
    let output =
        Command::new(program).args(arguments).current_dir(folder).output().expect("it can be started");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn types_of_the_page_agree() {
    let (success, said) = in_static("node", &["node_modules/typescript/bin/tsc", "--noEmit"]);
    assert!(success, "{said}");
}

/// With two copies of yjs each refuses the other's types, at run time.
#[test]
fn the_page_has_one_yjs() {
    let (success, said) = in_static("npm", &["ls", "yjs", "--all", "--parseable"]);
    assert!(success, "{said}");
    let copies: Vec<_> = said.lines().filter(|line| line.ends_with("node_modules/yjs")).collect();
    assert_eq!(copies.len(), 1, "{said}");
}
