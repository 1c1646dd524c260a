#!/bin/sh
# A configuration file alone is for `registry serve`.
set -e
case ${1:-} in *.yaml | *.yml) set -- registry serve "$@" ;; serve | garbage-collect | help | -*) set -- registry "$@" ;; esac
exec "$@"
