#define _GNU_SOURCE
#include "stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "log.h"

enum { FEED_BYTES = 65536 };

static void update(struct connection *c)
{
	loop_change(&c->watch, (c->reading ? (uint32_t)EPOLLIN : 0) | (c->out_length ? (uint32_t)EPOLLOUT : 0) | EPOLLRDHUP);
}

/* Returns false when the peer is gone. */
static bool flush(struct connection *c)
{
	while (c->out_length) {
		ssize_t sent = send(c->fd, c->out + c->out_start, c->out_length, MSG_NOSIGNAL);
		if (sent < 0)
			return errno == EAGAIN || errno == EINTR;
		c->out_start += (size_t)sent;
		c->out_length -= (size_t)sent;
	}
	c->out_start = 0;
	return true;
}

static void all_sent(struct connection *c);

static void ready(struct watch *w, uint32_t events)
{
	struct connection *c = container_of(w, struct connection, watch);
	bool had_output = c->out_length > 0;
	if (!flush(c) || (events & (EPOLLERR | EPOLLHUP))) {
		if (c->gone)
			c->gone(c);
		return;
	}
	if (had_output && !c->out_length) {
		if (c->ending) {
			all_sent(c);
			return;
		}
		update(c);
		if (c->drained) {
			c->drained(c);
			return; /* level-triggered: input comes with the next turn; drained may have freed us */
		}
	}
	if ((events & (EPOLLIN | EPOLLRDHUP)) && c->reading && c->input)
		c->input(c);
	else if ((events & EPOLLRDHUP) && !c->reading) {
		/* Half-closed by a peer that has nothing more to say: not an end, but epoll must not repeat it. */
		struct watch *same = &c->watch;
		loop_change(same, c->out_length ? (uint32_t)EPOLLOUT : 0);
	}
}

void connection_init(struct connection *c, int fd)
{
	*c = (struct connection){.fd = fd, .watch.fd = -1};
}

int connection_watch(struct connection *c, bool reading)
{
	c->reading = reading;
	return loop_watch(&c->watch, c->fd, (reading ? (uint32_t)EPOLLIN : 0) | (c->out_length ? (uint32_t)EPOLLOUT : 0) | EPOLLRDHUP, ready);
}

void connection_read(struct connection *c, bool reading)
{
	if (c->reading == reading)
		return;
	c->reading = reading;
	update(c);
}

static bool queue(struct connection *c, const void *bytes, size_t length)
{
	size_t end = c->out_start + c->out_length;
	if (!length)
		return true;
	if (end + length > c->out_capacity) {
		if (c->out_start) {
			memmove(c->out, c->out + c->out_start, c->out_length);
			c->out_start = 0;
			end = c->out_length;
		}
		if (end + length > c->out_capacity) {
			size_t capacity = end + length + 4096;
			char *out = realloc(c->out, capacity);
			if (!out)
				return false;
			c->out = out;
			c->out_capacity = capacity;
		}
	}
	memcpy(c->out + end, bytes, length);
	c->out_length += length;
	return true;
}

/* Head and body leave in one call: a reader gets whole frames, and one wake-up for each. */
static bool send_both(struct connection *c, const void *head, size_t head_length, const void *body, size_t body_length)
{
	size_t sent = 0;
	if (!c->out_length) {
		struct iovec parts[2] = {{(void *)head, head_length}, {(void *)body, body_length}};
		struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
		ssize_t n = sendmsg(c->fd, &message, MSG_NOSIGNAL);
		sent = n > 0 ? (size_t)n : 0;
	}
	size_t of_head = sent < head_length ? sent : head_length, of_body = sent - of_head;
	bool done = queue(c, (const char *)head + of_head, head_length - of_head) && queue(c, (const char *)body + of_body, body_length - of_body);
	if (c->out_length && c->watch.fd >= 0)
		update(c);
	return done;
}

bool connection_send(struct connection *c, const void *bytes, size_t length)
{
	return send_both(c, bytes, length, "", 0);
}

bool connection_frame(struct connection *c, int stream, uint64_t time_ns, const void *bytes, size_t length)
{
	struct frame frame = {.stream = (uint8_t)stream, .length = (uint32_t)length, .time_ns = time_ns};
	return send_both(c, &frame, sizeof(frame), bytes, length);
}

bool connection_busy(const struct connection *c)
{
	return c->out_length > 0;
}

/* A socket closed with input unread resets the connection, and the peer may lose what it has not read yet: our last words. So it is
 * read on, into nothing, until the peer closes too; it has this long. */
enum { LINGER_US = 5000000 };

struct farewell { struct watch watch; struct timer timer; };

static void farewell_end(struct farewell *l)
{
	int fd = l->watch.fd;
	loop_forget(&l->watch);
	timer_clear(&l->timer);
	close(fd);
	free(l);
}

static void farewell_input(struct watch *w, uint32_t events)
{
	static char nothing[65536];
	(void)events;
	ssize_t got = recv(w->fd, nothing, sizeof(nothing), MSG_DONTWAIT);
	if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
		farewell_end(container_of(w, struct farewell, watch));
}

static void farewell_overdue(struct timer *timer)
{
	farewell_end(container_of(timer, struct farewell, timer));
}

static void all_sent(struct connection *c)
{
	struct farewell *l = c->feed ? calloc(1, sizeof(*l)) : NULL; /* without a feed the peer was not asked to send anything */
	if (l) {
		shutdown(c->fd, SHUT_WR);
		loop_forget(&c->watch);
		if (loop_watch(&l->watch, c->fd, EPOLLIN, farewell_input) == 0) {
			timer_set(&l->timer, LINGER_US, farewell_overdue);
			c->fd = -1;
		} else
			free(l);
	}
	if (c->gone)
		c->gone(c);
}

void connection_end(struct connection *c)
{
	c->ending = true;
	c->reading = false;
	if (!c->out_length)
		all_sent(c);
	else
		update(c);
}

void connection_close(struct connection *c)
{
	loop_forget(&c->watch);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	free(c->out);
	c->out = NULL;
	c->out_length = c->out_capacity = 0;
}

void connection_free(struct connection *c)
{
	connection_close(c);
	free(c);
}

void connection_refuse(struct connection *c, uint64_t seq, const struct fault *f)
{
	struct json j = {0};
	json_begin(&j);
	json_number(&j, "seq", (int64_t)seq);
	json_bool(&j, "ok", false);
	json_fault(&j, f);
	json_end(&j);
	c->gone = connection_free;
	c->drained = NULL;
	connection_send(c, j.text, j.length);
	json_free(&j);
	connection_end(c);
}

/* -- feeding a process ------------------------------------------------------------------------------------------------- */

void feed_init(struct feed *feed, int fd, bool terminal)
{
	*feed = (struct feed){.fd = fd, .watch.fd = -1, .terminal = terminal};
}

void feed_close(struct feed *feed)
{
	loop_forget(&feed->watch);
	if (feed->fd >= 0)
		close(feed->fd);
	feed->fd = -1;
	free(feed->bytes);
	feed->bytes = NULL;
	feed->length = 0;
	if (feed->from)
		connection_read(feed->from, false);
}

/* Returns false when the reader of the pipe is gone. */
static bool feed_flush(struct feed *feed)
{
	while (feed->length) {
		ssize_t put = write(feed->fd, feed->bytes + feed->start, feed->length);
		if (put < 0)
			return errno == EAGAIN || errno == EINTR;
		feed->start += (size_t)put;
		feed->length -= (size_t)put;
	}
	return true;
}

static void feed_writable(struct watch *w, uint32_t events)
{
	struct feed *feed = container_of(w, struct feed, watch);
	(void)events;
	if (!feed_flush(feed)) {
		feed_close(feed);
		return;
	}
	if (feed->length)
		return;
	loop_forget(&feed->watch);
	if (feed->from)
		connection_read(feed->from, true);
}

static void feed_input(struct connection *c)
{
	struct feed *feed = c->feed;
	if (feed->fd < 0 || feed->length) {
		connection_read(c, false);
		return;
	}
	if (!feed->bytes && !(feed->bytes = malloc(FEED_BYTES))) {
		connection_read(c, false);
		return;
	}
	ssize_t got = read(c->fd, feed->bytes, FEED_BYTES);
	if (got < 0)
		return;
	if (got == 0) {
		connection_read(c, false);
		if (feed->close_at_end) {
			if (feed->terminal) /* a terminal has no half-close: its end of file is a character */
				(void)!write(feed->fd, "\4", 1);
			else
				feed_close(feed);
		}
		return;
	}
	feed->start = 0;
	feed->length = (size_t)got;
	if (!feed_flush(feed)) {
		feed_close(feed);
		return;
	}
	if (feed->length) {
		connection_read(c, false);
		loop_watch(&feed->watch, feed->fd, EPOLLOUT, feed_writable);
	}
}

void feed_attach(struct feed *feed, struct connection *c, bool close_at_end)
{
	feed->from = c;
	feed->close_at_end = close_at_end;
	c->feed = feed;
	c->input = feed_input;
}

void feed_release(struct feed *feed, struct connection *c)
{
	if (feed->from == c)
		feed->from = NULL;
}
