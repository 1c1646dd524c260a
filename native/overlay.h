#pragma once
/* The two directories of a container's overlay, upper and work, and for layers of the store the mounted overlay itself. Those that
 * nothing was written to serve again: making, mounting and removing them is the dearest part of a start on disk. */
#include <stdbool.h>

#include "fault.h"
#include "plan.h"

struct overlay {
	unsigned number;             /* directories <number>.u and <number>.w, mount point <number>.m */
	bool in_memory;
	char *layers;                /* NULL = not mounted; else of which layers it is the overlay, a line each */
};

/* base: descriptor of the directory that pairs on disk (or in memory) lie in; path: its path. Once each. */
void overlay_open(bool in_memory, int base, const char *path);
/* A mounted overlay of just these layers if there is one, else one that is not mounted, else a new one. */
int overlay_take(bool in_memory, const struct words *layers, struct overlay *, struct fault *);
/* Paths; length of the buffer is enough for any. */
enum { OVERLAY_PATH = 440 };
void overlay_path(const struct overlay *, char kind, char path[OVERLAY_PATH]);
/* Back, if it is as good as new; else false, it is not mounted any more, and its directories are the caller's to remove. No process uses it. */
bool overlay_keep(struct overlay *);
