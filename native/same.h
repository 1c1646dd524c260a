#pragma once
/* Files that a layer of the store has already: another name for them instead of a copy. */
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "fault.h"

struct container;

struct same_directory { char path[PATH_MAX]; int fd; };

struct same {
	int base, upper;                    /* roots: the layer's tree, and what the destination has written; -1 = nothing is linked */
	struct same_directory from, to;     /* opened last */
	bool is_impossible;                 /* other file systems, or a kernel that forbids it */
	uint64_t linked;
};

/* base: a tree below home. Where it is gone, nothing is linked. */
int same_open(struct same *, const char *base, struct container *into, struct fault *);
/* Gives the base's file at dir/name the same name in the destination, if it is a regular file of this size, mode, owner and time of
 * modification and nothing is there yet. False = it was not done, for whatever reason: to be copied then. */
bool same_link(struct same *, const char *dir, const char *name, const struct stat *wanted);
