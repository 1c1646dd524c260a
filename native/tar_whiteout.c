#define _GNU_SOURCE
/* What a layer takes away from those below it: names that begin with .wh. become overlay's whiteouts and opaque directories (OCI image-spec, layer.md). */
#include "tar_unpack_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "resolve.h"

int unpack_make_opaque(struct unpack *u, int fd)
{
	const char *name = u->options->userxattr ? "user.overlay.opaque" : "trusted.overlay.opaque";

	return fsetxattr(fd, name, "y", 1, 0) < 0 ? unpack_refuse(u, errno, "cannot mark the directory as opaque") : 0;
}

/* A layer may hide a/ with .wh.a and then bring a/b without an entry for a/: the whiteout becomes an opaque directory.
 * Returns 1 if there was one on the way to path, 0 if not. */
int unpack_open_whiteout(struct unpack *u, const char *path)
{
	const uint64_t resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
	char way[PATH_MAX], name[NAME_MAX + 1];
	struct stat st;

	memcpy(way, path, strlen(path) + 1);
	while (*way) {
		unpack_split(way, name);
		int dir_fd = resolve_open(u->base_fd, way, O_RDONLY | O_DIRECTORY, resolve);

		if (dir_fd < 0)
			continue;
		if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != 0) {
			close(dir_fd);
			return 0;
		}
		int result = unlinkat(dir_fd, name, 0) < 0 || mkdirat(dir_fd, name, 0755) < 0
			? unpack_refuse(u, errno, "cannot replace a whiteout by a directory") : 0;
		int fd = result < 0 ? -1 : openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		if (result == 0)
			result = fd < 0 ? unpack_refuse(u, errno, "cannot open its directory") : unpack_make_opaque(u, fd);
		if (fd >= 0)
			close(fd);
		close(dir_fd);
		return result < 0 ? -1 : 1;
	}
	return 0;
}

/* Hides `hidden` of the lower layers. What this layer itself has under the name stays, with the lower one's content hidden. */
static int make_whiteout(struct unpack *u, int dir_fd, const char *hidden)
{
	if (mknodat(dir_fd, hidden, S_IFCHR, 0) == 0)
		return 0;
	if (errno != EEXIST)
		return unpack_refuse(u, errno, "cannot make a whiteout");
	int fd = openat(dir_fd, hidden, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOTDIR || errno == ELOOP || errno == ENOENT ? 0 : unpack_refuse(u, errno, "cannot make a whiteout");
	int result = unpack_make_opaque(u, fd);

	close(fd);
	return result;
}

int unpack_whiteout(struct unpack *u, const char *directory, const char *name)
{
	const char *hidden = name + 4;

	if (!*hidden || !strcmp(hidden, ".") || !strcmp(hidden, ".."))
		return unpack_refuse(u, EINVAL, "a whiteout must name what it hides");
	if (!strncmp(hidden, ".wh.", 4) && strcmp(hidden, ".wh..opq"))
		return 0; /* AUFS's bookkeeping */
	int dir_fd = unpack_open_parent(u, &u->parent, directory, true);

	if (dir_fd < 0)
		return -1;
	if (!u->parent.direct)
		return unpack_refuse(u, ELOOP, "a whiteout may not go through a symbolic link");
	if (strcmp(hidden, ".wh..opq"))
		return make_whiteout(u, dir_fd, hidden);
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), result;

	if (fd < 0)
		return unpack_refuse(u, errno, "cannot open the directory");
	result = unpack_make_opaque(u, fd);
	close(fd);
	return result;
}

/* 1 = AUFS's bookkeeping at the top of the layer, to be dropped; -1 = a directory with a name kept for whiteouts. */
int unpack_reserved_directory(struct unpack *u, const char *directory)
{
	for (const char *p = directory; p; p = strchr(p, '/'), p += p != NULL) {
		if (strncmp(p, ".wh.", 4))
			continue;
		return p == directory && !strncmp(p, ".wh..wh.", 8) ? 1
			: unpack_refuse(u, EINVAL, "a directory of a layer may not have a whiteout's name");
	}
	return 0;
}
