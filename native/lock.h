#pragma once
/* Locks between sessions, each on a file of the store and bound to a bulk connection. */
#include "request.h"
#include "stream.h"

/* The verb lock. Takes the connection over; the lock is held until it closes. */
void lock_open(struct connection *, const struct request *);
