/* Order matters here. The filter that reports listen() and the seccomp profile need CAP_SYS_ADMIN (or no_new_privs), so they are
 * loaded after the uid has changed but before the last capability goes; after that only capset and execve remain. */
#define _GNU_SOURCE
#include "process.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "identity.h"
#include "pass.h"
#include "resolve.h"

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif
#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#else
#error "mayfly runs on x64 and arm64"
#endif

void status_send(int status_fd, const struct status *status, int fd)
{
	pass_answer(status_fd, status, sizeof(*status), &fd, fd >= 0);
}

bool status_read(struct watch *channel, void (*take)(void *owner, const struct status *, int fd), void *owner)
{
	int channel_fd = channel->fd;
	for (;;) {
		struct status status;
		int fds[PASS_MAX];
		size_t count;
		ssize_t got = pass_receive(channel_fd, &status, sizeof(status), 0, fds, &count);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN)
			return false;
		if (got != sizeof(status))
			break;
		/* Nobody but us should hold the other end, but then nobody should have to trust that. */
		status.fault.step[sizeof(status.fault.step) - 1] = status.fault.subject[sizeof(status.fault.subject) - 1] =
			status.fault.message[sizeof(status.fault.message) - 1] = 0;
		take(owner, &status, count ? fds[0] : -1);
	}
	loop_forget(channel);
	close(channel_fd);
	return true;
}

void status_fail(int status_fd, const struct fault *f)
{
	struct status status = {.kind = STATUS_FAULT, .fault = *f};
	status_send(status_fd, &status, -1);
	_exit(127);
}

int process_terminal(struct process_setup *s, struct fault *f)
{
	/* Never by a path that the image could have bent: the file must be on a devpts (CVE-2025-52565). */
	int master = resolve_in_root(s->root_fd, "dev/pts/ptmx", O_RDWR | O_NOCTTY, f, "device");
	struct statfs fs;
	if (master < 0)
		return -1;
	if (fstatfs(master, &fs) < 0 || fs.f_type != DEVPTS_SUPER_MAGIC)
		return fault(f, "device", "/dev/pts/ptmx", ENODEV, "not on a devpts file system");
	int unlock = 0;
	if (ioctl(master, TIOCSPTLCK, &unlock) < 0)
		return fault(f, "device", "/dev/pts/ptmx", errno, "cannot unlock the terminal");
	int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return fault(f, "device", "/dev/pts/ptmx", errno, "cannot open the terminal");
	struct winsize size = {.ws_col = s->process->columns, .ws_row = s->process->rows};
	if (size.ws_col && size.ws_row)
		ioctl(slave, TIOCSWINSZ, &size);
	struct status status = {.kind = STATUS_TERMINAL};
	status_send(s->status_fd, &status, master);
	close(master);
	if (ioctl(slave, TIOCSCTTY, 0) < 0)
		return fault(f, "device", "/dev/pts/ptmx", errno, "cannot become the controlling terminal");
	for (int i = 0; i < 3; i++)
		s->stdio[i] = slave;
	return slave;
}

/* All descriptors are above 2 here, so no dup2 can overwrite one that is still needed. */
static int take_stdio(struct process_setup *s, uid_t uid, struct fault *f)
{
	for (int i = 0; i < 3; i++) {
		/* Otherwise a program of another user cannot reopen /dev/stdout. */
		struct stat st;
		if (fstat(s->stdio[i], &st) == 0 && !(S_ISCHR(st.st_mode) && st.st_rdev == 0x103) && st.st_uid != uid)
			(void)!fchown(s->stdio[i], uid, (gid_t)-1);
		if (dup2(s->stdio[i], i) < 0)
			return fault(f, "exec", "stdio", errno, NULL);
	}
	return 0;
}

static int enter_workdir(struct process_setup *s, struct fault *f)
{
	const struct process *p = s->process;
	const char *path = p->workdir ? p->workdir : "/";
	if (p->workdir_create) {
		int made = resolve_make(s->root_fd, path, true, 0755, f, "workdir");
		if (made < 0)
			return -1;
		close(made);
	}
	/* Magic links would lead out through /proc/self/fd (CVE-2024-21626). */
	int dir = resolve_workdir(s->root_fd, path, f, "workdir");
	if (dir < 0)
		return -1;
	if (fchdir(dir) < 0)
		return fault(f, "workdir", path, errno, NULL);
	close(dir);
	char cwd[4096];
	if (!getcwd(cwd, sizeof(cwd)) || cwd[0] != '/')
		return fault(f, "workdir", path, EXDEV, "the directory is outside the container");
	return 0;
}

static bool env_has(char *const *env, const char *entry)
{
	size_t n = strcspn(entry, "=") + 1;
	for (; *env; env++)
		if (!strncmp(*env, entry, n))
			return true;
	return false;
}

static char **make_env(const struct process *p, const struct identity *who)
{
	char **env = calloc(p->env.count + p->default_env.count + 2, sizeof(*env));
	static char home[300];
	size_t n = 0;
	if (!env)
		return NULL;
	for (size_t i = 0; i < p->env.count; i++)
		env[n++] = (char *)p->env.at[i];
	for (size_t i = 0; i < p->default_env.count; i++)
		if (!env_has(env, p->default_env.at[i]))
			env[n++] = (char *)p->default_env.at[i];
	if (!env_has(env, "HOME=")) {
		snprintf(home, sizeof(home), "HOME=%s", who->home);
		env[n++] = home;
	}
	return env;
}

static int set_rlimits(const struct process *p, struct fault *f)
{
	for (size_t i = 0; i < p->rlimit_count; i++)
		if (setrlimit((__rlimit_resource_t)p->rlimits[i].resource, &p->rlimits[i].limit) < 0)
			return fault(f, "rlimit", p->rlimits[i].text, errno, errno == EPERM ? "raising a hard limit needs CAP_SYS_RESOURCE" : NULL);
	return 0;
}

static int load_filter(const struct sock_fprog *program, unsigned flags)
{
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, program);
}

/* listen(2) is reported to the warden, which makes the call on the socket itself and so knows when it has been made. Best effort: inside
 * a container that has such a listener already (nested engines) the kernel refuses a second one. */
static void report_listen(int status_fd)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_listen, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(*code), code};
	/* Without WAIT_KILLABLE a signal to the caller, such as SIGURG from Go's scheduler, would restart the call (5.19). */
	int listener = load_filter(&program, SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
	if (listener < 0 && errno == EINVAL)
		listener = load_filter(&program, SECCOMP_FILTER_FLAG_NEW_LISTENER);
	if (listener < 0)
		return;
	struct status status = {.kind = STATUS_LISTENER};
	status_send(status_fd, &status, listener);
	close(listener);
}

static int set_capabilities(uint64_t mask)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {
		{(uint32_t)mask, (uint32_t)mask, 0}, {(uint32_t)(mask >> 32), (uint32_t)(mask >> 32), 0}};
	return (int)syscall(SYS_capset, &header, data);
}

static uint64_t permitted_capabilities(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {0};
	if (syscall(SYS_capget, &header, data) < 0)
		return 0;
	return data[0].permitted | (uint64_t)data[1].permitted << 32;
}

static int drop_privileges(struct process_setup *s, const struct identity *who, struct fault *f)
{
	const struct process *p = s->process;
	/* What we do not have ourselves cannot be given; that is no error (TypeScript has warned where it was named). */
	uint64_t have = permitted_capabilities(), caps = p->caps & have;
	for (int cap = 0; cap < 64 && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (!(p->caps >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return fault(f, "capabilities", "bounding set", errno, NULL);
	if (p->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return fault(f, "capabilities", "no-new-privileges", errno, NULL);
	prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
	/* A user namespace with a single id forbids setgroups; then there is nothing to drop either. */
	if (setgroups(who->group_count, who->groups) < 0 && !(s->rootless && errno == EPERM))
		return fault(f, "user", "supplementary groups", errno, NULL);
	if (setresgid(who->gid, who->gid, who->gid) < 0 || setresuid(who->uid, who->uid, who->uid) < 0) {
		char text[64];
		snprintf(text, sizeof(text), "%u:%u", who->uid, who->gid);
		return fault(f, "user", text, errno, errno == EINVAL ? "this id is not mapped: an unprivileged user needs ranges in /etc/subuid and /etc/subgid" : NULL);
	}
	/* The change of uid emptied the effective set; the filters need it once more. */
	if (set_capabilities(have) < 0)
		return fault(f, "capabilities", "effective set", errno, NULL);
	if (s->report_listen)
		report_listen(s->status_fd);
	if (s->seccomp && load_filter(s->seccomp, 0) < 0)
		return fault(f, "seccomp", "filter", errno, NULL);
	if (set_capabilities(who->uid ? 0 : caps) < 0)
		return fault(f, "capabilities", "permitted set", errno, NULL);
	return 0;
}

/* As execvp, but with the container's PATH, and remembering that something was found but could not be run. */
static int exec_program(const char *const *argv, char **env, struct fault *f)
{
	const char *program = argv[0], *path = NULL;
	int error = ENOENT;
	for (char **e = env; *e; e++)
		if (!strncmp(*e, "PATH=", 5))
			path = *e + 5;
	if (!*program)
		return fault(f, "exec", program, ENOENT, "the program's name is empty");
	if (strchr(program, '/')) {
		execve(program, (char **)argv, env);
		error = errno;
	} else {
		char candidate[4096];
		for (path = path ? path : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"; path;) {
			size_t n = strcspn(path, ":");
			int length = snprintf(candidate, sizeof(candidate), "%.*s%s%s", (int)n, path, n ? "/" : "./", program);
			if (length > 0 && (size_t)length < sizeof(candidate)) {
				execve(candidate, (char **)argv, env);
				struct stat st;
				if (errno == ENOENT && stat(candidate, &st) == 0) {
					error = ENOENT; /* the file is there: its interpreter is not */
					program = candidate;
					break;
				}
				if (errno == EACCES)
					error = EACCES;
				else if (errno != ENOENT && errno != ENOTDIR) {
					error = errno;
					break;
				}
			}
			path = path[n] ? path + n + 1 : NULL;
		}
	}
	struct stat st;
	if (error == EACCES && strchr(program, '/') && stat(program, &st) == 0 && S_ISDIR(st.st_mode))
		error = EISDIR;
	bool present = error == ENOENT && strchr(program, '/') && stat(program, &st) == 0;
	const char *why = present ? "the file is there, but the interpreter or loader it names is not in the container"
		: error == ENOENT ? "no such program in the container"
		: error == ENOEXEC ? "not a program for this machine, nor a script with an interpreter line"
		: error == EACCES ? "not executable"
		: error == EISDIR ? "it is a directory" : NULL;
	return fault(f, "exec", argv[0], error, why);
}

void process_become(struct process_setup *s)
{
	struct fault f = {0};
	struct identity who;
	const struct process *p = s->process;
	if (identity_find(s->root_fd, p->user, &p->groups, &who, &f) < 0)
		goto failed;
	char **env = make_env(p, &who);
	if (!env) {
		fault(&f, "exec", "environment", ENOMEM, NULL);
		goto failed;
	}
	if (enter_workdir(s, &f) < 0 || take_stdio(s, who.uid, &f) < 0 || set_rlimits(p, &f) < 0)
		goto failed;
	umask(p->umask);
	/* Everything of ours is close-on-exec already; this is the second lock on that door. */
	syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC);
	sigset_t none;
	sigemptyset(&none);
	for (int signal_number = 1; signal_number < NSIG; signal_number++)
		signal(signal_number, SIG_DFL);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (drop_privileges(s, &who, &f) < 0)
		goto failed;
	if (s->init) {
		/* A fresh program image, so that PID 1 does not carry the warden's memory into the container. */
		char number[16];
		const char **argv = calloc(p->argv.count + 3, sizeof(*argv));
		snprintf(number, sizeof(number), "%d", s->status_fd);
		if (argv) {
			argv[0] = "mayfly-init";
			argv[1] = number;
			memcpy(argv + 2, p->argv.at, p->argv.count * sizeof(*argv));
			fcntl(s->status_fd, F_SETFD, 0);
			syscall(SYS_execveat, s->self_exe, "", argv, env, AT_EMPTY_PATH);
		}
		fault(&f, "exec", "init", errno, NULL);
		goto failed;
	}
	exec_program(p->argv.at, env, &f);
failed:
	status_fail(s->status_fd, &f);
}

int init_main(int argc, char **argv)
{
	if (argc < 3)
		return 125;
	int status_fd = atoi(argv[1]);
	sigset_t all, before;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid_t child = fork();
	if (child == 0) {
		struct fault f = {0};
		fcntl(status_fd, F_SETFD, FD_CLOEXEC);
		setpgid(0, 0);
		if (isatty(0)) {
			signal(SIGTTOU, SIG_IGN);
			tcsetpgrp(0, getpgrp());
			signal(SIGTTOU, SIG_DFL);
		}
		sigprocmask(SIG_SETMASK, &before, NULL);
		exec_program((const char *const *)argv + 2, environ, &f);
		status_fail(status_fd, &f);
	}
	close(status_fd);
	if (child < 0)
		return 125;
	for (;;) {
		siginfo_t info;
		if (sigwaitinfo(&all, &info) < 0)
			continue;
		if (info.si_signo != SIGCHLD) {
			kill(child, info.si_signo);
			continue;
		}
		int status;
		pid_t ended;
		while ((ended = waitpid(-1, &status, WNOHANG)) > 0)
			if (ended == child) /* PID 1 cannot die of a signal it did not handle, so the shell's way of saying it */
				return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	}
}
