/* Two walks for each target of the plan.
 *
 * First through the layers alone: there the target leads where it led when the container was started, whatever the program has made of
 * it since. Then up through the upper directory, along that path and without a single link: a program that has put one in our way
 * (CVE-2024-23652) has made something of its own, which stays. */
#define _GNU_SOURCE
#include "stubs.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "launch.h"
#include "mounts.h"
#include "resolve.h"
#include "xattrs.h"

enum { MOST_LINKS = 40 };
static const uint64_t STRAIGHT = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;

struct stubs { int upper, lower; uint64_t started_ns; };

/* -- through the layers --------------------------------------------------------------------------------------------------- */

/* Descriptor of what the layers have at a path without links; -1 ENOENT if nothing. */
static int open_lower(const struct stubs *s, const char *path)
{
	struct stat st;
	int fd = resolve_open(s->lower, path, O_PATH | O_NOFOLLOW, STRAIGHT);
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && !st.st_rdev) { /* of a single layer a whiteout can be seen */
		close(fd);
		errno = ENOENT;
		return -1;
	}
	return fd;
}

/* Where path led when only the layers were there: without links, relative to the root. What does not exist was made as plain names. */
static int resolve_lower(const struct stubs *s, const char *path, char done[PATH_MAX])
{
	char rest[PATH_MAX], longer[PATH_MAX], target[PATH_MAX];
	size_t length = 0;
	unsigned links = 0;
	*done = 0;
	if (snprintf(rest, sizeof(rest), "%s", path) >= (int)sizeof(rest))
		return -1;
	for (const char *at = rest; *(at += strspn(at, "/"));) {
		size_t name = strcspn(at, "/"), before = length;
		const char *next = at + name;
		if (name == 1 && *at == '.') {
			at = next;
			continue;
		}
		if (name == 2 && !strncmp(at, "..", 2)) {
			char *slash = strrchr(done, '/');
			length = slash ? (size_t)(slash - done) : 0;
			done[length] = 0;
			at = next;
			continue;
		}
		if (length + name + 2 > PATH_MAX)
			return -1;
		if (length)
			done[length++] = '/';
		memcpy(done + length, at, name);
		done[length += name] = 0;
		struct stat st;
		int fd = open_lower(s, done);
		ssize_t got = -1;
		if (fd >= 0 && fstat(fd, &st) == 0 && S_ISLNK(st.st_mode))
			got = readlinkat(fd, "", target, sizeof(target) - 1);
		if (fd >= 0)
			close(fd);
		at = next;
		if (got < 0)
			continue;
		target[got] = 0;
		if (++links > MOST_LINKS || snprintf(longer, sizeof(longer), "%s/%s", target, at) >= (int)sizeof(longer))
			return -1;
		length = *target == '/' ? 0 : before;
		done[length] = 0;
		memcpy(rest, longer, sizeof(rest));
		at = rest;
	}
	return 0;
}

/* -- back through the upper ----------------------------------------------------------------------------------------------- */

static bool as_we_make_it(const struct stat *st, mode_t mode)
{
	return (st->st_mode & 07777) == mode && st->st_uid == geteuid() && st->st_gid == getegid();
}

/* A copy of the layers' directory that nobody has changed. Whether it is empty, rmdir will tell. */
static bool is_plain_copy(const struct stubs *s, const char *path, int upper)
{
	struct stat a, b;
	struct xattrs x = {0}, y = {0};
	int lower = resolve_open(s->lower, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, STRAIGHT);
	bool same = lower >= 0 && fstat(upper, &a) == 0 && fstat(lower, &b) == 0 && a.st_mode == b.st_mode && a.st_uid == b.st_uid &&
		a.st_gid == b.st_gid && xattrs_read(&x, upper, NULL) == 0 && xattrs_read(&y, lower, NULL) == 0 && xattrs_equal(&x, &y) &&
		!xattr_is_opaque(upper);
	if (lower >= 0)
		close(lower);
	xattrs_free(&x);
	xattrs_free(&y);
	return same;
}

static uint64_t ns_of(struct timespec t)
{
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* A directory that stays has the time of our removal now. It gets back its own; or, if only the start has changed it, the layers'. */
static void restore_times(const struct stubs *s, const char *path, int dir, const struct stat *before)
{
	struct stat st;
	int lower = ns_of(before->st_mtim) <= s->started_ns ? open_lower(s, *path ? path : ".") : -1;
	struct timespec times[2] = {before->st_atim, before->st_mtim};
	if (lower >= 0 && fstat(lower, &st) == 0)
		times[1] = st.st_mtim;
	if (lower >= 0)
		close(lower);
	(void)!futimens(dir, times);
}

/* Removes one name if it is a stub, or an unchanged copy. True if the directory above may be next: nothing of this name is left. */
static bool remove_name(const struct stubs *s, const char *path, int dir, const char *name)
{
	struct stat st;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT;
	int lower = open_lower(s, path);
	bool made_by_us = lower < 0 && errno == ENOENT;
	if (lower >= 0)
		close(lower);
	if (S_ISREG(st.st_mode))
		return made_by_us && st.st_size == 0 && st.st_nlink == 1 && as_we_make_it(&st, 0644) && unlinkat(dir, name, 0) == 0;
	if (!S_ISDIR(st.st_mode))
		return false;
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	bool ours = fd >= 0 && (made_by_us ? as_we_make_it(&st, 0755) : is_plain_copy(s, path, fd));
	if (fd >= 0)
		close(fd);
	return ours && unlinkat(dir, name, AT_REMOVEDIR) == 0; /* ENOTEMPTY: it holds something */
}

static void remove_stub(const struct stubs *s, const char *target)
{
	char path[PATH_MAX], above[PATH_MAX];
	struct stat before;
	if (resolve_lower(s, target, path) < 0)
		return;
	for (bool more = true; more && *path;) {
		char *slash = strrchr(path, '/');
		size_t length = slash ? (size_t)(slash - path) : 0;
		memcpy(above, path, length);
		above[length] = 0;
		int dir = resolve_open(s->upper, above, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, STRAIGHT);
		if (dir < 0 && errno != ENOENT)
			return;
		if (dir >= 0) {
			more = fstat(dir, &before) == 0 && remove_name(s, path, dir, slash ? slash + 1 : path);
			if (more)
				restore_times(s, above, dir, &before);
			close(dir);
		}
		path[length] = 0;
	}
}

/* The layers as one tree; a single one is that already. */
static int open_layers(const struct plan *plan, bool rootless, struct fault *f)
{
	if (plan->layers.count > 1)
		return mounts_overlay(&plan->layers, NULL, NULL, rootless, f);
	int fd = open(plan->layers.at[0], O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? fault(f, "layer", plan->layers.at[0], errno, NULL) : fd;
}

int stubs_remove(const struct plan *plan, int upper_fd, uint64_t started_ns, bool rootless, struct fault *f)
{
	struct stubs s = {upper_fd, open_layers(plan, rootless, f), started_ns};
	if (s.lower < 0)
		return -1;
	for (size_t i = 0; i < plan->mount_count; i++)
		if (plan->mounts[i].kind != MOUNT_VOLUME) /* no mount: what is written to it is the container's */
			remove_stub(&s, plan->mounts[i].target);
	for (size_t i = 0; i < plan->file_count; i++)
		remove_stub(&s, plan->files[i].path);
	for (size_t i = 0; i < plan->devices.count; i++)
		if (!strncmp(plan->devices.at[i], "bind:", 5))
			remove_stub(&s, strrchr(plan->devices.at[i], ':') + 1);
	if (plan->process.tty)
		remove_stub(&s, "/dev/console");
	close(s.lower);
	return 0;
}
