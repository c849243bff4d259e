#!/bin/sh
# Installs a wheel as a newcomer would, on a Debian with nothing but python3 (a container, a chroot), and tries it:
#   bare_machine.sh WHEEL [FOLDER]
# As root, because it installs packages: python3-venv, and what `gooseherd doctor` names, nothing else. FOLDER (default:
# a temporary one) gets the virtual environment. Exit status 0: smoke and demo went well.
set -eu

[ $# -ge 1 ] || { echo "usage: bare_machine.sh WHEEL [FOLDER]" >&2; exit 2; }
WHEEL=$(CDPATH='' cd -P -- "$(dirname -- "$1")" && pwd)/$(basename -- "$1")
FOLDER=${2:-$(mktemp -d)}
export DEBIAN_FRONTEND=noninteractive GOOSEHERD_STATE_DIR="$FOLDER/state"

step() { printf '== %s\n' "$*" >&2; }
packages() { apt-get install -qq -y --no-install-recommends "$@" </dev/null >"$FOLDER/apt.log" 2>&1 || { tail -n 5 "$FOLDER/apt.log" >&2; exit 1; }; }

mkdir -p "$FOLDER"
cd "$FOLDER" # and so not in a checkout
step 'python3-venv'
apt-get -qq update
packages python3 python3-venv
python3 -m venv "$FOLDER/venv"
PATH=$FOLDER/venv/bin:$PATH

step 'the wheel'
pip install --quiet --disable-pip-version-check "$WHEEL"
gooseherd --version

step 'what doctor names'
gooseherd doctor --json >"$FOLDER/before.json" || :
named=$(python3 - "$FOLDER/before.json" <<'END'
import json, re, sys
checks = json.load(open(sys.argv[1]))["checks"]
found = [re.search(r"apt-get install ([a-z0-9.+ -]+)", c["remedy"]) for c in checks if c["state"] != "ok"]
print(*sorted({word for match in found if match for word in match[1].split()}))
END
)
echo "$named"
# shellcheck disable=SC2086
packages $named
gooseherd doctor
gooseherd doctor --json | python3 -c '
import json, sys
checks = {check["name"]: check for check in json.load(sys.stdin)["checks"]}
for name in ("interval kernel", "system call filter"):
    assert checks[name]["state"] == "ok", checks[name]'

step smoke
gooseherd smoke --json >"$FOLDER/smoke.json" || { cat "$FOLDER/smoke.json"; exit 1; }
cat "$FOLDER/smoke.json"

step 'up, add, get'
printf 'chr1\t5\t9\nchr1\t1\t4\n' >"$FOLDER/few.bed"
gooseherd up --json --port 0 --allow-root "$FOLDER" >"$FOLDER/up.log" 2>&1 &
service=$!
for _ in $(seq 100); do grep -q '"url"' "$FOLDER/up.log" && break; sleep 0.3; done
gooseherd add "$FOLDER/few.bed"
gooseherd get local/few.bed --region chr1:1-3
kill -INT "$service" && wait "$service"

step demo
gooseherd demo --once
step ok
