/* Control groups for real: limits that bite, devices that are denied, freezing that freezes, nothing left behind.
 *
 *   cgroup_test          all tests; what this machine or user cannot do is skipped with its reason
 *   cgroup_test bench    medians of cgroup_make, cgroup_remove and attaching
 *   cgroup_test v2       the same tests, but anything else than pure version 2 is a failure (npm run kernels)
 *
 * Each test is a process of its own with its own mount namespace, so that it can take mounts away from itself. */
#define _GNU_SOURCE
#include "cgroup.h"
#include "cgroup_find.h"
#include "cgroup_internal.h"
#include "devices.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { SKIPPED = 77 };

#define CHECK(condition, ...) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: %s; ", __FILE__, __LINE__, #condition); \
			fprintf(stderr, __VA_ARGS__); \
			fputc('\n', stderr); \
			cgroup_close(); \
			exit(1); \
		} \
	} while (0)
#define SKIP(...) \
	do { \
		fprintf(stderr, "skipped: "); \
		fprintf(stderr, __VA_ARGS__); \
		fputc('\n', stderr); \
		if (directory >= 0) \
			close_session(); \
		exit(SKIPPED); \
	} while (0)

static const char ID[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
static const char DOCKER_RULES[] =
	"allow c *:* m\nallow b *:* m\nallow c 1:3 rwm\nallow c 1:5 rwm\nallow c 1:7 rwm\nallow c 1:8 rwm\nallow c 1:9 rwm\n"
	"allow c 5:0 rwm\nallow c 5:1 rwm\nallow c 5:2 rwm\nallow c 136:* rwm\n";
static const char NULL_ONLY[] = "allow c 1:3 rw\n";

static void close_session(void);

static char facts[16384], session_id[16], stats_text[8192];
static int directory = -1;
static struct fault problem;

static double seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void nap_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static void open_session(void)
{
	char path[] = "/tmp/cgroup-test-XXXXXX";
	CHECK(mkdtemp(path), "%s", strerror(errno));
	directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(directory >= 0, "%s", strerror(errno));
	snprintf(session_id, sizeof(session_id), "c0ffee%06x", (unsigned)getpid() & 0xffffff);
	CHECK(cgroup_open(directory, session_id, facts, sizeof(facts), &problem) == 0, "%s %s", problem.subject,
		problem.message);
}

static void close_session(void)
{
	char link[64], path[256];
	struct { char path[MAX_HIERARCHIES][PATH_MAX]; int count; } *left = calloc(1, sizeof(*left));
	for (int i = 0; i < cgroup_session.count; i++)
		snprintf(left->path[left->count++], PATH_MAX, "%s/%s", cgroup_session.hierarchies[i].path, cgroup_session.name);
	cgroup_close();
	for (int i = 0; i < left->count; i++)
		CHECK(access(left->path[i], F_OK) < 0, "%s is left behind", left->path[i]);
	free(left);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", directory);
	ssize_t length = readlink(link, path, sizeof(path) - 1);
	CHECK(length > 0, "%s", strerror(errno));
	path[length] = '\0';
	close(directory);
	directory = -1;
	CHECK(rmdir(path) == 0, "%s: %s", path, strerror(errno));
}

static struct cgroup *make_with(const struct cgroup_limit *limits, size_t count, const char *rules)
{
	problem = (struct fault){0};
	struct cgroup *group = cgroup_make(ID, limits, count, rules, &problem);
	CHECK(group, "%s %s: %s (%s)", problem.step, problem.subject, problem.message, strerror(problem.error));
	return group;
}

#define LIMITS(...) \
	(const struct cgroup_limit[]){__VA_ARGS__}, \
	sizeof((const struct cgroup_limit[]){__VA_ARGS__}) / sizeof(struct cgroup_limit)

static size_t procs_of(struct cgroup *group, const int **fds)
{
	size_t count;
	struct fault f = {0};
	CHECK(cgroup_procs_open(group, fds, &count, &f) == 0, "%s: %s", f.subject, f.message);
	return count;
}

/* Starts body in the group as the warden does: clone3 into version 2, then "0" into each cgroup.procs. */
static pid_t start(struct cgroup *group, int (*body)(void))
{
	const int *fds;
	size_t count = procs_of(group, &fds);
	struct clone_args args = {.exit_signal = SIGCHLD};
	if (cgroup_v2_fd(group) >= 0) {
		args.flags = CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)cgroup_v2_fd(group);
	}
	fflush(NULL);
	pid_t pid = cgroup_v2_fd(group) >= 0 ? (pid_t)syscall(SYS_clone3, &args, sizeof(args)) : fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (size_t i = 0; i < count; i++)
			if (write(fds[i], "0", 1) != 1)
				_exit(99);
		_exit(body());
	}
	CHECK(pid > 0, "%s", strerror(errno));
	return pid;
}

static int wait_for(pid_t pid)
{
	int status;
	CHECK(waitpid(pid, &status, 0) == pid, "%s", strerror(errno));
	return status;
}

static int run(struct cgroup *group, int (*body)(void))
{
	return wait_for(start(group, body));
}

/* A number of cgroup_stats: stat("memory", "oomKills"); -1 for null. */
static double stat_of(struct cgroup *group, const char *part, const char *name)
{
	char key[64];
	CHECK(cgroup_stats(group, stats_text, sizeof(stats_text)) == 0, "%s", strerror(errno));
	snprintf(key, sizeof(key), "\"%s\":{", part);
	const char *at = strstr(stats_text, key);
	CHECK(at, "%s not in %s", part, stats_text);
	snprintf(key, sizeof(key), "\"%s\":", name);
	at = strstr(at, key);
	CHECK(at, "%s not in %s", name, stats_text);
	at += strlen(key);
	return strncmp(at, "null", 4) ? strtod(at, NULL) : -1;
}

static void need_root(void)
{
	if (geteuid() != 0)
		SKIP("needs root");
}

static void need(unsigned controller)
{
	for (int i = 0; i < cgroup_session.count; i++)
		if (cgroup_session.hierarchies[i].controllers & controller)
			return;
	SKIP("no %s controller here", cgroup_controller_name(controller));
}

/* ---- what runs inside ---- */

static int do_nothing(void) { return 0; }

static int spin(void)
{
	for (volatile unsigned long turns = 0;; turns++)
		;
	return 0;
}

static int eat_64_mib(void)
{
	size_t size = 64 << 20;
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return 2;
	memset(memory, 1, size);
	return 0;
}

static int fork_eight_times(void)
{
	for (int i = 0; i < 8; i++) {
		pid_t pid = fork();
		if (pid < 0)
			return errno == EAGAIN ? 10 + i : 1;
		if (pid == 0) {
			pause();
			_exit(0);
		}
	}
	return 0;
}

/* A bit for each thing that was possible. */
static int try_devices(void)
{
	int result = 0, fd;
	char path[64];
	if ((fd = open("/dev/null", O_RDWR)) >= 0)
		result |= 1;
	if ((fd = open("/dev/zero", O_RDONLY)) >= 0)
		result |= 2;
	snprintf(path, sizeof(path), "/tmp/cgroup-node-%d", (int)getpid());
	if (mknod(path, S_IFCHR | 0600, makedev(1, 3)) == 0)
		result |= 4;
	unlink(path);
	if (mknod(path, S_IFBLK | 0600, makedev(7, 250)) == 0) {
		result |= 8;
		/* EPERM comes from the rules; ENXIO says that they let it pass and there is no such disk. */
		if (open(path, O_RDONLY) >= 0 || errno != EPERM)
			result |= 16;
	}
	unlink(path);
	if ((fd = open("/dev/full", O_WRONLY)) >= 0)
		result |= 32;
	return result;
}

static unsigned long *counter;

static int count_up(void)
{
	for (;;)
		__atomic_add_fetch(counter, 1, __ATOMIC_RELAXED);
	return 0;
}

static int breed(void)
{
	signal(SIGTERM, SIG_IGN);
	for (int i = 0; i < 20; i++)
		if (fork() == 0)
			for (;;)
				pause();
	__atomic_add_fetch(counter, 1, __ATOMIC_RELAXED);
	for (;;)
		pause();
	return 0;
}

static int which_cpu(void)
{
	cpu_set_t set;
	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 100;
	return CPU_COUNT(&set) == 1 && CPU_ISSET(0, &set) ? 0 : 1;
}

static char disk[128];

static int read_disk(void)
{
	int fd = open(disk, O_RDONLY | O_DIRECT);
	void *block = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (fd < 0 || block == MAP_FAILED)
		return 1;
	for (int i = 0; i < 4; i++)
		if (pread(fd, block, 256 << 10, (off_t)i << 18) != 256 << 10)
			return 2;
	return 0;
}

/* ---- parsing ---- */

static void finds_own_groups_in_odd_mountinfo_files(void)
{
	struct cgroup_place place[8];
	const char *v2_groups = "0::/user.slice/a b\n";
	CHECK(cgroup_find("26 25 0:23 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n", v2_groups,
		place, 8) == 1, "plain");
	CHECK(!strcmp(place[0].path, "/sys/fs/cgroup/user.slice/a b") && place[0].version == 2 && !place[0].namespace_root,
		"%s", place[0].path);
	CHECK(place[0].device == makedev(0, 23), "device");

	CHECK(cgroup_find("26 25 0:23 / /mnt/with\\040space\\134 rw - cgroup2 none rw\n", "0::/\n", place, 8) == 1,
		"escapes");
	CHECK(!strcmp(place[0].path, "/mnt/with space\\") && place[0].namespace_root, "%s", place[0].path);

	/* Docker on version 1 without a cgroup namespace: the container's subtree is bound. */
	const char *bound = "40 39 0:30 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro master:9 - cgroup cgroup rw,cpu,cpuacct\n";
	CHECK(cgroup_find(bound, "3:cpu,cpuacct:/docker/abc\n2:memory:/docker/abc\n", place, 8) == 1, "bound");
	CHECK(!strcmp(place[0].path, "/sys/fs/cgroup/cpu,cpuacct"), "%s", place[0].path);
	CHECK(place[0].controllers == (CGROUP_CPU | CGROUP_CPUACCT) && !strcmp(place[0].label, "cpu,cpuacct"), "%s",
		place[0].label);
	CHECK(cgroup_find(bound, "3:cpu,cpuacct:/docker/abc/inner\n", place, 8) == 1, "inner");
	CHECK(!strcmp(place[0].path, "/sys/fs/cgroup/cpu,cpuacct/inner"), "%s", place[0].path);
	CHECK(cgroup_find(bound, "3:cpu,cpuacct:/docker/abcdef\n", place, 8) == 0,
		"a name that only begins alike is another group");
	CHECK(cgroup_find(bound, "3:cpuacct,cpu:/docker/abc\n", place, 8) == 1, "order of controllers");

	/* The mount, or the process, is above our cgroup namespace. */
	CHECK(cgroup_find("26 25 0:23 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/\n", place, 8) == 0,
		"mount above");
	CHECK(cgroup_find("26 25 0:23 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/../x\n", place, 8) == 0,
		"process above");

	/* Named and unknown hierarchies, other file systems, broken lines. */
	CHECK(cgroup_find("1 2 0:3 / /s rw - cgroup cgroup rw,name=systemd\n"
		"1 2 0:3 / /n rw - cgroup cgroup rw,net_cls,net_prio\n"
		"1 2 8:1 / / rw - ext4 /dev/sda rw\n\n1 2\n1 2 x / / rw - cgroup2 c rw\n1 2 0:3 / /c rw\n1 2 0:3 / /c rw - cgroup",
		"1:name=systemd:/\n0::/\n", place, 8) == 0, "noise");

	CHECK(cgroup_find("26 25 0:23 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/scope/mayfly-callers\n", place,
		8) == 1, "callers");
	CHECK(!strcmp(place[0].path, "/sys/fs/cgroup/scope"), "%s", place[0].path);
	CHECK(cgroup_find("26 25 0:23 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/mayfly-callers\n", place, 8) == 1,
		"callers");
	CHECK(!strcmp(place[0].path, "/sys/fs/cgroup") && place[0].namespace_root, "%s", place[0].path);

	/* More mounts than there is room for. */
	char many[8192] = "";
	for (int i = 0; i < 20; i++)
		sprintf(many + strlen(many), "%d 1 0:5 / /m%d rw - cgroup2 c rw\n", i, i);
	CHECK(cgroup_find(many, "0::/\n", place, 8) == 8, "bound");
	CHECK(cgroup_find("", "", place, 8) == 0, "empty");
}

static void refuses_device_rules_that_are_not_rules(void)
{
	static const char *const bad[] = {"deny c 1:3 rwm", "allow x 1:3 rwm", "allow c 1 rwm", "allow c 1:3",
		"allow c 1:3 ", "allow c 1:3 x",
		"allow c :3 r", "allow c 99999999999:3 r", "allow c -1:3 r", "allow", "c 1:3 r", "allow c 1:3 rr",
		"allow c 1:3 r                                                                         "};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct fault f = {0};
		CHECK(devices_load_program(bad[i], &f) < 0 && !strcmp(f.step, "device"), "\"%s\": %s", bad[i], f.step);
	}
	char *many = malloc(500 * 20 + 1);
	*many = '\0';
	for (int i = 0; i < 500; i++)
		sprintf(many + strlen(many), "allow c 1:%d r\n", i);
	struct fault f = {0};
	CHECK(devices_load_program(many, &f) < 0 && f.error == E2BIG, "%d", f.error);
	free(many);
}

/* ---- limits ---- */

static void reports_a_process_that_the_oom_killer_took(void)
{
	need_root();
	open_session();
	need(CGROUP_MEMORY);
	struct cgroup *group = make_with(LIMITS({"memory", "16777216"}), NULL);
	CHECK(run(group, do_nothing) == 0, "16 MiB are enough to start");
	CHECK(!cgroup_oom_killed(group), "nothing was killed yet");
	CHECK(stat_of(group, "memory", "limitBytes") == 16777216, "%s", stats_text);
	int status = run(group, eat_64_mib);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %x", (unsigned)status);
	CHECK(cgroup_oom_killed(group), "the kill is counted");
	CHECK(stat_of(group, "memory", "oomKills") >= 1, "%s", stats_text);
	cgroup_remove(group);

	/* The same without a limit: not killed, and the peak is seen. */
	group = make_with(NULL, 0, NULL);
	CHECK(run(group, eat_64_mib) == 0, "no limit");
	CHECK(!cgroup_oom_killed(group), "no limit");
	double peak = stat_of(group, "memory", "peakBytes");
	CHECK(peak == -1 || peak >= 64 << 20, "%s", stats_text);
	CHECK(stat_of(group, "memory", "limitBytes") == -1, "%s", stats_text);
	cgroup_remove(group);
	close_session();
}

static void writes_swap_limits_as_docker_means_them(void)
{
	need_root();
	open_session();
	need(CGROUP_MEMORY);
	struct hierarchy *h = cgroup_hierarchy_of(CGROUP_MEMORY);
	bool v2 = h->version == 2;
	const char *file = v2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes";
	static const struct { const char *swap, *v1, *v2; } rows[] = {
		{NULL, "67108864\n", "33554432\n"}, {"33554432", "33554432\n", "0\n"}, {"50331648", "50331648\n", "16777216\n"},
		{"-1", NULL, "max\n"},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct cgroup *group = rows[i].swap ? make_with(LIMITS({"memory", "33554432"}, {"memory-swap", rows[i].swap}),
			NULL)
			: make_with(LIMITS({"memory", "33554432"}), NULL);
		char text[64];
		CHECK(cgroup_read_at(h->session_fd, cgroup_file(group, file), text, sizeof(text)) > 0, "%s", strerror(errno));
		const char *expected = v2 ? rows[i].v2 : rows[i].v1;
		CHECK(!expected || !strcmp(text, expected), "memory-swap=%s gives %s", rows[i].swap ? rows[i].swap : "", text);
		cgroup_remove(group);
	}
	struct fault f = {0};
	CHECK(!cgroup_make(ID, LIMITS({"memory", "33554432"}, {"memory-swap", "1024"}), NULL, &f) && !strcmp(f.step,
		"limit"), "%s", f.step);
	f = (struct fault){0};
	CHECK(!cgroup_make(ID, LIMITS({"memory-swap", "1024"}), NULL, &f) && !strcmp(f.step, "limit"), "%s", f.step);
	close_session();
}

static void denies_the_fork_beyond_the_pids_limit(void)
{
	need_root();
	open_session();
	need(CGROUP_PIDS);
	struct cgroup *group = make_with(LIMITS({"pids", "4"}), NULL);
	int status = run(group, fork_eight_times);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 13, "EAGAIN on the fourth child, not status %x",
		(unsigned)status);
	CHECK(stat_of(group, "pids", "current") == 3 && stat_of(group, "pids", "limit") == 4, "%s", stats_text);
	CHECK(cgroup_kill(group) == 0, "%s", strerror(errno));
	cgroup_remove(group);
	close_session();
}

static void throttles_to_the_cpu_quota(void)
{
	need_root();
	open_session();
	need(CGROUP_CPU);
	struct cgroup *group = make_with(LIMITS({"cpu-quota-us", "10000"}, {"cpu-period-us", "50000"}), NULL);
	pid_t pid = start(group, spin);
	double begin = seconds();
	nap_ms(500);
	while (stat_of(group, "cpu", "throttledPeriods") < 5 && seconds() < begin + 10)
		nap_ms(10);
	kill(pid, SIGKILL);
	wait_for(pid);
	double usage = stat_of(group, "cpu", "usageNs"), share = usage / 1e9 / (seconds() - begin);
	CHECK(stat_of(group, "cpu", "throttledPeriods") >= 5 && stat_of(group, "cpu", "throttledNs") > 0, "%s", stats_text);
	CHECK(share < 0.4, "a fifth of a processor is allowed, not %.2f: %s", share, stats_text);
	cgroup_remove(group);
	close_session();
}

static void keeps_shares_in_proportion(void)
{
	need_root();
	open_session();
	need(CGROUP_CPU);
	static const struct { const char *shares, *weight; } rows[] = {{"1024", "100\n"}, {"512", "50\n"}, {"2", "1\n"},
		{"262144", "10000\n"}};
	for (size_t i = 0; i < 4; i++) {
		struct cgroup *group = make_with(LIMITS({"cpu-shares", rows[i].shares}), NULL);
		struct hierarchy *h = cgroup_made_in(group, CGROUP_CPU);
		char text[64];
		CHECK(cgroup_read_at(h->session_fd, cgroup_file(group, h->version == 2 ? "cpu.weight" : "cpu.shares"), text,
			sizeof(text)) > 0, "read");
		CHECK(h->version == 2 ? !strcmp(text, rows[i].weight) : atoi(text) == atoi(rows[i].shares), "%s → %s",
			rows[i].shares, text);
		cgroup_remove(group);
	}
	close_session();
}

static void confines_to_the_cpuset(void)
{
	need_root();
	open_session();
	need(CGROUP_CPUSET);
	struct cgroup *group = make_with(LIMITS({"cpuset-cpus", "0"}), NULL);
	CHECK(run(group, which_cpu) == 0, "only CPU 0");
	cgroup_remove(group);
	struct fault f = {0};
	CHECK(!cgroup_make(ID, LIMITS({"cpuset-cpus", "4000"}), NULL, &f), "there is no CPU 4000");
	CHECK(!strcmp(f.step, "limit") && !strcmp(f.subject, "cpuset-cpus=4000") && f.error, "%s %s", f.step, f.subject);
	close_session();
}

/* A disk of our own: a loop device over an unlinked file, which the kernel detaches at the last close. */
static int make_disk(void)
{
	char path[] = "/tmp/cgroup-disk-XXXXXX";
	int file = mkostemp(path, O_CLOEXEC), control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), loop = -1;
	if (file >= 0)
		unlink(path);
	int number = file >= 0 && control >= 0 && ftruncate(file, 4 << 20) == 0 ? ioctl(control, LOOP_CTL_GET_FREE) : -1;
	struct loop_config config = {.fd = (uint32_t)file, .info.lo_flags = LO_FLAGS_AUTOCLEAR};
	snprintf(disk, sizeof(disk), "/dev/loop%d", number);
	if (number >= 0 && (loop = open(disk, O_RDWR | O_CLOEXEC)) >= 0 && ioctl(loop, LOOP_CONFIGURE, &config) < 0) {
		close(loop);
		loop = -1;
	}
	int error = errno;
	close(file);
	close(control);
	errno = error;
	return loop;
}

static void throttles_a_disk(void)
{
	need_root();
	open_session();
	need(CGROUP_BLKIO);
	int loop = make_disk();
	if (loop < 0)
		SKIP("no loop device for a disk to read from: %s", strerror(errno));
	struct stat st;
	char rate[64];
	CHECK(fstat(loop, &st) == 0, "%s", strerror(errno));
	snprintf(rate, sizeof(rate), "%u:%u 1048576", major(st.st_rdev), minor(st.st_rdev));
	struct cgroup *group = make_with(LIMITS({"read-bps", rate}), NULL);
	double begin = seconds();
	int status = run(group, read_disk);
	double took = seconds() - begin;
	CHECK(status == 0, "status %x", (unsigned)status);
	CHECK(took > 0.5, "1 MiB at 1 MiB/s took %.3f s", took);
	CHECK(stat_of(group, "blkio", "readBytes") >= 1 << 20 && stat_of(group, "blkio", "readOps") >= 4, "%s", stats_text);
	cgroup_remove(group);
	close(loop);
	close_session();
}

static void names_the_limit_that_the_kernel_refuses(void)
{
	need_root();
	open_session();
	need(CGROUP_MEMORY);
	static const struct { struct cgroup_limit limit; const char *step, *subject; } rows[] = {
		{{"memory", "lots"}, "limit", "memory=lots"}, {{"memory", "-5"}, "limit", "memory=-5"}, {{"pids", "x"}, "limit",
			"pids=x"},
		{{"cpu-quota-us", "10"}, "limit", "cpu-quota-us=10"}, {{"read-bps", "8:0"}, "limit", "read-bps=8:0"},
		{{"write-iops", "4095:9999 5"}, "limit", "write-iops=4095:9999 5"}, {{"colour", "red"}, "request", "colour"},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct fault f = {0};
		CHECK(!cgroup_make(ID, &rows[i].limit, 1, NULL, &f), "%s", rows[i].subject);
		CHECK(!strcmp(f.step, rows[i].step) && !strcmp(f.subject, rows[i].subject) && f.error && *f.message,
			"%s %s: %s", f.step, f.subject, f.message);
	}
	/* And nothing of them is left, so the same id can be used. */
	cgroup_remove(make_with(NULL, 0, NULL));
	close_session();
}

static void takes_a_blkio_weight(void)
{
	need_root();
	open_session();
	need(CGROUP_BLKIO);
	struct fault f = {0};
	struct cgroup *group = cgroup_make(ID, LIMITS({"blkio-weight", "100"}), NULL, &f);
	if (!group && f.error == ENOENT)
		SKIP("%s", f.message);
	CHECK(group, "%s %s", f.subject, f.message);
	cgroup_remove(group);
	close_session();
}

/* ---- devices ---- */

static void check_rules(void)
{
	struct cgroup *docker = make_with(NULL, 0, DOCKER_RULES);
	int status = run(docker, try_devices);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == (1 | 2 | 4 | 8 | 32), "as Docker: all but opening a disk; got %x",
		(unsigned)WEXITSTATUS(status));
	cgroup_remove(docker);

	struct cgroup *narrow = make_with(NULL, 0, NULL_ONLY);
	status = run(narrow, try_devices);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 1, "/dev/null alone; got %x", (unsigned)WEXITSTATUS(status));
	cgroup_remove(narrow);

	struct cgroup *open_to_all = make_with(NULL, 0, "allow c 1:3 r\nallow a *:* rwm\nallow b 8:0 r\n");
	status = run(open_to_all, try_devices);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 63, "everything; got %x", (unsigned)WEXITSTATUS(status));
	cgroup_remove(open_to_all);

	struct cgroup *nothing = make_with(NULL, 0, "");
	status = run(nothing, try_devices);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "nothing; got %x", (unsigned)WEXITSTATUS(status));
	cgroup_remove(nothing);

	struct cgroup *free_one = make_with(NULL, 0, NULL);
	CHECK(WEXITSTATUS(run(free_one, try_devices)) == 63, "no rules, no denial");
	cgroup_remove(free_one);
}

static void denies_devices_by_program(void)
{
	need_root();
	open_session();
	if (!cgroup_session.v2)
		SKIP("no version 2 hierarchy");
	check_rules();
	close_session();
}

static void denies_devices_by_list(void)
{
	need_root();
	open_session();
	cgroup_session.prefer_device_list = true;
	if (!cgroup_hierarchy_of(CGROUP_DEVICES))
		SKIP("no devices controller here");
	check_rules();
	/* More texts than are kept: each still works, and none is left at the end. */
	for (int i = 0; i < 30; i++) {
		char rules[64];
		snprintf(rules, sizeof(rules), "allow c 1:3 rwm\nallow c 200:%d r\n", i);
		struct cgroup *group = make_with(NULL, 0, rules);
		CHECK(WEXITSTATUS(run(group, try_devices)) == (1 | 4), "number %d", i);
		cgroup_remove(group);
	}
	close_session();
}

/* ---- life ---- */

/* A new one each time: 0, and the processes of earlier tests count elsewhere. */
static void share_counter(void)
{
	counter = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(counter != MAP_FAILED, "%s", strerror(errno));
}

static void wait_for_more_than(unsigned long count)
{
	double begin = seconds();
	while (__atomic_load_n(counter, __ATOMIC_RELAXED) <= count && seconds() < begin + 10)
		nap_ms(1);
	CHECK(__atomic_load_n(counter, __ATOMIC_RELAXED) > count, "the process in the group does not run");
}

static void check_freezing(void)
{
	share_counter();
	struct cgroup *group = make_with(NULL, 0, NULL);
	pid_t pid = start(group, count_up);
	wait_for_more_than(0);
	CHECK(cgroup_freeze(group, true, &problem) == 0, "%s %s", problem.message, strerror(problem.error));
	unsigned long frozen = __atomic_load_n(counter, __ATOMIC_RELAXED);
	nap_ms(200);
	CHECK(__atomic_load_n(counter, __ATOMIC_RELAXED) == frozen, "it stands still");
	CHECK(cgroup_freeze(group, false, &problem) == 0, "%s", problem.message);
	wait_for_more_than(frozen);
	/* What is frozen can be killed. */
	CHECK(cgroup_freeze(group, true, &problem) == 0, "%s", problem.message);
	CHECK(cgroup_kill(group) == 0, "%s", strerror(errno));
	int status = wait_for(pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %x", (unsigned)status);
	cgroup_remove(group);

	/* An empty group can be frozen too. */
	group = make_with(NULL, 0, NULL);
	CHECK(cgroup_freeze(group, true, &problem) == 0 && cgroup_freeze(group, false, &problem) == 0, "%s",
		problem.message);
	cgroup_remove(group);
}

static void freezes_a_spinner(void)
{
	need_root();
	open_session();
	if (!cgroup_session.v2 && !cgroup_hierarchy_of(CGROUP_FREEZER))
		SKIP("neither version 2 nor a freezer here");
	check_freezing();
	close_session();
}

static void reap_all(void)
{
	while (waitpid(-1, NULL, 0) > 0)
		;
}

static void check_killing(void)
{
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	share_counter();
	struct cgroup *group = make_with(NULL, 0, NULL);
	pid_t pid = start(group, breed);
	wait_for_more_than(0);
	double threads = stat_of(group, "pids", "current");
	CHECK(threads == -1 || threads == 21, "%s", stats_text);
	/* Groups that the container made below its own go too. */
	for (int i = 0; i < cgroup_session.count; i++)
		if (group->made & 1u << i)
			for (int depth = 0; depth < 3; depth++) {
				static const char *const below[] = {"inner", "inner/innermost", "other"};
				CHECK(mkdirat(cgroup_session.hierarchies[i].session_fd, cgroup_file(group, below[depth]), 0755) == 0,
					"%s", strerror(errno));
			}
	CHECK(cgroup_kill(group) == 0, "%s", strerror(errno));
	int status = wait_for(pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %x", (unsigned)status);
	reap_all();
	cgroup_remove(group);
}

/* A process that is left out of one group would have no limit there. */
static void refuses_to_leave_a_group_out(void)
{
	need_root();
	open_session();
	if (!cgroup_session.count)
		SKIP("no control groups here");
	struct cgroup *group = make_with(LIMITS({"memory", "67108864"}), NULL);
	const int *fds;
	size_t count = 0;
	struct fault f = {0};
	struct rlimit limit, none;
	CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0, "%s", strerror(errno));
	none = (struct rlimit){.rlim_cur = 0, .rlim_max = limit.rlim_max};
	CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0, "%s", strerror(errno));
	int result = cgroup_procs_open(group, &fds, &count, &f);
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0, "%s", strerror(errno));
	if (result == 0)
		CHECK(count == 0, "%zu opened of which no descriptor is left", count);    /* pure version 2: joined by clone3 */
	else
		CHECK(f.error == EMFILE && !strcmp(f.step, "cgroup") && *f.subject, "%s %s %d", f.step, f.subject, f.error);
	CHECK(result < 0 || cgroup_v2_fd(group) >= 0, "no version 1 group was joined, and nobody was told");
	procs_of(group, &fds);
	cgroup_remove(group);
	close_session();
}

static void kills_everything_inside(void)
{
	need_root();
	open_session();
	if (!cgroup_session.count)
		SKIP("no control groups here");
	check_killing();
	close_session();
}

static void sweeps_what_a_dead_session_left(void)
{
	need_root();
	open_session();
	if (!cgroup_session.count)
		SKIP("no control groups here");
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	struct cgroup *group = make_with(LIMITS({"memory", "67108864"}), DOCKER_RULES);
	share_counter();
	start(group, breed);
	wait_for_more_than(0);
	char first[PATH_MAX], spared[PATH_MAX], plain[64];
	snprintf(first, sizeof(first), "%s/%s", cgroup_session.hierarchies[0].path, cgroup_session.name);
	snprintf(spared, sizeof(spared), "%s/not-%s", cgroup_session.hierarchies[0].path, cgroup_session.name);
	CHECK(access(first, F_OK) == 0 || cgroup_session.hierarchies[0].session_fd < 0, "%s", first);
	/* Lines that a sweep must not follow. */
	CHECK(mkdir(spared, 0755) == 0, "%s", strerror(errno));
	snprintf(plain, sizeof(plain), "/tmp/mayfly-%d", (int)getpid());
	CHECK(mkdir(plain, 0755) == 0, "%s", strerror(errno));
	int list = openat(directory, CGROUP_RECORD, O_RDWR | O_APPEND | O_CLOEXEC);
	CHECK(list >= 0, "%s", strerror(errno));
	CHECK(dprintf(list, "%s\n%s\nmayfly-x\n/\n\n/mayfly-\n/tmp/..%s", spared, plain, plain) > 0, "%s", strerror(errno));

	pid_t sweeper = fork();                            /* knows nothing of this session but its record */
	if (sweeper == 0) {
		_exit(cgroup_sweep(list) ? 0 : 1);
	}
	CHECK(wait_for(sweeper) == 0, "the sweeper");
	close(list);
	reap_all();                                        /* ends: all were killed */
	for (int i = 0; i < cgroup_session.count; i++) {
		char path[PATH_MAX + 100];
		snprintf(path, sizeof(path), "%s/%s", cgroup_session.hierarchies[i].path, cgroup_session.name);
		CHECK(access(path, F_OK) < 0, "%s is left", path);
	}
	CHECK(rmdir(spared) == 0, "a group with another name was touched");
	CHECK(rmdir(plain) == 0, "a directory that is no group was touched");
	cgroup_remove(group);
	close_session();
}

static void shows_the_groups_for_the_containers_mount(void)
{
	need_root();
	open_session();
	struct cgroup *group = make_with(LIMITS({"memory", "67108864"}), NULL);
	const struct cgroup_view *views;
	size_t count = cgroup_views(group, &views);
	bool pure = strstr(facts, "\"mode\":\"v2\"");
	CHECK(count >= 1 && (!pure || (count == 1 && !*views[0].name)), "%zu", count);
	for (size_t i = 0; i < count; i++) {
		struct stat st;
		CHECK(stat(views[i].path, &st) == 0 && S_ISDIR(st.st_mode), "%s", views[i].path);
		CHECK(!strchr(views[i].name, '/') && !strncmp(strrchr(views[i].path, '/') + 1, ID, 12), "%s %s", views[i].name,
			views[i].path);
	}
	cgroup_remove(group);
	close_session();
}

/* ---- other machines, played on this one ---- */

/* Takes mounts of control groups away from this test. type "cgroup", "cgroup2" or "" (both). */
static void unmount(const char *type)
{
	FILE *list = fopen("/proc/self/mounts", "re");
	char line[4096], path[1024], fs[64];
	while (list && fgets(line, sizeof(line), list))
		if (sscanf(line, "%*s %1023s %63s", path, fs) == 2 && !strncmp(fs, "cgroup", 6) && (!*type || !strcmp(fs,
			type)))
			CHECK(umount2(path, MNT_DETACH) == 0, "%s: %s", path, strerror(errno));
	if (list)
		fclose(list);
}

static void works_on_pure_version_1(void)
{
	need_root();
	unmount("cgroup2");
	open_session();
	if (!cgroup_session.count)
		SKIP("no version 1 hierarchies here");
	CHECK(strstr(facts, "\"mode\":\"v1\""), "%s", facts);
	check_freezing();
	check_killing();
	check_rules();
	struct cgroup *group = make_with(NULL, 0, DOCKER_RULES);
	CHECK(cgroup_v2_fd(group) == -1, "no version 2");
	pid_t pid = start(group, spin);
	double begin = seconds();
	while (stat_of(group, "cpu", "usageNs") <= 10e6 && seconds() < begin + 10)
		nap_ms(5);
	kill(pid, SIGKILL);
	wait_for(pid);
	CHECK(stat_of(group, "cpu", "usageNs") > 10e6, "cpuacct counts: %s", stats_text);
	cgroup_remove(group);
	close_session();
}

static void starts_without_control_groups(void)
{
	need_root();
	unmount("");
	open_session();
	CHECK(strstr(facts, "\"mode\":\"none\"") && strstr(facts, "\"memory\":\"missing"), "%s", facts);
	struct cgroup *group = make_with(NULL, 0, NULL);
	CHECK(run(group, do_nothing) == 0, "starts");
	CHECK(stat_of(group, "cpu", "usageNs") == -1 && stat_of(group, "memory", "usageBytes") == -1, "%s", stats_text);
	CHECK(!cgroup_oom_killed(group) && cgroup_kill(group) < 0, "nothing to ask");
	struct fault f = {0};
	CHECK(cgroup_freeze(group, true, &f) < 0 && !strcmp(f.subject, "freezer"), "%s", f.subject);
	cgroup_remove(group);
	f = (struct fault){0};
	CHECK(!cgroup_make(ID, LIMITS({"memory", "67108864"}), NULL, &f), "a limit needs its controller");
	CHECK(!strcmp(f.step, "cgroup") && !strcmp(f.subject, "memory") && strstr(f.message, "missing"), "%s %s %s", f.step,
		f.subject, f.message);
	f = (struct fault){0};
	CHECK(!cgroup_make(ID, NULL, 0, DOCKER_RULES, &f) && !strcmp(f.subject, "devices"),
		"the real root needs its device rules: %s", f.message);
	close_session();
}

static void starts_without_privilege(void)
{
	need_root();
	CHECK(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0, "%s", strerror(errno));
	open_session();
	struct cgroup *group = make_with(NULL, 0, DOCKER_RULES);
	CHECK(run(group, do_nothing) == 0, "starts");
	cgroup_remove(group);
	struct fault f = {0};
	CHECK(!cgroup_make(ID, LIMITS({"memory", "67108864"}), NULL, &f), "a limit needs its controller");
	CHECK(!strcmp(f.step, "cgroup") && !strcmp(f.subject, "memory"), "%s %s", f.step, f.subject);
	CHECK(strstr(f.message, "not delegated") || strstr(f.message, "missing"), "%s", f.message);
	close_session();
}

/* ---- version 2: delegation ---- */

static void need_pure_v2(void)
{
	need_root();
	open_session();
	bool pure = strstr(facts, "\"mode\":\"v2\"");
	bool real_root = pure && access("/sys/fs/cgroup/cgroup.type", F_OK) < 0;
	close_session();
	if (!pure || !real_root)
		SKIP("not a pure version 2 machine, or not at its root (npm run kernels runs this)");
}

static const char SCOPE[] = "/sys/fs/cgroup/test.scope";

static void enter_scope(void)
{
	need_pure_v2();
	CHECK(cgroup_write_at(AT_FDCWD, "/sys/fs/cgroup/cgroup.subtree_control", "+memory +pids +io +cpu +cpuset") == 0,
		"%s", strerror(errno));
	CHECK(mkdir(SCOPE, 0755) == 0, "%s", strerror(errno));
	CHECK(cgroup_write_at(AT_FDCWD, "/sys/fs/cgroup/test.scope/cgroup.procs", "0") == 0, "%s", strerror(errno));
}

static void leave_scope(void)
{
	CHECK(cgroup_write_at(AT_FDCWD, "/sys/fs/cgroup/cgroup.procs", "0") == 0, "%s", strerror(errno));
	rmdir("/sys/fs/cgroup/test.scope/mayfly-callers");
	CHECK(rmdir(SCOPE) == 0, "%s", strerror(errno));
}

static void check_all_controllers(void)
{
	open_session();
	struct cgroup *group = make_with(LIMITS({"memory", "16777216"}, {"pids", "50"}, {"cpu-quota-us", "50000"},
		{"cpu-shares", "512"},
		{"cpuset-cpus", "0"}), DOCKER_RULES);
	int status = run(group, eat_64_mib);
	CHECK(WIFSIGNALED(status) && cgroup_oom_killed(group), "status %x", (unsigned)status);
	CHECK(WEXITSTATUS(run(group, try_devices)) == (1 | 2 | 4 | 8 | 32), "device rules");
	CHECK(run(group, which_cpu) == 0, "cpuset");
	cgroup_remove(group);
	close_session();
}

static void names_the_controller_and_the_mend_in_a_scope_that_is_not_delegated(void)
{
	enter_scope();
	open_session();
	CHECK(strstr(facts, "not delegated"), "%s", facts);
	struct cgroup *group = make_with(NULL, 0, DOCKER_RULES);
	CHECK(run(group, do_nothing) == 0 && WEXITSTATUS(run(group, try_devices)) == (1 | 2 | 4 | 8 | 32),
		"starts, with its device rules");
	CHECK(stat_of(group, "cpu", "usageNs") > 0, "%s", stats_text);
	cgroup_remove(group);
	check_freezing();
	check_killing();
	static const struct { struct cgroup_limit limit; const char *controller, *name; } rows[] = {
		{{"memory", "67108864"}, "memory", "memory"}, {{"pids", "10"}, "pids", "pids"}, {{"cpu-shares", "10"}, "cpu",
			"cpu"},
		{{"cpuset-cpus", "0"}, "cpuset", "cpuset"}, {{"read-bps", "8:0 1"}, "blkio", "io"},
	};
	for (size_t i = 0; i < 5; i++) {
		struct fault f = {0};
		CHECK(!cgroup_make(ID, &rows[i].limit, 1, NULL, &f), "%s", rows[i].controller);
		CHECK(!strcmp(f.step, "cgroup") && !strcmp(f.subject, rows[i].controller), "%s %s", f.step, f.subject);
		CHECK(strstr(f.message, "not delegated") && strstr(f.message, rows[i].name) && strstr(f.message,
			"systemd-run --scope -p Delegate=yes"), "%s", f.message);
	}
	close_session();
	CHECK(access("/sys/fs/cgroup/test.scope/mayfly-callers", F_OK) < 0, "processes of others were moved");
	leave_scope();
}

static void empties_a_delegated_scope(void)
{
	enter_scope();
	const char *attribute = "user.delegate";
	if (setxattr(SCOPE, attribute, "1", 1, 0) < 0)
		CHECK(setxattr(SCOPE, attribute = "trusted.delegate", "1", 1, 0) == 0, "%s", strerror(errno));
	pid_t other = fork();                              /* another process of the scope, as a shell beside us */
	if (other == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	/* As the launcher does: room is made outside, the session opened in a PID namespace that does not show the
	 * caller. */
	cgroup_make_room();
	CHECK(access("/sys/fs/cgroup/test.scope/mayfly-callers", F_OK) == 0, "%s", strerror(errno));
	CHECK(unshare(CLONE_NEWPID) == 0, "%s", strerror(errno));
	pid_t warden = fork();
	if (warden == 0) {
		CHECK(unshare(CLONE_NEWNS) == 0 && mount("proc", "/proc", "proc", 0, NULL) == 0, "%s", strerror(errno));
		check_all_controllers();
		cgroup_make_room();                            /* a second session, of a caller that is in mayfly-callers now */
		check_all_controllers();
		fflush(NULL);
		_exit(0);
	}
	CHECK(wait_for(warden) == 0, "the session in its own PID namespace");
	char text[256];
	CHECK(cgroup_read_at(AT_FDCWD, "/proc/self/cgroup", text, sizeof(text)) > 0 && strstr(text,
		"/test.scope/mayfly-callers"), "%s", text);
	CHECK(cgroup_read_at(AT_FDCWD, "/sys/fs/cgroup/test.scope/cgroup.procs", text, sizeof(text)) == 0,
		"still in the scope: %s", text);
	kill(other, SIGKILL);
	wait_for(other);
	leave_scope();
}

static void empties_the_root_of_a_cgroup_namespace(void)
{
	enter_scope();
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		if (unshare(CLONE_NEWCGROUP | CLONE_NEWNS) < 0 || umount2("/sys/fs/cgroup", MNT_DETACH) < 0 ||
		    mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, NULL) < 0)
			_exit(2);
		check_all_controllers();
		_exit(0);
	}
	CHECK((status = wait_for(pid)) == 0, "status %x", (unsigned)status);
	CHECK(access("/sys/fs/cgroup/test.scope/mayfly-callers", F_OK) == 0, "the callers were moved");
	leave_scope();
}

static void limits_for_an_unprivileged_user_in_a_delegated_scope(void)
{
	enter_scope();
	/* As systemd does for `systemd-run --user --scope -p Delegate=yes`. */
	static const char *const owned[] = {"", "/cgroup.procs", "/cgroup.threads", "/cgroup.subtree_control"};
	for (int i = 0; i < 4; i++) {
		char path[128];
		snprintf(path, sizeof(path), "%s%s", SCOPE, owned[i]);
		CHECK(chown(path, 65534, 65534) == 0, "%s: %s", path, strerror(errno));
	}
	if (setxattr(SCOPE, "user.delegate", "1", 1, 0) < 0)
		CHECK(setxattr(SCOPE, "trusted.delegate", "1", 1, 0) == 0, "%s", strerror(errno));
	pid_t pid = fork();
	if (pid == 0) {
		CHECK(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0, "%s", strerror(errno));
		open_session();
		struct cgroup *group = make_with(LIMITS({"memory", "16777216"}, {"pids", "4"}, {"cpu-quota-us", "50000"}),
			DOCKER_RULES);
		int status = run(group, eat_64_mib);
		CHECK(WIFSIGNALED(status) && cgroup_oom_killed(group), "status %x", (unsigned)status);
		CHECK(WEXITSTATUS(run(group, fork_eight_times)) == 13, "pids");
		CHECK(cgroup_freeze(group, true, &problem) == 0, "%s", problem.message);
		CHECK(cgroup_kill(group) == 0, "%s", strerror(errno));
		cgroup_remove(group);
		close_session();
		_exit(0);
	}
	int status = wait_for(pid);
	CHECK(status == 0, "status %x", (unsigned)status);
	leave_scope();
}

/* ---- measuring ---- */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double now_us(void)
{
	return seconds() * 1e6;
}

enum { ROUNDS = 2000 };
static double making[ROUNDS], opening[ROUNDS], attaching[ROUNDS], asking[ROUNDS], removing[ROUNDS], whole[ROUNDS];

static void print_median(const char *what, double *values)
{
	qsort(values, ROUNDS, sizeof(*values), compare);
	printf("  %-34s min %6.1f  median %6.1f  p95 %6.1f us\n", what, values[0], values[ROUNDS / 2],
		values[ROUNDS * 95 / 100]);
}

static void measure(const char *title, const struct cgroup_limit *limits, size_t count, const char *rules, bool attach)
{
	for (int i = 0; i < ROUNDS; i++) {
		const int *fds;
		double begin = now_us();
		struct cgroup *group = make_with(limits, count, rules);
		double made = now_us();
		size_t procs = procs_of(group, &fds);
		double opened = now_us(), attached = opened;
		if (attach) {
			pid_t pid = fork();
			if (pid == 0) {
				double before = now_us();
				for (size_t j = 0; j < procs; j++)
					if (write(fds[j], "0", 1) != 1)
						_exit(1);
				*(volatile double *)counter = now_us() - before;
				_exit(0);
			}
			CHECK(wait_for(pid) == 0, "attach");
			attaching[i] = *(volatile double *)counter;
			attached = now_us();
		}
		bool killed = cgroup_oom_killed(group);
		double asked = now_us();
		cgroup_remove(group);
		double removed = now_us();
		CHECK(!killed, "nothing ran here");
		making[i] = made - begin;
		opening[i] = opened - made;
		asking[i] = asked - attached;
		removing[i] = removed - asked;
		whole[i] = making[i] + opening[i] + asking[i] + removing[i];
	}
	printf("%s\n", title);
	print_median("cgroup_make", making);
	print_median("cgroup_procs_open", opening);
	if (attach)
		print_median("the child's writes to tasks", attaching);
	print_median("cgroup_oom_killed", asking);
	print_median("cgroup_remove", removing);
	print_median("all but the writes", whole);
}

static int bench(void)
{
	share_counter();
	double begin = now_us();
	open_session();
	printf("cgroup_open %.1f us\n%s\n", now_us() - begin, facts);
	measure("nothing asked for", NULL, 0, NULL, false);
	measure("device rules", NULL, 0, DOCKER_RULES, true);
	cgroup_session.prefer_device_list = true;
	cgroup_devices_close();
	if (cgroup_hierarchy_of(CGROUP_DEVICES))
		measure("device rules, by version 1's list", NULL, 0, DOCKER_RULES, true);
	cgroup_session.prefer_device_list = false;
	cgroup_devices_close();
	measure("device rules, memory, cpu and pids limits", LIMITS({"memory", "67108864"}, {"cpu-quota-us", "50000"},
		{"pids", "100"}), DOCKER_RULES, true);
	close_session();
	return 0;
}

/* ---- runner ---- */

#define TEST(function) {#function, function}
static const struct { const char *name; void (*body)(void); } tests[] = {
	TEST(finds_own_groups_in_odd_mountinfo_files),
	TEST(refuses_device_rules_that_are_not_rules),
	TEST(reports_a_process_that_the_oom_killer_took),
	TEST(writes_swap_limits_as_docker_means_them),
	TEST(denies_the_fork_beyond_the_pids_limit),
	TEST(throttles_to_the_cpu_quota),
	TEST(keeps_shares_in_proportion),
	TEST(confines_to_the_cpuset),
	TEST(throttles_a_disk),
	TEST(names_the_limit_that_the_kernel_refuses),
	TEST(takes_a_blkio_weight),
	TEST(denies_devices_by_program),
	TEST(denies_devices_by_list),
	TEST(freezes_a_spinner),
	TEST(refuses_to_leave_a_group_out),
	TEST(kills_everything_inside),
	TEST(sweeps_what_a_dead_session_left),
	TEST(shows_the_groups_for_the_containers_mount),
	TEST(works_on_pure_version_1),
	TEST(starts_without_control_groups),
	TEST(starts_without_privilege),
	TEST(names_the_controller_and_the_mend_in_a_scope_that_is_not_delegated),
	TEST(empties_a_delegated_scope),
	TEST(empties_the_root_of_a_cgroup_namespace),
	TEST(limits_for_an_unprivileged_user_in_a_delegated_scope),
};

static void must_be_pure_v2(void)
{
	open_session();
	CHECK(strstr(facts, "\"mode\":\"v2\""), "%s", facts);
	printf("%s\n", facts);
	fflush(stdout);
	close_session();
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "bench"))
		return bench();
	if (argc > 1 && !strcmp(argv[1], "v2"))
		must_be_pure_v2();
	int failed = 0;
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		fflush(NULL);
		pid_t pid = fork();
		if (pid == 0) {
			if (geteuid() == 0 && (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0))
				return 1;
			alarm(60);                                 /* a test that hangs has failed */
			tests[i].body();
			fflush(NULL);
			return 0;
		}
		int status = pid < 0 ? -1 : wait_for(pid);
		bool skipped = WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED;
		printf("%s %s\n", status == 0 ? "ok     " : skipped ? "skipped" : "FAILED ", tests[i].name);
		failed += status != 0 && !skipped;
	}
	printf("%d failed\n", failed);
	return failed ? 1 : 0;
}
