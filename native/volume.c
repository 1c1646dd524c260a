/* Named volumes. A container holds a shared lock on each volume that it mounts, from its creation to its removal, so that whoever wants
 * to remove one finds it in use, in whatever session. */
#define _GNU_SOURCE
#include "volume.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "container_internal.h"
#include "reopen.h"
#include "tree_verbs.h"

static int hold(const char *path, struct fault *f)
{
	struct stat ours, there;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return fault(f, "volume", path, errno, "there is no such volume");
	if (flock(fd, LOCK_SH | LOCK_NB) == 0 && fstat(fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_ino == there.st_ino &&
		ours.st_dev == there.st_dev)
		return fd;
	close(fd);
	return fault(f, "volume", path, ENOENT, "the volume is being removed");
}

int container_hold_volumes(struct container *c, struct fault *f)
{
	const struct words *paths = &c->plan.holds;
	if (!paths->count)
		return 0;
	c->held = calloc(paths->count, sizeof(*c->held));
	if (!c->held)
		return fault(f, "volume", "memory", ENOMEM, NULL);
	for (; c->held_count < paths->count; c->held_count++)
		if ((c->held[c->held_count] = hold(paths->at[c->held_count], f)) < 0)
			return -1;
	return 0;
}

void container_free_volumes(struct container *c)
{
	while (c->held_count) {
		int fd = c->held[--c->held_count];
		/* Said, not only closed: a child that was forked a moment ago has copies of all our descriptors until it closes them. */
		flock(fd, LOCK_UN);
		close(fd);
	}
	free(c->held);
	c->held = NULL;
}

/* -- filling -------------------------------------------------------------------------------------------------------------- */

/* 1 = nothing in it, 0, or -1. clear: what is in it goes. */
static int look(int volume, bool clear)
{
	int fd = reopen(volume, O_RDONLY | O_DIRECTORY);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	int empty = 1;
	if (!directory) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	for (struct dirent *entry; (errno = 0, entry = readdir(directory));) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (!clear || remove_tree(fd, entry->d_name, 0)) {
			empty = clear ? -1 : 0;
			break;
		}
	}
	int error = errno;
	closedir(directory);
	errno = error;
	return error && empty > 0 ? -1 : empty;
}

static int mark(int guard, bool begun)
{
	return begun ? (pwrite(guard, "1", 1, 0) == 1 ? 0 : -1) : ftruncate(guard, 0);
}

int volume_fill(int guard, int target, int volume, struct fault *f)
{
	char byte;
	while (flock(guard, LOCK_EX) < 0)
		if (errno != EINTR)
			return fault(f, "volume", "lock", errno, NULL);
	ssize_t begun = pread(guard, &byte, 1, 0);
	int empty = begun < 0 ? -1 : look(volume, begun > 0);
	if (empty < 0)
		return fault(f, "volume", "directory", errno, "cannot look into the volume");
	if (!empty)
		return 0;
	if (mark(guard, true) < 0)
		return fault(f, "volume", "guard", errno, NULL);
	if (transfer_tree(target, volume, f) < 0)
		return -1;
	return mark(guard, false) < 0 ? fault(f, "volume", "guard", errno, NULL) : 0;
}
