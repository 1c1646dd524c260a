/* The verbs on a container that exists. */
#define _GNU_SOURCE
#include "container_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "spawn.h"

static const int64_t GRACE_MOST_MS = 1000000000000; /* 31 years; the clock's nanoseconds must not overflow */

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
	if (container_bad_state(r->seq, c, c->state == CONTAINER_RUNNING || c->state == CONTAINER_STARTING, "the container is not running"))
		return;
	container_await(c, r->seq, false);
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
	if (container_bad_state(r->seq, c, c->state == CONTAINER_RUNNING, "the container is not running") ||
	    container_bad_state(r->seq, c, c->paused != frozen, frozen ? "the container is paused already" : "the container is not paused"))
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
	bool alive = c->state == CONTAINER_RUNNING || c->state == CONTAINER_STARTING;
	if (alive && container_bad_state(r->seq, c, request_flag(r, "force", false), "the container is running; stop it first or force"))
		return;
	if (c->state == CONTAINER_REMOVED) {
		reply_begin(r->seq);
		line_end();
		return;
	}
	container_await(c, r->seq, true);
	c->removing = true;
	if (alive)
		kill_now(c);
	else if (!c->holds && !c->keeping && !c->scratch.being_removed)
		container_finish_removal(c);
}

static void verb_stats(struct container *c, const struct request *r)
{
	char text[2048], net[512];
	struct net_counters n = {0};
	if (container_bad_state(r->seq, c, c->state == CONTAINER_RUNNING && c->cgroup, "the container is not running"))
		return;
	if (cgroup_stats(c->cgroup, text, sizeof(text)) < 0) {
		struct fault f = {0};
		fault(&f, "cgroup", "stats", errno, NULL);
		reply_fault(r->seq, &f);
		return;
	}
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
	if (container_bad_state(r->seq, c, (c->state == CONTAINER_CREATED || c->state == CONTAINER_EXITED) && !c->removing && !c->keeping,
		c->state == CONTAINER_RUNNING || c->state == CONTAINER_STARTING ? "the container is running already" : "the container is removed"))
		return;
	if (container_bad_state(r->seq, c, c->scratch.made, "what it had written was kept; renew it first"))
		return;
	c->start_seq = r->seq;
	c->single_request = false;
	if (container_start(c, &f) < 0) {
		c->start_seq = 0;
		container_release_process(c);
		reply_fault(r->seq, &f);
	}
}

static void verb_resize(struct container *c, const struct request *r)
{
	int64_t columns, rows;
	struct fault f = {0};
	if (container_bad_state(r->seq, c, c->terminal >= 0, "the container has no terminal"))
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

static void verb_fill(struct container *c, const struct request *r)
{
	struct fault f = {0};
	if (container_bad_state(r->seq, c, c->scratch.made && !c->keeping && !c->removing, "the container has no files any more"))
		return;
	if (scratch_fill(&c->scratch, request_flag(r, "full", false), c->plan.upper_bytes, &f) < 0) {
		reply_fault(r->seq, &f);
		return;
	}
	reply_begin(r->seq);
	line_end();
}

static void verb_rename(struct container *c, const struct request *r)
{
	const char *name = request_get(r, "name");
	struct fault f = {0};
	if (name)
		container_rename(c, name, &f);
	else
		fault(&f, "request", "name", EINVAL, NULL);
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
	if (container_bad_state(r->seq, c, c->state == CONTAINER_RUNNING || c->state == CONTAINER_STARTING, "the container is not running"))
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
	else if (!strcmp(verb, "keep"))
		container_keep(c, r);
	else if (!strcmp(verb, "connect") || !strcmp(verb, "disconnect"))
		container_change_network(c, r);
	else if (!strcmp(verb, "impair") || !strcmp(verb, "heal"))
		container_impair(c, r);
	else if (!strcmp(verb, "fill"))
		verb_fill(c, r);
	else if (!strcmp(verb, "renew"))
		container_renew(c, r);
	else { /* forget */
		if (container_bad_state(r->seq, c, c->state == CONTAINER_REMOVED && !c->holds, "the container is not removed yet"))
			return;
		if (c->outlived || c->lent)
			c->forgotten = true;
		else
			container_drop(c);
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
