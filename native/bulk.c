/* Bulk connections: accepted, checked, one request read to the byte, handed to the job behind the verb. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "archive.h"
#include "exec.h"
#include "lock.h"
#include "log.h"
#include "relay.h"
#include "tree_verbs.h"
#include "warden.h"

static struct watch listener;

/* A connection that has not said yet what it is for. Exactly the request's bytes are read: what follows is the job's. */
struct waiting { char *bytes; size_t length, needed; char prefix[12]; size_t prefix_length; };

static void accept_reply(struct connection *c, uint64_t seq)
{
	struct json j = {0};
	json_begin(&j);
	json_number(&j, "seq", (int64_t)seq);
	json_bool(&j, "ok", true);
	json_end(&j);
	connection_send(c, j.text, j.length);
	json_free(&j);
}

static void reader_gone(struct connection *c)
{
	log_forget_reader(c);
	if (c->feed)
		feed_release(c->feed, c);
	connection_free(c);
}

static void open_log(struct connection *c, const struct request *r, bool attach)
{
	struct fault f = {0};
	const char *id = request_get(r, "id");
	struct container *container = container_find(id);
	int64_t since, until, tail;
	if (!container)
		fault(&f, "id", id ? id : "", ENOENT, "no such container");
	else if (request_number(r, "since", 0, &since) < 0 || request_number(r, "until", 0, &until) < 0 || request_number(r, "tail", -1, &tail) < 0)
		fault(&f, "request", "since, until, tail", EINVAL, "numbers are needed");
	if (f.error) {
		connection_refuse(c, r->seq, &f);
		return;
	}
	struct log_query query = {
		.follow = attach || request_flag(r, "follow", false), .from_now = attach && !request_flag(r, "logs", false),
		.stdout_wanted = request_flag(r, "stdout", true), .stderr_wanted = request_flag(r, "stderr", true),
		.since_ns = (uint64_t)since, .until_ns = (uint64_t)until, .tail_lines = tail,
	};
	c->gone = reader_gone;
	accept_reply(c, r->seq);
	struct feed *stdin_feed = attach && request_flag(r, "stdin", false) ? container_stdin(container) : NULL;
	if (stdin_feed) {
		feed_attach(stdin_feed, c, true);
		connection_read(c, true);
	} else
		connection_read(c, false);
	if (log_read(container_log(container), c, &query) < 0)
		connection_end(c);
}

static void dispatch(struct connection *c, struct waiting *w)
{
	struct request r;
	struct fault f = {0};
	c->owner = NULL;
	c->input = NULL;
	c->gone = connection_free;
	if (request_parse(w->bytes, w->needed, &r) < 0) {
		fault(&f, "request", "bulk", errno, "malformed request");
		connection_refuse(c, 0, &f);
	} else if (!strcmp(r.verb, "logs") || !strcmp(r.verb, "attach"))
		open_log(c, &r, r.verb[0] == 'a');
	else if (!strcmp(r.verb, "exec")) {
		connection_read(c, false);
		exec_open(c, &r);
	} else if (archive_has_verb(r.verb))
		archive_open(c, &r);
	else if (!strcmp(r.verb, "lock"))
		lock_open(c, &r);
	else if (!strcmp(r.verb, "list"))
		list_open(c, &r);
	else if (!strcmp(r.verb, "digest"))
		digest_open(c, &r);
	else if (!strcmp(r.verb, "transfer"))
		transfer_open(c, &r);
	else {
		fault(&f, "request", r.verb, EINVAL, "unknown verb");
		connection_refuse(c, r.seq, &f);
	}
	request_free(&r);
	free(w->bytes);
	free(w);
}

static void waiting_gone(struct connection *c)
{
	struct waiting *w = c->owner;
	free(w->bytes);
	free(w);
	connection_free(c);
}

static void read_request(struct connection *c)
{
	struct waiting *w = c->owner;
	while (!w->needed) {
		char *at = w->prefix + w->prefix_length;
		ssize_t got = w->prefix_length < sizeof(w->prefix) - 1 ? recv(c->fd, at, 1, 0) : 0;
		if (got < 0 && errno == EAGAIN)
			return;
		if (got <= 0 || (*at && (*at < '0' || *at > '9'))) {
			waiting_gone(c);
			return;
		}
		w->prefix_length++;
		if (!*at) {
			w->needed = strtoul(w->prefix, NULL, 10);
			if (!w->needed || w->needed > REQUEST_MAX_BYTES || !(w->bytes = malloc(w->needed))) {
				waiting_gone(c);
				return;
			}
		}
	}
	ssize_t got = recv(c->fd, w->bytes + w->length, w->needed - w->length, 0);
	if (got < 0 && errno == EAGAIN)
		return;
	if (got <= 0) {
		waiting_gone(c);
		return;
	}
	w->length += (size_t)got;
	if (w->length == w->needed)
		dispatch(c, w);
}

static void accept_bulk(struct watch *watch, uint32_t events)
{
	(void)events;
	int fd = accept_or_shed(watch->fd);
	struct ucred peer;
	socklen_t size = sizeof(peer);
	if (fd < 0)
		return;
	struct connection *c = calloc(1, sizeof(*c));
	struct waiting *w = calloc(1, sizeof(*w));
	/* The directory's mode keeps others out; this is the second lock. In a user namespace the owner is seen as root. */
	if (!c || !w || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || peer.uid != geteuid()) {
		free(c);
		free(w);
		close(fd);
		return;
	}
	connection_init(c, fd);
	c->owner = w;
	c->input = read_request;
	c->gone = waiting_gone;
	if (connection_watch(c, true) < 0)
		waiting_gone(c);
}

int bulk_open(int listening_fd)
{
	listener.fd = -1;
	return loop_watch(&listener, listening_fd, EPOLLIN, accept_bulk);
}
