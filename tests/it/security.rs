//! What `docs/security.md` says is shown is shown by tests that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The attacks of the design, by letter and how many there are.
const ATTACKS: [(char, usize); 7] = [('A', 10), ('B', 7), ('C', 5), ('F', 8), ('G', 10), ('S', 6), ('T', 7)];

/// Names of tests in Rust, and of scenarios.
fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    let mut paths = ["src", "tests/it", "tests/clients/scenarios"].map(|folder| root.join(folder)).to_vec();
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        let starts: &[&str] = match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => &["fn "],
            Some("mjs") => &["export async function "],
            _ => continue,
        };
        let is_test = |before: &str| {
            path.extension().is_some_and(|extension| extension == "mjs")
                || before
                    .trim_end()
                    .lines()
                    .rev()
                    .take(3)
                    .any(|line| line.contains("#[") && line.contains("test"))
        };
        for start in starts {
            for (at, _) in text.match_indices(start) {
                let name: String = text[at + start.len()..]
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if is_test(&text[..at]) {
                    found.insert(name);
                }
            }
        }
    }
    found
}

#[test]
fn each_attack_is_shown_by_tests_that_exist() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md")).unwrap();
    let tests = tests();
    assert!(
        tests.contains("doors") && tests.contains("known_offenders_are_refused"),
        "the reader found nothing"
    );
    let mut missing = Vec::new();
    for (letter, count) in ATTACKS {
        for number in 1..=count {
            let start = format!("| {letter}{number} ");
            let lines: Vec<_> = page.lines().filter(|line| line.starts_with(&start)).collect();
            assert_eq!(lines.len(), 1, "{letter}{number} has one line");
            let shown = lines[0].split('|').nth(2).unwrap();
            let names: Vec<_> =
                shown.split('`').skip(1).step_by(2).filter(|name| !name.ends_with('/')).collect();
            assert!(!names.is_empty(), "{letter}{number} is shown by nothing");
            missing.extend(names.into_iter().filter(|name| !tests.contains(*name)).map(str::to_owned));
        }
    }
    assert!(missing.is_empty(), "no tests: {missing:?}");
}
