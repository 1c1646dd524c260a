#define _GNU_SOURCE
/* Gives what an archive has made its owner, mode and extended attributes. See tar_unpack.c. */
#include "tar_unpack_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "xattrs.h"

bool unpack_needs_chown(const struct unpack *u)
{
	return u->options->keep_ids && (u->entry.uid != u->uid || u->entry.gid != u->gid || u->parent.setgid);
}

static int chown_failed(struct unpack *u)
{
	char why[128];

	snprintf(why, sizeof(why), "cannot give it to user %u, group %u%s", u->entry.uid, u->entry.gid,
		errno == EINVAL ? ", which this user namespace does not map" : "");
	return unpack_refuse(u, errno, why);
}

/* Want of privilege and of support are counted, as every tar does; the rest is an error. */
static int xattr_failed(struct unpack *u, const char *name)
{
	char why[320];

	if (errno == EPERM || errno == ENOTSUP) {
		u->result->omitted++;
		return 0;
	}
	snprintf(why, sizeof(why), "cannot set extended attribute %s", name);
	return unpack_refuse(u, errno, why);
}

static int set_xattrs(struct unpack *u, int fd)
{
	for (size_t i = 0; i < u->entry.xattr_count; i++) {
		const struct tar_xattr *x = &u->entry.xattrs[i];

		if (!xattr_is_overlay(x->name) && fsetxattr(fd, x->name, x->value, x->size, 0) < 0 && xattr_failed(u, x->name) < 0)
			return -1;
	}
	return 0;
}

/* For what cannot be opened. There is no call with a directory descriptor before Linux 6.13, so we go there. */
static int set_xattrs_by_name(struct unpack *u, int dir_fd, const char *name)
{
	for (size_t i = 0; i < u->entry.xattr_count; i++) {
		const struct tar_xattr *x = &u->entry.xattrs[i];

		if (xattr_is_overlay(x->name))
			continue;
		if (u->cwd_fd < 0)
			u->cwd_fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (u->cwd_fd < 0 || fchdir(dir_fd) < 0)
			return unpack_refuse(u, errno, "cannot enter its directory");
		if (lsetxattr(name, x->name, x->value, x->size, 0) < 0 && xattr_failed(u, x->name) < 0)
			return -1;
	}
	return 0;
}

/* Owner, mode (chown takes setuid away, so after it), xattrs (chown takes capabilities away) of an open new file. */
int unpack_dress(struct unpack *u, int fd, bool force_mode)
{
	bool chowned = unpack_needs_chown(u);

	if (chowned && fchown(fd, u->entry.uid, u->entry.gid) < 0)
		return chown_failed(u);
	if ((force_mode || u->entry.mode & (S_ISUID | S_ISGID | S_ISVTX)) && fchmod(fd, u->entry.mode) < 0)
		return unpack_refuse(u, errno, "cannot set its mode");
	return set_xattrs(u, fd);
}

/* The same for what is not opened: links, devices, fifos. Their mode is what they were made with. */
int unpack_dress_by_name(struct unpack *u, int dir_fd, const char *name)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, u->entry.mtime };

	if (unpack_needs_chown(u) && fchownat(dir_fd, name, u->entry.uid, u->entry.gid, AT_SYMLINK_NOFOLLOW) < 0)
		return chown_failed(u);
	if (set_xattrs_by_name(u, dir_fd, name) < 0)
		return -1;
	if (utimensat(dir_fd, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return unpack_refuse(u, errno, "cannot set its time");
	return 0;
}

int unpack_dress_directory(struct unpack *u, int dir_fd, const char *name, bool opaque)
{
	struct stat st;
	int result = 0, fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return unpack_refuse(u, errno, "cannot open the directory");
	if (fstat(fd, &st) < 0)
		result = unpack_refuse(u, errno, NULL);
	else
		unpack_mention_implied(u, st.st_ino);
	if (result == 0 && u->options->keep_ids && (st.st_uid != u->entry.uid || st.st_gid != u->entry.gid) &&
			fchown(fd, u->entry.uid, u->entry.gid) < 0)
		result = chown_failed(u);
	if (result == 0 && (st.st_mode & 07777) != u->entry.mode && fchmod(fd, u->entry.mode) < 0)
		result = unpack_refuse(u, errno, "cannot set its mode");
	if (result == 0)
		result = set_xattrs(u, fd);
	if (result == 0 && opaque)
		result = unpack_make_opaque(u, fd);
	close(fd);
	return result;
}

/* The entry for base itself, "./": there is nothing to replace. */
int unpack_dress_base(struct unpack *u)
{
	if (u->entry.type != '5')
		return unpack_refuse(u, EINVAL, "the top of the archive can only be a directory");
	if (u->options->keep_base)
		return 0;
	if (unpack_dress_directory(u, u->base_fd, ".", false) < 0)
		return -1;
	return u->options->strict_times ? unpack_remember_time(u, "") : 0;
}
