#define _GNU_SOURCE
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "exec.h"
#include "pass.h"

/* Descriptors of a request, in this order; absent ones are left out and their bit in `given` is clear. */
enum { FD_WORDS, FD_STDIN, FD_STDOUT, FD_STDERR, FD_STATUS, FD_NET, FD_IPC, FD_CGROUP, FD_SECCOMP, FD_CONTAINER, FD_FIXED };

struct spawn_request {
	enum { SPAWN_CONTAINER = 1, SPAWN_EXEC, SPAWN_KILL } kind;
	pid_t pid;                  /* SPAWN_KILL */
	int number;
	unsigned given;
	size_t procs_count;         /* further descriptors: cgroup.procs or tasks of v1 groups */
};
struct spawn_answer { enum { SPAWN_STARTED = 1, SPAWN_ENDED } kind; pid_t pid; int status; };

static int memory_file(const void *bytes, size_t length)
{
	int fd = memfd_create("spawn", MFD_CLOEXEC);
	if (fd >= 0 && write(fd, bytes, length) != (ssize_t)length) {
		close(fd);
		return -1;
	}
	return fd;
}

/* -- the warden's side ---------------------------------------------------------------------------------------------------- */

static struct watch channel = {.fd = -1};
static struct child *spawned;

static void ended(const struct spawn_answer *answer)
{
	for (struct child **at = &spawned; *at; at = &(*at)->next)
		if ((*at)->pid == answer->pid) {
			struct child *child = *at;
			*at = child->next;
			child->pid = 0;
			child->ended(child, answer->status);
			return;
		}
}

static void answered(struct watch *w, uint32_t events)
{
	struct spawn_answer answer;
	int fds[PASS_MAX];
	size_t count;
	(void)events;
	while (pass_receive(w->fd, &answer, sizeof(answer), MSG_DONTWAIT, fds, &count) == sizeof(answer))
		if (answer.kind == SPAWN_ENDED)
			ended(&answer);
}

void spawn_open(int fd)
{
	loop_watch(&channel, fd, EPOLLIN, answered);
}

int spawn_kill(const struct child *child, int number)
{
	struct spawn_request request = {.kind = SPAWN_KILL, .pid = child->pid, .number = number};
	return child->pid && send(channel.fd, &request, sizeof(request), MSG_NOSIGNAL) == sizeof(request) ? 0 : (errno = ESRCH, -1);
}

/* Waits for the launcher's answer, which comes in tens of microseconds. Ends that arrive meanwhile are kept for later. */
static int await_start(struct child *child, void (*on_end)(struct child *, int), int *pidfd)
{
	struct spawn_answer answer, *early = NULL;
	size_t early_count = 0;
	int done = -1;
	int fds[PASS_MAX];
	for (;;) {
		size_t count;
		if (pass_receive(channel.fd, &answer, sizeof(answer), 0, fds, &count) != sizeof(answer))
			break;
		if (answer.kind == SPAWN_STARTED) {
			done = answer.pid < 0 || !count ? -1 : 0;
			errno = answer.pid < 0 ? -answer.pid : EPROTO;
			break;
		}
		struct spawn_answer *longer = realloc(early, (early_count + 1) * sizeof(*early));
		if (!longer)
			continue;
		early = longer;
		early[early_count++] = answer;
	}
	int error = errno;
	/* Before the new one is entered: it may have the number of one that has ended. */
	for (size_t i = 0; i < early_count; i++)
		ended(&early[i]);
	free(early);
	errno = error;
	if (done < 0)
		return -1;
	if (pidfd)
		*pidfd = fds[0];
	else
		close(fds[0]);
	*child = (struct child){.pid = answer.pid, .ended = on_end, .next = spawned};
	spawned = child;
	return 0;
}

static int ask(struct spawn_request *request, const int fixed[FD_FIXED], const int *procs_fds, size_t procs_count)
{
	int fds[PASS_MAX];
	size_t count = 0;
	for (int i = 0; i < FD_FIXED; i++)
		if (fixed[i] >= 0) {
			request->given |= 1u << i;
			fds[count++] = fixed[i];
		}
	for (size_t i = 0; i < procs_count && count < PASS_MAX; i++, request->procs_count++)
		fds[count++] = procs_fds[i];
	return pass_send(channel.fd, request, sizeof(*request), fds, count) == sizeof(*request) ? 0 : -1;
}

/* Words for the launcher's child: what it cannot know, then `plan`, then the plan as node sent it. */
static int write_words(const struct plan *plan, const char *const *extra, size_t extra_count)
{
	size_t length = 64 + plan->original_length;
	for (size_t i = 0; i < extra_count; i++)
		length += strlen(extra[i]) + 1;
	char *text = malloc(length), *to = text;
	if (!text)
		return -1;
	to = stpcpy(to, "spawn") + 1;
	to = stpcpy(to, "1") + 1;
	for (size_t i = 0; i < extra_count; i++)
		to = stpcpy(to, extra[i]) + 1;
	to = stpcpy(to, "plan") + 1;
	to = stpcpy(to, "") + 1;
	memcpy(to, plan->original, plan->original_length);
	int fd = memory_file(text, (size_t)(to - text) + plan->original_length);
	free(text);
	return fd;
}

static int start(bool exec, int words, const struct process_setup *setup, const int nets[2], int cgroup_fd, int container,
	const int *procs_fds, size_t procs_count, struct child *child, void (*on_end)(struct child *, int), int *pidfd, struct fault *f)
{
	struct spawn_request request = {.kind = exec ? SPAWN_EXEC : SPAWN_CONTAINER};
	int filter = setup->seccomp ? memory_file(setup->seccomp->filter, setup->seccomp->len * sizeof(struct sock_filter)) : -1;
	const int fixed[FD_FIXED] = {
		[FD_WORDS] = words, [FD_STDIN] = setup->stdio[0], [FD_STDOUT] = setup->stdio[1], [FD_STDERR] = setup->stdio[2],
		[FD_STATUS] = setup->status_fd, [FD_NET] = nets[0], [FD_IPC] = nets[1], [FD_CGROUP] = cgroup_fd, [FD_SECCOMP] = filter,
		[FD_CONTAINER] = container};
	int done = words < 0 || (setup->seccomp && filter < 0) || ask(&request, fixed, procs_fds, procs_count) < 0 ||
		await_start(child, on_end, pidfd) < 0 ? fault(f, "namespace", "pid=host", errno, "the launcher could not start it") : 0;
	if (words >= 0)
		close(words);
	if (filter >= 0)
		close(filter);
	return done;
}

int spawn_container(struct launch *l, int cgroup_fd, struct child *child, void (*on_end)(struct child *, int), int *pidfd, struct fault *f)
{
	const char *extra[64] = {"upper", l->upper, "work", l->work, "attach", l->attach};
	size_t count = 6;
	if (l->mounted) {
		extra[count++] = "mounted";
		extra[count++] = l->mounted;
	}
	for (size_t i = 0; i < l->view_count && count < 60; i++) {
		extra[count++] = "view-name";
		extra[count++] = l->views[i].name;
		extra[count++] = "view-path";
		extra[count++] = l->views[i].path;
	}
	for (size_t i = 0; i < l->plan->file_count && count < 62; i++) {
		extra[count++] = "file-path";
		extra[count++] = l->plan->files[i].host_path;
	}
	return start(false, write_words(l->plan, extra, count), &l->setup, (int[]){l->net_ns, l->ipc_of}, cgroup_fd, -1,
		l->procs_fds, l->procs_count, child, on_end, pidfd, f);
}

int spawn_exec(struct plan *plan, int container_pidfd, struct process_setup *setup, int cgroup_fd, const int *procs_fds, size_t procs_count,
	struct child *child, void (*on_end)(struct child *, int), struct fault *f)
{
	return start(true, write_words(plan, NULL, 0), setup, (int[]){-1, -1}, cgroup_fd, container_pidfd, procs_fds, procs_count, child, on_end, NULL, f);
}

/* -- the launcher's side -------------------------------------------------------------------------------------------------- */

enum { CHILDREN_MAX = 1024 };
static pid_t children[CHILDREN_MAX];
static size_t child_count;

static char *read_all(int fd, size_t *length)
{
	struct stat st;
	char *text = fstat(fd, &st) == 0 ? malloc((size_t)st.st_size + 1) : NULL;
	*length = text && pread(fd, text, (size_t)st.st_size, 0) == st.st_size ? (size_t)st.st_size : 0;
	return text;
}

/* Splits the words again: the pairs before `plan` are ours, the rest is the plan's. */
static int read_words(int fd, struct request *all, struct request *plan_words, struct fault *f)
{
	size_t length, i = 0;
	char *text = read_all(fd, &length);
	if (!text || request_parse(text, length, all) < 0)
		return fault(f, "request", "spawn", errno, NULL);
	while (i < all->count && strcmp(all->pairs[i].key, "plan"))
		i++;
	*plan_words = (struct request){.verb = "create", .pairs = all->pairs + i + 1, .count = all->count - i - 1};
	all->count = i;
	return 0;
}

static int enter_v2(int cgroup_fd)
{
	int procs = cgroup_fd < 0 ? -1 : openat(cgroup_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	return cgroup_fd < 0 || (procs >= 0 && write(procs, "0", 1) == 1) ? 0 : -1;
}

static _Noreturn void run_container(const int fixed[FD_FIXED], const int *procs, size_t procs_count, int warden_pidfd, struct process_setup *setup)
{
	struct fault f = {0};
	struct request all, words;
	static struct plan plan;
	static struct cgroup_view views[16];
	struct launch l = {.plan = &plan, .setup = *setup, .procs_fds = procs, .procs_count = procs_count, .views = views,
		.net_ns = fixed[FD_NET], .ipc_of = fixed[FD_IPC]};
	if (read_words(fixed[FD_WORDS], &all, &words, &f) < 0 || plan_read(&plan, &words, false, &f) < 0)
		status_fail(setup->status_fd, &f);
	l.setup.process = &plan.process;
	l.setup.report_listen = plan.report_listen;
	l.setup.init = plan.init;
	l.upper = request_get(&all, "upper");
	l.work = request_get(&all, "work");
	l.mounted = request_get(&all, "mounted");
	l.attach = request_get(&all, "attach");
	size_t file = 0;
	for (size_t i = 0; i < all.count; i++) {
		if (!strcmp(all.pairs[i].key, "view-name") && l.view_count < 16)
			views[l.view_count++].name = all.pairs[i].value;
		else if (!strcmp(all.pairs[i].key, "view-path") && l.view_count)
			views[l.view_count - 1].path = all.pairs[i].value;
		else if (!strcmp(all.pairs[i].key, "file-path") && file < plan.file_count)
			plan.files[file++].host_path = (char *)all.pairs[i].value;
	}
	if (launch_adjust_oom_score(&plan, &f) < 0) /* here /proc is the host's still, in which this process exists */
		status_fail(setup->status_fd, &f);
	plan.has_oom_score_adj = false;
	if (enter_v2(fixed[FD_CGROUP]) < 0 || setns(warden_pidfd, CLONE_NEWNS) < 0 ||
	    unshare((int)(launch_flags(&plan) & (CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS))) < 0) {
		fault(&f, "namespace", "pid=host", errno, NULL);
		status_fail(setup->status_fd, &f);
	}
	launch_child(&l);
}

static _Noreturn void run_exec(const int fixed[FD_FIXED], const int *procs, size_t procs_count, struct process_setup *setup)
{
	struct fault f = {0};
	struct request all, words;
	static struct plan plan;
	if (read_words(fixed[FD_WORDS], &all, &words, &f) < 0 || plan_read(&plan, &words, true, &f) < 0)
		status_fail(setup->status_fd, &f);
	setup->process = &plan.process;
	if (enter_v2(fixed[FD_CGROUP]) < 0) {
		fault(&f, "cgroup", "cgroup.procs", errno, NULL);
		status_fail(setup->status_fd, &f);
	}
	exec_child(&plan, fixed[FD_CONTAINER], procs, procs_count, setup);
}

static _Noreturn void run(const struct spawn_request *request, const int fixed[FD_FIXED], const int *procs, int warden_pidfd, int self_exe)
{
	static struct sock_fprog program;
	size_t length;
	struct process_setup setup = {.status_fd = fixed[FD_STATUS], .self_exe = self_exe, .root_fd = -1,
		.stdio = {fixed[FD_STDIN], fixed[FD_STDOUT], fixed[FD_STDERR]}};
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (fixed[FD_SECCOMP] >= 0) {
		program.filter = (struct sock_filter *)(void *)read_all(fixed[FD_SECCOMP], &length);
		program.len = (unsigned short)(length / sizeof(struct sock_filter));
		setup.seccomp = &program;
	}
	if (request->kind == SPAWN_CONTAINER)
		run_container(fixed, procs, request->procs_count, warden_pidfd, &setup);
	run_exec(fixed, procs, request->procs_count, &setup);
}

bool spawn_serve(int fd, int warden_pidfd, int self_exe)
{
	struct spawn_request request;
	int fds[PASS_MAX], fixed[FD_FIXED];
	size_t count, next = 0;
	if (pass_receive(fd, &request, sizeof(request), 0, fds, &count) != sizeof(request))
		return true;
	if (request.kind == SPAWN_KILL) {
		for (size_t i = 0; i < child_count; i++) /* not reaped yet, so the number is still its own */
			if (children[i] == request.pid)
				kill(request.pid, request.number);
		return true;
	}
	for (int i = 0; i < FD_FIXED; i++)
		fixed[i] = request.given & 1u << i && next < count ? fds[next++] : -1;
	pid_t pid = child_count < CHILDREN_MAX ? fork() : (errno = EAGAIN, -1);
	if (pid == 0)
		run(&request, fixed, fds + next, warden_pidfd, self_exe);
	struct spawn_answer answer = {SPAWN_STARTED, pid < 0 ? -errno : pid, 0};
	int pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	if (pid > 0)
		children[child_count++] = pid;
	bool told = pass_answer(fd, &answer, sizeof(answer), &pidfd, pidfd >= 0) == sizeof(answer);
	if (pidfd >= 0)
		close(pidfd);
	for (size_t i = 0; i < count; i++)
		close(fds[i]);
	return told;
}

bool spawn_reaped(int fd, pid_t pid, int status)
{
	for (size_t i = 0; i < child_count; i++)
		if (children[i] == pid) {
			children[i] = children[--child_count];
			struct spawn_answer answer = {SPAWN_ENDED, pid, status};
			pass_answer(fd, &answer, sizeof(answer), NULL, 0);
			return true;
		}
	return false;
}

void spawn_kill_all(void)
{
	for (size_t i = 0; i < child_count; i++)
		kill(children[i], SIGKILL);
}

bool spawn_living(void)
{
	for (size_t i = child_count; i-- > 0;)
		if (waitpid(children[i], NULL, WNOHANG) != 0)
			children[i] = children[--child_count];
	return child_count > 0;
}
