#!/bin/sh
# Builds gooseherd-intervals: build.sh [--sanitize | --fuzz] OUT
# Needs (Debian): gcc libc6-dev pkg-config libhts-dev libdeflate-dev libisal-dev libzstd-dev
# CFLAGS and LDFLAGS are added: -DSTREAM_AFTER=BYTES -DROOM=BYTES make small files take the ways of large ones.
# --sanitize: address and undefined-behaviour checks.
# --fuzz: a libFuzzer target with these checks (needs clang libclang-rt-dev); see fuzz/target.c, and with FUZZ=pack
# fuzz/pack.c.
set -eu

HERE=$(CDPATH='' cd -P -- "$(dirname -- "$0")" && pwd)
CC=${CC:-cc}
FLAGS='-O2 -flto=auto -D_FORTIFY_SOURCE=2'
MODE=${1:-}
case $MODE in
--sanitize) FLAGS='-O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer'; shift ;;
--fuzz) CC=clang FLAGS='-O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer'; shift ;;
esac
[ $# -eq 1 ] || { echo "usage: build.sh [--sanitize | --fuzz] OUT" >&2; exit 2; }

SOURCES=
for file in "$HERE"/*.c; do
    case $MODE:$file in --fuzz:*/main.c) file=$HERE/fuzz/${FUZZ:-target}.c ;; esac
    SOURCES="$SOURCES $file"
done
# The version is that of the sources: the manifest can say which kernel made an artifact.
VERSION=$(cat "$HERE"/*.c "$HERE"/*.h | cksum | cut -d ' ' -f 1)
LIBRARIES="htslib libdeflate libisal libzstd"

# shellcheck disable=SC2046,SC2086
"$CC" -std=c11 -g -Wall -Wextra -Werror -Wshadow -Wconversion -Wno-sign-conversion $FLAGS \
    ${CFLAGS:-} -fstack-protector-strong -fPIE -pie -Wl,-z,relro,-z,now -pthread \
    -DVERSION="\"$VERSION\"" $(pkg-config --cflags $LIBRARIES) \
    -I"$HERE" -o "$1" $SOURCES $(pkg-config --libs $LIBRARIES) ${LDFLAGS:-}
