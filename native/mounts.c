/* Mounts by descriptor, and what older kernels have in their place.
 *
 * Linux 5.12 has mount_setattr, which changes a mount before it hangs anywhere. Before, a mount can be changed only by its path, once it
 * hangs: the path is its number in /proc/self/fd, a directory that is opened while the old root is there (mounts_prepare).
 *
 * An overlay takes its layers one by one since Linux 6.7 ("lowerdir+"). Before, they are one string, of which fsconfig takes 256 bytes and
 * mount(2) a page: an image may have 127 layers, and three pages hold what our store calls them. So each is opened, and named by its number
 * in /proc/self/fd, where we stand for the call: `lowerdir=9:10:11`. That also spares the escapes of colons and commas. */
#define _GNU_SOURCE
#include "mounts.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static void close_keeping_errno(int fd)
{
	int error = errno;
	close(fd);
	errno = error;
}

static int own_descriptors = -1; /* /proc/self/fd, on kernels without mount_setattr */

/* The /proc of the session does not know who is in the host's PID namespace (pid: host). Then one of our own, which hangs nowhere. */
static int open_own_descriptors(void)
{
	int fd = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 || errno != ENOENT)
		return fd;
	int proc = mounts_new("proc", NULL, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	fd = proc < 0 ? -1 : openat(proc, "self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (proc >= 0)
		close_keeping_errno(proc);
	return fd;
}

static int fs_option(int fs, const char *key, const char *value)
{
	return fsconfig(fs, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, key, value, 0);
}

static int fs_options(int fs, const char *text)
{
	char copy[1024], *at = copy, *option;
	if (snprintf(copy, sizeof(copy), "%s", text) >= (int)sizeof(copy)) {
		errno = EINVAL;
		return -1;
	}
	while ((option = strsep(&at, ","))) {
		char *value = strchr(option, '=');
		if (value)
			*value++ = 0;
		if (*option && fs_option(fs, option, value) < 0)
			return -1;
	}
	return 0;
}

int mounts_new(const char *type, const char *options, unsigned attributes)
{
	int fs = fsopen(type, FSOPEN_CLOEXEC);
	if (fs < 0)
		return -1;
	int tree = -1;
	if ((!options || fs_options(fs, options) == 0) && fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
		tree = fsmount(fs, FSMOUNT_CLOEXEC, attributes);
	close_keeping_errno(fs);
	return tree;
}

int mounts_clone(int dir_fd, const char *path, bool recursive)
{
	return open_tree(dir_fd, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0));
}

int mounts_hang(int tree, int target_fd)
{
	return move_mount(tree, "", target_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

/* -- attributes ----------------------------------------------------------------------------------------------------------- */

static bool lacks_setattr(void)
{
	return mount_setattr(-1, "", AT_EMPTY_PATH, NULL, 0) < 0 && errno == ENOSYS;
}

int mounts_prepare(struct fault *f)
{
	if (own_descriptors >= 0 || !lacks_setattr())
		return 0;
	own_descriptors = open_own_descriptors();
	return own_descriptors < 0 ? fault(f, "mount", "/proc/self/fd", errno, NULL) : 0;
}

static int set_attributes(int tree, uint64_t attributes, uint64_t propagation, bool recursive)
{
	struct mount_attr attr = {.attr_set = attributes, .propagation = propagation};
	if (attributes & (MOUNT_ATTR_NOATIME | MOUNT_ATTR_STRICTATIME))
		attr.attr_clr = MOUNT_ATTR__ATIME;
	return mount_setattr(tree, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr, sizeof(attr));
}

/* What the mount has (a remount takes away what it does not name) and what it shall have, in mount(2)'s words. */
static unsigned long old_flags(unsigned long has, uint64_t attributes)
{
	static const struct { unsigned long in_statvfs; uint64_t attribute; unsigned long flag; } FLAGS[] = {
		{ST_RDONLY, MOUNT_ATTR_RDONLY, MS_RDONLY},
		{ST_NOSUID, MOUNT_ATTR_NOSUID, MS_NOSUID},
		{ST_NODEV, MOUNT_ATTR_NODEV, MS_NODEV},
		{ST_NOEXEC, MOUNT_ATTR_NOEXEC, MS_NOEXEC},
		{ST_NODIRATIME, MOUNT_ATTR_NODIRATIME, MS_NODIRATIME},
	};
	unsigned long flags = 0;
	for (size_t i = 0; i < sizeof(FLAGS) / sizeof(*FLAGS); i++)
		if ((has & FLAGS[i].in_statvfs) || (attributes & FLAGS[i].attribute))
			flags |= FLAGS[i].flag;
	if (attributes & MOUNT_ATTR_STRICTATIME)
		return flags | MS_STRICTATIME;
	if (attributes & MOUNT_ATTR_NOATIME)
		return flags | MS_NOATIME;
	return flags | (has & ST_NOATIME ? MS_NOATIME : has & ST_RELATIME ? MS_RELATIME : MS_STRICTATIME);
}

/* Whether something is mounted below: then its line in mountinfo names the mount of tree as its parent. */
static int has_mounts_below(int tree)
{
	char name[32], line[4096];
	int id = 0, result = 0;
	snprintf(name, sizeof(name), "../fdinfo/%d", tree);
	int fd = openat(own_descriptors, name, O_RDONLY | O_CLOEXEC);
	FILE *info = fd < 0 ? NULL : fdopen(fd, "re");
	while (info && fgets(line, sizeof(line), info))
		if (sscanf(line, "mnt_id: %d", &id) == 1)
			break;
	if (info)
		fclose(info);
	fd = id ? openat(own_descriptors, "../mountinfo", O_RDONLY | O_CLOEXEC) : -1;
	FILE *mounts = fd < 0 ? NULL : fdopen(fd, "re");
	if (!mounts)
		return -1;
	for (int parent; !result && fgets(line, sizeof(line), mounts);)
		result = sscanf(line, "%*d %d ", &parent) == 1 && parent == id;
	fclose(mounts);
	return result;
}

/* For one that hangs. The paths of what is mounted below may be changed by others meanwhile: rather none than the wrong one. */
static int old_set_attributes(int tree, uint64_t attributes, uint64_t propagation, bool recursive)
{
	char name[16];
	struct statvfs has;
	if (own_descriptors < 0) {
		errno = ENOSYS;
		return -1;
	}
	snprintf(name, sizeof(name), "%d", tree);
	if (fstatvfs(tree, &has) < 0 || fchdir(own_descriptors) < 0)
		return -1;
	if (propagation && mount(NULL, name, NULL, propagation | (recursive ? MS_REC : 0), NULL) < 0)
		return -1;
	if (!attributes)
		return 0;
	int below = recursive ? has_mounts_below(tree) : 0;
	if (below) {
		errno = below < 0 ? errno : EOPNOTSUPP;
		return -1;
	}
	return mount(NULL, name, NULL, MS_REMOUNT | MS_BIND | old_flags(has.f_flag, attributes), NULL);
}

int mounts_attributes(int tree, uint64_t attributes)
{
	return own_descriptors >= 0 ? old_set_attributes(tree, attributes, 0, false) : set_attributes(tree, attributes, 0, false);
}

int mounts_hang_with(int tree, int target_fd, uint64_t attributes, uint64_t propagation, bool recursive)
{
	if (own_descriptors >= 0)
		return mounts_hang(tree, target_fd) < 0 ? -1 : old_set_attributes(tree, attributes, propagation, recursive);
	return set_attributes(tree, attributes, propagation, recursive) < 0 ? -1 : mounts_hang(tree, target_fd);
}

/* -- overlays ------------------------------------------------------------------------------------------------------------- */

struct old_options {
	char text[4096];
	size_t length;
	int *opened;
	size_t count;
};

/* Adds `key=N`, or `:N` where key is a colon, for a directory opened as N. */
static int add_directory(struct old_options *o, const char *key, const char *path)
{
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	o->opened[o->count++] = fd;
	o->length += (size_t)snprintf(o->text + o->length, sizeof(o->text) - o->length, "%s%d", key, fd);
	if (o->length < sizeof(o->text) - 64)
		return 0;
	errno = E2BIG;
	return -1;
}

static int gather_options(struct old_options *o, const struct words *layers, const char *upper, const char *work, bool rootless)
{
	for (size_t i = 0; i < layers->count; i++)
		if (add_directory(o, i ? ":" : "lowerdir=", layers->at[i]) < 0)
			return -1;
	if (upper && (add_directory(o, ",upperdir=", upper) < 0 || add_directory(o, ",workdir=", work) < 0))
		return -1;
	strcat(o->text, upper ? ",volatile,index=off" : ",index=off");
	strcat(o->text, rootless ? ",userxattr" : ",redirect_dir=off,metacopy=off");
	return 0;
}

/* mount(2) has to hang it somewhere: on its first layer, for a moment. Nobody else sees the mounts of our namespace. */
static int hang_for_a_moment(const char *options, const char *at)
{
	if (mount("overlay", at, "overlay", 0, options) < 0)
		return -1;
	int tree = mounts_clone(AT_FDCWD, at, false), error = errno;
	if (umount2(at, MNT_DETACH) < 0 && tree >= 0) {
		error = errno;
		close(tree);
		tree = -1;
	}
	errno = error;
	return tree;
}

static int old_overlay(const struct words *layers, const char *upper, const char *work, bool rootless)
{
	struct old_options o = {.opened = calloc(layers->count + 2, sizeof(int))};
	int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC), there = open_own_descriptors(), tree = -1;
	if (o.opened && here >= 0 && there >= 0 && gather_options(&o, layers, upper, work, rootless) == 0 && fchdir(there) == 0) {
		tree = hang_for_a_moment(o.text, layers->at[0]);
		int error = errno;
		if (fchdir(here) < 0 && tree >= 0) {
			error = errno;
			close(tree);
			tree = -1;
		}
		errno = error;
	}
	int error = errno;
	while (o.count)
		close(o.opened[--o.count]);
	if (here >= 0)
		close(here);
	if (there >= 0)
		close(there);
	free(o.opened);
	errno = error;
	return tree;
}

/* Kernels before 6.5 note down any option and know none until the mount is made: also a "lowerdir+" without a value. Those before 6.7 do
 * not know it. */
static bool takes_layers_one_by_one(int fs, const char *first)
{
	char complaint[200];
	if (fs_option(fs, "lowerdir+", NULL) == 0)
		return false;
	(void)!read(fs, complaint, sizeof(complaint)); /* of the value that was missing: not to be taken for one of what follows */
	return fs_option(fs, "lowerdir+", first) == 0;
}

/* An upper that becomes a layer must be a plain tree: no renamed directories by reference, no data left below. Nothing in it need survive a
 * power cut, so nothing is flushed (volatile, 5.10). With userxattr the first two are off and may not even be named. */
static int configure(int fs, const struct words *layers, const char *upper, const char *work, bool rootless)
{
	for (size_t i = 1; i < layers->count; i++)
		if (fs_option(fs, "lowerdir+", layers->at[i]) < 0)
			return -1;
	if (upper && (fs_option(fs, "upperdir", upper) < 0 || fs_option(fs, "workdir", work) < 0 || fs_option(fs, "volatile", NULL) < 0))
		return -1;
	if (fs_option(fs, "index", "off") < 0)
		return -1;
	if (rootless ? fs_option(fs, "userxattr", NULL) < 0 : fs_option(fs, "redirect_dir", "off") < 0 || fs_option(fs, "metacopy", "off") < 0)
		return -1;
	return fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
}

int mounts_overlay(const struct words *layers, const char *upper, const char *work, bool rootless, struct fault *f)
{
	const char *first = layers->at[0];
	for (size_t i = 0; i < layers->count; i++) {
		struct stat st;
		if (stat(layers->at[i], &st) < 0)
			return fault(f, "layer", layers->at[i], errno, NULL);
		if (!S_ISDIR(st.st_mode))
			return fault(f, "layer", layers->at[i], ENOTDIR, NULL);
	}
	int fs = fsopen("overlay", FSOPEN_CLOEXEC);
	if (fs < 0)
		return fault(f, "overlay", first, errno, "the kernel has no overlay file system for us");
	if (!takes_layers_one_by_one(fs, first)) {
		close(fs);
		int tree = old_overlay(layers, upper, work, rootless);
		const char *why = rootless && errno == EPERM ? "before Linux 5.11 only root may mount overlays" : NULL;
		return tree < 0 ? fault(f, "overlay", first, errno, why) : tree;
	}
	if (configure(fs, layers, upper, work, rootless) < 0) {
		int error = errno;
		char why[200] = "";
		ssize_t got = read(fs, why, sizeof(why) - 1); /* the kernel's own words: "e overlay: …" */
		why[got > 0 ? got : 0] = 0;
		close(fs);
		return fault(f, "overlay", first, error, got > 2 ? why + 2 : NULL);
	}
	int tree = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	close_keeping_errno(fs);
	return tree < 0 ? fault(f, "overlay", first, errno, NULL) : tree;
}
