/* How a container ends: its exit, its removal, and the answers to who waits for either. */
#define _GNU_SOURCE
#include "container_internal.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

void container_answer(struct container *c, bool removal)
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

bool container_await(struct container *c, uint64_t seq, bool removal)
{
	struct waiter *w = malloc(sizeof(*w));
	if (!w)
		return false;
	*w = (struct waiter){seq, removal, c->waiters};
	c->waiters = w;
	return true;
}

void container_release_process(struct container *c)
{
	timer_clear(&c->stop_timer);
	if (c->status.fd >= 0) {
		int fd = c->status.fd;
		loop_forget(&c->status);
		close(fd);
	}
	notify_close(&c->notify);
	container_output_close(&c->out);
	container_output_close(&c->err);
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

static void outlived_gone(void *owner)
{
	struct container *c = owner;
	c->outlived = false;
	if (c->forgotten)
		container_drop(c);
}

/* Not at its exit: it may be started again, when those that it has mounts of are removed. */
static void give_back_sources(struct container *c)
{
	while (c->source_count) {
		struct container *source = c->sources[--c->source_count];
		if (--source->lent == 0 && (!source->outlived || scratch_remove(&source->scratch, outlived_gone, source)))
			outlived_gone(source);
	}
	free(c->sources);
	c->sources = NULL;
}

void container_release(struct container *c)
{
	if (c->log)
		container_release_process(c);
	give_back_sources(c);
	container_close_network(c);
	container_free_volumes(c);
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
	container_answer(c, true);
	if (c->never_was)
		container_drop(c);
}

/* True when nobody has to wait for it. What others have mounts of goes with the last of them. */
static bool remove_scratch(struct container *c)
{
	c->outlived = c->lent > 0;
	return c->outlived || scratch_remove(&c->scratch, scratch_gone, c);
}

void container_finish_removal(struct container *c)
{
	container_release(c);
	if (remove_scratch(c))
		scratch_gone(c);
}

void container_exited(struct child *child, int status)
{
	struct container *c = container_of(child, struct container, child);
	if (c->status.fd >= 0)
		container_read_status(&c->status, 0);
	c->finished_ns = wall_ns();
	c->exit_status = status;
	bool started = c->state == CONTAINER_RUNNING && !c->fault.error;
	c->oom = c->cgroup && cgroup_oom_killed(c->cgroup);
	/* In a PID namespace of its own the kernel has killed the rest already; in another's, or none, what is left goes now. */
	if (c->cgroup && c->plan.pid != NS_PRIVATE)
		cgroup_kill(c->cgroup);
	container_release_process(c);
	names_remove(c);
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
			container_finish_removal(c);
		/* Only now: who hears of the failure finds nothing left. */
		if (seq)
			reply_fault(seq, &f);
		container_answer(c, false);
		c->never_was = c->single_request;
		if (c->never_was && c->state == CONTAINER_REMOVED)
			container_drop(c);
		return;
	}
	bool remove = c->plan.remove || c->removing;
	bool removed = false;
	if (remove && !c->holds) {
		container_release(c);
		removed = remove_scratch(c);
		if (removed)
			c->state = CONTAINER_REMOVED;
	} else if (remove)
		c->removing = true;
	report_exit(c, removed);
	log_set_open(c->log, false);
	container_answer(c, false);
	if (removed)
		container_answer(c, true);
}
