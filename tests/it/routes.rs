//! All routes go through the macro that also puts them into the OpenAPI document.

use std::fs;
use std::path::Path;

/// Routes that are no part of the API: pages, what they load, and the document itself.
const UNDOCUMENTED: [&str; 8] = [
    "/",
    "/embed",
    "/assets/{name}",
    "/client/{name}",
    "/v1/openapi.json",
    "/docs",
    "/docs/reader.js",
    "/docs/reader.css",
];

#[test]
fn every_route_is_in_the_openapi_document() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    let mut plain = Vec::new();
    let mut paths = vec![folder];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        if path.extension().is_none_or(|ext| ext != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for (at, call) in text.match_indices(".route(") {
            let argument = text[at + call.len()..].trim_start();
            let route = argument.strip_prefix('"').and_then(|rest| rest.split_once('"'));
            plain.push(route.map_or_else(|| argument[..20].to_owned(), |(route, _)| route.to_owned()));
        }
        for other in [".route_service(", ".nest(", ".nest_service(", ".fallback_service("] {
            assert!(!text.contains(other), "{} hides routes with {other}", path.display());
        }
    }
    assert!(plain.contains(&"/docs".to_owned()), "the reader of sources found nothing");
    plain.retain(|route| !UNDOCUMENTED.contains(&route.as_str()));
    assert!(plain.is_empty(), "make these with `routes!`: {plain:?}");
}
