#!/bin/sh
# Builds gooseherd-intervals: build.sh [--sanitize | --fuzz] OUT
# Needs (Debian): gcc libc6-dev pkg-config libhts-dev libdeflate-dev and libisal-dev, or zlib1g-dev where there is no ISA-L.
# CFLAGS are added: -DSTREAM_AFTER=BYTES -DROOM=BYTES make small files take the ways of large ones.
# --sanitize: address and undefined-behaviour checks. --fuzz: the same, instrumented for AFL++ (needs afl++ and clang).
set -eu

HERE=$(CDPATH='' cd -P -- "$(dirname -- "$0")" && pwd)
CC=${CC:-cc}
FLAGS='-O2 -D_FORTIFY_SOURCE=2'
MODE=${1:-}
case $MODE in
--sanitize) FLAGS='-O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer'; shift ;;
--fuzz) FLAGS='-O1 -fno-sanitize-recover=all -fno-omit-frame-pointer'; CC=afl-clang-fast; shift
    AFL_USE_ASAN=1 AFL_USE_UBSAN=1; export AFL_USE_ASAN AFL_USE_UBSAN ;;
esac
[ $# -eq 1 ] || { echo "usage: build.sh [--sanitize | --fuzz] OUT" >&2; exit 2; }

if pkg-config --exists libisal; then GUNZIP='-DWITH_ISAL' INFLATE=libisal; else GUNZIP='' INFLATE=zlib; fi
# The version is that of the sources: the manifest can say which kernel made an artifact.
VERSION=$(cat "$HERE"/*.c "$HERE"/*.h | cksum | cut -d ' ' -f 1)
LIBRARIES="htslib libdeflate $INFLATE"

# shellcheck disable=SC2046,SC2086
"$CC" -std=c11 -g -Wall -Wextra -Werror -Wshadow -Wconversion -Wno-sign-conversion $FLAGS \
    ${CFLAGS:-} -fstack-protector-strong -fPIE -pie -Wl,-z,relro,-z,now -pthread \
    $GUNZIP -DVERSION="\"$VERSION\"" $(pkg-config --cflags $LIBRARIES) \
    -o "$1" "$HERE"/*.c $(pkg-config --libs $LIBRARIES)
