#pragma once
/* The two directories of a container's overlay, upper and work, and for layers of the store the mounted overlay itself. Those that
 * nothing was written to serve again: making, mounting and removing them is the dearest part of a start on disk. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fault.h"
#include "plan.h"

struct overlay {
	unsigned number;             /* directories <number>.u and <number>.w, mount point <number>.m */
	bool in_memory;
	bool limited;                /* both lie in a file system of their own, a tmpfs at <number>.q, as .u and .w */
	char *layers;                /* NULL = not mounted; else of which layers it is the overlay, a line each */
	struct hold **held;          /* its layers that lie in the store, locked; NULL = none */
	size_t held_count;
};

/* base: descriptor of the directory that pairs on disk (or in memory) lie in; path: its path. Once each. */
void overlay_open(bool in_memory, int base, const char *path);
/* A mounted overlay of just these layers if there is one, else one that is not mounted, else a new one. */
int overlay_take(bool in_memory, const struct words *layers, struct overlay *, struct fault *);
/* One that takes no more than so many bytes, in memory. */
int overlay_take_limited(uint64_t bytes, const struct words *layers, struct overlay *, struct fault *);
/* Its limit from now on; 0 = what is in it already, so that it is full. */
int overlay_limit(const struct overlay *, uint64_t bytes, struct fault *);
/* Paths; length of the buffer is enough for any. */
enum { OVERLAY_PATH = 440 };
void overlay_path(const struct overlay *, char kind, char path[OVERLAY_PATH]);
/* For one that is not to serve again: mounted at its mount point, for as long as it is its container's; and unmounted, with its
 * layers locked still. */
int overlay_mount(struct overlay *, const struct words *layers, const char *work, struct fault *);
void overlay_unmount(struct overlay *);
/* Back, if it is as good as new, or gone, if it was limited; else false, it is not mounted any more, and its directories are the caller's
 * to remove. No process uses it. */
bool overlay_keep(struct overlay *);
/* Somebody wants to remove this directory of the store: overlays of what is in it that are kept without a use go. */
void overlay_forget(const char *directory);
