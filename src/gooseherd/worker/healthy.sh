#!/bin/bash
# Whether http://HOST:PORT/PATH answers 200: healthy.sh [PORT [PATH]]. HOST is $BIND_HOST, else loopback.
# bash speaks TCP itself. Health commands run every few seconds beside the tools: this takes 2 ms of CPU where
# a Python interpreter takes 50, and it needs no curl in the image.
set -eu
host=${BIND_HOST:-127.0.0.1}
exec 3<>"/dev/tcp/$host/${1:-${WORKER_HEALTH_PORT:-8080}}"
printf 'GET %s HTTP/1.0\r\nHost: %s\r\n\r\n' "${2:-/health}" "$host" >&3
read -r -t 4 _ status _ <&3
[ "$status" = 200 ]
