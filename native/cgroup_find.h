#pragma once
/* Where this process's own control groups are: pure functions over the text of /proc/self/mountinfo and
 * /proc/self/cgroup. */
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Controllers, by their version 1 names; version 2 calls blkio "io", and has devices and freezing without a
 * controller. */
enum {
	CGROUP_MEMORY = 1 << 0,
	CGROUP_BLKIO = 1 << 1,
	CGROUP_PIDS = 1 << 2,
	CGROUP_CPU = 1 << 3,
	CGROUP_CPUSET = 1 << 4,
	CGROUP_CPUACCT = 1 << 5,
	CGROUP_FREEZER = 1 << 6,
	CGROUP_DEVICES = 1 << 7,
};
#define CGROUP_CONTROLLERS 8

/* Where the caller's own processes are put when its version 2 group must be emptied (cgroup_delegate.c). A process
 * found there counts as one of the group above. */
#define CGROUP_CALLERS "mayfly-callers"

struct cgroup_place {
	int version;            /* 1 or 2 */
	unsigned controllers;   /* version 1: what the hierarchy carries of the above; 0 for version 2 */
	dev_t device;           /* of the mount, to notice one that is mounted over */
	char label[64];         /* "cpu,cpuacct", "memory"; "unified" for version 2 */
	bool namespace_root;    /* the own group is "/": the root of the hierarchy or of our cgroup namespace */
	char path[PATH_MAX];    /* the process's own group, below the mount point */
};

/* The name of one controller (a single bit) as version 1 has it. */
const char *cgroup_controller_name(unsigned controller);
/* The bits of a comma or space separated list; names not listed above (hugetlb, misc, "name=systemd") are left out. */
unsigned cgroup_controllers_of(const char *list);

/* Fills places with every mount that shows this process's own group, in the order of mountinfo; one hierarchy may have
 * several. Mounts that show only other groups are left out. Returns the count, at most max. */
size_t cgroup_find(const char *mountinfo, const char *self_cgroup, struct cgroup_place *places, size_t max);
