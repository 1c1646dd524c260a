/* Small files of control groups, and whole trees of them: killing what is inside, removing directories.
 *
 * A container with a writable cgroup mount can make groups below its own, so nothing here assumes a flat directory.
 * Removal takes the deepest first child again and again: no recursion that a hostile depth could use up, two
 * descriptors at a time. */
#define _GNU_SOURCE
#include "cgroup_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

ssize_t cgroup_read_at(int dir_fd, const char *path, char *text, size_t size)
{
	int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	size_t length = 0;
	ssize_t got;
	while (length < size - 1 && (got = read(fd, text + length, size - 1 - length)) > 0)
		length += (size_t)got;
	int error = errno;
	bool failed = length < size - 1 && got < 0;
	close(fd);
	text[length] = '\0';
	errno = error;
	return failed ? -1 : (ssize_t)length;
}

int cgroup_write_at(int dir_fd, const char *path, const char *text)
{
	int fd = openat(dir_fd, path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t written = write(fd, text, strlen(text));
	int error = errno;
	close(fd);
	errno = error;
	return written < 0 ? -1 : 0;
}

const char *cgroup_file(const struct cgroup *group, const char *file)
{
	static char path[sizeof(group->name) + 64];
	snprintf(path, sizeof(path), "%s/%s", group->name, file);
	return path;
}

static void nap(long microseconds)
{
	nanosleep(&(struct timespec){.tv_nsec = microseconds * 1000}, NULL);
}

/* The first directory inside dir, opened; -1 if there is none. name has room for NAME_MAX + 1. */
static int first_child(int dir_fd, char *name)
{
	int copy = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	if (!dir) {
		if (copy >= 0)
			close(copy);
		return -1;
	}
	int fd = -1;
	struct dirent *entry;
	while (fd < 0 && (entry = readdir(dir))) {
		if (entry->d_type != DT_DIR || !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		snprintf(name, NAME_MAX + 1, "%s", entry->d_name);
		fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	}
	closedir(dir);
	return fd;
}

/* Kills what cgroup.procs of one group lists; returns how many that were. Version 2 shows processes outside our PID
 * namespace as 0, which kill(2) would take for our own process group; version 1 leaves them out. */
static int kill_listed(int dir_fd)
{
	int fd = openat(dir_fd, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
	if (!file) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	int count = 0;
	long pid;
	while (fscanf(file, "%ld", &pid) == 1)
		if (pid > 0 && pid != getpid() && kill((pid_t)pid, SIGKILL) == 0)
			count++;
	fclose(file);
	return count;
}

/* Thaws (version 1: a frozen task cannot die) and kills the group and those below. Returns how many were killed. */
static int kill_walk(int dir_fd, int depth)
{
	cgroup_write_at(dir_fd, "freezer.state", "THAWED");            /* elsewhere there is no such file */
	int count = kill_listed(dir_fd);
	int copy = depth ? openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	if (!dir) {
		if (copy >= 0)
			close(copy);
		return count;
	}
	struct dirent *entry;
	while ((entry = readdir(dir))) {
		if (entry->d_type != DT_DIR || !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		int child = openat(dir_fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (child >= 0) {
			count += kill_walk(child, depth - 1);
			close(child);
		}
	}
	closedir(dir);
	return count;
}

int cgroup_tree_kill(int dir_fd)
{
	/* Linux 5.14: one write for the whole tree, also for what forks meanwhile. */
	if (cgroup_write_at(dir_fd, "cgroup.kill", "1") == 0)
		return 0;
	/* Round after round, because what is listed may have forked before it died. Deaths are quick; a fork bomb takes
	 * a few rounds. One second is the bound. */
	for (int round = 0; round < 1000; round++) {
		if (kill_walk(dir_fd, 16) == 0)
			return 0;
		nap(round < 10 ? 100 : 1000);
	}
	errno = EBUSY;
	return -1;
}

/* Removes the deepest first descendant of parent/name, or parent/name itself. */
static int remove_one(int parent_fd, const char *name)
{
	if (unlinkat(parent_fd, name, AT_REMOVEDIR) == 0 || errno != EBUSY)
		return errno == ENOENT ? 0 : -1;
	char child[NAME_MAX + 1], at[NAME_MAX + 1];
	snprintf(at, sizeof(at), "%s", name);
	int above = fcntl(parent_fd, F_DUPFD_CLOEXEC, 3);
	int here = above < 0 ? -1 : openat(above, at, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), below;
	while (here >= 0 && (below = first_child(here, child)) >= 0) {
		close(above);
		above = here;
		here = below;
		snprintf(at, sizeof(at), "%s", child);
	}
	int result = -1, error = EBUSY;
	if (here >= 0) {
		result = unlinkat(above, at, AT_REMOVEDIR);
		error = errno;
		close(here);
	}
	if (above >= 0)
		close(above);
	errno = error;
	return result;
}

int cgroup_tree_remove(int parent_fd, const char *name, int timeout_ms)
{
	/* The usual case first: nobody inside, nothing below. */
	if (unlinkat(parent_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (errno != EBUSY)
		return -1;
	struct timespec begin, now;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	long pause_us = 50;
	for (;;) {
		int dir = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (dir < 0)
			return errno == ENOENT ? 0 : -1;
		kill_walk(dir, 16);
		cgroup_write_at(dir, "cgroup.kill", "1");
		close(dir);
		while (remove_one(parent_fd, name) == 0)
			if (faccessat(parent_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
				return 0;
		clock_gettime(CLOCK_MONOTONIC, &now);
		if ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 >= timeout_ms) {
			errno = EBUSY;
			return -1;
		}
		nap(pause_us);
		if (pause_us < 2000)
			pause_us *= 2;
	}
}
