/* Loads the filter on stdin for real, then makes the calls given as arguments and prints what came of each.
 *
 * load <call>…     a call is `number` or `number:argument,argument…`; prints its errno, 0 for success, one a line
 * load time N      loads N times, each in a process of its own; prints the median in ns */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct sock_filter filter[4096];
static struct sock_fprog program = {.filter = filter};

static void load(void)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0) {
		perror("seccomp");
		exit(2);
	}
}

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	long long x = *(const long long *)a, y = *(const long long *)b;
	return (x > y) - (x < y);
}

static void measure(int count)
{
	long long *took = mmap(NULL, (size_t)count * sizeof(*took), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < count; i++) {
		if (fork() == 0) {
			long long start = now();
			load();
			took[i] = now() - start;
			_exit(0);
		}
		wait(NULL);
	}
	qsort(took, (size_t)count, sizeof(*took), compare);
	printf("%lld\n", took[count / 2]);
}

int main(int argc, char **argv)
{
	size_t bytes = fread(filter, 1, sizeof(filter), stdin);
	program.len = (unsigned short)(bytes / sizeof(*filter));
	if (argc == 3 && !strcmp(argv[1], "time")) {
		measure(atoi(argv[2]));
		return 0;
	}
	load();
	for (int i = 1; i < argc; i++) {
		unsigned long words[7] = {0};
		char *at = argv[i];
		for (int word = 0; word < 7 && *at; word++) {
			words[word] = strtoul(at, &at, 0);
			at += *at == ':' || *at == ',';
		}
		errno = 0;
		long result = syscall((long)words[0], words[1], words[2], words[3], words[4], words[5], words[6]);
		printf("%d\n", result < 0 ? errno : 0);
	}
	return 0;
}
