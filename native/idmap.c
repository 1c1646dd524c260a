#define _GNU_SOURCE
#include "idmap.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The user's name, as /etc/subuid has it. No getpwuid: a static program must not load NSS modules. */
static void login_name(char *name, size_t size)
{
	char line[512];
	FILE *passwd = fopen("/etc/passwd", "re");
	name[0] = 0;
	while (passwd && fgets(line, sizeof(line), passwd)) {
		char *rest = line, *login = strsep(&rest, ":");
		strsep(&rest, ":");
		char *uid = strsep(&rest, ":");
		if (uid && strtoul(uid, NULL, 10) == getuid()) {
			snprintf(name, size, "%s", login);
			break;
		}
	}
	if (passwd)
		fclose(passwd);
}

/* The largest range that the file gives this user, by name or by number (subuid(5)). */
static bool find_range(const char *path, unsigned long *start, unsigned long *count)
{
	char line[512], name[256], number[32];
	login_name(name, sizeof(name));
	snprintf(number, sizeof(number), "%u", getuid());
	FILE *file = fopen(path, "re");
	*count = 0;
	while (file && fgets(line, sizeof(line), file)) {
		char *rest = line, *who = strsep(&rest, ":"), *first = strsep(&rest, ":");
		if (!rest || (strcmp(who, number) && (!name[0] || strcmp(who, name))))
			continue;
		unsigned long size = strtoul(rest, NULL, 10);
		if (size > *count) {
			*start = strtoul(first, NULL, 10);
			*count = size;
		}
	}
	if (file)
		fclose(file);
	return *count > 0;
}

static const char *tool(const char *name, char *path, size_t size)
{
	static const char *const DIRECTORIES[] = {"/usr/bin", "/usr/local/bin", "/bin", "/run/wrappers/bin"};
	for (size_t i = 0; i < sizeof(DIRECTORIES) / sizeof(*DIRECTORIES); i++) {
		snprintf(path, size, "%s/%s", DIRECTORIES[i], name);
		if (access(path, X_OK) == 0)
			return path;
	}
	return NULL;
}

void idmap_plan(struct idmap *map)
{
	char path[64];
	bool ranges = tool("newuidmap", path, sizeof(path)) && tool("newgidmap", path, sizeof(path)) &&
		find_range("/etc/subuid", &map->uid_start, &map->uid_count) && find_range("/etc/subgid", &map->gid_start, &map->gid_count);
	map->mode = ranges ? "range" : "single";
}

static int run_tool(const char *name, pid_t pid, unsigned own, unsigned long start, unsigned long count)
{
	char path[64], arguments[5][24];
	snprintf(arguments[0], 24, "%d", pid);
	snprintf(arguments[1], 24, "%u", own);
	snprintf(arguments[2], 24, "%lu", start);
	snprintf(arguments[3], 24, "%lu", count);
	if (!tool(name, path, sizeof(path)))
		return -1;
	pid_t child = fork();
	if (child == 0) {
		execl(path, name, arguments[0], "0", arguments[1], "1", "1", arguments[2], arguments[3], (char *)NULL);
		_exit(127);
	}
	int status;
	return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

static int write_map(pid_t pid, const char *file, const char *text)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	size_t length = strlen(text);
	int done = fd >= 0 && write(fd, text, length) == (ssize_t)length ? 0 : -1;
	if (fd >= 0)
		close(fd);
	return done;
}

int idmap_write(const struct idmap *map, pid_t pid, struct fault *f)
{
	if (!strcmp(map->mode, "range")) {
		if (run_tool("newuidmap", pid, getuid(), map->uid_start, map->uid_count) < 0 || run_tool("newgidmap", pid, getgid(), map->gid_start, map->gid_count) < 0)
			return fault(f, "namespace", "newuidmap", EPERM, "newuidmap or newgidmap refused the ranges of /etc/subuid and /etc/subgid");
		return 0;
	}
	char text[64];
	/* setgroups must be denied before an unprivileged process may write a group map (user_namespaces(7)). */
	snprintf(text, sizeof(text), "0 %u 1\n", getuid());
	if (write_map(pid, "setgroups", "deny") < 0 || write_map(pid, "uid_map", text) < 0)
		return fault(f, "namespace", "uid_map", errno, "the id map was refused; on Ubuntu see kernel.apparmor_restrict_unprivileged_userns");
	snprintf(text, sizeof(text), "0 %u 1\n", getgid());
	return write_map(pid, "gid_map", text) < 0 ? fault(f, "namespace", "gid_map", errno, NULL) : 0;
}
