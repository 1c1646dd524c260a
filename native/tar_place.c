#define _GNU_SOURCE
/* Where an entry of an archive goes: its name made harmless, and its directory opened inside the root. See tar_unpack.c. */
#include "tar_unpack_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "resolve.h"

void unpack_forget(struct parent *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

void unpack_forget_parents(struct unpack *u)
{
	unpack_forget(&u->parent);
	unpack_forget(&u->link_parent);
}

int unpack_clean(struct unpack *u, const char *name, char path[static PATH_MAX])
{
	size_t length = 0;

	for (const char *p = name; *p;) {
		size_t part = strcspn(p, "/");

		if (part == 2 && p[0] == '.' && p[1] == '.') {
			while (length && path[length - 1] != '/')
				length--;
			length -= length != 0;
		} else if (part && !(part == 1 && p[0] == '.')) {
			if (part > NAME_MAX || length + 1 + part >= PATH_MAX)
				return unpack_refuse(u, ENAMETOOLONG, "a name is too long for a file system");
			if (length)
				path[length++] = '/';
			memcpy(path + length, p, part);
			length += part;
		}
		p += part;
		p += strspn(p, "/");
	}
	path[length] = '\0';
	return 0;
}

void unpack_split(char *path, char name[static NAME_MAX + 1])
{
	char *slash = strrchr(path, '/'), *last = slash ? slash + 1 : path;

	memcpy(name, last, strlen(last) + 1); /* unpack_clean() saw to the length */
	*(slash ? slash : path) = '\0';
}

int unpack_below_root(struct unpack *u, const char *path, char full[static PATH_MAX])
{
	int printed = snprintf(full, PATH_MAX, "%s/%s", u->base, path);

	return printed < PATH_MAX ? 0 : unpack_refuse(u, ENAMETOOLONG, "a name is too long for a file system");
}

int unpack_open_parent(struct unpack *u, struct parent *slot, const char *path, bool making)
{
	char full[PATH_MAX];
	struct stat st;

	if (slot->fd >= 0 && !strcmp(slot->path, path))
		return slot->fd;
	unpack_forget(slot);
	if (unpack_below_root(u, path, full) < 0)
		return -1;
	slot->direct = true;
	slot->fd = resolve_open(u->base_fd, path, O_PATH | O_DIRECTORY, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
	if (slot->fd < 0 && errno == ELOOP) {
		slot->direct = false;
		slot->fd = resolve_open(u->root_fd, full, O_PATH | O_DIRECTORY, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
	}
	if (slot->fd < 0 && errno == ENOTDIR && making && u->options->layer) {
		int opened = unpack_open_whiteout(u, path);

		if (opened < 0)
			return -1;
		errno = opened ? ENOENT : ENOTDIR;
	}
	if (slot->fd < 0 && errno == ENOENT && making) {
		const struct resolve_made made = { unpack_remember_implied, u };

		slot->fd = u->options->list_implied ? resolve_make_told(u->root_fd, full, &made, u->fault, STEP)
			: resolve_make_parents(u->root_fd, full, u->fault, STEP);
		if (slot->fd < 0)
			return -1;
	}
	if (slot->fd < 0)
		return unpack_refuse(u, errno, making ? "cannot open its directory" : "cannot open the directory of its hard link's target");
	if (fstat(slot->fd, &st) < 0)
		return unpack_refuse(u, errno, NULL);
	slot->setgid = st.st_mode & S_ISGID;
	memcpy(slot->path, path, strlen(path) + 1);
	return slot->fd;
}

int unpack_clear(struct unpack *u, int dir_fd, const char *name)
{
	struct stat st;

	/* Descriptors of what goes, or of what lies below it, must not be used again. */
	unpack_forget(&u->link_parent);
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : unpack_refuse(u, errno, NULL);
	if (!S_ISDIR(st.st_mode)) {
		if (u->options->keep_kind && u->entry.type == '5')
			return unpack_refuse(u, ENOTDIR, "will not replace something else by a directory");
		if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT && errno != EISDIR)
			return unpack_refuse(u, errno, "cannot replace what is there");
		return 0;
	}
	if (u->options->keep_kind)
		return unpack_refuse(u, EISDIR, "will not replace a directory by something else");
	int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0) {
		int result = tree_empty(fd, 0), error = errno;

		close(fd);
		if (result < 0)
			return unpack_refuse(u, error, "cannot empty the directory that it replaces");
	}
	u->any_replaced = true;
	if (unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT && errno != ENOTDIR && errno != ENOTEMPTY)
		return unpack_refuse(u, errno, "cannot replace the directory that is there");
	return 0;
}
