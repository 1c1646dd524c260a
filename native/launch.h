#pragma once
/* The child side of a container's start: from the clone to its own root, mounts and devices, then process_become. */
#include <linux/filter.h>

#include "cgroup.h"
#include "plan.h"
#include "process.h"

/* All that the child needs, made ready by the warden before it clones: the child decides and allocates as little as possible. */
struct launch {
	struct plan *plan;
	struct process_setup setup;
	const char *upper, *work;                 /* directories of the overlay */
	const char *mounted;                      /* where that overlay is mounted already, or NULL */
	const char *attach;                       /* directory on which the root hangs until the pivot */
	const int *procs_fds; size_t procs_count; /* control groups of v1 to enter */
	const struct cgroup_view *views; size_t view_count;
	int net_ns;                               /* network namespace to join; -1 = the warden's own stays */
	int ipc_of;                               /* pidfd of a process whose IPC namespace to join; -1 = none */
};

/* Flags for clone3 that this plan needs. */
uint64_t launch_flags(const struct plan *);
int launch_adjust_oom_score(const struct plan *, struct fault *);
_Noreturn void launch_child(struct launch *);
/* Mounts only the root (for copies in and out of a stopped container): its own mount namespace is entered already. cwd and root are the container's
 * afterwards. Returns a descriptor of the root. */
int launch_root(const struct plan *, const char *mounted, const char *upper, const char *work, const char *attach, bool rootless, struct fault *);
/* The root of a process of another container, as that one sees it (O_PATH). The caller's own mount namespace stays. */
int launch_open_root(int pidfd, struct fault *);
