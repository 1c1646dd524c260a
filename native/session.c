/* The warden: PID 1 of the session. It serves control until that ends, then kills what runs and exits; the launcher sweeps up. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cgroup.h"
#include "exec.h"
#include "launcher.h"
#include "net.h"
#include "scratch.h"
#include "spawn.h"
#include "warden.h"

#ifndef MAYFLY_VERSION
#define MAYFLY_VERSION "0.0.0"
#endif

struct session session;

static struct watch control;
static struct inbox inbox;
static char *outbox;
static size_t outbox_start, outbox_length, outbox_capacity;
static struct net_facts net;

const char *session_gateway(void)
{
	return session.network ? net.gateway : "";
}

/* -- lines to node ------------------------------------------------------------------------------------------------------ */

static void flush_outbox(void)
{
	while (outbox_length) {
		ssize_t put = write(control.fd, outbox + outbox_start, outbox_length);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			break;
		outbox_start += (size_t)put;
		outbox_length -= (size_t)put;
	}
	if (!outbox_length)
		outbox_start = 0;
	loop_change(&control, EPOLLIN | (outbox_length ? (uint32_t)EPOLLOUT : 0));
}

/* Node may be stopped at a breakpoint: lines wait here, and nothing else does. Replies and exits are as many as node asked for; what
 * containers can cause by themselves is bounded by its sender (line_backlog). */
void line_end(void)
{
	struct json *j = &session.json;
	json_end(j);
	if (j->failed)
		return;
	if (!outbox_length) {
		ssize_t put = write(control.fd, j->text, j->length);
		if (put == (ssize_t)j->length)
			return;
		if (put > 0) {
			memmove(j->text, j->text + put, j->length - (size_t)put);
			j->length -= (size_t)put;
		}
	}
	if (outbox_start + outbox_length + j->length > outbox_capacity) {
		if (outbox_start)
			memmove(outbox, outbox + outbox_start, outbox_length);
		outbox_start = 0;
		size_t capacity = (outbox_length + j->length) * 2;
		char *longer = capacity > outbox_capacity ? realloc(outbox, capacity) : outbox;
		if (!longer)
			return;
		outbox = longer;
		outbox_capacity = capacity > outbox_capacity ? capacity : outbox_capacity;
	}
	memcpy(outbox + outbox_start + outbox_length, j->text, j->length);
	outbox_length += j->length;
	loop_change(&control, EPOLLIN | EPOLLOUT);
}

size_t line_backlog(void)
{
	return outbox_length;
}

struct json *event_begin(const char *name)
{
	json_begin(&session.json);
	json_string(&session.json, "event", name);
	return &session.json;
}

struct json *reply_begin(uint64_t seq)
{
	json_begin(&session.json);
	json_number(&session.json, "seq", (int64_t)seq);
	json_bool(&session.json, "ok", true);
	return &session.json;
}

void reply_fault(uint64_t seq, const struct fault *f)
{
	json_begin(&session.json);
	json_number(&session.json, "seq", (int64_t)seq);
	json_bool(&session.json, "ok", false);
	json_fault(&session.json, f);
	line_end();
}

/* -- seccomp programs ------------------------------------------------------------------------------------------------- */

struct seccomp_program { struct seccomp_program *next; struct sock_fprog program; char name[]; };
static struct seccomp_program *programs;

const struct sock_fprog *seccomp_find(const char *name)
{
	for (struct seccomp_program *p = programs; p; p = p->next)
		if (!strcmp(p->name, name))
			return &p->program;
	return NULL;
}

/* RFC 4648; returns the number of bytes, -1 if it is no base64. to may be as long as 3/4 of the text. */
static ssize_t base64_decode(const char *text, unsigned char *to)
{
	static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	unsigned bits = 0, count = 0;
	ssize_t length = 0;
	for (; *text && *text != '='; text++) {
		const char *at = strchr(ALPHABET, *text);
		if (!at)
			return -1;
		bits = bits << 6 | (unsigned)(at - ALPHABET);
		if ((count += 6) >= 8) {
			count -= 8;
			to[length++] = (unsigned char)(bits >> count);
		}
	}
	return length;
}

static void verb_seccomp(const struct request *r)
{
	const char *name = request_get(r, "name"), *text = request_get(r, "program");
	struct fault f = {0};
	struct seccomp_program *p = name && text ? calloc(1, sizeof(*p) + strlen(name) + 1) : NULL;
	unsigned char *code = p ? malloc(strlen(text) + 8) : NULL;
	ssize_t length = code ? base64_decode(text, code) : -1;
	if (length <= 0 || length % 8 || length / 8 > BPF_MAXINSNS) {
		fault(&f, "seccomp", name ? name : "name", EINVAL, "not a filter program of 1 to 4096 instructions in base64");
		free(p);
		free(code);
		reply_fault(r->seq, &f);
		return;
	}
	strcpy(p->name, name);
	p->program = (struct sock_fprog){(unsigned short)(length / 8), (struct sock_filter *)(void *)code};
	p->next = programs;
	programs = p;
	reply_begin(r->seq);
	line_end();
}

/* -- control ------------------------------------------------------------------------------------------------------------ */

static void verb_exec_control(const struct request *r)
{
	int64_t number, columns, rows;
	struct fault f = {0};
	const char *exec = request_get(r, "exec");
	bool done = !strcmp(r->verb, "signal")
		? request_number(r, "signal", SIGKILL, &number) == 0 && exec_signal(exec, (int)number)
		: request_number(r, "cols", 0, &columns) == 0 && request_number(r, "rows", 0, &rows) == 0 &&
			exec_resize(exec, (unsigned short)columns, (unsigned short)rows);
	if (!done) {
		fault(&f, "id", exec, ESRCH, "no such exec, or it has ended");
		reply_fault(r->seq, &f);
		return;
	}
	reply_begin(r->seq);
	line_end();
}

static void verb_expose(const struct request *r)
{
	struct fault f = {0};
	const char *port = request_get(r, "port");
	if (net_host_ports(&port, port != NULL, &f) < 0) {
		reply_fault(r->seq, &f);
		return;
	}
	reply_begin(r->seq);
	line_end();
}

static void dispatch(const struct request *r)
{
	static const char *const VERBS[] = {"start", "signal", "stop", "pause", "unpause", "remove", "keep", "renew", "forget", "rename", "resize", "stats", "connect", "disconnect", "impair", "heal", "fill"};
	struct fault f = {0};
	if (!strcmp(r->verb, "run") || !strcmp(r->verb, "create")) {
		container_create(r, r->verb[0] == 'r');
		return;
	}
	if (!strcmp(r->verb, "seccomp")) {
		verb_seccomp(r);
		return;
	}
	if (!strcmp(r->verb, "expose")) {
		verb_expose(r);
		return;
	}
	if (!strcmp(r->verb, "network-create") || !strcmp(r->verb, "network-remove")) {
		network_verb(r);
		return;
	}
	if (!strcmp(r->verb, "ping")) {
		reply_begin(r->seq);
		line_end();
		return;
	}
	if (request_get(r, "exec") && (!strcmp(r->verb, "signal") || !strcmp(r->verb, "resize"))) {
		verb_exec_control(r);
		return;
	}
	for (size_t i = 0; i < sizeof(VERBS) / sizeof(*VERBS); i++)
		if (!strcmp(r->verb, VERBS[i])) {
			container_verb(r);
			return;
		}
	fault(&f, "request", r->verb, EINVAL, "unknown verb");
	reply_fault(r->seq, &f);
}

static void control_ready(struct watch *w, uint32_t events)
{
	if (events & EPOLLOUT)
		flush_outbox();
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	int got = inbox_fill(&inbox, w->fd);
	if (got < 0 && errno == EAGAIN)
		return;
	char *payload;
	size_t length;
	int next = 0;
	while (got > 0 && (next = inbox_next(&inbox, &payload, &length)) > 0) {
		struct request r;
		struct fault f = {0};
		if (request_parse(payload, length, &r) == 0) {
			dispatch(&r);
			request_free(&r);
		} else {
			fault(&f, "request", "control", errno, "malformed request");
			reply_fault(0, &f);
		}
		inbox_drop(&inbox, payload, length);
	}
	if (got <= 0 || next < 0) /* node is gone, for whatever reason, or no longer speaks our language */
		loop_stop();
}

/* -- start and end ---------------------------------------------------------------------------------------------------- */

static int prepare(const struct warden_start *s, char *cgroups, size_t size, struct fault *f)
{
	/* Host mounts that go away must go away here too (slave), and nothing of ours must reach the host. */
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return fault(f, "namespace", "/", errno, "cannot make the mounts private");
	if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return fault(f, "namespace", "/proc", errno, "cannot mount the session's /proc");
	/* The launcher's descriptor belongs to its mount namespace and would not see what is mounted in ours. */
	session.directory_fd = open(s->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (session.directory_fd < 0)
		return fault(f, "upper", s->directory, errno, NULL);
	session.own_pid_ns = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	if (session.own_pid_ns < 0)
		return fault(f, "namespace", "/proc/self/ns/pid", errno, NULL);
	spawn_open(s->spawn);
	if (child_open() < 0 || bulk_open(s->bulk) < 0)
		return fault(f, "namespace", "event loop", errno, NULL);
	if (scratch_open(f) < 0 || cgroup_open(s->directory_fd, s->id, cgroups, size, f) < 0)
		return -1;
	if (s->network && net_open(!s->rootless, s->host_net_ns, s->resolvers, &net, f) < 0)
		return -1;
	return 0;
}

static void say_ready(const struct warden_start *s, const char *cgroups)
{
	char warnings[600] = "[]";
	struct json *j = event_begin("ready");
	json_number(j, "pid", s->pid);
	json_number(j, "launcher", s->launcher_pid);
	json_string(j, "version", MAYFLY_VERSION);
	json_string(j, "session", s->directory);
	json_bool(j, "rootless", s->rootless);
	json_string(j, "ids", s->id_mode);
	json_raw(j, "cgroups", cgroups[0] ? cgroups : "{}");
	json_string(j, "subnet", net.subnet);
	json_string(j, "gateway", net.gateway);
	json_bool(j, "egress", net.egress);
	json_bool(j, "hostReachable", net.host_reachable);
	if (net.warning[0]) {
		struct json one = {0};
		json_begin(&one);
		json_string(&one, "w", net.warning);
		snprintf(warnings, sizeof(warnings), "[%.*s]", (int)one.length - 5, one.text + 5);
		json_free(&one);
	}
	json_raw(j, "warnings", warnings);
	line_end();
}

int warden_run(const struct warden_start *s)
{
	static char cgroups[8192];
	struct fault f = {0};
	session = (struct session){.home = s->home, .id = s->id, .directory = s->directory, .directory_fd = s->directory_fd,
		.host_net_ns = s->host_net_ns, .self_exe = s->self_exe, .rootless = s->rootless, .network = s->network,
		.single_id = !strcmp(s->id_mode, "single")};
	signal(SIGPIPE, SIG_IGN);
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	fcntl(s->control, F_SETFL, O_NONBLOCK);
	if (loop_watch(&control, s->control, EPOLLIN, control_ready) < 0)
		return 1;
	if (prepare(s, cgroups, sizeof(cgroups), &f) < 0) {
		json_fault(event_begin("failed"), &f);
		line_end();
		return 1;
	}
	say_ready(s, cgroups);
	forget_start();
	loop_run();
	container_kill_all();
	return 0; /* PID 1's end is everybody's end: the kernel kills and the launcher sweeps up */
}
