#!/usr/bin/env bash
# Builds perch and the load, then measures all servers in one run, perch on both databases: prints tables. Arguments go to
# peers.mjs. Wants an idle machine with two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --release
load=$(cargo bench --bench load --no-run --message-format=json | grep '"name":"load"' | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
exec tests/postgres.sh node benches/load/peers.mjs "$PWD/target/release/perch" "$load" "$@"
