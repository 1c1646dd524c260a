#!/bin/sh
# Runs what lies in /docker-entrypoint.d, in order, and fills in the variables of /etc/nginx/templates, before nginx.
set -e

fill_in() { # fill_in FILE: only variables that are set; $host and its like are nginx's own
  output=/etc/nginx/conf.d/$(basename "$1" .template)
  names=$(env | sed -n 's/^\([A-Za-z_][A-Za-z_0-9]*\)=.*/${\1}/p' | tr '\n' ' ')
  envsubst "$names" < "$1" > "$output"
}

if [ "${1:-}" = nginx ]; then
  for file in /etc/nginx/templates/*.template; do
    if [ -e "$file" ]; then fill_in "$file"; fi
  done
  for file in /docker-entrypoint.d/*; do
    case $file in
      *.envsh) . "$file" ;;
      *.sh) "$file" ;;
    esac
  done
fi
exec "$@"
