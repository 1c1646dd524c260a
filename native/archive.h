#pragma once
/* Archives in and out, each in a process of its own that reads and writes the connection itself. */
#include "request.h"
#include "stream.h"

/* Verbs copy-in, copy-out, unpack, delete. Takes the connection over. */
void archive_open(struct connection *, const struct request *);
