#define _GNU_SOURCE
#include "exec.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cgroup.h"
#include "log.h"
#include "process.h"
#include "spawn.h"
#include "warden.h"

enum { CHUNK = 65536, TURNS = 8, REST_MOST = 1 << 20 /* the kernel's default for fs.pipe-max-size */ };

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

struct exec;
struct source { struct watch watch; struct exec *exec; int fd, stream; size_t rest; /* read since the program's end */ };

struct exec {
	struct exec *next;
	struct plan plan;
	struct container *container;
	struct connection *connection;   /* NULL when the client is gone */
	struct child child;
	struct watch status;
	struct fault fault;
	uint64_t seq;
	struct source out, err;
	struct feed feed;
	int terminal, exit_status;
	bool replied, exited, ended;
};

static struct exec *execs;

static struct exec *find(const char *id)
{
	for (struct exec *e = execs; id && e; e = e->next)
		if (!strcmp(e->plan.exec_id, id))
			return e;
	return NULL;
}

bool exec_signal(const char *id, int number)
{
	struct exec *e = find(id);
	if (!e || e->exited)
		return false;
	return (container_plan(e->container)->pid == NS_HOST ? spawn_kill(&e->child, number) : kill(e->child.pid, number)) == 0;
}

bool exec_resize(const char *id, unsigned short columns, unsigned short rows)
{
	struct exec *e = find(id);
	struct winsize size = {.ws_col = columns, .ws_row = rows};
	return e && e->terminal >= 0 && ioctl(e->terminal, TIOCSWINSZ, &size) == 0;
}

static void source_close(struct source *s)
{
	loop_forget(&s->watch);
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

static void maybe_free(struct exec *e)
{
	if (e->connection || !e->exited)
		return;
	for (struct exec **at = &execs; *at; at = &(*at)->next)
		if (*at == e) {
			*at = e->next;
			break;
		}
	source_close(&e->out);
	source_close(&e->err);
	feed_close(&e->feed);
	if (e->terminal >= 0)
		close(e->terminal);
	container_hold(e->container, -1);
	plan_free(&e->plan);
	free(e);
}

/* The client has gone: the program goes on, but its output is closed. A terminal stays open, and fills up, since closing it would hang up. */
static void gone(struct connection *c)
{
	struct exec *e = c->owner;
	feed_release(&e->feed, c);
	connection_close(c);
	free(c);
	e->connection = NULL;
	if (!e->exited) {
		source_close(&e->out);
		source_close(&e->err);
		feed_close(&e->feed);
	}
	maybe_free(e);
}

static void reply(struct exec *e, const struct fault *f)
{
	struct json j = {0};
	if (!e->connection || e->replied)
		return;
	e->replied = true;
	json_begin(&j);
	json_number(&j, "seq", (int64_t)e->seq);
	json_bool(&j, "ok", !f);
	if (f)
		json_fault(&j, f);
	else
		json_number(&j, "pid", e->child.pid);
	json_end(&j);
	connection_send(e->connection, j.text, j.length);
	json_free(&j);
}

/* All output is out and the program has ended: the last frame says how. */
static void finish(struct exec *e)
{
	if (!e->exited || e->ended || e->out.fd >= 0 || e->err.fd >= 0)
		return;
	e->ended = true;
	if (!e->connection) {
		maybe_free(e);
		return;
	}
	if (!e->fault.error) {
		char text[64];
		int n = WIFSIGNALED(e->exit_status) ? snprintf(text, sizeof(text), "{\"signal\":%d}", WTERMSIG(e->exit_status))
			: snprintf(text, sizeof(text), "{\"code\":%d}", WEXITSTATUS(e->exit_status));
		connection_frame(e->connection, STREAM_NOTICE, wall_ns(), text, (size_t)n);
	}
	connection_end(e->connection);
}

static void source_ready(struct watch *w, uint32_t events);
static void read_status(struct watch *w, uint32_t events);

/* Reads only what the client takes: while a chunk waits to be sent, the pipe holds the program back. A few chunks a turn: a flood that is
 * taken as fast as it comes must not starve the others. */
static void source_pump(struct source *s)
{
	static char buffer[CHUNK];
	struct exec *e = s->exec;
	for (int turn = 0; turn < TURNS && s->fd >= 0 && e->connection && !connection_busy(e->connection); turn++) {
		ssize_t got = read(s->fd, buffer, sizeof(buffer));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN) {
			if (e->exited)
				source_close(s); /* somebody else may hold the pipe, but the program has said all it will */
			return;
		}
		if (got <= 0) {
			source_close(s);
			return;
		}
		connection_frame(e->connection, s->stream, wall_ns(), buffer, (size_t)got);
		/* Who else holds the pipe may write for ever: no more is read than it can have held when the program ended. */
		if (e->exited && (s->rest += (size_t)got) >= REST_MOST) {
			source_close(s);
			return;
		}
	}
	if (s->fd >= 0 && e->connection && connection_busy(e->connection))
		loop_forget(&s->watch); /* EPOLLHUP cannot be masked; drained() watches again */
}

static void source_ready(struct watch *w, uint32_t events)
{
	struct source *s = container_of(w, struct source, watch);
	struct exec *e = s->exec;
	(void)events;
	/* The reply comes first. The program's execve closed the status socket before it could write, so its end is there by now. */
	if (!e->replied && e->status.fd >= 0)
		read_status(&e->status, 0);
	if (!e->replied && e->connection)
		return;
	source_pump(s);
	finish(e);
}

static void source_open(struct source *s, struct exec *e, int fd, int stream)
{
	fcntl(fd, F_SETFL, O_NONBLOCK);
	*s = (struct source){.exec = e, .fd = fd, .stream = stream, .watch.fd = -1};
	loop_watch(&s->watch, fd, EPOLLIN, source_ready);
}

static void drained(struct connection *c)
{
	struct exec *e = c->owner;
	struct source *both[] = {&e->out, &e->err};
	for (int i = 0; i < 2; i++) {
		if (both[i]->fd >= 0 && both[i]->watch.fd < 0)
			loop_watch(&both[i]->watch, both[i]->fd, EPOLLIN, source_ready);
		if (e->exited)
			source_pump(both[i]);
	}
	finish(e);
}

static void take_terminal(struct exec *e, int fd)
{
	e->terminal = fd;
	if (!e->connection)
		return; /* the client did not wait */
	int reading = fcntl(fd, F_DUPFD_CLOEXEC, 3), writing = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (reading >= 0)
		source_open(&e->out, e, reading, STREAM_STDOUT);
	if (writing >= 0 && e->plan.process.stdin_open) {
		feed_init(&e->feed, writing, true);
		feed_attach(&e->feed, e->connection, true);
		connection_read(e->connection, true);
	} else if (writing >= 0)
		close(writing);
}

static void take_status(void *owner, const struct status *status, int fd)
{
	struct exec *e = owner;
	if (status->kind == STATUS_FAULT)
		e->fault = status->fault;
	else if (status->kind == STATUS_TERMINAL && fd >= 0 && e->terminal < 0)
		take_terminal(e, fd);
	else if (fd >= 0)
		close(fd);
}

static void read_status(struct watch *w, uint32_t events)
{
	struct exec *e = container_of(w, struct exec, status);
	(void)events;
	if (status_read(w, take_status, e) && !e->fault.error && !e->exited)
		reply(e, NULL);
}

static void exited(struct child *child, int status)
{
	struct exec *e = container_of(child, struct exec, child);
	if (e->status.fd >= 0)
		read_status(&e->status, 0);
	e->exited = true;
	e->exit_status = status;
	if (e->fault.error) {
		reply(e, &e->fault);
		source_close(&e->out);
		source_close(&e->err);
	} else if (!e->replied)
		reply(e, NULL);
	source_pump(&e->out);
	source_pump(&e->err);
	feed_close(&e->feed);
	if (e->connection)
		finish(e);
	else
		maybe_free(e);
}

_Noreturn void exec_child(const struct plan *plan, int pidfd, const int *procs_fds, size_t procs_count, struct process_setup *setup)
{
	struct fault f = {0};
	/* From here on programs of the container could see us; nothing of ours may be read or traced (CVE-2016-9962). */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	setsid();
	for (size_t i = 0; i < procs_count; i++)
		if (write(procs_fds[i], "0", 1) != 1) {
			fault(&f, "cgroup", "cgroup.procs", errno, NULL);
			status_fail(setup->status_fd, &f);
		}
	int flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP;
	/* One call for all (5.8), time apart: kernels may lack that namespace. */
	if (setns(pidfd, flags) < 0 || (setns(pidfd, CLONE_NEWTIME) < 0 && errno != EINVAL)) {
		fault(&f, "namespace", plan->container, errno, "cannot enter the container");
		status_fail(setup->status_fd, &f);
	}
	setup->root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (setup->root_fd < 0 || (plan->process.tty && process_terminal(setup, &f) < 0)) {
		fault(&f, "namespace", "/", errno, NULL);
		status_fail(setup->status_fd, &f);
	}
	process_become(setup);
}

static int launch(struct exec *e, struct fault *f)
{
	const struct process *p = &e->plan.process;
	struct cgroup *group = container_cgroup(e->container);
	struct process_setup setup = {.process = p, .stdio = {-1, -1, -1}, .rootless = session.rootless};
	int in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1}, status[2] = {-1, -1}, done = -1;
	if (p->seccomp && !(setup.seccomp = seccomp_find(p->seccomp)))
		return fault(f, "seccomp", p->seccomp, ENOENT, "no such program was sent");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, status) < 0 || fcntl(status[0], F_SETFL, O_NONBLOCK) < 0)
		goto out;
	if (!p->tty) {
		if (p->stdin_open ? pipe2(in, O_CLOEXEC) < 0 || fcntl(in[1], F_SETFL, O_NONBLOCK) < 0 : (in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0)
			goto out;
		if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
			goto out;
	}
	setup.stdio[0] = in[0];
	setup.stdio[1] = out[1];
	setup.stdio[2] = err[1];
	setup.status_fd = status[1];
	const int *procs_fds = NULL;
	size_t procs_count = 0;
	if (group && cgroup_procs_open(group, &procs_fds, &procs_count, f) < 0)
		goto out;
	int pidfd = container_pidfd(e->container);
	int cgroup_fd = group ? cgroup_v2_fd(group) : -1;
	if (container_plan(e->container)->pid == NS_HOST) {
		if (spawn_exec(&e->plan, pidfd, &setup, cgroup_fd, procs_fds, procs_count, &e->child, exited, f) < 0)
			goto out;
	} else {
		pid_t pid = child_clone_in(pidfd, 0, cgroup_fd, NULL);
		if (pid == 0)
			exec_child(&e->plan, pidfd, procs_fds, procs_count, &setup);
		if (pid < 0)
			goto out;
		child_add(&e->child, pid, exited);
	}
	loop_watch(&e->status, status[0], EPOLLIN | EPOLLHUP, read_status);
	status[0] = -1;
	if (!p->tty) {
		source_open(&e->out, e, out[0], STREAM_STDOUT);
		source_open(&e->err, e, err[0], STREAM_STDERR);
		out[0] = err[0] = -1;
		if (p->stdin_open) {
			feed_init(&e->feed, in[1], false);
			in[1] = -1;
			feed_attach(&e->feed, e->connection, true);
			connection_read(e->connection, true);
		}
	}
	done = 0;
out:
	if (group)
		cgroup_procs_close(group);
	if (done < 0)
		fault(f, "exec", p->argv.at[0], errno, NULL);
	int fds[] = {in[0], in[1], out[0], out[1], err[0], err[1], status[0], status[1]};
	for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return done;
}

void exec_open(struct connection *c, const struct request *r)
{
	struct fault f = {0};
	struct exec *e = calloc(1, sizeof(*e));
	c->owner = e;
	c->gone = gone;
	if (!e) {
		connection_close(c);
		free(c);
		return;
	}
	*e = (struct exec){.connection = c, .seq = r->seq, .terminal = -1, .status.fd = -1};
	e->out.fd = e->err.fd = e->out.watch.fd = e->err.watch.fd = -1;
	feed_init(&e->feed, -1, false);
	int read = plan_read(&e->plan, r, true, &f);
	e->container = read == 0 ? container_find(e->plan.container) : NULL;
	if (read == 0 && !e->container)
		read = fault(&f, "id", e->plan.container, ENOENT, "no such container");
	else if (read == 0 && !container_running(e->container))
		read = fault(&f, "state", e->plan.container, ESRCH, "the container is not running");
	else if (read == 0 && find(e->plan.exec_id))
		read = fault(&f, "id", e->plan.exec_id, EEXIST, "this exec id is taken");
	c->drained = drained;
	if (read < 0) {
		reply(e, &f);
		plan_free(&e->plan);
		/* Nothing was started: a plain connection that ends is all that is left. */
		c->drained = NULL;
		c->owner = NULL;
		c->gone = connection_free;
		free(e);
		connection_end(c);
		return;
	}
	container_hold(e->container, 1);
	e->next = execs;
	execs = e;
	if (launch(e, &f) < 0) {
		e->exited = e->ended = true;
		e->fault = f;
		reply(e, &f);
		connection_end(c);
	}
}
