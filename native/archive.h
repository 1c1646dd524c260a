#pragma once
/* Archives in and out, and the trees of the store that they become; each job in a process of its own. */
#include <stdbool.h>
#include "request.h"
#include "stream.h"

/* Whether archive_open does this verb: copy-in, copy-out, unpack, pack, adopt, reap, delete. */
bool archive_has_verb(const char *verb);
/* Takes the connection over. */
void archive_open(struct connection *, const struct request *);

/* Whether a path that node names is in the store. */
bool archive_below_home(const char *path);
