/* Containers: found by id, made from a plan, forgotten. */
#define _GNU_SOURCE
#include "container_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct container *container_find(const char *id)
{
	for (struct container *c = session.containers; id && c; c = c->next)
		if (!strcmp(c->plan.id, id))
			return c;
	return NULL;
}

const char *container_id(const struct container *c) { return c->plan.id; }
bool container_running(const struct container *c) { return c->state == CONTAINER_RUNNING; }
bool container_has_root(const struct container *c) { return c->scratch.made && !c->keeping; }
int container_pidfd(const struct container *c) { return c->pidfd; }
struct log *container_log(struct container *c) { return c->log; }
struct feed *container_stdin(struct container *c) { return c->feed.fd >= 0 ? &c->feed : NULL; }
struct cgroup *container_cgroup(struct container *c) { return c->cgroup; }
const struct plan *container_plan(const struct container *c) { return &c->plan; }
const char *container_upper(const struct container *c) { return c->scratch.upper; }

void container_hold(struct container *c, int by)
{
	c->holds += by;
	if (!c->holds && c->keep_later)
		container_keep_now(c);
	else if (!c->holds && c->removing && (c->state == CONTAINER_CREATED || c->state == CONTAINER_EXITED))
		container_finish_removal(c);
}

bool container_bad_state(uint64_t seq, const struct container *c, bool ok, const char *why)
{
	if (ok)
		return false;
	struct fault f = {0};
	fault(&f, "state", c->plan.id, ENOENT, why);
	reply_fault(seq, &f);
	return true;
}

/* -- create ------------------------------------------------------------------------------------------------------------ */

int container_write_files(struct container *c, struct fault *f)
{
	for (size_t i = 0; i < c->plan.file_count; i++) {
		struct file_step *file = &c->plan.files[i];
		char *text = file->literal ? strdup(file->content) : container_fill_in(c, file->content);
		int done = text ? scratch_file(&c->scratch, i, text, file, &file->host_path, f) : fault(f, "file", file->path, ENOMEM, NULL);
		free(text);
		if (done < 0)
			return -1;
	}
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
	if (!c->log || container_hold_volumes(c, f) < 0 || scratch_make(&c->scratch, &c->plan, &c->plan.layers, f) < 0 || container_open_network(c, f) < 0 || container_write_files(c, f) < 0)
		goto failed;
	log_set_open(c->log, true);
	c->next = session.containers;
	session.containers = c;
	return c;
failed:
	container_release(c);
	scratch_remove(&c->scratch, NULL, NULL);
	log_free(c->log);
	plan_free(&c->plan);
	free(c);
	return NULL;
}

void container_drop(struct container *c)
{
	for (struct container **at = &session.containers; *at; at = &(*at)->next)
		if (*at == c) {
			*at = c->next;
			break;
		}
	container_release(c);
	log_free(c->log);
	plan_free(&c->plan);
	free(c);
}

void container_describe(struct json *j, const struct container *c)
{
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
	container_describe_networks(j, c);
	json_raw(j, "ports", text);
	free(text);
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
		container_describe(reply_begin(r->seq), c);
		line_end();
		return;
	}
	c->single_request = true;
	c->start_seq = r->seq;
	if (container_start(c, &f) < 0) {
		container_release(c);
		scratch_remove(&c->scratch, NULL, NULL);
		container_drop(c);
		reply_fault(r->seq, &f);
	}
}
