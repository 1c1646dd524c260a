/* Starting and reaping. One signalfd tells of every exit; a child is ours until we reap it, so its number cannot be another's. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "warden.h"

static struct child *children;
static struct watch signals;

void child_add(struct child *child, pid_t pid, void (*ended)(struct child *, int status))
{
	*child = (struct child){.pid = pid, .ended = ended, .next = children};
	children = child;
}

static void reap(struct watch *w, uint32_t events)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;
	(void)events;
	while (read(w->fd, &info, sizeof(info)) == sizeof(info))
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (struct child **at = &children; *at; at = &(*at)->next) {
			struct child *child = *at;
			if (child->pid != pid)
				continue;
			*at = child->next;
			child->pid = 0;
			child->ended(child, status);
			break;
		}
}

int child_open(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -1;
	int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	signals.fd = -1;
	return fd < 0 ? -1 : loop_watch(&signals, fd, EPOLLIN, reap);
}

pid_t child_clone(uint64_t flags, int cgroup_fd, int *pidfd)
{
	struct clone_args args = {.flags = flags | (pidfd ? CLONE_PIDFD : 0), .pidfd = (uint64_t)(uintptr_t)pidfd, .exit_signal = SIGCHLD};
	if (cgroup_fd >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)cgroup_fd;
	}
	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

pid_t child_clone_in(int pidfd_of, uint64_t flags, int cgroup_fd, int *pidfd)
{
	/* Changes only where our next children are born; we stay where we are. */
	if (setns(pidfd_of, CLONE_NEWPID) < 0)
		return -1;
	pid_t pid = child_clone(flags & ~(uint64_t)CLONE_NEWPID, cgroup_fd, pidfd);
	int error = errno;
	if (pid != 0)
		setns(session.own_pid_ns, CLONE_NEWPID);
	errno = error;
	return pid;
}

int child_report_fd = -1;

void child_keep_only(const int *fds, size_t count)
{
	for (unsigned from = 3;;) {
		unsigned keep = child_report_fd >= (int)from ? (unsigned)child_report_fd : ~0u;
		for (size_t i = 0; i < count; i++)
			if (fds[i] >= (int)from && (unsigned)fds[i] < keep)
				keep = (unsigned)fds[i];
		if (keep > from)
			syscall(SYS_close_range, from, keep == ~0u ? ~0u : keep - 1, 0);
		if (keep == ~0u)
			return;
		from = keep + 1;
	}
}
