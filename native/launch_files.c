/* What lies on a container's mounts: devices, links, files from outside, and the covers of what it must not see or write. See launch.c. */
#define _GNU_SOURCE
#include "launch_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "mounts.h"
#include "resolve.h"

/* Splits path into its directory, opened (made if missing) inside the root, and its last part. */
static int parent_of(int root, const char *path, char *dir, size_t size, const char **base, struct fault *f, const char *step)
{
	const char *slash = strrchr(path, '/');
	if (!slash || !slash[1] || (size_t)(slash - path) >= size)
		return fault(f, step, path, EINVAL, "an absolute path is needed");
	memcpy(dir, path, (size_t)(slash - path));
	dir[slash - path] = 0;
	*base = slash + 1;
	return resolve_make(root, *dir ? dir : "/", true, 0755, f, step);
}

static int device_step(int root, const char *text, int tree, struct fault *f)
{
	char dir[512], kind;
	const char *base;
	if (tree >= 0) {
		const char *path = strrchr(text, ':') + 1;
		int target = resolve_make(root, path, false, 0644, f, "device");
		if (target < 0)
			return -1;
		if (mounts_hang(tree, target) < 0)
			return fault(f, "device", path, errno, NULL);
		close(target);
		close(tree);
		return 0;
	}
	unsigned major_number, minor_number, mode;
	int used = 0;
	if (sscanf(text, "%c:%u:%u:%o:%n", &kind, &major_number, &minor_number, &mode, &used) < 4 || !used)
		return fault(f, "device", text, EINVAL, "malformed");
	const char *path = text + used;
	int parent = parent_of(root, path, dir, sizeof(dir), &base, f, "device");
	if (parent < 0)
		return -1;
	if (mknodat(parent, base, (kind == 'b' ? S_IFBLK : S_IFCHR) | mode, makedev(major_number, minor_number)) < 0)
		return fault(f, "device", path, errno, NULL);
	close(parent);
	return 0;
}

static int link_step(int root, const struct key_value *link, struct fault *f)
{
	char dir[512];
	const char *base;
	int parent = parent_of(root, link->value, dir, sizeof(dir), &base, f, "link");
	if (parent < 0)
		return -1;
	if (symlinkat(link->key, parent, base) < 0 && errno != EEXIST)
		return fault(f, "link", link->value, errno, NULL);
	close(parent);
	return 0;
}

/* Many images ship /etc/resolv.conf as a link into /run, which is empty: what it points to is made, inside the root, as Docker does. */
static void make_link_target(int root, const char *path)
{
	char dir[512], to[PATH_MAX], whole[PATH_MAX + 512];
	const char *base;
	int parent = parent_of(root, path, dir, sizeof(dir), &base, NULL, "file");
	ssize_t length = parent < 0 ? -1 : readlinkat(parent, base, to, sizeof(to) - 1);
	if (parent >= 0)
		close(parent);
	if (length <= 0)
		return;
	to[length] = 0;
	snprintf(whole, sizeof(whole), "%s/%s", *to == '/' ? "" : dir, to);
	char *last = strrchr(whole, '/');
	*last++ = 0;
	int target = resolve_make_parents(root, whole, NULL, "file");
	int made = target < 0 || !*last ? -1 : openat(target, last, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (made >= 0)
		close(made);
	if (target >= 0)
		close(target);
}

static int file_step(int root, const struct file_step *file, struct fault *f)
{
	int target = resolve_make(root, file->path, false, 0644, NULL, "file");
	if (target < 0 && errno == EXDEV)
		make_link_target(root, file->path);
	if (target < 0)
		target = resolve_make(root, file->path, false, 0644, f, "file");
	if (target < 0)
		return -1;
	if (on_file_system(target, PROC_SUPER_MAGIC))
		return fault(f, "file", file->path, EPERM, NULL);
	if (mounts_hang_with(file->tree, target, 0, MS_PRIVATE, false) < 0)
		return fault(f, "file", file->path, errno, NULL);
	close(target);
	close(file->tree);
	return 0;
}

int launch_devices(const struct launch *l, const struct sources *sources, struct fault *f)
{
	const struct words *devices = &l->plan->devices;
	for (size_t i = 0; i < devices->count; i++)
		if (device_step(l->setup.root_fd, devices->at[i], sources->devices[i], f) < 0)
			return -1;
	return 0;
}

int launch_links(const struct launch *l, struct fault *f)
{
	for (size_t i = 0; i < l->plan->link_count; i++)
		if (link_step(l->setup.root_fd, &l->plan->links[i], f) < 0)
			return -1;
	return 0;
}

int launch_files(const struct launch *l, struct fault *f)
{
	for (size_t i = 0; i < l->plan->file_count; i++)
		if (file_step(l->setup.root_fd, &l->plan->files[i], f) < 0)
			return -1;
	return 0;
}

int launch_console(int root, int slave, struct fault *f)
{
	int tree = mounts_clone(slave, "", false);
	int target = resolve_make(root, "/dev/console", false, 0600, f, "device");
	if (target < 0)
		return -1;
	if (tree < 0 || mounts_hang(tree, target) < 0)
		return fault(f, "device", "/dev/console", errno, NULL);
	close(tree);
	close(target);
	return 0;
}

/* The one /dev/null that we made or bound ourselves, or of what the caller has mounted there; an image's own could be a link to anything
 * (CVE-2025-31133). */
static int trusted_null(int root, struct fault *f)
{
	int fd = resolve_in_root(root, "dev/null", O_PATH | O_NOFOLLOW, NULL, "mask");
	struct stat st;
	if (fd < 0)
		return fault(f, "mask", "/dev/null", errno, "what is mounted at /dev has no null device, with which files are masked");
	if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3)))
		return fault(f, "mask", "/dev/null", ENODEV, "not the null device");
	return fd;
}

int launch_masks(int root, const struct words *paths, struct fault *f)
{
	int null_fd = -1, empty = -1;
	for (size_t i = 0; i < paths->count; i++) {
		int target = resolve_in_root(root, paths->at[i], O_PATH | O_NOFOLLOW, NULL, "mask");
		if (target < 0) {
			if (errno == ENOENT || errno == ENOTDIR || errno == EACCES)
				continue;
			return fault(f, "mask", paths->at[i], errno, NULL);
		}
		struct stat st;
		int cover = -1;
		if (fstat(target, &st) < 0)
			return fault(f, "mask", paths->at[i], errno, NULL);
		if (!S_ISDIR(st.st_mode)) {
			if (null_fd < 0 && (null_fd = trusted_null(root, f)) < 0)
				return -1;
			cover = mounts_clone(null_fd, "", false);
		} else if (empty < 0) /* one empty read-only file system serves all */
			cover = empty = mounts_new("tmpfs", "size=4k,mode=555", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
		else
			cover = mounts_clone(empty, "", false);
		if (cover < 0 || mounts_hang(cover, target) < 0)
			return fault(f, "mask", paths->at[i], errno, NULL);
		if (cover != empty)
			close(cover);
		close(target);
	}
	return 0;
}

int launch_readonly(int root, const struct words *paths, struct fault *f)
{
	for (size_t i = 0; i < paths->count; i++) {
		int target = resolve_in_root(root, paths->at[i], O_PATH | O_NOFOLLOW, NULL, "mask");
		if (target < 0 && (errno == ENOENT || errno == ENOTDIR))
			continue;
		int tree = target < 0 ? -1 : mounts_clone(target, "", true);
		if (tree < 0 || mounts_hang_with(tree, target, MOUNT_ATTR_RDONLY, MS_PRIVATE, true) < 0)
			return fault(f, "mask", paths->at[i], errno, NULL);
		close(tree);
		close(target);
	}
	return 0;
}
