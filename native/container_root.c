/* A container's file system for others, running or not: entered by a process, or opened as a descriptor. */
#define _GNU_SOURCE
#include "container_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "launch.h"
#include "mounts.h"

void container_copy_ended(struct container *c, pid_t pid)
{
	if (c->scratch.made)
		scratch_copy_ended(&c->scratch, (unsigned)pid);
}

/* A work directory of its own for a mount that this process makes: the last mount has marked its one (volatile) or still uses it. */
static int fresh_work(struct container *c, char *work, size_t size, struct fault *f)
{
	return scratch_copy_work(&c->scratch, (unsigned)getpid(), work, size, f);
}

int container_enter_root(struct container *c, struct fault *f)
{
	if (c->state == CONTAINER_RUNNING) {
		if (setns(c->pidfd, CLONE_NEWNS) < 0)
			return fault(f, "namespace", "mount", errno, NULL);
	} else {
		char work[512];
		if (unshare(CLONE_NEWNS) < 0)
			return fault(f, "namespace", "mount", errno, NULL);
		const char *mounted = scratch_mounted(&c->scratch);
		if (!mounted && fresh_work(c, work, sizeof(work), f) < 0)
			return -1;
		if (launch_root(&c->plan, mounted, c->scratch.upper, work, session.directory, session.rootless, f) < 0)
			return -1;
	}
	int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return root < 0 ? fault(f, "namespace", "/", errno, NULL) : root;
}

int container_open_root(struct container *c, struct fault *f)
{
	char work[512];
	if (c->state == CONTAINER_RUNNING)
		return launch_open_root(c->pidfd, f);
	const char *mounted = scratch_mounted(&c->scratch);
	if (mounted) {
		int root = open(mounted, O_PATH | O_DIRECTORY | O_CLOEXEC);
		return root < 0 ? fault(f, "overlay", mounted, errno, NULL) : root;
	}
	return fresh_work(c, work, sizeof(work), f) < 0 ? -1
		: mounts_overlay(&c->plan.layers, c->scratch.upper, work, session.rootless, f);
}

int container_open_upper(struct container *c, struct fault *f)
{
	if (c->started_once || c->state != CONTAINER_CREATED)
		return fault(f, "state", c->plan.id, EBUSY, "a program may have what it has written open");
	int upper = open(c->scratch.upper, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return upper < 0 ? fault(f, "upper", c->scratch.upper, errno, NULL) : upper;
}
