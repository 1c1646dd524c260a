#define _GNU_SOURCE
/* Removing trees that containers left: any depth, any names, no path longer than one component.
 *
 * Each level holds one descriptor and an 8 KiB buffer. Below LEVELS levels a directory is first renamed up to the top,
 * where a later pass finds it: so the descriptors stay few and ".." is never used. */
#include "tar.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "resolve.h"

enum { LEVELS = 64, NAMES_BYTES = 8192 };

struct names { /* linux_dirent64 records; getdents64(2) */
	_Alignas(8) char bytes[NAMES_BYTES];
};
struct record { uint64_t inode; int64_t next; unsigned short length; unsigned char type; char name[]; };

struct removal {
	int top_fd;
	uint64_t left;      /* of the budget */
	uint64_t removed;   /* entries, in this pass */
	unsigned moved;     /* directories renamed to the top */
	int error;          /* the first that left something behind */
};

/* A privileged container may have made things immutable (chattr +i, +a): the flags go. True if one was set. */
static bool make_mutable(int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	int flags = 0;
	bool changed = false;

	if (fd < 0)
		return false;
	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && flags & (FS_IMMUTABLE_FL | FS_APPEND_FL)) {
		flags &= ~(FS_IMMUTABLE_FL | FS_APPEND_FL);
		changed = ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0;
	}
	close(fd);
	return changed;
}

static int remove_one(struct removal *r, int dir_fd, const char *name, int flags)
{
	int result = unlinkat(dir_fd, name, flags);

	if (result < 0 && errno == EPERM) {
		struct stat st;
		/* Opening a device would do something; only files and directories carry these flags. */
		bool safe = fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode));
		bool own = safe && make_mutable(dir_fd, name), parent = make_mutable(dir_fd, ".");

		if (own || parent)
			result = unlinkat(dir_fd, name, flags);
		else
			errno = EPERM;
	}
	if (result == 0)
		r->removed++;
	return result;
}

/* For the unprivileged owner of a directory without permissions, such as overlay's work/work. By descriptor: chmod by name would
 * follow a link that somebody puts there meanwhile. */
static bool make_accessible(int dir_fd, const char *name)
{
	char path[40];
	int fd = openat(dir_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return false;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	bool changed = chmod(path, 0700) == 0;

	close(fd);
	return changed;
}

static int open_directory(int dir_fd, const char *name)
{
	const uint64_t resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV; /* no mount is entered: EXDEV */
	int fd = resolve_open(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, resolve);

	if (fd < 0 && errno == EACCES && make_accessible(dir_fd, name))
		fd = resolve_open(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, resolve);
	return fd;
}

static int empty(struct removal *r, int dir_fd, int level);

/* Returns 1 = budget ended, 0 otherwise (also if it could not be removed: then r->error says why). */
static int remove_directory(struct removal *r, int dir_fd, const char *name, int level)
{
	if (remove_one(r, dir_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (errno == ENOTEMPTY || errno == EEXIST || errno == EACCES) {
		int fd = open_directory(dir_fd, name);

		if (fd >= 0 && level == LEVELS) {
			char moved[40];

			close(fd);
			snprintf(moved, sizeof(moved), ".deep-%d-%u", (int)getpid(), r->moved);
			if (syscall(SYS_renameat2, dir_fd, name, r->top_fd, moved, RENAME_NOREPLACE) == 0 || errno == EEXIST) {
				r->moved++;
				r->removed++; /* progress: worth another pass */
				return 0;
			}
		} else if (fd >= 0) {
			int ended = empty(r, fd, level + 1);

			close(fd);
			if (ended)
				return ended;
			if (remove_one(r, dir_fd, name, AT_REMOVEDIR) == 0)
				return 0;
		}
	}
	if (!r->error)
		r->error = errno;
	return 0;
}

static int empty(struct removal *r, int dir_fd, int level)
{
	struct names names;

	for (;;) {
		ssize_t got = syscall(SYS_getdents64, dir_fd, names.bytes, sizeof(names.bytes));

		if (got < 0 && !r->error)
			r->error = errno;
		if (got <= 0)
			return 0;
		for (ssize_t at = 0; at < got;) {
			const struct record *record = (const struct record *)(names.bytes + at);

			at += record->length;
			if (!strcmp(record->name, ".") || !strcmp(record->name, ".."))
				continue;
			if (!r->left)
				return 1;
			r->left--;
			if (record->type == DT_DIR) {
				if (remove_directory(r, dir_fd, record->name, level))
					return 1;
			} else if (remove_one(r, dir_fd, record->name, 0) < 0 && errno != ENOENT) {
				if (errno == EISDIR) { /* file systems without types in their entries */
					if (remove_directory(r, dir_fd, record->name, level))
						return 1;
				} else if (!r->error) {
					r->error = errno;
				}
			}
		}
	}
}

int tree_empty(int dir_fd, uint64_t budget)
{
	struct removal r = { .top_fd = dir_fd, .left = budget ? budget : UINT64_MAX };
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* our own position in the directory */

	if (fd < 0)
		return -1;
	/* Passes end when one removes nothing: either all is gone, or the rest cannot go. */
	do {
		r.removed = 0;
		r.error = 0;
		if (lseek(fd, 0, SEEK_SET) < 0)
			r.error = errno;
		else if (empty(&r, fd, 1)) {
			close(fd);
			return 1;
		}
	} while (r.removed);
	close(fd);
	errno = r.error;
	return r.error ? -1 : 0;
}
