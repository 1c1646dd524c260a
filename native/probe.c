/* The runner of the probes. What they try is in probe_kernel.c, probe_mounts.c, probe_network.c and probe_cgroups.c. */
#define _GNU_SOURCE
#include "probe.h"
#include "json.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_S = 5 };    /* a kernel that has not answered by then is counted as one that cannot */

struct probe_settings probe_settings = {"", "", ""};

bool probe_rootless(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {0};
	if (syscall(SYS_capget, &header, data) < 0)
		return true;
	return !(data[0].effective & (1u << CAP_SYS_ADMIN));
}

static int write_file(const char *path, const char *text, struct fault *f)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return fault(f, "open", path, errno, NULL);
	ssize_t written = write(fd, text, strlen(text));
	int error = errno;
	close(fd);
	return written < 0 ? fault(f, "write", path, error, NULL) : 0;
}

static int become_root_of_user_namespace(struct fault *f)
{
	char uid_map[64], gid_map[64];
	snprintf(uid_map, sizeof(uid_map), "0 %u 1", geteuid());
	snprintf(gid_map, sizeof(gid_map), "0 %u 1", getegid());
	if (unshare(CLONE_NEWUSER) < 0)
		return fault(f, "unshare", "user namespace", errno, NULL);
	/* An ordinary user may write gid_map only after giving up setgroups (user_namespaces(7)). */
	if (write_file("/proc/self/setgroups", "deny", f) < 0 || write_file("/proc/self/uid_map", uid_map, f) < 0)
		return -1;
	return write_file("/proc/self/gid_map", gid_map, f);
}

int probe_enter(int namespaces, struct fault *f)
{
	if (probe_rootless() && become_root_of_user_namespace(f) < 0)
		return -1;
	if (unshare(namespaces) < 0)
		return fault(f, "unshare", "namespaces", errno, NULL);
	if ((namespaces & CLONE_NEWNS) && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return fault(f, "mount", "private propagation on /", errno, NULL);
	return 0;
}

int probe_enter_scratch(int namespaces, struct fault *f)
{
	if (probe_enter(namespaces | CLONE_NEWNS, f) < 0)
		return -1;
	if (mount("tmpfs", "/tmp", "tmpfs", 0, "mode=755") < 0)
		return fault(f, "mount", "tmpfs", errno, NULL);
	return chdir("/tmp") < 0 ? fault(f, "chdir", "/tmp", errno, NULL) : 0;
}

/* Waits for a child that was forked to try something. */
static int verdict(pid_t child, struct fault *f)
{
	int status;
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return fault(f, "wait", "", errno, NULL);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	/* seccomp may kill instead of refusing. */
	if (WIFSIGNALED(status))
		return fault(f, WTERMSIG(status) == SIGALRM ? "timeout" : "killed", strsignal(WTERMSIG(status)), EIO, NULL);
	return fault(f, "exit", "", EIO, NULL);
}

int probe_in_child(int (*step)(struct probe_report *), struct probe_report *report)
{
	pid_t child = fork();
	if (child < 0)
		return fault(&report->fault, "fork", "", errno, NULL);
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(PATIENCE_S);
		_exit(step(report) < 0);
	}
	return verdict(child, &report->fault);
}

static void print(const char *name, bool ok, const struct probe_report *report)
{
	static struct json line;
	json_begin(&line);
	json_string(&line, "probe", name);
	json_bool(&line, "ok", ok);
	if (!ok)
		json_fault(&line, &report->fault);
	if (report->detail[0])
		json_raw(&line, "detail", report->detail);
	json_end(&line);
	if (!line.failed)
		fputs(line.text, stdout);
}

static int read_settings(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strncmp(argv[i], "store=", 6) == 0)
			probe_settings.store = argv[i] + 6;
		else if (strncmp(argv[i], "subuid=", 7) == 0)
			probe_settings.subuid = argv[i] + 7;
		else if (strncmp(argv[i], "subgid=", 7) == 0)
			probe_settings.subgid = argv[i] + 7;
		else
			return fprintf(stderr, "mayfly-warden probe: unknown word \"%s\"\n", argv[i]), -1;
	}
	return 0;
}

int probe_main(int argc, char **argv)
{
	if (read_settings(argc, argv) < 0)
		return 2;
	struct probe_report *report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (report == MAP_FAILED) {
		perror("mayfly-warden probe: mmap");
		return 1;
	}
	/* Children must not print what is still buffered here. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	const struct probe *const groups[] = {probes_of_kernel, probes_of_mounts, probes_of_network, probes_of_cgroups};
	for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++)
		for (const struct probe *p = groups[g]; p->name; p++) {
			memset(report, 0, sizeof(*report));
			bool ok = probe_in_child(p->run, report) == 0;
			print(p->name, ok, report);
		}
	return 0;
}
