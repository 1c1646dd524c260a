/* Groups that a dead session left: the kernel takes its processes, mounts and links, but not its groups'
 * directories. */
#define _GNU_SOURCE
#include "cgroup_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

static bool is_cgroup_directory(int fd)
{
	struct statfs fs;
	return fstatfs(fd, &fs) == 0 && (fs.f_type == CGROUP_SUPER_MAGIC || fs.f_type == CGROUP2_SUPER_MAGIC);
}

/* path is <own group>/mayfly-<session>. The file is ours, but a damaged one must not make us kill and remove
 * elsewhere: the last part has our prefix and is not the callers' group, and what holds it is on a cgroup file
 * system. False if the group is there still. */
static bool sweep_one(char *path)
{
	char *slash = strrchr(path, '/');
	if (path[0] != '/' || !slash || slash == path || strstr(path, "/../"))
		return true;
	const char *name = slash + 1;
	if (strncmp(name, CGROUP_PREFIX, strlen(CGROUP_PREFIX)) || !strcmp(name, CGROUP_CALLERS))
		return true;
	*slash = '\0';
	int parent = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (parent < 0)
		return errno == ENOENT;
	/* Looked for first: one that is not there may be refused in another way than ENOENT, such as on a read-only file system. */
	bool gone = (faccessat(parent, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT) || !is_cgroup_directory(parent) ||
		cgroup_tree_remove(parent, name, 2000) == 0;
	close(parent);
	return gone;
}

bool cgroup_sweep(int record_fd)
{
	if (record_fd < 0)
		return true;
	int fd = fcntl(record_fd, F_DUPFD_CLOEXEC, 3);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
	if (!file) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	rewind(file);
	char *line = NULL;
	size_t size = 0;
	bool gone = true;
	while (getline(&line, &size, file) > 0) {
		line[strcspn(line, "\n")] = '\0';
		gone &= sweep_one(line);
	}
	gone &= !ferror(file);
	free(line);
	fclose(file);
	return gone;
}
