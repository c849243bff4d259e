#!/bin/sh
# Builds gooseherd-hold: build.sh OUT
# Needs (Debian): gcc libc6-dev, which brings the kernel's headers.
set -eu

HERE=$(CDPATH='' cd -P -- "$(dirname -- "$0")" && pwd)
[ $# -eq 1 ] || { echo "usage: build.sh OUT" >&2; exit 2; }

# shellcheck disable=SC2086
"${CC:-cc}" -std=c11 -O2 -D_FORTIFY_SOURCE=2 -Wall -Wextra -Werror -Wshadow -Wconversion ${CFLAGS:-} \
    -fstack-protector-strong -fPIE -pie -Wl,-z,relro,-z,now -o "$1" "$HERE/hold.c" "$HERE/filter.c" ${LDFLAGS:-}
