/* How a container gets its world. The child of the clone is still in (a copy of) the warden's mount tree. It opens what it needs from
 * there as detached trees, hangs the overlay on a directory, pivots onto it and lets the old tree go; from then on every path is
 * resolved inside the new root (resolve.h), and every mount goes by descriptor, so an image's symlinks decide nothing. */
#define _GNU_SOURCE
#include "launch.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "mounts.h"
#include "resolve.h"
#include "volume.h"

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

/* -- the root ----------------------------------------------------------------------------------------------------------- */

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

/* -- mount steps -------------------------------------------------------------------------------------------------------- */

int launch_open_root(int pidfd, struct fault *f)
{
	int own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (own < 0 || setns(pidfd, CLONE_NEWNS) < 0)
		return fault(f, "namespace", "mount", errno, "cannot enter the other container's mounts");
	int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), error = errno;
	if (setns(own, CLONE_NEWNS) < 0)
		return fault(f, "namespace", "mount", errno, NULL);
	close(own);
	return root < 0 ? fault(f, "namespace", "/", error, NULL) : root;
}

/* Who shares another container's IPC namespace shares its /dev/shm too, as with Docker. The tree can be taken only from inside the
 * other's mount namespace; once detached it may be hung up anywhere. */
static int other_shm(int pidfd, struct fault *f)
{
	int own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC), tree = -1;
	if (own < 0 || setns(pidfd, CLONE_NEWNS) < 0)
		return fault(f, "namespace", "ipc", errno, "cannot enter the other container's mounts");
	tree = mounts_clone(AT_FDCWD, "/dev/shm", false);
	int error = errno;
	if (setns(own, CLONE_NEWNS) < 0)
		return fault(f, "namespace", "mount", errno, NULL);
	close(own);
	return tree < 0 ? fault(f, "mount-source", "/dev/shm", error, NULL) : tree;
}

/* A source inside another root: resolved there, so that nothing in it leads outside, and cloned there, since a tree can be taken only
 * from inside the mount namespace it is in. */
static int open_inside(const struct mount_step *m, struct fault *f)
{
	bool elsewhere = m->source_pidfd >= 0;
	const char *path = elsewhere ? "/" : m->source_mounted ? m->source_mounted : m->source_root;
	int own = elsewhere ? open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC) : -1;
	if (elsewhere && (own < 0 || setns(m->source_pidfd, CLONE_NEWNS) < 0))
		return fault(f, "namespace", "mount", errno, "cannot enter the other container's mounts");
	int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int from = root < 0 ? fault(f, "mount-source", m->source_root, errno, NULL) : resolve_in_root(root, m->source, O_PATH, f, "mount-source");
	int tree = from < 0 ? -1 : mounts_clone(from, "", m->recursive);
	if (from >= 0 && tree < 0)
		fault(f, "mount-source", m->source, errno, NULL);
	if (elsewhere && setns(own, CLONE_NEWNS) < 0)
		return fault(f, "namespace", "mount", errno, NULL);
	for (size_t i = 0; i < 3; i++)
		if ((int[]){own, root, from}[i] >= 0)
			close((int[]){own, root, from}[i]);
	return tree;
}

/* The layers of an image as one tree, or what lies in it at source. A tree can be taken only out of what is mounted, so for that the whole
 * hangs for a moment where the root will. */
static int open_image(const struct launch *l, const struct mount_step *m, struct fault *f)
{
	struct words layers = {l->plan->image_layers.at + m->layers, m->layer_count};
	int whole = layers.count == 1 ? mounts_clone(AT_FDCWD, layers.at[0], false) : mounts_overlay(&layers, NULL, NULL, l->setup.rootless, f);
	if (whole < 0)
		return fault(f, "mount-source", layers.at[0], errno, NULL);
	if (!m->source)
		return whole;
	if (move_mount(whole, "", AT_FDCWD, l->attach, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return fault(f, "mount-source", l->attach, errno, NULL);
	int from = resolve_in_root(whole, m->source, O_PATH, f, "mount-source"), tree = from < 0 ? -1 : mounts_clone(from, "", false);
	if (from >= 0 && tree < 0)
		fault(f, "mount-source", m->source, errno, NULL);
	if (umount2(l->attach, MNT_DETACH) < 0)
		return fault(f, "mount-source", l->attach, errno, NULL);
	close(whole);
	if (from >= 0)
		close(from);
	return tree;
}

static int open_sources(struct launch *l, int *device_trees, int *view_trees, struct fault *f)
{
	struct plan *plan = l->plan;
	for (size_t i = 0; i < plan->mount_count; i++) {
		struct mount_step *m = &plan->mounts[i];
		if (m->kind == MOUNT_TMPFS && l->ipc_of >= 0 && !strcmp(m->target, "/dev/shm")) {
			m->kind = MOUNT_BIND;
			m->source = "/dev/shm of the other container";
			if ((m->tree = other_shm(l->ipc_of, f)) < 0)
				return -1;
			continue;
		}
		/* An unprivileged mounter gets a new proc or sysfs only while its mount namespace holds one that is wholly visible
		 * (mount_too_revealing() in fs/namespace.c): the host's, which is about to go. */
		if (m->kind == MOUNT_PROC || m->kind == MOUNT_SYSFS) {
			m->tree = mounts_new(m->kind == MOUNT_PROC ? "proc" : "sysfs", m->data, (unsigned)m->attributes);
			if (m->tree < 0)
				return fault(f, "mount", m->target, errno, errno == EPERM
					? "a new one is refused where the old one has parts covered, as in an unprivileged container" : NULL);
		}
		if (m->kind == MOUNT_IMAGE) {
			m->kind = MOUNT_BIND;
			if ((m->tree = open_image(l, m, f)) < 0)
				return -1;
			continue;
		}
		if (m->kind != MOUNT_BIND)
			continue;
		m->tree = m->source_root ? open_inside(m, f) : mounts_clone(AT_FDCWD, m->source, m->recursive);
		if (m->tree < 0)
			return fault(f, "mount-source", m->source, errno, NULL); /* the first fault stands */
		if (m->fill && (m->fill_fd = open(m->fill, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600)) < 0)
			return fault(f, "volume", m->fill, errno, NULL);
	}
	for (size_t i = 0; i < plan->file_count; i++)
		if ((plan->files[i].tree = mounts_clone(AT_FDCWD, plan->files[i].host_path, false)) < 0)
			return fault(f, "file", plan->files[i].path, errno, NULL);
	for (size_t i = 0; i < plan->devices.count; i++) {
		device_trees[i] = -1;
		if (strncmp(plan->devices.at[i], "bind:", 5))
			continue;
		const char *source = plan->devices.at[i] + 5;
		char path[512];
		snprintf(path, sizeof(path), "%.*s", (int)strcspn(source, ":"), source);
		if ((device_trees[i] = mounts_clone(AT_FDCWD, path, false)) < 0)
			return fault(f, "device", path, errno, NULL);
	}
	for (size_t i = 0; i < l->view_count; i++)
		view_trees[i] = mounts_clone(AT_FDCWD, l->views[i].path, false);
	return 0;
}

/* Where a kernel file system goes, the image must have a plain directory or nothing: a symlink there is an attack
 * (CVE-2019-19921, CVE-2026-41579), not a wish. */
static int plain_directory(int root, const char *path, struct fault *f)
{
	char part[256];
	int at = fcntl(root, F_DUPFD_CLOEXEC, 3);
	while (at >= 0 && *(path += strspn(path, "/"))) {
		size_t n = strcspn(path, "/");
		if (n >= sizeof(part)) {
			close(at);
			return fault(f, "mount-target", path, ENAMETOOLONG, NULL);
		}
		memcpy(part, path, n);
		part[n] = 0;
		int next = openat(at, part, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0 && errno == ENOENT && (mkdirat(at, part, 0755) == 0 || errno == EEXIST))
			next = openat(at, part, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		int error = errno;
		close(at);
		if (next < 0)
			return fault(f, "mount-target", part, error, NULL);
		struct stat st;
		if (fstat(next, &st) < 0 || !S_ISDIR(st.st_mode)) {
			close(next);
			return fault(f, "mount-target", part, ENOTDIR, "the image has something else than a directory here");
		}
		at = next;
		path += n;
	}
	return at;
}

static bool on_file_system(int fd, long magic)
{
	struct statfs fs;
	return fstatfs(fd, &fs) == 0 && fs.f_type == magic;
}

static int bind_step(const struct launch *l, struct mount_step *m, struct fault *f)
{
	struct stat st;
	if (fstat(m->tree, &st) < 0)
		return fault(f, "mount-source", m->source, errno, NULL);
	int target = resolve_make(l->setup.root_fd, m->target, S_ISDIR(st.st_mode), 0755, f, "mount-target");
	if (target < 0)
		return -1;
	struct stat over;
	if (fstat(target, &over) == 0 && S_ISDIR(over.st_mode) != S_ISDIR(st.st_mode))
		return fault(f, "mount-target", m->target, S_ISDIR(over.st_mode) ? EISDIR : ENOTDIR,
			"source and target must both be directories or both be files");
	if (on_file_system(target, PROC_SUPER_MAGIC))
		return fault(f, "mount-target", m->target, EPERM, "nothing may be mounted inside /proc");
	if (m->fill_fd >= 0 && S_ISDIR(st.st_mode)) {
		if (volume_fill(m->fill_fd, target, m->tree, f) < 0)
			return -1;
		close(m->fill_fd);
	}
	if (mounts_hang_with(m->tree, target, m->attributes, m->propagation ? m->propagation : MS_PRIVATE, m->recursive) < 0)
		return fault(f, "mount", m->target, errno, errno == EOPNOTSUPP ? "options for what is mounted below it need Linux 5.12" : NULL);
	close(target);
	close(m->tree);
	return 0;
}

static int cgroup_step(const struct launch *l, const struct mount_step *m, int target, const int *view_trees, struct fault *f)
{
	unsigned attributes = (unsigned)m->attributes;
	if (!l->view_count)
		return 0;
	if (!*l->views[0].name) {
		if (view_trees[0] < 0)
			return 0;
		if (mounts_hang_with(view_trees[0], target, attributes, MS_PRIVATE, false) < 0)
			return fault(f, "mount", m->target, errno, NULL);
		return 0;
	}
	int tmpfs = mounts_new("tmpfs", "mode=755,size=4k", attributes & ~(unsigned)MOUNT_ATTR_RDONLY);
	if (tmpfs < 0 || mounts_hang(tmpfs, target) < 0)
		return fault(f, "mount", m->target, errno, NULL);
	for (size_t i = 0; i < l->view_count; i++) {
		if (view_trees[i] < 0)
			continue;
		if (mkdirat(tmpfs, l->views[i].name, 0755) < 0)
			return fault(f, "mount", l->views[i].name, errno, NULL);
		int dir = openat(tmpfs, l->views[i].name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (dir < 0 || mounts_hang_with(view_trees[i], dir, attributes, MS_PRIVATE, false) < 0)
			return fault(f, "mount", l->views[i].name, errno, NULL);
		close(dir);
		close(view_trees[i]);
	}
	if ((attributes & MOUNT_ATTR_RDONLY) && mounts_attributes(tmpfs, MOUNT_ATTR_RDONLY) < 0)
		return fault(f, "mount", m->target, errno, NULL);
	close(tmpfs);
	return 0;
}

/* A directory that the image declares as a volume: made where it is missing. What is written to it stays in the container's own layer.
 * On a root that will be read-only it becomes a mount of its own, which that does not reach. */
static int volume_step(const struct launch *l, const struct mount_step *m, struct fault *f)
{
	int target = resolve_make(l->setup.root_fd, m->target, true, 0755, f, "mount-target");
	if (target < 0)
		return -1;
	if (on_file_system(target, PROC_SUPER_MAGIC))
		return fault(f, "mount-target", m->target, EPERM, "nothing may be mounted inside /proc");
	if (l->plan->readonly_root) {
		int tree = mounts_clone(target, "", false);
		if (tree < 0 || mounts_hang(tree, target) < 0)
			return fault(f, "mount", m->target, errno, NULL);
		close(tree);
	}
	close(target);
	return 0;
}

static int mount_steps(struct launch *l, const int *view_trees, int *proc_fd, struct fault *f)
{
	static const char *const TYPES[] = {"proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "bind", "volume", "image"};
	for (size_t i = 0; i < l->plan->mount_count; i++) {
		struct mount_step *m = &l->plan->mounts[i];
		if (m->kind == MOUNT_BIND) {
			if (bind_step(l, m, f) < 0)
				return -1;
			continue;
		}
		if (m->kind == MOUNT_VOLUME) {
			if (volume_step(l, m, f) < 0)
				return -1;
			continue;
		}
		int target = m->kind == MOUNT_TMPFS && strncmp(m->target, "/dev", 4)
			? resolve_make(l->setup.root_fd, m->target, true, 0755, f, "mount-target")
			: plain_directory(l->setup.root_fd, m->target, f);
		if (target < 0)
			return -1;
		if (m->kind == MOUNT_TMPFS && on_file_system(target, PROC_SUPER_MAGIC))
			return fault(f, "mount-target", m->target, EPERM, "nothing may be mounted inside /proc");
		if (m->kind == MOUNT_CGROUP) {
			if (cgroup_step(l, m, target, view_trees, f) < 0)
				return -1;
			close(target);
			continue;
		}
		int mount_fd = m->tree >= 0 ? m->tree : mounts_new(TYPES[m->kind], m->data, (unsigned)m->attributes);
		if (mount_fd < 0)
			return fault(f, "mount", m->target, errno, NULL);
		if (mounts_hang(mount_fd, target) < 0)
			return fault(f, "mount", m->target, errno, NULL);
		close(target);
		if (m->kind == MOUNT_PROC && *proc_fd < 0)
			*proc_fd = mount_fd;
		else
			close(mount_fd);
	}
	return 0;
}

/* -- devices, links, files, covered paths ---------------------------------------------------------------------------- */

/* Splits path into its directory, opened (made if missing) inside the root, and its last part. */
static int parent_of(int root, const char *path, char *dir, size_t size, const char **base, struct fault *f, const char *step)
{
	const char *slash = strrchr(path, '/');
	if (!slash || !slash[1] || (size_t)(slash - path) >= size)
		return fault(f, step, path, EINVAL, "an absolute path is needed");
	memcpy(dir, path, (size_t)(slash - path));
	dir[slash - path] = 0;
	*base = slash + 1;
	return resolve_make(root, *dir ? dir : "/", true, 0755, f, step);
}

static int device_step(int root, const char *text, int tree, struct fault *f)
{
	char dir[512], kind;
	const char *base;
	if (tree >= 0) {
		const char *path = strrchr(text, ':') + 1;
		int target = resolve_make(root, path, false, 0644, f, "device");
		if (target < 0)
			return -1;
		if (mounts_hang(tree, target) < 0)
			return fault(f, "device", path, errno, NULL);
		close(target);
		close(tree);
		return 0;
	}
	unsigned major_number, minor_number, mode;
	int used = 0;
	if (sscanf(text, "%c:%u:%u:%o:%n", &kind, &major_number, &minor_number, &mode, &used) < 4 || !used)
		return fault(f, "device", text, EINVAL, "malformed");
	const char *path = text + used;
	int parent = parent_of(root, path, dir, sizeof(dir), &base, f, "device");
	if (parent < 0)
		return -1;
	if (mknodat(parent, base, (kind == 'b' ? S_IFBLK : S_IFCHR) | mode, makedev(major_number, minor_number)) < 0)
		return fault(f, "device", path, errno, NULL);
	close(parent);
	return 0;
}

static int link_step(int root, const struct key_value *link, struct fault *f)
{
	char dir[512];
	const char *base;
	int parent = parent_of(root, link->value, dir, sizeof(dir), &base, f, "link");
	if (parent < 0)
		return -1;
	if (symlinkat(link->key, parent, base) < 0 && errno != EEXIST)
		return fault(f, "link", link->value, errno, NULL);
	close(parent);
	return 0;
}

/* Many images ship /etc/resolv.conf as a link into /run, which is empty: what it points to is made, inside the root, as Docker does. */
static void make_link_target(int root, const char *path)
{
	char dir[512], to[PATH_MAX], whole[PATH_MAX + 512];
	const char *base;
	int parent = parent_of(root, path, dir, sizeof(dir), &base, NULL, "file");
	ssize_t length = parent < 0 ? -1 : readlinkat(parent, base, to, sizeof(to) - 1);
	if (parent >= 0)
		close(parent);
	if (length <= 0)
		return;
	to[length] = 0;
	snprintf(whole, sizeof(whole), "%s/%s", *to == '/' ? "" : dir, to);
	char *last = strrchr(whole, '/');
	*last++ = 0;
	int target = resolve_make_parents(root, whole, NULL, "file");
	int made = target < 0 || !*last ? -1 : openat(target, last, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (made >= 0)
		close(made);
	if (target >= 0)
		close(target);
}

static int file_step(int root, const struct file_step *file, struct fault *f)
{
	int target = resolve_make(root, file->path, false, 0644, NULL, "file");
	if (target < 0 && errno == EXDEV)
		make_link_target(root, file->path);
	if (target < 0)
		target = resolve_make(root, file->path, false, 0644, f, "file");
	if (target < 0)
		return -1;
	if (on_file_system(target, PROC_SUPER_MAGIC))
		return fault(f, "file", file->path, EPERM, NULL);
	if (mounts_hang_with(file->tree, target, 0, MS_PRIVATE, false) < 0)
		return fault(f, "file", file->path, errno, NULL);
	close(target);
	close(file->tree);
	return 0;
}

/* The one /dev/null that we made or bound ourselves; an image's own could be a link to anything (CVE-2025-31133). */
static int trusted_null(int root, struct fault *f)
{
	int fd = resolve_in_root(root, "dev/null", O_PATH | O_NOFOLLOW, f, "mask");
	struct stat st;
	if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3)))
		return fault(f, "mask", "/dev/null", ENODEV, "not the null device");
	return fd;
}

static int mask_steps(int root, const struct words *paths, struct fault *f)
{
	int null_fd = -1, empty = -1;
	for (size_t i = 0; i < paths->count; i++) {
		int target = resolve_in_root(root, paths->at[i], O_PATH | O_NOFOLLOW, NULL, "mask");
		if (target < 0) {
			if (errno == ENOENT || errno == ENOTDIR || errno == EACCES)
				continue;
			return fault(f, "mask", paths->at[i], errno, NULL);
		}
		struct stat st;
		int cover = -1;
		if (fstat(target, &st) < 0)
			return fault(f, "mask", paths->at[i], errno, NULL);
		if (!S_ISDIR(st.st_mode)) {
			if (null_fd < 0 && (null_fd = trusted_null(root, f)) < 0)
				return -1;
			cover = mounts_clone(null_fd, "", false);
		} else if (empty < 0) /* one empty read-only file system serves all */
			cover = empty = mounts_new("tmpfs", "size=4k,mode=555", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
		else
			cover = mounts_clone(empty, "", false);
		if (cover < 0 || mounts_hang(cover, target) < 0)
			return fault(f, "mask", paths->at[i], errno, NULL);
		if (cover != empty)
			close(cover);
		close(target);
	}
	return 0;
}

static int readonly_steps(int root, const struct words *paths, struct fault *f)
{
	for (size_t i = 0; i < paths->count; i++) {
		int target = resolve_in_root(root, paths->at[i], O_PATH | O_NOFOLLOW, NULL, "mask");
		if (target < 0 && (errno == ENOENT || errno == ENOTDIR))
			continue;
		int tree = target < 0 ? -1 : mounts_clone(target, "", true);
		if (tree < 0 || mounts_hang_with(tree, target, MOUNT_ATTR_RDONLY, MS_PRIVATE, true) < 0)
			return fault(f, "mask", paths->at[i], errno, NULL);
		close(tree);
		close(target);
	}
	return 0;
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

static int console_step(int root, int slave, struct fault *f)
{
	int tree = mounts_clone(slave, "", false);
	int target = resolve_make(root, "/dev/console", false, 0600, f, "device");
	if (target < 0)
		return -1;
	if (tree < 0 || mounts_hang(tree, target) < 0)
		return fault(f, "device", "/dev/console", errno, NULL);
	close(tree);
	close(target);
	return 0;
}

static int build(struct launch *l, struct fault *f)
{
	struct plan *plan = l->plan;
	int device_trees[plan->devices.count + 1], view_trees[l->view_count + 1], proc_fd = -1;
	umask(0);
	setsid();
	if (enter_groups(l, f) < 0 || launch_adjust_oom_score(plan, f) < 0 || enter_time(plan, f) < 0)
		return -1;
	if (l->net_ns >= 0 && setns(l->net_ns, CLONE_NEWNET) < 0)
		return fault(f, "namespace", "net", errno, NULL);
	if (l->ipc_of >= 0 && setns(l->ipc_of, CLONE_NEWIPC) < 0)
		return fault(f, "namespace", "ipc", errno, NULL);
	if (mounts_prepare(f) < 0 || open_sources(l, device_trees, view_trees, f) < 0)
		return -1;
	int root = l->setup.root_fd = launch_root(plan, l->mounted, l->upper, l->work, l->attach, l->setup.rootless, f);
	if (root < 0 || mount_steps(l, view_trees, &proc_fd, f) < 0)
		return -1;
	for (size_t i = 0; i < plan->devices.count; i++)
		if (device_step(root, plan->devices.at[i], device_trees[i], f) < 0)
			return -1;
	for (size_t i = 0; i < plan->link_count; i++)
		if (link_step(root, &plan->links[i], f) < 0)
			return -1;
	if (plan->process.tty) {
		int slave = process_terminal(&l->setup, f);
		if (slave < 0 || console_step(root, slave, f) < 0)
			return -1;
	}
	for (size_t i = 0; i < plan->file_count; i++)
		if (file_step(root, &plan->files[i], f) < 0)
			return -1;
	if (plan->uts == NS_PRIVATE && plan->hostname && sethostname(plan->hostname, strlen(plan->hostname)) < 0)
		return fault(f, "hostname", plan->hostname, errno, NULL);
	if (plan->uts == NS_PRIVATE && plan->domainname && setdomainname(plan->domainname, strlen(plan->domainname)) < 0)
		return fault(f, "hostname", plan->domainname, errno, NULL);
	if (sysctl_steps(proc_fd, plan, f) < 0 || mask_steps(root, &plan->masks, f) < 0 || readonly_steps(root, &plan->readonly_paths, f) < 0)
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
