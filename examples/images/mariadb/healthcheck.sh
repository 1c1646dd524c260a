#!/bin/bash
# healthcheck.sh --connect --innodb_initialized: whether the server takes connections on its port. The one that runs while the
# database is being made has no port, so it does not count.
exec 3<>/dev/tcp/127.0.0.1/3306
