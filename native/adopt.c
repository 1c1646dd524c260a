#define _GNU_SOURCE
#include "adopt.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "resolve.h"
#include "xattrs.h"

#define STEP "archive"

enum { LIST_MOST = 1 << 30 }; /* bytes; a million directories with names as long as they can be never get here */

static int list_path(const char *target, char path[static PATH_MAX], struct fault *f)
{
	const char *slash = strrchr(target, '/');
	int printed = snprintf(path, PATH_MAX, "%.*s/implied", slash ? (int)(slash - target) : 0, target);
	return printed < PATH_MAX ? 0 : fault(f, STEP, target, ENAMETOOLONG, NULL);
}

int adopt_remember(const char *target, const char *paths, size_t length, struct fault *f)
{
	char path[PATH_MAX];
	if (list_path(target, path, f) < 0)
		return -1;
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return fault(f, STEP, path, errno, NULL);
	while (length) {
		ssize_t written = write(fd, paths, length);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0) {
			int error = written ? errno : EIO;
			close(fd);
			return fault(f, STEP, path, error, NULL);
		}
		paths += written;
		length -= (size_t)written;
	}
	return close(fd) < 0 ? fault(f, STEP, path, errno, NULL) : 0;
}

/* The whole list, malloc'd; NULL with errno, ENOENT when there is none. */
static char *read_list(const char *path, size_t *length)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	char *text = NULL;
	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) == 0 && (st.st_size > LIST_MOST ? (errno = E2BIG, 0) : 1) && (text = malloc((size_t)st.st_size + 1))) {
		ssize_t got = 1;
		for (*length = 0; *length < (size_t)st.st_size && got > 0; *length += got > 0 ? (size_t)got : 0)
			got = read(fd, text + *length, (size_t)st.st_size - *length);
		text[*length] = '\0';
		if (got < 0) {
			free(text);
			text = NULL;
		}
	}
	int error = errno;
	close(fd);
	errno = error;
	return text;
}

static bool is_opaque(int fd, bool userxattr)
{
	char link[40], value[4];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd); /* it was opened as a path only */
	return getxattr(link, userxattr ? "user.overlay.opaque" : "trusted.overlay.opaque", value, sizeof(value)) == 1 && value[0] == 'y';
}

/* Looks a directory up in one lower tree, name by name. Returns a descriptor, or -1: *hidden is then whether no tree further below counts. */
static int look_up(const char *tree, const char *path, bool userxattr, bool *hidden)
{
	char name[NAME_MAX + 1];
	int fd = open(tree, O_PATH | O_DIRECTORY | O_CLOEXEC);
	bool opaque = fd >= 0 && is_opaque(fd, userxattr);
	while (fd >= 0 && *path) {
		size_t length = strcspn(path, "/");
		snprintf(name, sizeof(name), "%.*s", (int)length, path);
		path += length;
		path += *path == '/';
		int next = openat(fd, name, O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC);
		if (next < 0)
			*hidden = errno != ENOENT || opaque; /* a file, a link or a whiteout is in its place */
		close(fd);
		fd = next;
		opaque |= fd >= 0 && is_opaque(fd, userxattr);
	}
	return fd;
}

static int give(int fd, int like, bool keep_ids, struct fault *f, const char *path)
{
	struct xattrs attributes = {0};
	struct stat st;
	if (fstat(like, &st) < 0 || xattrs_read(&attributes, like, NULL) < 0)
		return fault(f, STEP, path, errno, "cannot read what the layer below has");
	struct timespec times[2] = {st.st_atim, st.st_mtim};
	int done = keep_ids && fchown(fd, st.st_uid, st.st_gid) < 0 ? -1 : fchmod(fd, st.st_mode & 07777);
	for (size_t i = 0; done == 0 && i < attributes.count; i++)
		if (fsetxattr(fd, attributes.at[i].name, attributes.at[i].value, attributes.at[i].length, 0) < 0 && errno != EPERM && errno != ENOTSUP)
			done = -1;
	if (done == 0)
		done = futimens(fd, times);
	int error = errno;
	xattrs_free(&attributes);
	return done < 0 ? fault(f, STEP, path, error, "cannot give it what the layer below has") : 0;
}

static int adopt_one(int tree, const char *path, const char *const *lowers, size_t count, bool userxattr, bool keep_ids, struct fault *f)
{
	int fd = resolve_open(tree, path, O_RDONLY | O_DIRECTORY, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS), like = -1, done = 0;
	bool hidden = fd < 0;
	for (size_t i = 0; like < 0 && !hidden && i < count; i++)
		like = look_up(lowers[i], path, userxattr, &hidden);
	if (like >= 0) {
		done = give(fd, like, keep_ids, f, path);
		close(like);
	}
	if (fd >= 0)
		close(fd);
	return done;
}

int adopt_parents(const char *target, const char *const *lowers, size_t count, bool userxattr, bool keep_ids, struct fault *f)
{
	char list[PATH_MAX];
	size_t length = 0;
	if (list_path(target, list, f) < 0)
		return -1;
	int tree = open(target, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (tree < 0)
		return fault(f, STEP, target, errno, NULL);
	char *paths = read_list(list, &length);
	int done = paths || errno == ENOENT ? 0 : fault(f, STEP, list, errno, NULL);
	/* Backwards: setting a directory's times comes after what is in it. */
	for (size_t end = length; done == 0 && end > 0;) {
		size_t start = end - 1;
		while (start > 0 && paths[start - 1])
			start--;
		done = adopt_one(tree, paths + start, lowers, count, userxattr, keep_ids, f);
		end = start;
	}
	close(tree);
	free(paths);
	return done == 0 && unlink(list) < 0 && errno != ENOENT ? fault(f, STEP, list, errno, NULL) : done;
}
