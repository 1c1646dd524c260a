/* Joins two TCP sockets.
 *
 * Small messages are received into one buffer and sent on at once: two calls each, nothing held per connection. When a
 * direction keeps filling the buffer, it moves to a pipe and splice(), which hands pages over instead of copying them, and
 * back when it calms down. What the receiver does not take is held, and the sender is not read any further, so the
 * kernel's window slows it down. A direction that ends is passed on as an end (shutdown), an error as a reset. */
#define _GNU_SOURCE
#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "loop.h"

enum {
	MOST_RELAYS = 8192,
	COPY_SIZE = 65536,
	SPLICE_SIZE = 1 << 20,       /* asked for at once; a pipe holds 16 pieces of up to 32 KiB */
	ROUNDS = 8,                  /* pieces moved before the loop looks at the others again */
	BULK_AFTER = 2,              /* full buffers in a row that make a direction a bulk one */
	CALM_BELOW = 8192,           /* a smaller splice counts as calm … */
	CALM_AFTER = 16,             /* … and so many in a row give the pipe back */
	SPARE_PIPES = 16,
	LAST_TURNS = 16,             /* of ROUNDS pieces, for what a container said last */
};

struct direction {
	int pipe[2];                 /* -1 while copying */
	char *kept;                  /* rest of a copied piece that the receiver did not take, from malloc() */
	size_t kept_at;
	size_t held;                 /* bytes in the pipe or kept */
	unsigned streak;             /* full buffers while copying, calm pieces while splicing */
	bool ended;                  /* the sender will send no more */
	bool done;                   /* and the receiver has been told */
};

struct relay {
	struct relay *next, **at;
	int fd[2];
	struct watch side[2];
	uint32_t wanted[2];          /* epoll events asked for */
	bool quiet[2];               /* not watched any more: closed both ways, what is left is read without being told */
	struct direction from[2];    /* from[i] reads fd[i] and writes fd[!i] */
	bool connecting;
	const void *owner;
	struct in_addr container;
};

static struct relay *relays;
static unsigned relay_count;
static char copy_buffer[COPY_SIZE];
static int spare_pipes[SPARE_PIPES][2];
static unsigned spare_pipe_count;
static int spare_fd = -1;

void reset_and_close(int fd)
{
	if (fd < 0)
		return;
	struct linger now = {.l_onoff = 1, .l_linger = 0};
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

int accept_or_shed(int listener)
{
	if (spare_fd < 0)
		spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0 || (errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS))
		return fd;
	if (spare_fd >= 0)
		close(spare_fd);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int error = errno;
	reset_and_close(fd);
	spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	errno = fd >= 0 ? ECONNABORTED : error;
	return -1;
}

static int pipe_take(int ends[2])
{
	if (spare_pipe_count) {
		spare_pipe_count--;
		ends[0] = spare_pipes[spare_pipe_count][0];
		ends[1] = spare_pipes[spare_pipe_count][1];
		return 0;
	}
	return pipe2(ends, O_CLOEXEC | O_NONBLOCK);
}

static void pipe_give_back(struct direction *d)
{
	if (d->pipe[0] < 0)
		return;
	if (!d->held && spare_pipe_count < SPARE_PIPES) {
		spare_pipes[spare_pipe_count][0] = d->pipe[0];
		spare_pipes[spare_pipe_count][1] = d->pipe[1];
		spare_pipe_count++;
	} else {
		close(d->pipe[0]);
		close(d->pipe[1]);
	}
	d->pipe[0] = d->pipe[1] = -1;
	d->held = 0;
}

static void relay_free(struct relay *r, bool reset)
{
	for (int i = 0; i < 2; i++) {
		pipe_give_back(&r->from[i]);
		free(r->from[i].kept);
		loop_forget(&r->side[i]);
		if (reset)
			reset_and_close(r->fd[i]);
		else
			close(r->fd[i]);
	}
	if (r->next)
		r->next->at = r->at;
	*r->at = r->next;
	relay_count--;
	free(r);
}

enum outcome { OPEN, BROKEN };

/* Sends what is held. */
static enum outcome drain(struct direction *d, int to)
{
	while (d->held) {
		ssize_t sent = d->kept ? send(to, d->kept + d->kept_at, d->held, MSG_NOSIGNAL)
			: splice(d->pipe[0], NULL, to, NULL, d->held, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno == EAGAIN)
			return OPEN;
		if (sent <= 0)
			return BROKEN;
		d->held -= (size_t)sent;
		d->kept_at += (size_t)sent;
	}
	free(d->kept);
	d->kept = NULL;
	return OPEN;
}

/* Not in a pipe: past a user's limit the kernel makes pipes that could not take it (pipe(7), pipe-user-pages-soft). */
static enum outcome keep(struct direction *d, const char *bytes, size_t size)
{
	d->kept = malloc(size);
	if (!d->kept)
		return BROKEN;
	memcpy(d->kept, bytes, size);
	d->kept_at = 0;
	d->held = size;
	d->streak = 0;
	return OPEN;
}

static enum outcome copy_once(struct direction *d, int from, int to, bool *more)
{
	ssize_t got = recv(from, copy_buffer, sizeof(copy_buffer), 0);
	*more = false;
	if (got == 0)
		d->ended = true;
	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? OPEN : BROKEN;
	if (got <= 0)
		return OPEN;
	ssize_t sent = send(to, copy_buffer, (size_t)got, MSG_NOSIGNAL);
	if (sent < 0 && errno != EAGAIN && errno != EINTR)
		return BROKEN;
	if (sent < 0)
		sent = 0;
	if (sent < got)
		return keep(d, copy_buffer + sent, (size_t)(got - sent));
	*more = got == sizeof(copy_buffer);
	d->streak = *more ? d->streak + 1 : 0;
	/* Without a pipe (too many descriptors) copying goes on. */
	if (d->streak >= BULK_AFTER && pipe_take(d->pipe) == 0)
		d->streak = 0;
	return OPEN;
}

static enum outcome splice_once(struct direction *d, int from, int to, bool *more)
{
	*more = false;
	ssize_t got = splice(from, NULL, d->pipe[1], NULL, SPLICE_SIZE, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	if (got == 0)
		d->ended = true;
	if (got < 0 && errno != EAGAIN && errno != EINTR)
		return BROKEN;
	if (got <= 0)
		return OPEN;
	d->held += (size_t)got;
	d->streak = got < CALM_BELOW ? d->streak + 1 : 0;
	if (drain(d, to) == BROKEN)
		return BROKEN;
	*more = !d->held;
	if (*more && d->streak >= CALM_AFTER) {
		pipe_give_back(d);
		d->streak = 0;
	}
	return OPEN;
}

/* Moves what can be moved in one direction, within reason. */
static enum outcome pass(struct direction *d, int from, int to, bool readable)
{
	if (drain(d, to) == BROKEN)
		return BROKEN;
	bool more = readable && !d->held && !d->ended;
	for (int round = 0; more && round < ROUNDS; round++)
		if ((d->pipe[0] >= 0 ? splice_once : copy_once)(d, from, to, &more) == BROKEN)
			return BROKEN;
	return OPEN;
}

static enum outcome pass_with_end(struct direction *d, int from, int to, bool readable)
{
	if (pass(d, from, to, readable) == BROKEN)
		return BROKEN;
	if (d->ended && !d->held && !d->done) {
		d->done = true;
		shutdown(to, SHUT_WR);
		pipe_give_back(d);
	}
	return OPEN;
}

/* The last of both directions, as far as it is taken at once. True if all was said in one of them. */
static bool pass_rest(struct relay *r)
{
	bool complete = false;
	for (int i = 0; i < 2 && !r->connecting; i++) {
		struct direction *d = &r->from[i];
		enum outcome outcome = OPEN;
		for (int turn = 0; turn < LAST_TURNS && outcome == OPEN && !d->ended; turn++)
			outcome = pass(d, r->fd[i], r->fd[!i], true);
		complete = complete || (d->ended && !d->held);
	}
	return complete;
}

/* Asks epoll for what can be acted upon. */
static void want(struct relay *r, int i)
{
	if (r->quiet[i])
		return;
	const struct direction *in = &r->from[i], *out = &r->from[!i];
	bool write = out->held || (r->quiet[!i] && !out->ended);
	uint32_t events = (in->ended || in->held ? 0 : EPOLLIN) | (write ? EPOLLOUT : 0);
	if (events != r->wanted[i] && loop_change(&r->side[i], events) == 0)
		r->wanted[i] = events;
}

static int pending_error(int fd)
{
	int error = 0;
	socklen_t size = sizeof(error);
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 ? errno : error;
}

/* One side broke off: a server that refuses a client and closes, with something of the client's unread, is known by its last words. */
static void relay_break(struct relay *r)
{
	pass_rest(r);
	relay_free(r, true);
}

static void relay_ready(struct relay *r, int i, uint32_t events)
{
	if (r->connecting) {
		/* Of left only errors are reported so far. */
		if (i == 0 || pending_error(r->fd[1])) {
			relay_free(r, true);
			return;
		}
		r->connecting = false;
		want(r, 0);
		want(r, 1);
		return;
	}
	int here = r->fd[i], there = r->fd[!i];
	bool broken = (events & EPOLLERR) && pending_error(here);
	if (!broken && (events & (EPOLLIN | EPOLLHUP)))
		broken = pass_with_end(&r->from[i], here, there, true) == BROKEN;
	if (!broken && (events & EPOLLOUT))
		broken = pass_with_end(&r->from[!i], there, here, r->quiet[!i]) == BROKEN;
	if (broken) {
		relay_break(r);
		return;
	}
	if (r->from[0].done && r->from[1].done) {
		relay_free(r, false);
		return;
	}
	/* EPOLLHUP cannot be masked and would be told for ever, while the other side takes its time. */
	if (events & EPOLLHUP) {
		if (r->quiet[!i] || r->from[!i].held) {
			relay_break(r);
			return;
		}
		loop_forget(&r->side[i]);
		r->quiet[i] = true;
	}
	want(r, 0);
	want(r, 1);
}

static void left_ready(struct watch *w, uint32_t events)
{
	relay_ready(container_of(w, struct relay, side[0]), 0, events);
}

static void right_ready(struct watch *w, uint32_t events)
{
	relay_ready(container_of(w, struct relay, side[1]), 1, events);
}

int relay_start(int left, int right, bool connecting, const void *owner, struct in_addr container)
{
	int error = EMFILE;
	struct relay *r = relay_count < MOST_RELAYS ? calloc(1, sizeof(*r)) : NULL;
	if (!r)
		goto refused;
	int on = 1;
	setsockopt(left, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(right, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	for (int i = 0; i < 2; i++)
		r->from[i].pipe[0] = r->from[i].pipe[1] = -1;
	r->fd[0] = left;
	r->fd[1] = right;
	r->connecting = connecting;
	r->owner = owner;
	r->container = container;
	r->wanted[0] = connecting ? 0 : EPOLLIN;
	r->wanted[1] = connecting ? EPOLLOUT : EPOLLIN;
	if (loop_watch(&r->side[0], left, r->wanted[0], left_ready) < 0) {
		error = errno;
		goto refused;
	}
	if (loop_watch(&r->side[1], right, r->wanted[1], right_ready) < 0) {
		error = errno;
		loop_forget(&r->side[0]);
		goto refused;
	}
	r->next = relays;
	r->at = &relays;
	if (relays)
		relays->at = &r->next;
	relays = r;
	relay_count++;
	return 0;
refused:
	free(r);
	reset_and_close(left);
	reset_and_close(right);
	errno = error;
	return -1;
}

/* The container has ended, and with it its sockets: what they sent before has arrived here. A reset is for what is cut off. */
static void relay_finish(struct relay *r)
{
	bool complete = pass_rest(r);
	relay_free(r, !complete);
}

void relay_end_owner(const void *owner)
{
	for (struct relay *r = relays, *next; r; r = next) {
		next = r->next;
		if (r->owner == owner)
			relay_finish(r);
	}
}

void relay_end_container(struct in_addr container)
{
	for (struct relay *r = relays, *next; r; r = next) {
		next = r->next;
		if (r->container.s_addr == container.s_addr)
			relay_finish(r);
	}
}
