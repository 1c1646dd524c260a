#define _GNU_SOURCE
/* What unpacking an archive remembers for its end: times of directories, which making their entries changes, and directories that no entry made. */
#include "tar_unpack_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "grow.h"
#include "resolve.h"

/* Keeps a path for later. */
static int remember_path(struct unpack *u, const char *path, size_t *at)
{
	size_t length = strlen(path) + 1;
	char *paths = grow(u->paths, &u->paths_capacity, u->paths_length + length, 1);

	if (!paths)
		return unpack_refuse(u, ENOMEM, NULL);
	u->paths = paths;
	*at = u->paths_length;
	memcpy(u->paths + u->paths_length, path, length);
	u->paths_length += length;
	return 0;
}

/* Where the table has, or would have, the implied directory with this inode. */
static size_t *implied_slot(struct unpack *u, ino_t inode)
{
	size_t at = (size_t)((uint64_t)inode * 0x9e3779b97f4a7c15u >> 20);

	for (;; at++) {
		size_t *slot = &u->slots[at & (u->slot_count - 1)];

		if (!*slot || u->implied[*slot - 1].inode == inode)
			return slot;
	}
}

static int grow_implied(struct unpack *u)
{
	size_t count = u->slot_count ? 2 * u->slot_count : 128;
	struct implied *grown = realloc(u->implied, count / 2 * sizeof(*grown));

	if (!grown)
		return -1;
	u->implied = grown;
	free(u->slots);
	u->slot_count = count;
	if (!(u->slots = calloc(count, sizeof(*u->slots)))) {
		u->slot_count = 0;
		return -1;
	}
	for (size_t i = 0; i < u->implied_count; i++)
		*implied_slot(u, u->implied[i].inode) = i + 1;
	return 0;
}

/* Called for each missing parent that is made. */
int unpack_remember_implied(void *context, int parent_fd, const char *name, const char *path)
{
	struct unpack *u = context;
	struct stat st;
	size_t at;

	if (fstatat(parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -1;
	if (2 * u->implied_count >= u->slot_count && grow_implied(u) < 0)
		return -1;
	if (remember_path(u, path, &at) < 0)
		return -1;
	size_t *slot = implied_slot(u, st.st_ino);

	if (*slot) /* removed since, and its inode used again */
		u->implied[*slot - 1].mentioned = true;
	u->implied[u->implied_count++] = (struct implied){ .inode = st.st_ino, .path = at };
	*slot = u->implied_count;
	return 0;
}

void unpack_mention_implied(struct unpack *u, ino_t inode)
{
	size_t slot = u->slot_count ? *implied_slot(u, inode) : 0;

	if (slot)
		u->implied[slot - 1].mentioned = true;
}

/* Those that are still there and never got an entry. */
int unpack_tell_implied(struct unpack *u)
{
	struct tar_result *result = u->result;

	for (size_t i = 0; i < u->implied_count; i++) {
		const char *path = u->paths + u->implied[i].path;
		size_t length = strlen(path) + 1;
		struct stat st;
		int fd = u->implied[i].mentioned ? -1
			: resolve_open(u->root_fd, path, O_PATH | O_DIRECTORY, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);

		if (fd < 0)
			continue;
		bool same = fstat(fd, &st) == 0 && st.st_ino == u->implied[i].inode;

		close(fd);
		if (!same)
			continue;
		char *grown = realloc(result->implied_paths, result->implied_length + length);

		if (!grown)
			return unpack_refuse(u, ENOMEM, NULL);
		memcpy(grown + result->implied_length, path, length);
		result->implied_paths = grown;
		result->implied_length += length;
		result->implied++;
	}
	return 0;
}

int unpack_remember_time(struct unpack *u, const char *path)
{
	size_t at;
	struct late *late = grow(u->late, &u->late_capacity, u->late_count + 1, sizeof(*late));

	if (!late)
		return unpack_refuse(u, ENOMEM, NULL);
	u->late = late;
	if (remember_path(u, path, &at) < 0)
		return -1;
	u->late[u->late_count++] = (struct late){ at, u->entry.mtime };
	return 0;
}

/* A directory replaced meanwhile, by the archive or by somebody else, simply keeps its own time. */
void unpack_set_late_times(struct unpack *u)
{
	for (size_t i = 0; i < u->late_count; i++) {
		struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, u->late[i].mtime };
		const char *path = u->paths + u->late[i].path;
		char full[PATH_MAX];
		int fd = resolve_open(u->base_fd, path, O_RDONLY | O_DIRECTORY, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);

		if (fd < 0 && errno == ELOOP && unpack_below_root(u, path, full) == 0)
			fd = resolve_open(u->root_fd, full, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
		if (fd < 0)
			continue;
		(void)!futimens(fd, times);
		close(fd);
	}
}
