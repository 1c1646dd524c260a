/* The verb `renew`: a container that has exited throws away what it has written and stands on other layers. Everything else stays: its
 * record and log, its address and names, and the listeners of its published ports, so that nobody else can take them. */
#define _GNU_SOURCE
#include "container_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The layers of a request, with their text in one block behind the list. NULL = no memory. */
static const char **read_layers(const struct request *r, size_t *count)
{
	size_t length = 0;
	*count = 0;
	for (size_t i = 0; i < r->count; i++)
		if (!strcmp(r->pairs[i].key, "layer")) {
			length += strlen(r->pairs[i].value) + 1;
			++*count;
		}
	const char **list = malloc((*count + 1) * sizeof(*list) + length);
	char *text = list ? (char *)(list + *count + 1) : NULL;
	size_t at = 0;
	for (size_t i = 0; list && i < r->count; i++)
		if (!strcmp(r->pairs[i].key, "layer")) {
			list[at++] = text;
			text = stpcpy(text, r->pairs[i].value) + 1;
		}
	if (list)
		list[at] = NULL;
	return list;
}

static int check(const struct container *c, struct fault *f)
{
	if (c->state == CONTAINER_REMOVED || c->removing || c->keeping)
		return fault(f, "state", c->plan.id, ENOENT, "the container is removed");
	if (c->state != CONTAINER_CREATED && c->state != CONTAINER_EXITED)
		return fault(f, "state", c->plan.id, EBUSY, "the container is running; stop it first");
	if (c->holds || container_lends(c))
		return fault(f, "state", c->plan.id, EBUSY, "something uses its files");
	if (c->plan.pid == NS_HOST) /* it is started from the request as it came (spawn.h) */
		return fault(f, "namespace", "pid=host", ENOTSUP, "a container among the host's processes cannot be renewed");
	return 0;
}

/* A big tree is removed by a process of its own, which may take longer than the container lives. */
void container_shed_scratch(struct container *c)
{
	struct scratch *old = malloc(sizeof(*old));
	if (!old) {
		scratch_remove(&c->scratch, NULL, NULL);
		return;
	}
	*old = c->scratch;
	c->scratch = (struct scratch){0};
	if (scratch_remove(old, free, old))
		free(old);
}

void container_renew(struct container *c, const struct request *r)
{
	struct fault f = {0};
	struct scratch fresh = {0};
	size_t count = 0;
	const char **layers = NULL;
	if (check(c, &f) < 0)
		goto failed;
	layers = read_layers(r, &count);
	if (!layers || !count) {
		fault(&f, "layer", "", layers ? EINVAL : ENOMEM, layers ? "missing" : NULL);
		goto failed;
	}
	struct words words = {layers, count};
	if (scratch_make(&fresh, &c->plan, &words, &f) < 0)
		goto failed;
	container_shed_scratch(c);
	c->scratch = fresh;
	free(c->plan.layers.at);
	c->plan.layers = words;
	c->started_once = false;
	c->starts = 0;
	if (container_write_files(c, &f) < 0) {
		reply_fault(r->seq, &f);
		return;
	}
	reply_begin(r->seq);
	line_end();
	return;
failed:
	free(layers);
	reply_fault(r->seq, &f);
}
