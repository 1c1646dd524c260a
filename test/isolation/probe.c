/* Tells what it can see and do where it runs, one fact a line: `kind<TAB>name<TAB>value`. Changes nothing: what is called is called with
 * arguments that make no sense, in a child; what is opened for writing is closed again. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LAST_CALL = 470, LAST_FAMILY = 45, BLOCKS_US = 20000, SUCCEEDED = 200 };

static void tell(const char *kind, const char *name, const char *value)
{
	printf("%s\t%s\t%s\n", kind, name, value);
}

/* How the system call ends in a child of its own: an error's name, `0`, `blocks` or `dies`. Who only reads the pairs of this process
 * and Docker's does not care which of the last three it was. */
static const char *attempt(long number, const long a[6])
{
	int status;

	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		struct itimerval soon = { .it_value = { .tv_usec = BLOCKS_US } };

		setitimer(ITIMER_REAL, &soon, NULL);
		long result = syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
		_exit(result < 0 && result != -1 ? SUCCEEDED : result == -1 && errno < SUCCEEDED ? errno : SUCCEEDED);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0)
		return "unknown";
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGALRM ? "blocks" : "dies";
	int code = WEXITSTATUS(status);
	const char *name = code < SUCCEEDED ? strerrorname_np(code) : "0";
	return name ? name : "0";
}

static void calls(void)
{
	static const long nonsense[6] = { -1, -1, -1, -1, -1, -1 };
	char name[32];

	for (long number = 0; number <= LAST_CALL; number++) {
		if (number == SYS_sync) /* makes sense without arguments, and the whole machine wait */
			continue;
		snprintf(name, sizeof(name), "%ld", number);
		tell("call", name, attempt(number, nonsense));
	}
	for (int bit = 7; bit < 32; bit++) {
		const long flags[6] = { (1L << bit) | SIGCHLD };

		if ((1L << bit) == 0x00004000 /* CLONE_VFORK */ || (1L << bit) == 0x00000100 /* CLONE_VM */)
			continue;
		snprintf(name, sizeof(name), "clone flag %#lx", 1L << bit);
		tell("call", name, attempt(SYS_clone, flags));
		snprintf(name, sizeof(name), "unshare flag %#lx", 1L << bit);
		tell("call", name, attempt(SYS_unshare, (const long[6]){ 1L << bit }));
	}
	for (int family = 0; family <= LAST_FAMILY; family++) {
		static const int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET };

		for (unsigned i = 0; i < 4; i++) {
			snprintf(name, sizeof(name), "socket %d %d", family, types[i]);
			tell("call", name, attempt(SYS_socket, (const long[6]){ family, types[i] }));
		}
	}
	static const long personas[] = { 0, 8, 0x20000, 0x20008, 0xffffffff, 0x40000, 0x4000000, 0x8000000 };
	for (unsigned i = 0; i < sizeof(personas) / sizeof(*personas); i++) {
		snprintf(name, sizeof(name), "personality %#lx", personas[i]);
		tell("call", name, attempt(SYS_personality, (const long[6]){ personas[i] }));
	}
	tell("call", "x32 getpid", attempt(0x40000000 | SYS_getpid, nonsense));
	tell("call", "mknod c 1:11", attempt(SYS_mknodat, (const long[6]){ AT_FDCWD, (long)"/tmp/probe-kmsg", S_IFCHR | 0600, (long)makedev(1, 11) }));
	int fd = open("/tmp/probe-kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	tell("call", "open c 1:11", fd < 0 ? strerrorname_np(errno) : "0");
	tell("call", "mknod b 8:0", attempt(SYS_mknodat, (const long[6]){ AT_FDCWD, (long)"/tmp/probe-disk", S_IFBLK | 0600, (long)makedev(8, 0) }));
	fd = open("/tmp/probe-disk", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	tell("call", "open b 8:0", fd < 0 ? strerrorname_np(errno) : "0");
}

static void interrupted(int signal)
{
	(void)signal;
}

/* `r` readable with something in it, `e` readable and empty, `w` can be opened for writing. */
static void look_at(const char *path, const struct stat *st)
{
	char rights[4] = "", byte;
	struct itimerval soon = { .it_value = { .tv_usec = BLOCKS_US } }, never = { 0 };

	if (S_ISLNK(st->st_mode))
		return;
	setitimer(ITIMER_REAL, &soon, NULL);
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0) {
		ssize_t got = S_ISDIR(st->st_mode) ? 1 : read(fd, &byte, 1);
		if (got >= 0)
			strcat(rights, got ? "r" : "e");
		close(fd);
	}
	setitimer(ITIMER_REAL, &never, NULL);
	if (S_ISDIR(st->st_mode)) {
		if (faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0)
			strcat(rights, "w");
	} else if (S_ISREG(st->st_mode) || S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
		fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0) {
			strcat(rights, "w");
			close(fd);
		}
	}
	if (*rights)
		tell("path", path, rights);
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
		char device[32];

		snprintf(device, sizeof(device), "%c %u:%u", S_ISCHR(st->st_mode) ? 'c' : 'b', major(st->st_rdev), minor(st->st_rdev));
		tell("device", path, device);
	}
}

static int is_number(const char *name)
{
	return name[strspn(name, "0123456789")] == 0;
}

static void sysctl(const char *path)
{
	char text[256] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	if (got <= 0)
		return;
	for (char *at = text; (at = strpbrk(at, "\n\t"));)
		*at = ' ';
	tell("sysctl", path + strlen("/proc/sys/"), text);
}

static void walk(const char *path, int depth)
{
	struct stat st;
	DIR *dir;

	if (lstat(path, &st) < 0)
		return;
	look_at(path, &st);
	if (S_ISREG(st.st_mode) && !strncmp(path, "/proc/sys/", 10))
		sysctl(path);
	if (!S_ISDIR(st.st_mode) || depth > 16 || !(dir = opendir(path)))
		return;
	for (struct dirent *entry; (entry = readdir(dir));) {
		static const char *const skipped[] = { ".", "..", "task", "map_files", "fd", "fdinfo" };
		char inner[4096];
		int skip = !strcmp(path, "/proc") && is_number(entry->d_name);

		for (unsigned i = 0; i < sizeof(skipped) / sizeof(*skipped); i++)
			skip |= !strcmp(entry->d_name, skipped[i]) && (i < 2 || !strncmp(path, "/proc/self", 10));
		if (skip || snprintf(inner, sizeof(inner), "%s/%s", path, entry->d_name) >= (int)sizeof(inner))
			continue;
		walk(inner, depth + 1);
	}
	closedir(dir);
}

static void lines_of(const char *path, const char *kind)
{
	char line[4096];
	FILE *file = fopen(path, "re");

	while (file && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = 0;
		char *value = strpbrk(line, ":");
		if (!strcmp(kind, "status") && value) {
			*value++ = 0;
			tell(kind, line, value + strspn(value, " \t"));
		} else if (strcmp(kind, "status")) {
			char id[32], *fields[16], *at = line;
			int count = 0;

			for (; count < 15 && (fields[count] = strsep(&at, " ")); count++)
				;
			char *dash = at ? strstr(at, "- ") : NULL;
			int type = 6;
			while (!dash && type < count && strcmp(fields[type], "-"))
				type++;
			snprintf(id, sizeof(id), "%.20s", type + 1 < count ? fields[type + 1] : "");
			char options[512];
			snprintf(options, sizeof(options), "%s %s", id, fields[5]);
			tell(kind, fields[4], options);
		}
	}
	if (file)
		fclose(file);
}

static void process(char **environment)
{
	char name[32], value[64];

	lines_of("/proc/self/status", "status");
	for (int fd = 0; fd < 1024; fd++)
		if (fcntl(fd, F_GETFD) >= 0) {
			snprintf(name, sizeof(name), "%d", fd);
			tell("descriptor", name, "open");
		}
	for (; *environment; environment++) {
		char *equals = strchr(*environment, '=');
		if (equals)
			*equals = 0;
		tell("environment", *environment, equals ? equals + 1 : "");
	}
	for (int i = 0; i < RLIM_NLIMITS; i++) {
		struct rlimit limit;

		if (getrlimit((__rlimit_resource_t)i, &limit) < 0)
			continue;
		snprintf(name, sizeof(name), "%d", i);
		snprintf(value, sizeof(value), "%lld %lld", (long long)limit.rlim_cur, (long long)limit.rlim_max);
		tell("limit", name, value);
	}
	int reached = 0;
	for (int pid = 1; pid < 100000; pid++)
		reached += pid != getpid() && kill(pid, 0) == 0;
	snprintf(value, sizeof(value), "%d", reached);
	tell("process", "others that signals reach", value);
	snprintf(value, sizeof(value), "%d", getpid());
	tell("process", "id", value);
	lines_of("/proc/self/mountinfo", "mount");
}

int main(int argc, char **argv, char **environment)
{
	struct sigaction act = { .sa_handler = interrupted };

	(void)argc;
	(void)argv;
	process(environment);
	sigaction(SIGALRM, &act, NULL); /* without SA_RESTART: what blocks is interrupted */
	walk("/proc", 0);
	walk("/proc/self", 0);
	walk("/sys", 0);
	walk("/dev", 0);
	signal(SIGALRM, SIG_DFL);
	calls();
	return 0;
}
