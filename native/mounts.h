#pragma once
/* Mounts by descriptor (fsopen(2) and its kin), and what older kernels have in their place. */
#include <stdbool.h>
#include <stdint.h>

#include "fault.h"
#include "plan.h"

/* Before a process leaves the root that has /proc in it: what an old kernel will need afterwards to change mounts. */
int mounts_prepare(struct fault *);
/* A new file system with options as in `mode=755,size=64k`, not hung anywhere. attributes: MOUNT_ATTR_*. -1 with errno. */
int mounts_new(const char *type, const char *options, unsigned attributes);
/* A detached copy of what is mounted at path; "" means dir_fd itself. -1 with errno. */
int mounts_clone(int dir_fd, const char *path, bool recursive);
/* Hangs a tree on a directory or file. -1 with errno. */
int mounts_hang(int tree, int target_fd);
/* The same with attributes (MOUNT_ATTR_*) and propagation (MS_*; 0 = as it is), for what is mounted below as well if recursive. */
int mounts_hang_with(int tree, int target_fd, uint64_t attributes, uint64_t propagation, bool recursive);
/* Attributes for a mount that hangs. -1 with errno. */
int mounts_attributes(int tree, uint64_t attributes);
/* An overlay of these layers, not hung anywhere. Without upper and work it is read-only, and needs two layers. */
int mounts_overlay(const struct words *layers, const char *upper, const char *work, bool rootless, struct fault *);
