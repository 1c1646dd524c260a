/* Version 2: handing controllers on to the groups below the caller's own, X.
 *
 * A controller works in a group only if the group above names it in cgroup.subtree_control, and the kernel refuses
 * that in a group that itself holds processes ("no internal processes"; the real root is exempt). X holds the
 * caller, so X has to be emptied first. Moving the processes of a group that belongs to someone else (a session
 * scope of systemd's, a service) would be meddling: their manager counts on finding them there. It is allowed in two
 * cases, by contract:
 *   - systemd marked X as delegated: the attribute user.delegate or trusted.delegate is 1. Then systemd leaves all
 *     below X to us, and removes it with X.
 *   - X is the root of a cgroup namespace, as in a container: all inside is the container's business.
 * There the processes move to X/mayfly-callers, which stays as long as X: the callers live in it. Everywhere else
 * containers get groups without controllers (they can be frozen, killed and their CPU time counted) and a limit
 * fails and names the mend. Threaded controllers would be allowed beside processes, but only cpu, cpuset and pids,
 * and only below a threaded group, which cannot hold memory: not worth a third mode.
 *
 * What is enabled in X stays enabled: other sessions may rely on it, and nobody can tell when the last one is gone. */
#define _GNU_SOURCE
#include "cgroup_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* The name that version 2 has for it. */
static const char *name_of(unsigned controller)
{
	return controller == CGROUP_BLKIO ? "io" : cgroup_controller_name(controller);
}

static bool has_mark(int fd, const char *attribute)
{
	char value[4];
	return fgetxattr(fd, attribute, value, sizeof(value)) == 1 && value[0] == '1';
}

static bool may_be_emptied(const struct hierarchy *h)
{
	if (has_mark(h->own_fd, "user.delegate") || has_mark(h->own_fd, "trusted.delegate"))
		return true;
	return h->namespace_root && faccessat(h->own_fd, "cgroup.type", F_OK, 0) == 0;  /* the real root has no type */
}

/* Moves what cgroup.procs lists; returns how many that were, or -1 with blocked set. */
static int move_listed(struct hierarchy *h, int callers_fd)
{
	int fd = openat(h->own_fd, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	FILE *list = fd < 0 ? NULL : fdopen(fd, "r");
	if (!list) {
		if (fd >= 0)
			close(fd);
		h->blocked = "the processes in the caller's group cannot be listed";
		return -1;
	}
	char line[32];
	int count = 0;
	while (fgets(line, sizeof(line), list)) {
		count++;
		if (!strcmp(line, "0\n")) {
			h->blocked = "the caller's group holds processes of another PID namespace, which cannot be moved from here";
			count = -1;
			break;
		}
		if (write(callers_fd, line, strlen(line)) < 0 && errno != ESRCH) {
			h->blocked = "the processes in the caller's group cannot be moved to a group below";
			count = -1;
			break;
		}
	}
	fclose(list);
	return count;
}

static int empty(struct hierarchy *h)
{
	if (mkdirat(h->own_fd, CGROUP_CALLERS, 0755) < 0 && errno != EEXIST) {
		h->blocked = "no group for the callers can be made below the caller's own";
		return -1;
	}
	int callers = openat(h->own_fd, CGROUP_CALLERS "/cgroup.procs", O_WRONLY | O_CLOEXEC);
	if (callers < 0) {
		h->blocked = "the group for the callers cannot be written";
		return -1;
	}
	int moved, rounds = 0;
	while ((moved = move_listed(h, callers)) > 0 && ++rounds < 100)     /* some fork meanwhile */
		;
	close(callers);
	if (moved > 0)
		h->blocked = "new processes keep appearing in the caller's group";
	return moved == 0 ? 0 : -1;
}

static int enable(int dir_fd, unsigned controller)
{
	char text[16];
	snprintf(text, sizeof(text), "+%s", name_of(controller));
	return cgroup_write_at(dir_fd, "cgroup.subtree_control", text);
}

static bool is_enabled(int dir_fd, unsigned controller)
{
	char text[256];
	return cgroup_read_at(dir_fd, "cgroup.subtree_control", text, sizeof(text)) > 0 &&
		cgroup_controllers_of(text) & controller;
}

static int refuse(const struct hierarchy *h, unsigned controller, int error, const char *why, struct fault *f)
{
	char message[sizeof(f->message)];
	snprintf(message, sizeof(message),
		"the %s controller is not delegated: %s; start with `systemd-run %s--scope -p Delegate=yes …`",
		name_of(controller), h->blocked ? h->blocked : why, geteuid() ? "--user " : "");
	return fault(f, "cgroup", cgroup_controller_name(controller), error, message);
}

int cgroup_enable_below_own(struct hierarchy *h, unsigned controller, struct fault *f)
{
	if (!(h->controllers & controller))
		return refuse(h, controller, ENODEV, "it is not among the cgroup.controllers of the caller's group", f);
	if (h->blocked)
		return refuse(h, controller, EBUSY, NULL, f);
	if (!is_enabled(h->own_fd, controller) && enable(h->own_fd, controller) < 0) {
		int error = errno;
		if (error != EBUSY)
			return refuse(h, controller, error, error == EOPNOTSUPP ? "the caller's group is a threaded one"
				: error == EROFS ? "the cgroup file system is mounted read-only"
				: "the caller's group is not this user's to change", f);
		if (!may_be_emptied(h))
			h->blocked = "the caller's group holds processes and is not marked as delegated";
		if (h->blocked || empty(h) < 0)
			return refuse(h, controller, EBUSY, NULL, f);
		if (enable(h->own_fd, controller) < 0)
			return refuse(h, controller, errno, "the kernel refuses it although the caller's group was emptied", f);
	}
	return 0;
}

int cgroup_hand_on(struct hierarchy *h, unsigned controller, struct fault *f)
{
	if (h->enabled & controller)
		return 0;
	if (cgroup_enable_below_own(h, controller, f) < 0)
		return -1;
	if (enable(h->session_fd, controller) < 0)
		return refuse(h, controller, errno, "the kernel refuses it in the session's group", f);
	h->enabled |= controller;
	return 0;
}
