#pragma once
/* Verbs on trees that are not trusted: list, digest, transfer. Each takes the connection over. */
#include "request.h"
#include "stream.h"

void list_open(struct connection *, const struct request *);
void digest_open(struct connection *, const struct request *);
void transfer_open(struct connection *, const struct request *);

/* Copies all that a directory holds into another one, with the directory's own metadata. For processes that may block; ends at the first
 * entry that cannot be copied. */
int transfer_tree(int from, int to, struct fault *);
