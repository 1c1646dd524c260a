/* What a container is lent: directories of the host, of other containers and of images, opened as detached trees while the old mounts are still
 * there. See launch.c. */
#define _GNU_SOURCE
#include "launch_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "mounts.h"
#include "resolve.h"

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

int launch_open_sources(struct launch *l, const struct sources *sources, struct fault *f)
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
			return fault(f, "mount-source", m->source, errno, errno == EINVAL && !m->recursive /* the first fault stands */
				? "an ordinary user cannot leave out what is mounted below it" : NULL);
		if (m->fill && (m->fill_fd = open(m->fill, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600)) < 0)
			return fault(f, "volume", m->fill, errno, NULL);
	}
	for (size_t i = 0; i < plan->file_count; i++)
		if ((plan->files[i].tree = mounts_clone(AT_FDCWD, plan->files[i].host_path, false)) < 0)
			return fault(f, "file", plan->files[i].path, errno, NULL);
	for (size_t i = 0; i < plan->devices.count; i++) {
		sources->devices[i] = -1;
		if (strncmp(plan->devices.at[i], "bind:", 5))
			continue;
		const char *source = plan->devices.at[i] + 5;
		char path[512];
		snprintf(path, sizeof(path), "%.*s", (int)strcspn(source, ":"), source);
		if ((sources->devices[i] = mounts_clone(AT_FDCWD, path, false)) < 0)
			return fault(f, "device", path, errno, NULL);
	}
	for (size_t i = 0; i < l->view_count; i++)
		sources->views[i] = mounts_clone(AT_FDCWD, l->views[i].path, false);
	return 0;
}
