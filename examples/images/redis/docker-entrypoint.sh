#!/bin/sh
# redis-server, as the user redis when started by root. Options alone, or a configuration file alone, are for redis-server.
set -e

case ${1:-} in -* | *.conf) set -- redis-server "$@" ;; esac

if [ "${1:-}" = redis-server ]; then
  umask 0077
  # Other containers are to reach it: protected mode is for servers on a host's own addresses.
  if [ $# -gt 0 ]; then shift; fi
  case ${1:-} in
    '' | -*) set -- redis-server --protected-mode no "$@" ;;
    *) file=$1; shift; set -- redis-server "$file" --protected-mode no "$@" ;;
  esac
  if [ "$(id -u)" = 0 ]; then
    find . \! -user redis -exec chown redis '{}' +
    exec setpriv --reuid=redis --regid=redis --clear-groups -- "$@"
  fi
fi
exec "$@"
