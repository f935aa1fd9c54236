//! Unmodified npm clients against the real binary, on both databases; the scenarios are in `tests/clients/scenarios/`.

use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

fn run(scenario: &str, database_url: Option<&str>) {
    run_within(&[], scenario, database_url);
}

/// `within`: a command that runs node, and its arguments.
fn run_within(within: &[&str], scenario: &str, database_url: Option<&str>) {
    assert!(folder().join("node_modules").is_dir(), "the npm clients are not installed: run `make test`");
    let line = [within, &["node"]].concat();
    let mut node = Command::new(line[0]);
    node.args(&line[1..]).current_dir(folder()).args(["story.mjs", env!("CARGO_BIN_EXE_perch"), scenario]);
    node.env_remove("DATABASE_URL");
    if let Some(url) = database_url {
        node.env("DATABASE_URL", url);
    }
    let output = node.output().expect("node can be started");
    let said = String::from_utf8_lossy(&output.stdout);
    // The seed of a random plan; shown when the test fails.
    eprintln!("{said}");
    // Why it failed comes after the log, and before it too: a long report is cut somewhere.
    let complained = String::from_utf8_lossy(&output.stderr);
    let reason =
        complained.lines().filter(|line| !line.contains(" INFO ")).take(40).collect::<Vec<_>>().join("\n");
    assert!(output.status.success() && said.contains(": ok"), "{reason}\n\nThe whole log:\n{complained}");
}

/// A database of its own in the throw-away cluster that `make test` starts.
fn on_postgres(scenario: &str) {
    let admin = std::env::var("PERCH_TEST_POSTGRES").expect("no test cluster: run `make test`");
    let name = format!("perch_{scenario}_{}", std::process::id());
    let psql = |sql: &str| {
        let status = Command::new("psql").args([&admin, "-qc", sql]).status().expect("psql can be started");
        assert!(status.success(), "{sql}");
    };
    psql(&format!("create database {name}"));
    let base = admin.rsplit_once('/').expect("the URL names a database").0;
    run(scenario, Some(&format!("{base}/{name}")));
    psql(&format!("drop database {name} with (force)"));
}

macro_rules! scenarios {
    ($($name:ident),*) => {
        mod sqlite {
            $(#[test] fn $name() { super::run(stringify!($name), None); })*
        }
        mod postgres {
            $(#[test] fn $name() { super::on_postgres(stringify!($name)); })*
        }

        #[test]
        fn each_scenario_is_run() {
            let mut written = Vec::new();
            for file in std::fs::read_dir(folder().join("scenarios")).unwrap() {
                let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
                for line in text.lines() {
                    if let Some((name, _)) = line.strip_prefix("export async function ").and_then(|rest| rest.split_once('(')) {
                        written.push(name.to_owned());
                    }
                }
            }
            let mut run = vec![$(stringify!($name).to_owned()),*];
            // Below, with what they need.
            run.extend(["database", "full", "proxied"].map(str::to_owned));
            written.sort();
            run.sort();
            assert_eq!(written, run);
        }
    };
}

scenarios!(
    everyone,
    durable,
    readers,
    every_route,
    random,
    slow,
    crowd,
    moves,
    move_faults,
    follows,
    frames,
    trace,
    pycrdt,
    attacks,
    h1,
    h2,
    h3,
    h4,
    h5,
    h6,
    h7,
    h8,
    h9_recreated,
    h10,
    h11,
    h12,
    late_writers,
    while_looked,
    busy_file,
    unwatched,
    filler,
    sealed,
    arrivals,
    unread,
    failed,
    search_behind,
    tree,
    edits,
    folders,
    search,
    file_rights,
    file_links,
    history,
    forgotten,
    restored,
    events,
    lagging,
    tokens,
    guarded,
    sessions,
    links,
    downloads,
    branches,
    deleted,
    forked,
    archives,
    bounded,
    cloned,
    missing,
    problems,
    openapi,
    observed,
    stops,
    crowded,
    tls,
    refusals,
    five_minutes,
    commands,
    apart,
    inside_ends,
    greedy,
    canary,
    levels,
    shells,
    neighbours,
    previews,
    preview_domain
);

/// Starts and stops a Postgres cluster of its own.
#[test]
fn database_goes_away_and_comes_back() {
    run("database", None);
}

/// Mounts small file systems, in a namespace of its own.
#[test]
fn disk_is_full() {
    let is_root = rustix::process::getuid().is_root();
    run_within(&["unshare", if is_root { "-m" } else { "-Urm" }], "full", None);
}

/// With nginx in front, as `deploy/nginx.conf` has it.
#[test]
fn behind_nginx() {
    run("proxied", None);
}
