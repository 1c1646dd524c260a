/* Looks at every process that appears in its PID namespace for what that may not show: open descriptors, a working or root directory
 * outside of ours, a program that can be written, memory that can be traced. Prints each find once, then how many processes it saw.
 *
 * Ends when it has seen so many, or after 15 seconds: hunt COUNT */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_PIDS = 1 << 16, MOST_FINDS = 64, MOST_HELD = 256 };
static char seen[MOST_PIDS];
static char *finds[MOST_FINDS];
static int find_count;
static struct stat own_root;
static struct held { int pid, fd; } held[MOST_HELD];
static int held_count;

static void found(const char *what, const char *detail)
{
	char line[4600];

	snprintf(line, sizeof(line), "%s %s", what, detail);
	for (int i = 0; i < find_count; i++)
		if (!strcmp(finds[i], line))
			return;
	if (find_count < MOST_FINDS) {
		finds[find_count++] = strdup(line);
		puts(line);
	}
}

static int read_link(int pid, const char *name, char link[4096])
{
	char path[300];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	ssize_t length = readlink(path, link, 4095);
	link[length < 0 ? 0 : length] = 0;
	return length < 0 ? -1 : 0;
}

static int is_ours(const char *program)
{
	return !*program || !strncmp(program, "/bin/", 5);
}

static void descriptors(int pid)
{
	char path[64], link[4096];

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	DIR *dir = opendir(path);
	for (struct dirent *entry; dir && (entry = readdir(dir));)
		if (atoi(entry->d_name) > 2) {
			snprintf(path, sizeof(path), "fd/%.20s", entry->d_name);
			if (read_link(pid, path, link) == 0)
				found("descriptor", link);
		}
	if (dir)
		closedir(dir);
}

static void directories(int pid)
{
	static const char *const names[] = { "root", "cwd" };
	struct stat st;
	char path[64];

	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "/proc/%d/%s", pid, names[i]);
		if (stat(path, &st) == 0 && (st.st_dev != own_root.st_dev || st.st_ino != own_root.st_ino))
			found(names[i], "is not the container's");
	}
}

/* It is busy while it runs, so it is held for when it has ended (write_held). */
static void program(int pid)
{
	char path[64], link[4096];

	if (read_link(pid, "exe", link) < 0 || is_ours(link))
		return;
	for (int i = 0; i < held_count; i++)
		if (held[i].pid == pid)
			return;
	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	int fd = held_count < MOST_HELD ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd >= 0)
		held[held_count++] = (struct held){ pid, fd };
}

/* The byte that is there already, should it succeed. */
static void write_held(void)
{
	char path[64], link[4096];

	for (int i = 0; i < held_count; i++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", held[i].fd);
		ssize_t length = readlink(path, link, sizeof(link) - 1);
		link[length < 0 ? 0 : length] = 0;
		int fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd >= 0 && pwrite(fd, "\177", 1, 0) == 1)
			found("written", link);
		close(fd);
	}
}

static void memory(int pid)
{
	char link[4096];

	if (ptrace(PTRACE_ATTACH, pid, 0, 0) < 0)
		return;
	if (waitpid(pid, NULL, __WALL) == pid && read_link(pid, "exe", link) == 0 && !is_ours(link))
		found("traced", link);
	ptrace(PTRACE_DETACH, pid, 0, 0);
	kill(pid, SIGCONT); /* what was waited for may have been another stop than attaching's own, which comes now */
}

int main(int argc, char **argv)
{
	time_t end = time(NULL) + 15;
	int count = 0, enough = argc > 1 ? atoi(argv[1]) : 1;

	stat("/", &own_root);
	puts("hunting");
	fflush(stdout);
	while (count < enough && time(NULL) < end) {
		DIR *dir = opendir("/proc");
		for (struct dirent *entry; dir && (entry = readdir(dir));) {
			int pid = atoi(entry->d_name);
			if (pid <= 0 || pid == getpid() || pid >= MOST_PIDS)
				continue;
			count += !seen[pid];
			seen[pid] = 1;
			for (int i = 0; i < 20; i++) {
				descriptors(pid);
				program(pid);
				directories(pid);
			}
			if (pid != 1)
				memory(pid);
		}
		if (dir)
			closedir(dir);
		write_held();
	}
	printf("seen %d\n", count);
	return 0;
}
