/* A container's life in the warden. Everything it owns hangs on struct container and is let go in release(), whatever happened before. */
#define _GNU_SOURCE
#include "container.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launch.h"
#include "notify.h"
#include "scratch.h"
#include "spawn.h"
#include "warden.h"

enum { READ_CHUNK = 65536, READ_TURNS = 4, DRAIN_TURNS = 4 /* 1 MiB, the kernel's default for fs.pipe-max-size */ };

static const int64_t GRACE_MOST_MS = 1000000000000; /* 31 years; the clock's nanoseconds must not overflow */

/* A request that is answered later: by the exit (stop), or when every trace is gone (remove). */
struct waiter { uint64_t seq; bool for_removal; struct waiter *next; };

struct output { struct watch watch; struct container *container; int fd, stream; };

struct container {
	struct container *next;
	struct plan plan;
	enum container_state state;
	bool paused, removing, started_once, single_request;
	bool never_was;                          /* its run has failed: forgotten without being asked, once it is gone */
	int holds;                               /* execs and copies that use it */
	uint64_t start_seq;                      /* 0 = no start is waiting for its reply */
	struct waiter *waiters;

	struct child child;
	int pidfd;
	struct watch status;                     /* the child's reports until the program runs */
	struct fault fault;                      /* why the start failed */
	struct notify notify;                    /* listen() reports */
	struct timer stop_timer;
	uint64_t started_ns, finished_ns;
	int exit_status;
	bool oom;

	struct cgroup *cgroup;
	struct net_slot *slot;
	bool net_tainted;
	struct publish **published;
	struct output out, err;
	int terminal;                            /* master, -1 = none */
	struct feed feed;
	struct log *log;
	struct scratch scratch;
	unsigned starts;
};

static void release(struct container *);
static void finish_removal(struct container *);
static void exited(struct child *, int status);

struct container *container_find(const char *id)
{
	for (struct container *c = session.containers; id && c; c = c->next)
		if (!strcmp(c->plan.id, id))
			return c;
	return NULL;
}

const char *container_id(const struct container *c) { return c->plan.id; }
bool container_running(const struct container *c) { return c->state == CONTAINER_RUNNING; }
bool container_has_root(const struct container *c) { return c->scratch.made; }
int container_pidfd(const struct container *c) { return c->pidfd; }
struct log *container_log(struct container *c) { return c->log; }
struct feed *container_stdin(struct container *c) { return c->feed.fd >= 0 ? &c->feed : NULL; }
struct cgroup *container_cgroup(struct container *c) { return c->cgroup; }
const struct plan *container_plan(const struct container *c) { return &c->plan; }

void container_hold(struct container *c, int by)
{
	c->holds += by;
	if (!c->holds && c->removing && c->state == CONTAINER_EXITED)
		finish_removal(c);
}

static bool is_bad_state(uint64_t seq, const struct container *c, bool ok, const char *why)
{
	if (ok)
		return false;
	struct fault f = {0};
	fault(&f, "state", c->plan.id, ENOENT, why);
	reply_fault(seq, &f);
	return true;
}

/* -- create ------------------------------------------------------------------------------------------------------------ */

static const char *address_text(const struct container *c, char *text)
{
	struct in_addr address = c->slot ? net_slot_address(c->slot) : (struct in_addr){0};
	return address.s_addr ? inet_ntop(AF_INET, &address, text, INET_ADDRSTRLEN) : "";
}

/* @ADDRESS@, @GATEWAY@ and @HOSTNAME@ are known only now. */
static char *fill_in(const struct container *c, const char *content)
{
	char address[INET_ADDRSTRLEN];
	const char *values[] = {address_text(c, address), session_gateway(), c->plan.hostname ? c->plan.hostname : ""};
	static const char *const NAMES[] = {"@ADDRESS@", "@GATEWAY@", "@HOSTNAME@"};
	char *text = strdup(content);
	for (size_t i = 0; text && i < 3; i++)
		for (char *at = text; text && (at = strstr(at, NAMES[i]));) {
			char *longer = NULL;
			size_t before = (size_t)(at - text);
			if (asprintf(&longer, "%.*s%s%s", (int)before, text, values[i], at + strlen(NAMES[i])) < 0)
				longer = NULL;
			free(text);
			text = longer;
			at = text ? text + before + strlen(values[i]) : NULL; /* not in what was filled in: a host may be named @HOSTNAME@ */
		}
	return text;
}

static int write_files(struct container *c, struct fault *f)
{
	for (size_t i = 0; i < c->plan.file_count; i++) {
		struct file_step *file = &c->plan.files[i];
		char *text = fill_in(c, file->content);
		int done = text ? scratch_file(&c->scratch, i, text, &file->host_path, f) : fault(f, "file", file->path, ENOMEM, NULL);
		free(text);
		if (done < 0)
			return -1;
	}
	return 0;
}

static int open_network(struct container *c, struct fault *f)
{
	struct plan *plan = &c->plan;
	if (plan->pid == NS_HOST && session.rootless)
		return fault(f, "namespace", "pid=host", ENOTSUP, "the host's processes cannot be shared without root");
	if (plan->net == NET_HOST && session.rootless)
		return fault(f, "network", "host", ENOTSUP, "the host's network cannot be shared without root; publish ports instead");
	if (plan->net == NET_BRIDGE && !session.network)
		return fault(f, "network", "bridge", ENOTSUP, "this engine was opened without a network");
	if (plan->net == NET_BRIDGE || plan->net == NET_NONE) {
		c->slot = plan->net == NET_BRIDGE ? net_take(f) : net_take_lonely(f);
		if (!c->slot)
			return -1;
	}
	if (plan->net != NET_BRIDGE)
		return plan->publish_count ? fault(f, "publish", "network", EINVAL, "only a container on the bridge network can publish ports") : 0;
	struct in_addr address = net_slot_address(c->slot);
	/* CAP_NET_ADMIN (12), CAP_SYS_ADMIN (21) and sysctls can leave traces in the namespace. */
	c->net_tainted = plan->sysctl_count || (plan->process.caps & (1ull << 12 | 1ull << 21));
	c->published = calloc(plan->publish_count + 1, sizeof(*c->published));
	for (size_t i = 0; i < plan->publish_count; i++) {
		const struct publish_step *p = &plan->publish[i];
		c->published[i] = publish_open(p->udp, p->host_ip, p->host_port, address, p->container_port, f);
		if (!c->published[i])
			return -1;
	}
	if ((plan->name && names_add(c, plan->name, address) < 0) || (plan->hostname && names_add(c, plan->hostname, address) < 0))
		return fault(f, "network", "name", errno, NULL);
	for (size_t i = 0; i < plan->dns_names.count; i++)
		if (names_add(c, plan->dns_names.at[i], address) < 0)
			return fault(f, "network", plan->dns_names.at[i], errno, NULL);
	return 0;
}

static struct container *make(const struct request *r, struct fault *f)
{
	struct container *c = calloc(1, sizeof(*c));
	if (!c) {
		fault(f, "request", "memory", ENOMEM, NULL);
		return NULL;
	}
	c->pidfd = c->terminal = c->status.fd = c->out.watch.fd = c->err.watch.fd = -1;
	c->out.fd = c->err.fd = -1;
	feed_init(&c->feed, -1, false);
	notify_init(&c->notify);
	if (plan_read(&c->plan, r, false, f) < 0)
		goto failed;
	if (container_find(c->plan.id)) {
		fault(f, "id", c->plan.id, EEXIST, "this id is taken");
		goto failed;
	}
	c->log = log_new(c->plan.log_bytes);
	if (!c->log || scratch_make(&c->scratch, c->plan.id, c->plan.upper_in_memory, &c->plan.layers, f) < 0 || open_network(c, f) < 0 || write_files(c, f) < 0)
		goto failed;
	log_set_open(c->log, true);
	c->next = session.containers;
	session.containers = c;
	return c;
failed:
	release(c);
	scratch_remove(&c->scratch, NULL, NULL);
	log_free(c->log);
	plan_free(&c->plan);
	free(c);
	return NULL;
}

static void forget(struct container *c)
{
	for (struct container **at = &session.containers; *at; at = &(*at)->next)
		if (*at == c) {
			*at = c->next;
			break;
		}
	release(c);
	log_free(c->log);
	plan_free(&c->plan);
	free(c);
}

static void describe(struct json *j, const struct container *c)
{
	char address[INET_ADDRSTRLEN];
	size_t size = 160 * (c->plan.publish_count + 1), used = 0;
	char *text = malloc(size);
	if (!text) {
		j->failed = true;
		return;
	}
	text[used++] = '[';
	for (size_t i = 0; c->published && i < c->plan.publish_count; i++) {
		const struct publish_step *p = &c->plan.publish[i];
		used += (size_t)snprintf(text + used, size - used, "%s{\"container\":%u,\"protocol\":\"%s\",\"ip\":\"%.64s\",\"host\":%u}",
			i ? "," : "", p->container_port, p->udp ? "udp" : "tcp", strcmp(p->host_ip, "*") ? p->host_ip : "127.0.0.1",
			publish_host_port(c->published[i]));
	}
	text[used] = ']';
	text[used + 1] = 0;
	json_string(j, "address", address_text(c, address));
	json_string(j, "gateway", c->slot ? session_gateway() : "");
	json_raw(j, "ports", text);
	free(text);
}

/* -- start ------------------------------------------------------------------------------------------------------------- */

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
static void output_close(struct output *o)
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
		describe(j, c);
	line_end();
	c->start_seq = 0;
}

static void read_status(struct watch *w, uint32_t events)
{
	struct container *c = container_of(w, struct container, status);
	(void)events;
	for (;;) {
		struct status status;
		int fd = -1;
		ssize_t got = status_receive(c->status.fd, &status, &fd);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN)
			return;
		if (got != sizeof(status))
			break;
		if (status.kind == STATUS_FAULT)
			c->fault = status.fault;
		else if (status.kind == STATUS_LISTENER && fd >= 0)
			notify_open(&c->notify, fd, c->plan.id);
		else if (status.kind == STATUS_TERMINAL && fd >= 0 && c->plan.process.tty && c->terminal < 0)
			terminal_open(c, fd);
		else if (fd >= 0)
			close(fd);
	}
	/* End: the program runs (its end was close-on-exec), or the child is gone and its exit comes next. */
	int fd = c->status.fd;
	loop_forget(&c->status);
	close(fd);
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

static int start(struct container *c, struct fault *f)
{
	struct plan *plan = &c->plan;
	struct launch l = {.plan = plan, .net_ns = -1, .ipc_of = -1};
	struct container *pid_of = NULL, *other;
	int stdio[3] = {-1, -1, -1}, status[2] = {-1, -1}, done = -1;
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
	l.procs_count = cgroup_procs_fds(c->cgroup, &l.procs_fds);
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
		if (spawn_container(&l, cgroup_fd, &c->child, exited, &c->pidfd, f) < 0)
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
	child_add(&c->child, pid, exited);
cloned:
	cgroup_procs_close(c->cgroup);
	c->state = CONTAINER_STARTING;
	c->started_once = true;
	c->fault = (struct fault){0};
	c->oom = false;
	log_set_open(c->log, true);
	loop_watch(&c->status, status[0], EPOLLIN | EPOLLHUP, read_status);
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
		output_close(&c->out);
		output_close(&c->err);
		feed_close(&c->feed);
	}
	return done;
}

void container_create(const struct request *r, bool start_now)
{
	struct fault f = {0};
	struct container *c = make(r, &f);
	if (!c) {
		reply_fault(r->seq, &f);
		return;
	}
	if (!start_now) {
		describe(reply_begin(r->seq), c);
		line_end();
		return;
	}
	c->single_request = true;
	c->start_seq = r->seq;
	if (start(c, &f) < 0) {
		release(c);
		scratch_remove(&c->scratch, NULL, NULL);
		forget(c);
		reply_fault(r->seq, &f);
	}
}

/* -- the end ------------------------------------------------------------------------------------------------------------ */

static void answer(struct container *c, bool removal)
{
	for (struct waiter **at = &c->waiters; *at;) {
		struct waiter *w = *at;
		if (w->for_removal != removal) {
			at = &w->next;
			continue;
		}
		*at = w->next;
		reply_begin(w->seq);
		line_end();
		free(w);
	}
}

static bool wait_for(struct container *c, uint64_t seq, bool removal)
{
	struct waiter *w = malloc(sizeof(*w));
	if (!w)
		return false;
	*w = (struct waiter){seq, removal, c->waiters};
	c->waiters = w;
	return true;
}

/* What belongs to a running process only. */
static void release_process(struct container *c)
{
	timer_clear(&c->stop_timer);
	if (c->status.fd >= 0) {
		int fd = c->status.fd;
		loop_forget(&c->status);
		close(fd);
	}
	notify_close(&c->notify);
	output_close(&c->out);
	output_close(&c->err);
	feed_close(&c->feed);
	if (c->terminal >= 0)
		close(c->terminal);
	c->terminal = -1;
	if (c->pidfd >= 0)
		close(c->pidfd);
	c->pidfd = -1;
	if (c->cgroup)
		cgroup_remove(c->cgroup);
	c->cgroup = NULL;
	c->paused = false;
}

/* Everything but the log and the plan. May be called on a half-made container, and twice. */
static void release(struct container *c)
{
	if (c->log)
		release_process(c);
	for (size_t i = 0; c->published && i < c->plan.publish_count; i++)
		if (c->published[i])
			publish_close(c->published[i]);
	free(c->published);
	c->published = NULL;
	names_remove(c);
	if (c->slot)
		net_give_back(c->slot, c->net_tainted);
	c->slot = NULL;
}

static void report_exit(struct container *c, bool removed)
{
	struct json *j = event_begin("exit");
	json_string(j, "container", c->plan.id);
	if (WIFSIGNALED(c->exit_status))
		json_number(j, "signal", WTERMSIG(c->exit_status));
	else
		json_number(j, "code", WEXITSTATUS(c->exit_status));
	json_bool(j, "oom", c->oom);
	json_decimal(j, "startedAt", c->started_ns);
	json_decimal(j, "finishedAt", c->finished_ns);
	json_number(j, "logBytes", (int64_t)log_bytes(c->log));
	json_bool(j, "removed", removed);
	line_end();
}

static void scratch_gone(void *owner)
{
	struct container *c = owner;
	c->state = CONTAINER_REMOVED;
	struct json *j = event_begin("removed");
	json_string(j, "container", c->plan.id);
	line_end();
	answer(c, true);
	if (c->never_was)
		forget(c);
}

/* c may be freed by it. */
static void finish_removal(struct container *c)
{
	release(c);
	if (scratch_remove(&c->scratch, scratch_gone, c))
		scratch_gone(c);
}

static void exited(struct child *child, int status)
{
	struct container *c = container_of(child, struct container, child);
	if (c->status.fd >= 0)
		read_status(&c->status, 0);
	c->finished_ns = wall_ns();
	c->exit_status = status;
	bool started = c->state == CONTAINER_RUNNING && !c->fault.error;
	c->oom = c->cgroup && cgroup_oom_killed(c->cgroup);
	/* In a PID namespace of its own the kernel has killed the rest already; in another's, or none, what is left goes now. */
	if (c->cgroup && c->plan.pid != NS_PRIVATE)
		cgroup_kill(c->cgroup);
	release_process(c);
	c->state = CONTAINER_EXITED;
	if (!started) {
		struct fault f = c->fault;
		if (!f.error)
			fault(&f, "exec", c->plan.process.argv.at[0], EIO, c->oom
				? "killed for want of memory before the program ran: the memory limit is too low to start anything"
				: "the process ended before its program ran");
		uint64_t seq = c->start_seq;
		c->start_seq = 0;
		log_set_open(c->log, false);
		c->removing = c->removing || c->single_request;
		if (c->removing && !c->holds) /* else container_hold does it, when a copy has ended */
			finish_removal(c);
		/* Only now: who hears of the failure finds nothing left. */
		if (seq)
			reply_fault(seq, &f);
		answer(c, false);
		c->never_was = c->single_request;
		if (c->never_was && c->state == CONTAINER_REMOVED)
			forget(c);
		return;
	}
	bool remove = c->plan.remove || c->removing;
	bool removed = false;
	if (remove && !c->holds) {
		release(c);
		removed = scratch_remove(&c->scratch, scratch_gone, c);
		if (removed)
			c->state = CONTAINER_REMOVED;
	} else if (remove)
		c->removing = true;
	report_exit(c, removed);
	log_set_open(c->log, false);
	answer(c, false);
	if (removed)
		answer(c, true);
}

/* -- the other verbs ---------------------------------------------------------------------------------------------------- */

static int send_signal(struct container *c, int number)
{
	/* kill(2) and not pidfd_send_signal: the process is our child, not reaped yet, so the number is still its own. */
	if (c->state != CONTAINER_RUNNING && c->state != CONTAINER_STARTING) {
		errno = ESRCH;
		return -1;
	}
	return c->plan.pid == NS_HOST ? spawn_kill(&c->child, number) : kill(c->child.pid, number);
}

static void kill_now(struct container *c)
{
	if (c->paused && c->cgroup) {
		cgroup_freeze(c->cgroup, false, NULL); /* a frozen v1 group does not even die */
		c->paused = false;
	}
	send_signal(c, SIGKILL);
	if (c->cgroup && c->plan.pid != NS_PRIVATE)
		cgroup_kill(c->cgroup);
}

static void stop_overdue(struct timer *timer)
{
	kill_now(container_of(timer, struct container, stop_timer));
}

static void verb_stop(struct container *c, const struct request *r)
{
	int64_t number, grace;
	struct fault f = {0};
	if (request_number(r, "signal", SIGTERM, &number) < 0 || request_number(r, "grace", 10000, &grace) < 0) {
		fault(&f, "request", "grace", EINVAL, "a number is needed");
		reply_fault(r->seq, &f);
		return;
	}
	if (is_bad_state(r->seq, c, c->state == CONTAINER_RUNNING || c->state == CONTAINER_STARTING, "the container is not running"))
		return;
	wait_for(c, r->seq, false);
	if (c->paused && c->cgroup && cgroup_freeze(c->cgroup, false, NULL) == 0)
		c->paused = false;
	if (grace == 0 || number == SIGKILL)
		kill_now(c);
	else {
		send_signal(c, (int)number);
		if (grace > 0)
			timer_set(&c->stop_timer, (uint64_t)(grace < GRACE_MOST_MS ? grace : GRACE_MOST_MS) * 1000, stop_overdue);
	}
}

static void verb_pause(struct container *c, const struct request *r, bool frozen)
{
	struct fault f = {0};
	if (is_bad_state(r->seq, c, c->state == CONTAINER_RUNNING, "the container is not running") ||
	    is_bad_state(r->seq, c, c->paused != frozen, frozen ? "the container is paused already" : "the container is not paused"))
		return;
	if (cgroup_freeze(c->cgroup, frozen, &f) < 0) {
		reply_fault(r->seq, &f);
		return;
	}
	c->paused = frozen;
	reply_begin(r->seq);
	line_end();
}

static void verb_remove(struct container *c, const struct request *r)
{
	const char *force = request_get(r, "force");
	bool alive = c->state == CONTAINER_RUNNING || c->state == CONTAINER_STARTING;
	if (alive && is_bad_state(r->seq, c, force && *force == '1', "the container is running; stop it first or force"))
		return;
	if (c->state == CONTAINER_REMOVED) {
		reply_begin(r->seq);
		line_end();
		return;
	}
	wait_for(c, r->seq, true);
	c->removing = true;
	if (alive)
		kill_now(c);
	else if (!c->holds && !c->scratch.being_removed)
		finish_removal(c);
}

static void verb_stats(struct container *c, const struct request *r)
{
	char text[2048], net[512];
	struct net_counters n = {0};
	if (is_bad_state(r->seq, c, c->state == CONTAINER_RUNNING && c->cgroup, "the container is not running"))
		return;
	cgroup_stats(c->cgroup, text, sizeof(text));
	struct json *j = reply_begin(r->seq);
	json_raw(j, "stats", text);
	if (c->slot && net_slot_counters(c->slot, &n) == 0) {
		snprintf(net, sizeof(net), "{\"rxBytes\":%llu,\"rxPackets\":%llu,\"rxErrors\":%llu,\"rxDropped\":%llu,\"txBytes\":%llu,"
			"\"txPackets\":%llu,\"txErrors\":%llu,\"txDropped\":%llu}", (unsigned long long)n.rx_bytes,
			(unsigned long long)n.rx_packets, (unsigned long long)n.rx_errors, (unsigned long long)n.rx_dropped,
			(unsigned long long)n.tx_bytes, (unsigned long long)n.tx_packets, (unsigned long long)n.tx_errors, (unsigned long long)n.tx_dropped);
		json_raw(j, "network", net);
	}
	line_end();
}

static void verb_start(struct container *c, const struct request *r)
{
	struct fault f = {0};
	if (is_bad_state(r->seq, c, (c->state == CONTAINER_CREATED || c->state == CONTAINER_EXITED) && !c->removing,
		c->state == CONTAINER_RUNNING || c->state == CONTAINER_STARTING ? "the container is running already" : "the container is removed"))
		return;
	c->start_seq = r->seq;
	c->single_request = false;
	if (start(c, &f) < 0) {
		c->start_seq = 0;
		release_process(c);
		reply_fault(r->seq, &f);
	}
}

static void verb_resize(struct container *c, const struct request *r)
{
	int64_t columns, rows;
	struct fault f = {0};
	if (is_bad_state(r->seq, c, c->terminal >= 0, "the container has no terminal"))
		return;
	if (request_number(r, "cols", 0, &columns) < 0 || request_number(r, "rows", 0, &rows) < 0) {
		fault(&f, "request", "cols", EINVAL, "a number is needed");
		reply_fault(r->seq, &f);
		return;
	}
	struct winsize size = {.ws_col = (unsigned short)columns, .ws_row = (unsigned short)rows};
	ioctl(c->terminal, TIOCSWINSZ, &size);
	reply_begin(r->seq);
	line_end();
}

static void verb_rename(struct container *c, const struct request *r)
{
	const char *name = request_get(r, "name");
	struct fault f = {0};
	struct in_addr address = c->slot ? net_slot_address(c->slot) : (struct in_addr){0};
	names_remove(c);
	if (address.s_addr && (!name || names_add(c, name, address) < 0))
		fault(&f, "request", "name", name ? errno : EINVAL, NULL);
	if (address.s_addr && c->plan.hostname)
		names_add(c, c->plan.hostname, address);
	for (size_t i = 0; address.s_addr && i < c->plan.dns_names.count; i++)
		names_add(c, c->plan.dns_names.at[i], address);
	if (f.error) {
		reply_fault(r->seq, &f);
		return;
	}
	reply_begin(r->seq);
	line_end();
}

static void verb_signal(struct container *c, const struct request *r)
{
	int64_t number;
	struct fault f = {0};
	if (request_number(r, "signal", SIGKILL, &number) < 0 || number < 1 || number > 64) {
		fault(&f, "signal", request_get(r, "signal"), EINVAL, "a signal number from 1 to 64 is needed");
		reply_fault(r->seq, &f);
		return;
	}
	if (is_bad_state(r->seq, c, c->state == CONTAINER_RUNNING || c->state == CONTAINER_STARTING, "the container is not running"))
		return;
	if (number == SIGKILL)
		kill_now(c);
	else if (send_signal(c, (int)number) < 0) {
		fault(&f, "signal", request_get(r, "signal"), errno, NULL);
		reply_fault(r->seq, &f);
		return;
	}
	reply_begin(r->seq);
	line_end();
}

void container_verb(const struct request *r)
{
	struct fault f = {0};
	const char *id = request_get(r, "id"), *verb = r->verb;
	struct container *c = container_find(id);
	if (!c) {
		fault(&f, "id", id ? id : "", ENOENT, "no such container");
		reply_fault(r->seq, &f);
	} else if (!strcmp(verb, "start"))
		verb_start(c, r);
	else if (!strcmp(verb, "stop"))
		verb_stop(c, r);
	else if (!strcmp(verb, "signal"))
		verb_signal(c, r);
	else if (!strcmp(verb, "pause") || !strcmp(verb, "unpause"))
		verb_pause(c, r, verb[0] == 'p');
	else if (!strcmp(verb, "remove"))
		verb_remove(c, r);
	else if (!strcmp(verb, "rename"))
		verb_rename(c, r);
	else if (!strcmp(verb, "resize"))
		verb_resize(c, r);
	else if (!strcmp(verb, "stats"))
		verb_stats(c, r);
	else { /* forget */
		if (is_bad_state(r->seq, c, c->state == CONTAINER_REMOVED && !c->holds, "the container is not removed yet"))
			return;
		forget(c);
		reply_begin(r->seq);
		line_end();
	}
}

void container_kill_all(void)
{
	for (struct container *c = session.containers; c; c = c->next)
		if (c->child.pid && (c->state == CONTAINER_RUNNING || c->state == CONTAINER_STARTING))
			kill_now(c);
}

void container_copy_ended(struct container *c, pid_t pid)
{
	if (c->scratch.made)
		scratch_copy_ended(&c->scratch, (unsigned)pid);
}

int container_enter_root(struct container *c, struct fault *f)
{
	if (c->state == CONTAINER_RUNNING) {
		if (setns(c->pidfd, CLONE_NEWNS) < 0)
			return fault(f, "namespace", "mount", errno, NULL);
	} else {
		char work[512];
		if (unshare(CLONE_NEWNS) < 0)
			return fault(f, "namespace", "mount", errno, NULL);
		/* A work directory of its own: the last mount has marked its one (volatile) or still uses it. */
		const char *mounted = scratch_mounted(&c->scratch);
		if (!mounted && scratch_copy_work(&c->scratch, (unsigned)getpid(), work, sizeof(work), f) < 0)
			return -1;
		if (launch_root(&c->plan, mounted, c->scratch.upper, work, session.directory, session.rootless, f) < 0)
			return -1;
	}
	int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return root < 0 ? fault(f, "namespace", "/", errno, NULL) : root;
}
