#!/bin/bash
# Makes the cluster at the first start, runs what lies in /docker-entrypoint-initdb.d, then becomes the server.
#
# POSTGRES_PASSWORD, POSTGRES_USER, POSTGRES_DB, POSTGRES_INITDB_ARGS (each also as …_FILE, naming a file that holds it),
# POSTGRES_INITDB_WALDIR, POSTGRES_HOST_AUTH_METHOD, PGDATA.
set -Eeuo pipefail

say() { printf '%s\n' "$*"; }
fail() { printf 'Error: %s\n' "$*" >&2; exit 1; }

# setting NAME [default]: the variable's value, that of the file named by NAME_FILE, or the default
setting() {
  local name=$1 file=$1_FILE
  if [ -n "${!name:-}" ] && [ -n "${!file:-}" ]; then fail "both $name and $file are set (but are exclusive)"; fi
  if [ -n "${!file:-}" ]; then export "$name=$(<"${!file}")"; else export "$name=${!name:-${2:-}}"; fi
  unset "$file"
}

prepare_directories() {
  mkdir -p "$PGDATA" /var/run/postgresql
  chmod 700 "$PGDATA" 2>/dev/null || :
  chmod 3777 /var/run/postgresql 2>/dev/null || :
  if [ -n "${POSTGRES_INITDB_WALDIR:-}" ]; then
    mkdir -p "$POSTGRES_INITDB_WALDIR"
    chmod 700 "$POSTGRES_INITDB_WALDIR"
  fi
  if [ "$(id -u)" = 0 ]; then
    find "$PGDATA" ${POSTGRES_INITDB_WALDIR:+"$POSTGRES_INITDB_WALDIR"} \! -user postgres -exec chown postgres '{}' +
    find /var/run/postgresql \! -user postgres -exec chown postgres '{}' +
  fi
}

require_password() {
  if [ "${#POSTGRES_PASSWORD}" -ge 100 ]; then say 'WARNING: the password is longer than 99 characters; psql of old may cut it' >&2; fi
  if [ -z "$POSTGRES_PASSWORD" ] && [ "${POSTGRES_HOST_AUTH_METHOD:-}" != trust ]; then
    fail 'Database is uninitialized and superuser password is not specified.
       Set POSTGRES_PASSWORD to a non-empty value for the superuser, or
       POSTGRES_HOST_AUTH_METHOD=trust to allow all connections without a password.'
  fi
}

make_cluster() {
  local arguments=()
  # A user id that no passwd file knows (docker run --user 1234) is given a name for initdb.
  if ! getent passwd "$(id -u)" >/dev/null; then
    fail "user id $(id -u) has no entry in /etc/passwd; mount one that has, or run as postgres"
  fi
  if [ -n "${POSTGRES_INITDB_WALDIR:-}" ]; then arguments+=(--waldir "$POSTGRES_INITDB_WALDIR"); fi
  # The arguments are words as a shell would split them.
  eval 'initdb --username="$POSTGRES_USER" --pwfile=<(printf "%s\n" "$POSTGRES_PASSWORD") "${arguments[@]}" '"${POSTGRES_INITDB_ARGS:-}"' "$@"'
}

allow_hosts() {
  local method=${POSTGRES_HOST_AUTH_METHOD:-}
  if [ "${1:-}" = postgres ]; then shift; fi
  if [ -z "$method" ]; then method=$(postgres -C password_encryption "$@"); fi
  printf '\nhost all all all %s\n' "$method" >> "$PGDATA/pg_hba.conf"
}

# The server during initialisation listens on its unix socket only: who waits for the port does not meet it.
start_temporary() {
  if [ "${1:-}" = postgres ]; then shift; fi
  PGUSER=${PGUSER:-$POSTGRES_USER} pg_ctl -D "$PGDATA" -o "$(printf '%q ' "$@" -c listen_addresses='' -p "${PGPORT:-5432}")" -w start
}
stop_temporary() { PGUSER=${PGUSER:-postgres} pg_ctl -D "$PGDATA" -m fast -w stop; }

query() { # query [psql arguments]: as the superuser, in the database asked for
  PGHOST='' PGHOSTADDR='' PGPASSWORD=$POSTGRES_PASSWORD psql -v ON_ERROR_STOP=1 --no-psqlrc --no-password --username "$POSTGRES_USER" "$@"
}

make_database() {
  if [ "$POSTGRES_DB" = postgres ]; then return; fi
  local known
  known=$(query --dbname postgres --set db="$POSTGRES_DB" --tuples-only <<<"SELECT 1 FROM pg_database WHERE datname = :'db';")
  if [ -z "$known" ]; then query --dbname postgres --set db="$POSTGRES_DB" <<<'CREATE DATABASE :"db";'; fi
}

run_init_files() {
  local file
  for file in /docker-entrypoint-initdb.d/*; do
    case $file in
      *.sh)
        if [ -x "$file" ]; then say "$0: running $file"; "$file"; else say "$0: sourcing $file"; . "$file"; fi ;;
      *.sql) say "$0: running $file"; query --dbname "$POSTGRES_DB" -f "$file" ;;
      *.sql.gz) say "$0: running $file"; gunzip -c "$file" | query --dbname "$POSTGRES_DB" ;;
      *.sql.xz) say "$0: running $file"; xz -dc "$file" | query --dbname "$POSTGRES_DB" ;;
      *.sql.zst) say "$0: running $file"; zstd -dc "$file" | query --dbname "$POSTGRES_DB" ;;
      */'*') ;; # the directory is empty
      *) say "$0: ignoring $file" ;;
    esac
    say
  done
}

asks_for_help() {
  local word
  for word; do case $word in -'?' | --help | --describe-config | -V | --version) return 0 ;; esac; done
  return 1
}

if [ "${1:0:1}" = - ]; then set -- postgres "$@"; fi
if [ "${1:-}" = postgres ] && ! asks_for_help "$@"; then
  setting POSTGRES_PASSWORD
  setting POSTGRES_USER postgres
  setting POSTGRES_DB "$POSTGRES_USER"
  setting POSTGRES_INITDB_ARGS
  prepare_directories
  if [ "$(id -u)" = 0 ]; then exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$BASH_SOURCE" "$@"; fi
  if [ -s "$PGDATA/PG_VERSION" ]; then
    say
    say 'PostgreSQL Database directory appears to contain a database; Skipping initialization'
    say
  else
    require_password
    make_cluster
    allow_hosts "$@"
    start_temporary "$@"
    make_database
    run_init_files
    stop_temporary
    say
    say 'PostgreSQL init process complete; ready for start up.'
    say
  fi
  unset POSTGRES_PASSWORD
fi
exec "$@"
