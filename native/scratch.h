#pragma once
/* What a container writes: the upper and work directory of its overlay, and the small files that are bound over /etc. */
#include <stdbool.h>
#include <stddef.h>

#include "fault.h"
#include "overlay.h"

struct scratch {
	char name[16];              /* first digits of the id */
	struct overlay overlay;
	char upper[OVERLAY_PATH], work[OVERLAY_PATH], mounted[OVERLAY_PATH]; /* paths */
	bool made, in_memory, being_removed;
	size_t files;               /* how many were written */
};

/* Once a session: tmpfs for the small files, directories for the rest. Called in the warden's own mount namespace. */
int scratch_open(struct fault *);
/* Mounted later, when the first container asks for it: scratch in memory. */
int scratch_make(struct scratch *, const struct plan *, const struct words *layers, struct fault *);
/* Whether it can become a layer of the store, by a rename: not what is in memory. */
bool scratch_is_on_disk(const struct scratch *);
/* Its disk is full from now on, for who has a limit; or has the limit again. */
int scratch_fill(const struct scratch *, bool full, uint64_t bytes, struct fault *);
/* Where the overlay of its layers is mounted already, or NULL. */
const char *scratch_mounted(const struct scratch *);
/* Writes a small file with the step's mode and owner; *path is where, malloc'd, once (a restart writes over it). */
int scratch_file(struct scratch *, size_t number, const char *text, const struct file_step *, char **path, struct fault *);
/* A volatile overlay leaves a mark in its work directory that forbids mounting it again; a restart gets a new one. */
int scratch_fresh_work(struct scratch *, unsigned number, struct fault *);
/* Its overlay is not mounted afterwards. */
void scratch_unmount(struct scratch *);
/* Its overlay is mounted afterwards, at scratch_mounted(). */
int scratch_mount(struct scratch *, const struct words *layers, struct fault *);
int scratch_copy_work(const struct scratch *, unsigned number, char *path, size_t size, struct fault *);
/* That copy is over: its work directory goes. */
void scratch_copy_ended(const struct scratch *, unsigned number);
/* Removes it all. Returns true when that is done; false when there was so much that a process of its own does it: then gone(owner) is called. */
bool scratch_remove(struct scratch *, void (*gone)(void *), void *owner);

/* Removes a whole directory tree below a directory, following nothing. */
int remove_tree(int dir_fd, const char *name, unsigned long budget);
