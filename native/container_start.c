/* From a plan to a running program, as the warden sees it: all that the child needs is made ready, the child is cloned (launch.c is its
 * side), and its reports are read until the program runs. Also the output of the program. */
#define _GNU_SOURCE
#include "container_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "launch.h"
#include "spawn.h"

enum { READ_CHUNK = 65536, READ_TURNS = 4, DRAIN_TURNS = 4 /* 1 MiB, the kernel's default for fs.pipe-max-size */ };

static void read_output(struct watch *w, uint32_t events)
{
	static char buffer[READ_CHUNK];
	struct output *o = container_of(w, struct output, watch);
	(void)events;
	/* A few chunks a turn: a flood must not starve the others. */
	for (int turn = 0; turn < READ_TURNS; turn++) {
		ssize_t got = read(o->fd, buffer, sizeof(buffer));
		if (got > 0) {
			log_append(o->container->log, o->stream, buffer, (size_t)got);
			if ((size_t)got < sizeof(buffer))
				return;
			continue;
		}
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		/* End of file; on a terminal the last close of the slave shows as EIO. */
		loop_forget(&o->watch);
		if (o->fd != o->container->terminal)
			close(o->fd);
		o->fd = -1;
		return;
	}
}

static void output_open(struct output *o, struct container *c, int fd, int stream)
{
	fcntl(fd, F_SETFL, O_NONBLOCK);
	*o = (struct output){.container = c, .fd = fd, .stream = stream, .watch.fd = -1};
	loop_watch(&o->watch, fd, EPOLLIN, read_output);
}

/* Everything the program wrote before it died is in the pipe; who else holds it open does not count, and may write for ever: no more is
 * read than a pipe can hold. */
void container_output_close(struct output *o)
{
	for (int turn = 0; o->fd >= 0; turn++) {
		int before = o->fd;
		uint64_t bytes = log_bytes(o->container->log);
		read_output(&o->watch, 0);
		if (o->fd == before && (log_bytes(o->container->log) == bytes || turn == DRAIN_TURNS)) {
			loop_forget(&o->watch);
			if (o->fd != o->container->terminal)
				close(o->fd);
			o->fd = -1;
		}
	}
}

static void terminal_open(struct container *c, int master)
{
	c->terminal = master;
	output_open(&c->out, c, master, STREAM_STDOUT);
	int input = fcntl(master, F_DUPFD_CLOEXEC, 3);
	if (c->plan.process.stdin_open && input >= 0)
		feed_init(&c->feed, input, true);
	else if (input >= 0)
		close(input);
}

static void running(struct container *c)
{
	c->state = CONTAINER_RUNNING;
	c->started_ns = wall_ns();
	if (!c->start_seq)
		return;
	struct json *j = reply_begin(c->start_seq);
	json_number(j, "pid", c->child.pid);
	json_decimal(j, "startedAt", c->started_ns);
	if (c->single_request)
		container_describe(j, c);
	line_end();
	c->start_seq = 0;
}

static void take_status(void *owner, const struct status *status, int fd)
{
	struct container *c = owner;
	if (status->kind == STATUS_FAULT)
		c->fault = status->fault;
	else if (status->kind == STATUS_LISTENER && fd >= 0)
		notify_open(&c->notify, fd, c->plan.id);
	else if (status->kind == STATUS_TERMINAL && fd >= 0 && c->plan.process.tty && c->terminal < 0)
		terminal_open(c, fd);
	else if (fd >= 0)
		close(fd);
}

void container_read_status(struct watch *w, uint32_t events)
{
	struct container *c = container_of(w, struct container, status);
	(void)events;
	if (!status_read(w, take_status, c))
		return;
	/* The program runs (its end was close-on-exec), or the child is gone and its exit comes next. */
	if (!c->fault.error && c->state == CONTAINER_STARTING)
		running(c);
}

/* A pipe whose warden's end does not block. */
static int pipe_for(int ends[2], bool child_reads)
{
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	return fcntl(ends[child_reads], F_SETFL, O_NONBLOCK);
}

static int open_stdio(struct container *c, int child_ends[3], struct fault *f)
{
	int in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1};
	child_ends[0] = child_ends[1] = child_ends[2] = -1;
	if (c->plan.process.tty)
		return 0;
	if (c->plan.process.stdin_open ? pipe_for(in, true) < 0 : (in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0)
		return fault(f, "exec", "stdin", errno, NULL);
	child_ends[0] = in[0];
	if (in[1] >= 0)
		feed_init(&c->feed, in[1], false);
	if (pipe_for(out, false) < 0)
		return fault(f, "exec", "stdout", errno, NULL);
	child_ends[1] = out[1];
	output_open(&c->out, c, out[0], STREAM_STDOUT);
	if (pipe_for(err, false) < 0)
		return fault(f, "exec", "stderr", errno, NULL);
	child_ends[2] = err[1];
	output_open(&c->err, c, err[0], STREAM_STDERR);
	return 0;
}

static struct container *running_other(const char *id, const char *step, struct fault *f)
{
	struct container *other = container_find(id);
	if (!other || other->state != CONTAINER_RUNNING) {
		fault(f, step, id, ESRCH, "the other container is not running");
		return NULL;
	}
	return other;
}

static bool borrows(const struct container *c, const struct container *source)
{
	for (size_t i = 0; i < c->source_count; i++)
		if (c->sources[i] == source)
			return true;
	return false;
}

bool container_lends(const struct container *c)
{
	for (const struct container *other = session.containers; other; other = other->next)
		if ((other->state == CONTAINER_RUNNING || other->state == CONTAINER_STARTING) && borrows(other, c))
			return true;
	return false;
}

/* The roots of other containers that mounts take their sources from: found, mounted where they do not run, and held. */
static int open_source_roots(struct container *c, struct fault *f)
{
	struct plan *plan = &c->plan;
	for (size_t i = 0; i < plan->mount_count; i++) {
		struct mount_step *m = &plan->mounts[i];
		if (!m->source_root || *m->source_root == '/')
			continue;
		struct container *other = container_find(m->source_root + strlen("container:"));
		bool borrowed = borrows(c, other);
		if (!other || other == c || !container_has_root(other) || (other->removing && !borrowed))
			return fault(f, "mount-source", m->source_root, ENOENT, "there is no such other container");
		if (plan->pid == NS_HOST)
			return fault(f, "mount-source", m->source_root, ENOTSUP, "with pid=host a mount's source cannot lie in a container");
		m->source_pidfd = other->state == CONTAINER_RUNNING ? other->pidfd : -1;
		m->source_mounted = NULL;
		if (other->state == CONTAINER_STARTING)
			return fault(f, "mount-source", m->source_root, EBUSY, "the other container is starting");
		if (m->source_pidfd < 0) {
			if (other->started_once && scratch_fresh_work(&other->scratch, ++other->starts, f) < 0)
				return -1;
			if (scratch_mount(&other->scratch, &other->plan.layers, f) < 0)
				return -1;
			m->source_mounted = scratch_mounted(&other->scratch);
		}
		if (borrowed)
			continue;
		if (!c->sources && !(c->sources = calloc(plan->mount_count, sizeof(*c->sources))))
			return fault(f, "mount-source", m->source_root, ENOMEM, NULL);
		c->sources[c->source_count++] = other;
		other->lent++;
	}
	return 0;
}

int container_start(struct container *c, struct fault *f)
{
	struct plan *plan = &c->plan;
	struct launch l = {.plan = plan, .net_ns = -1, .ipc_of = -1};
	struct container *pid_of = NULL, *other;
	int stdio[3] = {-1, -1, -1}, status[2] = {-1, -1}, done = -1;
	if (plan->clock_offset_ns && plan->pid == NS_HOST)
		return fault(f, "clock", "pid=host", ENOTSUP, "a process of the host's PID namespace cannot have clocks of its own here");
	if (plan->pid == NS_CONTAINER && !(pid_of = running_other(plan->pid_of, "namespace", f)))
		return -1;
	if (plan->ipc == NS_CONTAINER) {
		if (!(other = running_other(plan->ipc_of, "namespace", f)))
			return -1;
		l.ipc_of = other->pidfd;
	}
	if (plan->net == NET_CONTAINER) {
		if (!(other = running_other(plan->net_of, "network", f)))
			return -1;
		l.net_ns = other->slot ? net_slot_ns(other->slot) : session.host_net_ns;
	} else
		l.net_ns = c->slot ? net_slot_ns(c->slot) : session.host_net_ns;
	if (plan->process.seccomp && !(l.setup.seccomp = seccomp_find(plan->process.seccomp)))
		return fault(f, "seccomp", plan->process.seccomp, ENOENT, "no such program was sent");
	if (open_source_roots(c, f) < 0)
		return -1;
	if (!c->cgroup && !(c->cgroup = cgroup_make(plan->id, plan->limits, plan->limit_count, plan->device_rules, f)))
		return -1;
	if (c->started_once && scratch_fresh_work(&c->scratch, ++c->starts, f) < 0)
		return -1;
	if (open_stdio(c, stdio, f) < 0)
		goto out;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, status) < 0 || fcntl(status[0], F_SETFL, O_NONBLOCK) < 0) {
		fault(f, "exec", "status", errno, NULL);
		goto out;
	}
	l.upper = c->scratch.upper;
	l.work = c->scratch.work;
	l.attach = session.directory;
	l.mounted = scratch_mounted(&c->scratch);
	if (cgroup_procs_open(c->cgroup, &l.procs_fds, &l.procs_count, f) < 0)
		goto out;
	l.view_count = cgroup_views(c->cgroup, &l.views);
	l.setup.process = &plan->process;
	l.setup.status_fd = status[1];
	memcpy(l.setup.stdio, stdio, sizeof(stdio));
	l.setup.report_listen = plan->report_listen;
	l.setup.init = plan->init;
	l.setup.rootless = session.rootless;
	l.setup.self_exe = session.self_exe;
	uint64_t flags = launch_flags(plan);
	int cgroup_fd = cgroup_v2_fd(c->cgroup);
	if (plan->pid == NS_HOST) {
		if (spawn_container(&l, cgroup_fd, &c->child, container_exited, &c->pidfd, f) < 0)
			goto out;
		goto cloned;
	}
	pid_t pid = pid_of ? child_clone_in(pid_of->pidfd, flags, cgroup_fd, &c->pidfd) : child_clone(flags, cgroup_fd, &c->pidfd);
	if (pid == 0)
		launch_child(&l);
	if (pid < 0) {
		fault(f, "namespace", plan->id, errno, "clone3");
		goto out;
	}
	child_add(&c->child, pid, container_exited);
cloned:
	cgroup_procs_close(c->cgroup);
	c->state = CONTAINER_STARTING;
	c->started_once = true;
	c->fault = (struct fault){0};
	container_say_names(c, NULL);    /* fails only for want of memory */
	c->oom = false;
	log_set_open(c->log, true);
	loop_watch(&c->status, status[0], EPOLLIN | EPOLLHUP, container_read_status);
	status[0] = -1;
	done = 0;
out:
	for (int i = 0; i < 3; i++)
		if (stdio[i] >= 0)
			close(stdio[i]);
	for (int i = 0; i < 2; i++)
		if (status[i] >= 0)
			close(status[i]);
	if (done < 0) {
		container_output_close(&c->out);
		container_output_close(&c->err);
		feed_close(&c->feed);
	}
	return done;
}
