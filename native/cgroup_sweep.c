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
 * system. */
static void sweep_one(char *path)
{
	char *slash = strrchr(path, '/');
	if (path[0] != '/' || !slash || slash == path || strstr(path, "/../"))
		return;
	const char *name = slash + 1;
	if (strncmp(name, CGROUP_PREFIX, strlen(CGROUP_PREFIX)) || !strcmp(name, CGROUP_CALLERS))
		return;
	*slash = '\0';
	/* What fails for a moment is tried again: with the session's directory goes the last that knows of the group. */
	for (int tries = 0; tries < 16; tries++) {
		int parent = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (parent < 0 && errno == ENOENT)
			return;
		if (parent < 0)
			continue;
		int left = is_cgroup_directory(parent) ? cgroup_tree_remove(parent, name, 2000) : 0, error = errno;
		close(parent);
		if (!left || error == EBUSY)
			return;
	}
}

void cgroup_sweep(int record_fd)
{
	int fd = record_fd < 0 ? -1 : fcntl(record_fd, F_DUPFD_CLOEXEC, 3);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
	if (!file) {
		if (fd >= 0)
			close(fd);
		return;
	}
	rewind(file);
	char *line = NULL;
	size_t size = 0;
	ssize_t length;
	while ((length = getline(&line, &size, file)) > 0) {
		line[strcspn(line, "\n")] = '\0';
		sweep_one(line);
	}
	free(line);
	fclose(file);
}
