#!/bin/sh
# The broker drops root itself; its directories may be mounts that belong to root.
set -e
if [ "$(id -u)" = 0 ]; then chown -R mosquitto:mosquitto /mosquitto/data /mosquitto/log 2>/dev/null || :; fi
exec "$@"
