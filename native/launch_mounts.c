/* The plan's mounts, each hung where the image has a place for it, by descriptor. See launch.c. */
#define _GNU_SOURCE
#include "launch_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mounts.h"
#include "resolve.h"
#include "volume.h"

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

static int bind_step(const struct launch *l, struct mount_step *m, struct fault *f)
{
	struct stat st;
	if (fstat(m->tree, &st) < 0)
		return fault(f, "mount-source", m->source, errno, NULL);
	bool is_directory = S_ISDIR(st.st_mode);
	/* The modes by which stubs.c knows again what was made here. */
	int target = resolve_make(l->setup.root_fd, m->target, is_directory, is_directory ? 0755 : 0644, f, "mount-target");
	if (target < 0)
		return -1;
	struct stat over;
	if (fstat(target, &over) == 0 && S_ISDIR(over.st_mode) != is_directory)
		return fault(f, "mount-target", m->target, S_ISDIR(over.st_mode) ? EISDIR : ENOTDIR,
			"source and target must both be directories or both be files");
	if (on_file_system(target, PROC_SUPER_MAGIC))
		return fault(f, "mount-target", m->target, EPERM, "nothing may be mounted inside /proc");
	if (m->fill_fd >= 0 && S_ISDIR(st.st_mode)) {
		int seed = m->hidden ? m->seed_fd : target;
		if (seed >= 0 && volume_fill(m->fill_fd, seed, m->tree, f) < 0)
			return -1;
		if (m->hidden && seed >= 0)
			close(seed);
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

/* Whether another mount hides what the root has there. */
static bool is_hidden(const struct plan *plan, const char *target)
{
	for (size_t i = 0; i < plan->mount_count; i++) {
		size_t length = strlen(plan->mounts[i].target);
		if (!strncmp(target, plan->mounts[i].target, length) && target[length] == '/')
			return true;
	}
	return false;
}

/* A volume has what the image has in its place, also where that place lies below another mount: a bind of a project's directory, with a
 * volume for what is built in there. So what will be hidden is taken from the root while nothing is mounted there. */
static int take_hidden(struct launch *l, struct fault *f)
{
	for (size_t i = 0; i < l->plan->mount_count; i++) {
		struct mount_step *m = &l->plan->mounts[i];
		bool is_filled = m->kind == MOUNT_BIND && m->fill_fd >= 0;
		if ((m->kind != MOUNT_VOLUME && !is_filled) || !is_hidden(l->plan, m->target))
			continue;
		if (is_filled) {
			m->hidden = true;
			m->seed_fd = resolve_in_root(l->setup.root_fd, m->target, O_PATH | O_DIRECTORY, NULL, "mount-target");
			continue;
		}
		int place = resolve_make(l->setup.root_fd, m->target, true, 0755, f, "mount-target");
		if (place < 0)
			return -1;
		if ((m->tree = mounts_clone(place, "", false)) < 0)
			return fault(f, "mount", m->target, errno, NULL);
		close(place);
	}
	return 0;
}

/* A directory that the image declares as a volume: made where it is missing. What is written to it stays in the container's own layer.
 * On a root that will be read-only, and below another mount, it becomes a mount of its own. */
static int volume_step(const struct launch *l, const struct mount_step *m, struct fault *f)
{
	int target = resolve_make(l->setup.root_fd, m->target, true, 0755, f, "mount-target");
	if (target < 0)
		return -1;
	if (on_file_system(target, PROC_SUPER_MAGIC))
		return fault(f, "mount-target", m->target, EPERM, "nothing may be mounted inside /proc");
	if (l->plan->readonly_root || m->tree >= 0) {
		int tree = m->tree >= 0 ? m->tree : mounts_clone(target, "", false);
		if (tree < 0 || mounts_hang(tree, target) < 0)
			return fault(f, "mount", m->target, errno, NULL);
		close(tree);
	}
	close(target);
	return 0;
}

int launch_mounts(struct launch *l, const struct sources *sources, int *proc_fd, struct fault *f)
{
	static const char *const TYPES[] = {"proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "bind", "volume", "image"};
	if (take_hidden(l, f) < 0)
		return -1;
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
			if (cgroup_step(l, m, target, sources->views, f) < 0)
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
