#!/bin/sh
# Installs a source distribution on a Debian with nothing but python3 (a container, a chroot):
#   bare_build.sh SDIST
# As root, because it installs packages: python3-venv, and what the failing build names, nothing else.
set -eu

[ $# -eq 1 ] || { echo "usage: bare_build.sh SDIST" >&2; exit 2; }
SDIST=$(CDPATH='' cd -P -- "$(dirname -- "$1")" && pwd)/$(basename -- "$1")
FOLDER=$(mktemp -d)
export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1

step() { printf '== %s\n' "$*" >&2; }
packages() { apt-get install -qq -y --no-install-recommends "$@" </dev/null >"$FOLDER/apt.log" 2>&1 || { tail -n 5 "$FOLDER/apt.log" >&2; exit 1; }; }

cd "$FOLDER" # and so not in a checkout
apt-get -qq update
packages python3 python3-venv
python3 -m venv "$FOLDER/venv"
PATH=$FOLDER/venv/bin:$PATH

step 'without a compiler the build says what it lacks'
if pip install --quiet "$SDIST" >"$FOLDER/error" 2>&1; then exit 1; fi
cat "$FOLDER/error"
if grep -q Traceback "$FOLDER/error"; then exit 1; fi
named=$(sed -n 's/.*sudo apt-get install \(.*\)/\1/p' "$FOLDER/error" | head -n 1)
step "$named"
# shellcheck disable=SC2086
packages $named

step 'with these packages it builds'
pip install --quiet "$SDIST"
gooseherd --version
folder=$(python -c 'from gooseherd.processing.bundled import FOLDER; print(FOLDER)')
cat "$folder/libraries.txt"
"$folder/gooseherd-intervals" --version
step ok
