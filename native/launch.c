/* How a container gets its world. The child of the clone is still in (a copy of) the warden's mount tree. It opens what it needs from
 * there as detached trees, hangs the overlay on a directory, pivots onto it and lets the old tree go; from then on every path is
 * resolved inside the new root (resolve.h), and every mount goes by descriptor, so an image's symlinks decide nothing. */
#define _GNU_SOURCE
#include "launch_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mounts.h"
#include "resolve.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

uint64_t launch_flags(const struct plan *plan)
{
	uint64_t flags = CLONE_NEWNS;
	if (plan->pid == NS_PRIVATE)
		flags |= CLONE_NEWPID;
	if (plan->ipc == NS_PRIVATE)
		flags |= CLONE_NEWIPC;
	if (plan->uts == NS_PRIVATE)
		flags |= CLONE_NEWUTS;
	return plan->clock_offset_ns ? flags : flags | CLONE_NEWTIME;
}

static int pivot(int root, const char *attach, struct fault *f)
{
	if (move_mount(root, "", AT_FDCWD, attach, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return fault(f, "pivot", attach, errno, "cannot hang the root up");
	if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
		return fault(f, "pivot", attach, errno, NULL);
	/* Old and new root are stacked on "/" now; the old one is on top (pivot_root(2), NOTES). */
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return fault(f, "pivot", "old root", errno, NULL);
	return 0;
}

int launch_root(const struct plan *plan, const char *mounted, const char *upper, const char *work, const char *attach, bool rootless, struct fault *f)
{
	int root = mounted ? mounts_clone(AT_FDCWD, mounted, false) : mounts_overlay(&plan->layers, upper, work, rootless, f);
	if (root < 0 && mounted)
		return fault(f, "overlay", mounted, errno, NULL);
	return root < 0 || pivot(root, attach, f) < 0 ? -1 : root;
}

/* Through the procfs mounted a moment ago, which nobody can have bent (CVE-2025-52881). */
static int sysctl_steps(int proc_fd, const struct plan *plan, struct fault *f)
{
	for (size_t i = 0; i < plan->sysctl_count; i++) {
		char path[256];
		if (snprintf(path, sizeof(path), "sys/%s", plan->sysctls[i].key) >= (int)sizeof(path))
			return fault(f, "sysctl", plan->sysctls[i].key, ENAMETOOLONG, NULL);
		for (char *c = path; *c; c++) /* net.ipv4.conf.eth0/1.forwarding: dots and slashes trade places (sysctl(8)) */
			*c = *c == '.' ? '/' : *c == '/' && c > path + 3 ? '.' : *c;
		int fd = proc_fd < 0 ? -1 : openat(proc_fd, path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
		size_t length = strlen(plan->sysctls[i].value);
		if (fd < 0 || write(fd, plan->sysctls[i].value, length) != (ssize_t)length)
			return fault(f, "sysctl", plan->sysctls[i].key, errno, NULL);
		close(fd);
	}
	return 0;
}

/* Must come while the old /proc is still there. */
int launch_adjust_oom_score(const struct plan *plan, struct fault *f)
{
	if (!plan->has_oom_score_adj)
		return 0;
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || dprintf(fd, "%d", plan->oom_score_adj) < 0)
		return fault(f, "rlimit", "oom-score-adj", errno, errno == EACCES ? "lowering it needs CAP_SYS_RESOURCE" : NULL);
	close(fd);
	return 0;
}

/* Into a time namespace whose clocks are ahead, or behind. Offsets can be set only before anybody is in it, and the child of a clone is in
 * its own at once. Must come while the old /proc is still there. */
static int enter_time(const struct plan *plan, struct fault *f)
{
	char text[32];
	int64_t seconds = plan->clock_offset_ns / 1000000000, rest = plan->clock_offset_ns % 1000000000;
	if (!plan->clock_offset_ns)
		return 0;
	if (rest < 0) {
		seconds--;
		rest += 1000000000;
	}
	snprintf(text, sizeof(text), "%lld ns", (long long)plan->clock_offset_ns);
	if (unshare(CLONE_NEWTIME) < 0)
		return fault(f, "clock", text, errno, "the kernel has no time namespace for us");
	int offsets = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC), inside = open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
	if (offsets < 0 || dprintf(offsets, "monotonic %lld %lld\nboottime %lld %lld\n", (long long)seconds, (long long)rest, (long long)seconds,
		(long long)rest) < 0)
		return fault(f, "clock", text, errno, errno == ERANGE ? "the clock would be before its beginning" : NULL);
	if (inside < 0 || setns(inside, CLONE_NEWTIME) < 0)
		return fault(f, "clock", text, errno, NULL);
	close(offsets);
	close(inside);
	return 0;
}

/* v1 groups must be entered before the cgroup namespace is made, whose root they become. */
static int enter_groups(const struct launch *l, struct fault *f)
{
	for (size_t i = 0; i < l->procs_count; i++)
		if (write(l->procs_fds[i], "0", 1) != 1)
			return fault(f, "cgroup", "cgroup.procs", errno, NULL);
	if (!l->plan->cgroup_host && unshare(CLONE_NEWCGROUP) < 0)
		return fault(f, "namespace", "cgroup", errno, NULL);
	return 0;
}

static int build(struct launch *l, struct fault *f)
{
	struct plan *plan = l->plan;
	int device_trees[plan->devices.count + 1], view_trees[l->view_count + 1], proc_fd = -1;
	const struct sources sources = {device_trees, view_trees};
	umask(0);
	setsid();
	if (enter_groups(l, f) < 0 || launch_adjust_oom_score(plan, f) < 0 || enter_time(plan, f) < 0)
		return -1;
	if (l->net_ns >= 0 && setns(l->net_ns, CLONE_NEWNET) < 0)
		return fault(f, "namespace", "net", errno, NULL);
	if (l->ipc_of >= 0 && setns(l->ipc_of, CLONE_NEWIPC) < 0)
		return fault(f, "namespace", "ipc", errno, NULL);
	if (mounts_prepare(f) < 0 || launch_open_sources(l, &sources, f) < 0)
		return -1;
	int root = l->setup.root_fd = launch_root(plan, l->mounted, l->upper, l->work, l->attach, l->setup.rootless, f);
	if (root < 0 || launch_mounts(l, &sources, &proc_fd, f) < 0 || launch_devices(l, &sources, f) < 0 || launch_links(l, f) < 0)
		return -1;
	if (plan->process.tty) {
		int slave = process_terminal(&l->setup, f);
		if (slave < 0 || launch_console(root, slave, f) < 0)
			return -1;
	}
	if (launch_files(l, f) < 0)
		return -1;
	if (plan->uts == NS_PRIVATE && plan->hostname && sethostname(plan->hostname, strlen(plan->hostname)) < 0)
		return fault(f, "hostname", plan->hostname, errno, NULL);
	if (plan->uts == NS_PRIVATE && plan->domainname && setdomainname(plan->domainname, strlen(plan->domainname)) < 0)
		return fault(f, "hostname", plan->domainname, errno, NULL);
	if (sysctl_steps(proc_fd, plan, f) < 0 || launch_masks(root, &plan->masks, f) < 0 || launch_readonly(root, &plan->readonly_paths, f) < 0)
		return -1;
	/* A working directory that is to be made must be so before nothing can be; whatever is wrong with it is told when it is entered. */
	int workdir = plan->readonly_root && plan->process.workdir_create && plan->process.workdir
		? resolve_make(root, plan->process.workdir, true, 0755, NULL, "workdir") : -1;
	if (workdir >= 0)
		close(workdir);
	if (plan->readonly_root && mounts_attributes(root, MOUNT_ATTR_RDONLY) < 0)
		return fault(f, "mount", "/", errno, NULL);
	/* The root was opened on the detached mount; paths must start at the mounted one. */
	if (chdir("/") < 0)
		return fault(f, "pivot", "/", errno, NULL);
	return 0;
}

void launch_child(struct launch *l)
{
	struct fault f = {0};
	/* Not to be traced or read through /proc by those whose PID namespace it may share, before it has dropped what it holds. */
	if (l->plan->pid == NS_CONTAINER)
		prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (build(l, &f) < 0)
		status_fail(l->setup.status_fd, &f);
	process_become(&l->setup);
}
