#pragma once
/* Which ids a session of an unprivileged user knows: the ranges of /etc/subuid and /etc/subgid through newuidmap(1), else one id only. */
#include <stdbool.h>
#include <sys/types.h>

#include "fault.h"

struct idmap {
	const char *mode;                    /* "range" or "single" */
	unsigned long uid_start, uid_count, gid_start, gid_count;
};

/* Decides before the clone, for the warden's ready line. */
void idmap_plan(struct idmap *);
/* Writes the maps of a process that waits in its new user namespace. */
int idmap_write(const struct idmap *, pid_t, struct fault *);
