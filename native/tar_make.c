#define _GNU_SOURCE
/* Makes what an entry of an archive is, in its directory. See tar_unpack.c. */
#include "tar_unpack_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MOST_TRIES 100 /* to make an entry whose name somebody else keeps taking */

int unpack_directory(struct unpack *u, int dir_fd, const char *name)
{
	bool opaque = false, plain = u->entry.xattr_count == 0 && !(u->entry.mode & (S_ISUID | S_ISGID)) && !u->parent.setgid;
	struct stat st;

	for (int tries = 0; mkdirat(dir_fd, name, u->entry.mode & 01777) < 0; tries++) {
		if (errno != EEXIST || tries == MOST_TRIES)
			return unpack_refuse(u, errno, "cannot make the directory");
		if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode)) {
			plain = false;
			break;
		}
		/* What was here hid a lower layer's directory of this name, and that must stay hidden. */
		opaque = u->options->layer;
		if (unpack_clear(u, dir_fd, name) < 0)
			return -1;
	}
	if (plain && !opaque && !unpack_needs_chown(u) && !(u->any_replaced && u->implied_count))
		return 0;
	return unpack_dress_directory(u, dir_fd, name, opaque);
}

/* Content to the file, at its places if it is sparse. */
static int write_content(struct unpack *u, int fd)
{
	const struct tar_entry *entry = &u->entry;
	const void *bytes;
	ssize_t got;
	size_t segment = 0;
	uint64_t done = 0; /* of the segment; of the file when it is not sparse */

	while ((got = tar_content(u->reader, &bytes)) > 0) {
		for (const char *at = bytes; got > 0;) {
			size_t part = (size_t)got;
			uint64_t offset = done;

			if (entry->sparse) {
				while (done == entry->segments[segment].length) {
					segment++;
					done = 0;
				}
				if (part > entry->segments[segment].length - done)
					part = (size_t)(entry->segments[segment].length - done);
				offset = entry->segments[segment].offset + done;
			}
			ssize_t written = entry->sparse ? pwrite(fd, at, part, (off_t)offset) : write(fd, at, part);

			if (written < 0 && errno == EINTR)
				continue;
			if (written <= 0)
				return unpack_refuse(u, written ? errno : EIO, "cannot write the file");
			at += written;
			got -= written;
			done += (uint64_t)written;
		}
	}
	if (got == 0 && entry->sparse && ftruncate(fd, (off_t)entry->size) < 0)
		return unpack_refuse(u, errno, "cannot give the sparse file its size");
	return (int)got;
}

int unpack_file(struct unpack *u, int dir_fd, const char *name)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, u->entry.mtime };
	const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	int fd = -1;

	for (int tries = 0; (fd = openat(dir_fd, name, flags, u->entry.mode & 0777)) < 0; tries++) {
		if (errno != EEXIST || tries == MOST_TRIES)
			return unpack_refuse(u, errno, "cannot make the file");
		if (unpack_clear(u, dir_fd, name) < 0)
			return -1;
	}
	int result = write_content(u, fd);

	if (result == 0)
		result = unpack_dress(u, fd, false);
	if (result == 0 && futimens(fd, times) < 0)
		result = unpack_refuse(u, errno, "cannot set its time");
	if (close(fd) < 0 && result == 0)
		result = unpack_refuse(u, errno, "cannot write the file");
	return result;
}

int unpack_symlink(struct unpack *u, int dir_fd, const char *name)
{
	for (int tries = 0; symlinkat(u->entry.link, dir_fd, name) < 0; tries++) {
		if (errno != EEXIST || tries == MOST_TRIES)
			return unpack_refuse(u, errno, "cannot make the symbolic link");
		if (unpack_clear(u, dir_fd, name) < 0)
			return -1;
	}
	return unpack_dress_by_name(u, dir_fd, name);
}

static bool is_same(int dir_fd, const char *name, int other_fd, const char *other)
{
	struct stat a, b;

	return fstatat(dir_fd, name, &a, AT_SYMLINK_NOFOLLOW) == 0 && fstatat(other_fd, other, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
		a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* A second name for what came before. What it is, its owner and its mode were said there, and are left alone. */
int unpack_hard_link(struct unpack *u, int dir_fd, const char *name)
{
	char path[PATH_MAX], target[NAME_MAX + 1];

	if (unpack_clean(u, u->entry.link, path) < 0)
		return -1;
	if (!*path)
		return unpack_refuse(u, EINVAL, "a hard link must have a target");
	unpack_split(path, target);
	for (int tries = 0;; tries++) {
		/* Anew each time: unpack_clear() forgets it. */
		int target_fd = !strcmp(path, u->parent.path) ? dir_fd : unpack_open_parent(u, &u->link_parent, path, false);
		char why[256];

		if (target_fd < 0)
			return -1;
		if (linkat(target_fd, target, dir_fd, name, 0) == 0)
			return 0;
		if (errno == EEXIST && is_same(target_fd, target, dir_fd, name))
			return 0;
		if (errno != EEXIST || tries == MOST_TRIES) {
			snprintf(why, sizeof(why), "cannot make a hard link to %.200s", u->entry.link);
			return unpack_refuse(u, errno, why);
		}
		if (unpack_clear(u, dir_fd, name) < 0)
			return -1;
	}
}

int unpack_node(struct unpack *u, int dir_fd, const char *name)
{
	const mode_t kinds[] = { ['3' - '3'] = S_IFCHR, ['4' - '3'] = S_IFBLK, ['6' - '3'] = S_IFIFO };
	mode_t mode = kinds[u->entry.type - '3'] | (u->entry.mode & 0777);
	dev_t device = u->entry.type == '6' ? 0 : makedev(u->entry.major, u->entry.minor);

	if (S_ISCHR(mode) && device == 0)
		return unpack_refuse(u, EINVAL, "character device 0:0 is overlay's whiteout and may not come from an archive");
	for (int tries = 0; mknodat(dir_fd, name, mode, device) < 0; tries++) {
		if (errno == EPERM && !S_ISFIFO(mode)) {
			u->result->omitted++;
			return unpack_file(u, dir_fd, name);
		}
		if (errno != EEXIST || tries == MOST_TRIES)
			return unpack_refuse(u, errno, "cannot make the node");
		if (unpack_clear(u, dir_fd, name) < 0)
			return -1;
	}
	return unpack_dress_by_name(u, dir_fd, name);
}
