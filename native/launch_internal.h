#pragma once
/* The parts of a container's world, in the order in which launch.c makes them. All return -1 with the fault. */
#include <linux/magic.h>
#include <sys/vfs.h>

#include "launch.h"

/* What other namespaces and images lend, as detached trees, while the old mounts are still there (launch_sources.c). */
struct sources { int *devices, *views; };    /* devices: one for each device, -1 unless it is bound; views: one for each control group's view */
int launch_open_sources(struct launch *, const struct sources *, struct fault *);

/* The plan's mounts (launch_mounts.c). proc_fd: the first procfs that is mounted. */
int launch_mounts(struct launch *, const struct sources *, int *proc_fd, struct fault *);

/* What lies on them (launch_files.c). */
int launch_devices(const struct launch *, const struct sources *, struct fault *);
int launch_links(const struct launch *, struct fault *);
int launch_files(const struct launch *, struct fault *);
int launch_console(int root, int slave, struct fault *);
/* Paths that are covered, and paths that are read-only. */
int launch_masks(int root, const struct words *, struct fault *);
int launch_readonly(int root, const struct words *, struct fault *);

static inline bool on_file_system(int fd, long magic)
{
	struct statfs fs;
	return fstatfs(fd, &fs) == 0 && fs.f_type == magic;
}
