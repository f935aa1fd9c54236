#!/usr/bin/env bash
# Runs the given command with PERCH_TEST_POSTGRES pointing at a throw-away Postgres cluster on loopback.
set -euo pipefail
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
[ -n "$bin" ] || { echo "PostgreSQL is missing: apt-get install postgresql" >&2; exit 1; }
folder=$(mktemp -d)
# Postgres refuses to run as root.
as=()
if [ "$(id -u)" = 0 ]; then chown postgres "$folder"; as=(setpriv --reuid=postgres --regid=postgres --init-groups); fi
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
(cd "$folder" && "${as[@]}" "$bin/initdb" -D "$folder/data" -U perch --auth=trust >/dev/null)
options="-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$folder -c fsync=off -c max_connections=200"
(cd "$folder" && "${as[@]}" "$bin/pg_ctl" -D "$folder/data" -l "$folder/log" -o "$options" -w start >/dev/null)
stop() { (cd "$folder" && "${as[@]}" "$bin/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null); rm -rf "$folder"; }
trap stop EXIT
export PERCH_TEST_POSTGRES="postgres://perch@127.0.0.1:$port/postgres"
"$@"
