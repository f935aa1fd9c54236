//! Unmodified npm clients against the real binary, on both databases where these matter; the scenarios are in `tests/clients/scenarios/`.

use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

fn run(scenario: &str, database_url: Option<&str>) {
    run_in(&folder(), scenario, database_url);
}

/// A scenario of another folder that is made as `tests/clients`.
pub(crate) fn run_in(folder: &Path, scenario: &str, database_url: Option<&str>) {
    run_within(&[], folder, scenario, database_url);
}

/// `within`: a command that runs node, and its arguments.
fn run_within(within: &[&str], folder: &Path, scenario: &str, database_url: Option<&str>) {
    assert!(folder.join("node_modules").is_dir(), "the npm clients are not installed: run `make test`");
    let line = [within, &["node"]].concat();
    let mut node = Command::new(line[0]);
    node.args(&line[1..]).current_dir(folder).args(["story.mjs", env!("CARGO_BIN_EXE_perch"), scenario]);
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

fn on_postgres(scenario: &str) {
    on_postgres_in(&folder(), scenario);
}

/// A database of its own in the throw-away cluster that `make test` starts.
pub(crate) fn on_postgres_in(folder: &Path, scenario: &str) {
    let admin = std::env::var("PERCH_TEST_POSTGRES").expect("no test cluster: run `make test`");
    let name = format!("perch_{scenario}_{}", std::process::id());
    let psql = |sql: &str| {
        let status = Command::new("psql").args([&admin, "-qc", sql]).status().expect("psql can be started");
        assert!(status.success(), "{sql}");
    };
    psql(&format!("create database {name}"));
    let base = admin.rsplit_once('/').expect("the URL names a database").0;
    run_in(folder, scenario, Some(&format!("{base}/{name}")));
    psql(&format!("drop database {name} with (force)"));
}

/// Checks that `run` names each scenario of a folder.
pub(crate) fn each_is_run(folder: &Path, run: &[&str]) {
    let mut written = Vec::new();
    for file in std::fs::read_dir(folder.join("scenarios")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for line in text.lines() {
            let name = line.strip_prefix("export async function ").and_then(|rest| rest.split_once('('));
            written.extend(name.map(|(name, _)| name.to_owned()));
        }
    }
    let mut run = run.to_vec();
    written.sort();
    run.sort_unstable();
    assert_eq!(written, run);
}

macro_rules! scenarios {
    (both: $($name:ident),*; once: $($once:ident),*) => {
        mod sqlite {
            $(#[test] fn $name() { super::run(stringify!($name), None); })*
            // What they look at is in the sandbox, in git, in files or on the wire: another database says nothing new.
            $(#[test] fn $once() { super::run(stringify!($once), None); })*
        }
        mod postgres {
            $(#[test] fn $name() { super::on_postgres(stringify!($name)); })*
        }

        #[test]
        fn each_scenario_is_run() {
            // The last ones are below, with what they need.
            each_is_run(&folder(), &[$(stringify!($name),)* $(stringify!($once),)* "database", "full", "proxied"]);
        }
    };
}

scenarios!(
    both:
    everyone,
    durable,
    readers,
    every_route,
    random,
    moves,
    move_faults,
    doors,
    follows,
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
    while_loaded,
    missing_at_opening,
    arrivals,
    blank_gives_way,
    failed,
    search_behind,
    edits,
    history,
    forgotten,
    restored,
    events,
    people,
    git_status,
    git_co_authors,
    git_live_blame,
    git_tokens_hidden,
    git_switch_live,
    git_merge_live,
    git_conflict_live,
    git_stash,
    git_restore,
    git_killed_at_a_file,
    git_random,
    git_killed_between,
    git_killed_in_abort,
    git_random_pull,
    git_refused_merge,
    git_team,
    git_detours,
    git_there_and_back,
    git_deleted_since,
    git_hunks_deleted_since,
    git_forked,
    lagging,
    tokens,
    guarded,
    sessions,
    links,
    link_guests,
    downloads,
    branches,
    deleted,
    forked,
    archives,
    bounded,
    cloned,
    missing,
    backup,
    exported,
    audit,
    doctor,
    paced,
    upgraded,
    soak,
    openapi,
    observed,
    stops,
    refusals,
    five_minutes,
    commands,
    canary;
    once:
    slow,
    crowd,
    frames,
    keys_together,
    half_sent,
    large_ones_wait,
    while_looked,
    busy_file,
    unwatched,
    filler,
    sealed,
    unread,
    without_private,
    tree,
    folders,
    search,
    file_rights,
    file_links,
    ignored,
    git_events,
    git_diff,
    git_staging,
    git_log,
    git_hostile_diff,
    git_remotes,
    git_ssh,
    git_levels,
    git_credentials,
    git_submodules,
    git_branches,
    git_shell_live,
    git_stale_lock,
    git_merge_hostile,
    git_tidy,
    downloads_folders,
    traced,
    problems,
    crowded,
    tls,
    apart,
    inside_ends,
    greedy,
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
    run_within(&["unshare", if is_root { "-m" } else { "-Urm" }], &folder(), "full", None);
}

/// With nginx in front, as `deploy/nginx.conf` has it.
#[test]
fn behind_nginx() {
    run("proxied", None);
}
