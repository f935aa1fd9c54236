#!/usr/bin/env bash
# Installs what the tests need: as root with apt, else it prints the line to run and fails.
set -euo pipefail
missing=()
command -v git >/dev/null || missing+=(git)
command -v node >/dev/null || missing+=(nodejs npm)
command -v psql >/dev/null && ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing+=(postgresql)
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
command -v chromium >/dev/null || missing+=(chromium)
[ -e /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf ] || missing+=(fonts-dejavu-core)
command -v ssh >/dev/null || missing+=(openssh-client)
command -v curl >/dev/null || missing+=(curl)
command -v openssl >/dev/null || missing+=(openssl)
command -v newuidmap >/dev/null || missing+=(uidmap)
# What sessions see is beneath /usr: another python3 on the PATH does not count.
[ -x /usr/bin/python3 ] || missing+=(python3)
# What the SDK's programs need of a session's image.
command -v unzip >/dev/null || missing+=(unzip)
[ -e /usr/bin/python ] || missing+=(python-is-python3)
command -v vim >/dev/null || missing+=(vim)
command -v top >/dev/null || missing+=(procps)
command -v nsenter >/dev/null || missing+=(util-linux)
command -v systemd-analyze >/dev/null || missing+=(systemd)
# Without what they recommend: no Docker engine is wanted.
lean=()
command -v docker-compose >/dev/null || lean+=(docker-compose)
[ -x /usr/sbin/nginx ] || lean+=(nginx-light)
if [ $((${#missing[@]} + ${#lean[@]})) -gt 0 ]; then
  if [ "$(id -u)" = 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -qy "${missing[@]}"
    apt-get install -qy --no-install-recommends "${lean[@]}"
  else
    echo "missing: run  sudo apt-get install --no-install-recommends ${missing[*]} ${lean[*]}" >&2
    exit 1
  fi
fi
cd "$(dirname "$0")"
[ -x ../target/python/bin/pip ] || python3 -m venv ../target/python
../target/python/bin/pip install --quiet --disable-pip-version-check -r python/requirements.txt
for packages in clients browser sdk ../static; do
  (cd "$packages" && npm ci --no-audit --no-fund --ignore-scripts)
done
