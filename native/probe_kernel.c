/* Probes: namespaces, processes, seccomp. */
#define _GNU_SOURCE
#include "probe.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
#ifndef MFD_EXEC
#define MFD_EXEC 0x10u
#endif
#ifndef SECCOMP_FILTER_FLAG_NEW_LISTENER
#define SECCOMP_FILTER_FLAG_NEW_LISTENER (1UL << 3)
#endif
#ifndef SECCOMP_GET_NOTIF_SIZES
#define SECCOMP_GET_NOTIF_SIZES 3
#endif

#define INTO_CGROUP UINT64_C(0x200000000)    /* CLONE_INTO_CGROUP, which some headers cut to an int */

/* clone_args of Linux 5.7, the first with cgroup; older headers have a shorter one. */
struct clone_args_5_7 {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

/* Whether an ordinary user becomes root of something: the namespace alone proves little, Ubuntu grants it and then
 * takes every capability away (apparmor_restrict_unprivileged_userns). */
static int user_namespace(struct probe_report *r)
{
	char uid_map[64];
	snprintf(uid_map, sizeof(uid_map), "0 %u 1", geteuid());
	if (unshare(CLONE_NEWUSER) < 0)
		return fault(&r->fault, "unshare", "user namespace", errno, NULL);
	int fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, uid_map, strlen(uid_map)) < 0)
		return fault(&r->fault, "write", "/proc/self/uid_map", errno, NULL);
	if (unshare(CLONE_NEWUTS) < 0)
		return fault(&r->fault, "unshare", "uts namespace inside the user namespace", errno, NULL);
	if (sethostname("probe", 5) < 0)
		return fault(&r->fault, "sethostname", "inside the user namespace", errno, NULL);
	return 0;
}

/* Splits "START:COUNT". */
static int read_range(const char *text, unsigned *start, unsigned *count)
{
	return sscanf(text, "%u:%u", start, count) == 2 ? 0 : -1;
}

static int map_range(const char *program, pid_t child, unsigned own, const char *range, struct fault *f)
{
	unsigned start, count;
	if (read_range(range, &start, &count) < 0)
		return fault(f, "range", program, ENOENT, "no range of ids for this user");
	char target[16], own_id[16], first[16], length[16];
	snprintf(target, sizeof(target), "%d", child);
	snprintf(own_id, sizeof(own_id), "%u", own);
	snprintf(first, sizeof(first), "%u", start);
	snprintf(length, sizeof(length), "%u", count);
	pid_t mapper = fork();
	if (mapper == 0) {
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		if (null >= 0)
			dup2(null, 2);
		execlp(program, program, target, "0", own_id, "1", "1", first, length, NULL);
		_exit(errno == ENOENT ? 127 : 126);
	}
	int status = -1;
	if (mapper < 0 || waitpid(mapper, &status, 0) < 0)
		return fault(f, "fork", program, errno, NULL);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return fault(f, "exec", program, WIFEXITED(status) && WEXITSTATUS(status) == 127 ? ENOENT : EPERM, NULL);
}

/* A range of ids by newuidmap and newgidmap, tried for real: they may be missing, not setuid, or without effect. */
static int id_range(struct probe_report *r)
{
	int unshared[2], mapped[2];
	if (pipe2(unshared, O_CLOEXEC) < 0 || pipe2(mapped, O_CLOEXEC) < 0)
		return fault(&r->fault, "pipe", "", errno, NULL);
	pid_t child = fork();
	if (child < 0)
		return fault(&r->fault, "fork", "", errno, NULL);
	char byte = 0;
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(mapped[1]);
		if (unshare(CLONE_NEWUSER) < 0 || write(unshared[1], &byte, 1) != 1)
			_exit(1);
		/* Until the parent has tried. */
		_exit(read(mapped[0], &byte, 1) < 0);
	}
	close(unshared[1]);
	int result;
	if (read(unshared[0], &byte, 1) != 1)
		result = fault(&r->fault, "unshare", "user namespace", EPERM, NULL);
	else if ((result = map_range("newuidmap", child, geteuid(), probe_settings.subuid, &r->fault)) == 0)
		result = map_range("newgidmap", child, getegid(), probe_settings.subgid, &r->fault);
	close(mapped[1]);
	waitpid(child, NULL, 0);
	return result;
}

static int try_namespace(int flag, struct probe_report *r)
{
	return probe_enter(flag, &r->fault);
}

static int pid_namespace(struct probe_report *r) { return try_namespace(CLONE_NEWPID, r); }
static int mount_namespace(struct probe_report *r) { return try_namespace(CLONE_NEWNS, r); }
static int network_namespace(struct probe_report *r) { return try_namespace(CLONE_NEWNET, r); }
static int ipc_namespace(struct probe_report *r) { return try_namespace(CLONE_NEWIPC, r); }
static int uts_namespace(struct probe_report *r) { return try_namespace(CLONE_NEWUTS, r); }
static int cgroup_namespace(struct probe_report *r) { return try_namespace(CLONE_NEWCGROUP, r); }
static int time_namespace(struct probe_report *r) { return try_namespace(CLONE_NEWTIME, r); }

static int clone3_call(struct probe_report *r)
{
	int pidfd = -1;
	struct clone_args_5_7 arguments = {.flags = CLONE_PIDFD, .pidfd = (uintptr_t)&pidfd, .exit_signal = SIGCHLD};
	long child = syscall(SYS_clone3, &arguments, 64);
	if (child < 0)
		return fault(&r->fault, "clone3", "", errno, NULL);
	if (child == 0)
		_exit(0);
	close(pidfd);
	return waitpid((pid_t)child, NULL, 0) < 0 ? fault(&r->fault, "wait", "", errno, NULL) : 0;
}

static int clone_into_cgroup(struct probe_report *r)
{
	/* A kernel that knows the flag looks at the descriptor, which is none. */
	struct clone_args_5_7 arguments = {.flags = INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = 0x7fffffff};
	long child = syscall(SYS_clone3, &arguments, sizeof(arguments));
	if (child == 0)
		_exit(0);
	if (child > 0)
		waitpid((pid_t)child, NULL, 0);
	return child < 0 && errno != EBADF ? fault(&r->fault, "clone3", "CLONE_INTO_CGROUP", errno, NULL) : 0;
}

static int pidfd(struct probe_report *r)
{
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (fd < 0)
		return fault(&r->fault, "pidfd_open", "", errno, NULL);
	long sent = syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0);
	int error = errno;
	close(fd);
	return sent < 0 ? fault(&r->fault, "pidfd_send_signal", "", error, NULL) : 0;
}

static int pidfd_duplicate(struct probe_report *r)
{
	pid_t child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	int fd = child < 0 ? -1 : (int)syscall(SYS_pidfd_open, child, 0);
	long got = fd < 0 ? -1 : syscall(SYS_pidfd_getfd, fd, 1, 0);
	int error = errno;
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	return got < 0 ? fault(&r->fault, "pidfd_getfd", "", error, NULL) : 0;
}

/* A program that exists in memory only: how the warden runs itself inside containers. */
static int memfd_exec(struct probe_report *r)
{
	int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (self < 0)
		return fault(&r->fault, "open", "/proc/self/exe", errno, NULL);
	/* Kernels before 6.3 do not know MFD_EXEC. */
	int copy = memfd_create("probe", MFD_CLOEXEC | MFD_EXEC);
	if (copy < 0 && errno == EINVAL)
		copy = memfd_create("probe", MFD_CLOEXEC);
	if (copy < 0)
		return fault(&r->fault, "memfd_create", "", errno, NULL);
	struct stat status;
	if (fstat(self, &status) < 0)
		return fault(&r->fault, "stat", "/proc/self/exe", errno, NULL);
	for (off_t done = 0; done < status.st_size;) {
		ssize_t sent = sendfile(copy, self, &done, (size_t)(status.st_size - done));
		if (sent <= 0)
			return fault(&r->fault, "sendfile", "", errno, NULL);
	}
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (null < 0 || dup2(null, 1) < 0)
		return fault(&r->fault, "open", "/dev/null", errno, NULL);
	char *const arguments[] = {"mayfly-warden", "--version", NULL}, *const environment[] = {NULL};
	fexecve(copy, arguments, environment);
	return fault(&r->fault, "execveat", "memfd", errno, NULL);
}

static struct sock_filter allow_all[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};

static int seccomp_filter(struct probe_report *r)
{
	struct sock_fprog program = {1, allow_all};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return fault(&r->fault, "prctl", "PR_SET_NO_NEW_PRIVS", errno, NULL);
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
		return fault(&r->fault, "seccomp", "SECCOMP_SET_MODE_FILTER", errno, NULL);
	return 0;
}

static int seccomp_notification(struct probe_report *r)
{
	struct sock_fprog program = {1, allow_all};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return fault(&r->fault, "prctl", "PR_SET_NO_NEW_PRIVS", errno, NULL);
	/* Fails with EBUSY where this process has been given a listener already. */
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program) < 0)
		return fault(&r->fault, "seccomp", "SECCOMP_FILTER_FLAG_NEW_LISTENER", errno, NULL);
	return 0;
}

const struct probe probes_of_kernel[] = {
	{"user-namespace", user_namespace},
	{"id-range", id_range},
	{"pid-namespace", pid_namespace},
	{"mount-namespace", mount_namespace},
	{"network-namespace", network_namespace},
	{"ipc-namespace", ipc_namespace},
	{"uts-namespace", uts_namespace},
	{"cgroup-namespace", cgroup_namespace},
	{"time-namespace", time_namespace},
	{"clone3", clone3_call},
	{"clone-into-cgroup", clone_into_cgroup},
	{"pidfd", pidfd},
	{"pidfd-getfd", pidfd_duplicate},
	{"memfd-exec", memfd_exec},
	{"seccomp-filter", seccomp_filter},
	{"seccomp-notification", seccomp_notification},
	{NULL, NULL},
};
