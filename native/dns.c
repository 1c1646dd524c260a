/* The name servers on the gateways' port 53, UDP and TCP. Names of containers are answered here (names.c), everything else
 * goes as it is to the host's name servers through sockets of the host, so that one on the host's loopback works. Who is on internal
 * networks only gets no further: for it there is no other name.
 *
 * UDP: every query forwarded gets an identifier of ours; the next server is asked after two seconds, or at once when one is
 * not there. TCP: the first query that is not ours is sent to a server, and the connection joined to it from then on. */
#define _GNU_SOURCE
#include "net.h"
#include "router.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include "flow.h"
#include "host.h"
#include "loop.h"
#include "relay.h"

enum {
	PORT = 53, SERVFAIL = 2, NXDOMAIN = 3,
	MOST_RESOLVERS = 8, MOST_QUERIES = 512, MOST_STREAMS = 64,
	QUERY_SIZE = 4096,           /* of a query; answers may be as long as they like */
	ROUNDS = 2,                  /* how often each resolver is asked */
	TICK_US = 250000, RETRY_NS = 2000000000, STREAM_NS = 10000000000,
};

struct resolver {
	union address address;
	struct watch watch;
	int fd;                      /* connected; -1 while no query is under way */
	unsigned queries;            /* waiting for it */
};
static struct resolver resolvers[MOST_RESOLVERS];
static unsigned resolver_count;

/* What listens on one network's gateway. */
struct name_server {
	struct watch datagrams, listener;
	int datagrams_fd, listener_fd;
	struct network *network;
};

struct query {
	const struct name_server *server;
	uint8_t *bytes;              /* as it came; NULL: this entry is free */
	size_t size;
	uint16_t id;                 /* ours */
	unsigned attempts;           /* resolvers[attempts - 1 modulo their number] was asked last */
	uint64_t due_ns;
	union address client;
};
static struct query queries[MOST_QUERIES];

/* A client's TCP connection until it is joined to a resolver's. */
struct stream {
	struct stream *next;
	struct watch watch, dial;
	int fd, dialed;              /* dialed: the connection to a resolver under way, or -1 */
	unsigned attempts;
	size_t size;
	uint64_t due_ns;
	struct in_addr container;
	uint8_t bytes[2 + QUERY_SIZE];
};
static struct stream *streams;
static unsigned stream_count;

static struct timer tick_timer;

static void tick(struct timer *);
static void dial(struct stream *);

static void tick_soon(void)
{
	if (!tick_timer.due_ns)
		timer_set(&tick_timer, TICK_US, tick);
}

static bool has_way_out(struct in_addr asker)
{
	const struct net_slot *slot = slot_of(asker);
	for (const struct net_link *link = slot ? net_slot_links(slot) : NULL; link; link = link->next)
		if (!link->network->internal)
			return true;
	const struct network *network = network_of(asker);
	return !slot && network && !network->internal;
}

static enum verdict judge(const uint8_t *query, size_t size, struct in_addr asker, uint8_t *answer, size_t room, size_t *answer_size)
{
	enum verdict verdict = names_answer(query, size, asker, answer, room, answer_size);
	if (verdict != DNS_FORWARD || has_way_out(asker))
		return verdict;
	*answer_size = names_refuse(query, size, NXDOMAIN, answer);
	return *answer_size ? DNS_ANSWERED : DNS_IGNORE;
}

/* ---- UDP ---- */

static void query_end(struct query *q)
{
	resolvers[(q->attempts - 1) % resolver_count].queries--;
	free(q->bytes);
	q->bytes = NULL;
}

static void query_fail(struct query *q)
{
	uint8_t answer[DNS_ANSWER_SIZE];
	size_t size = names_refuse(q->bytes, q->size, SERVFAIL, answer);
	if (size)
		sendto(q->server->datagrams_fd, answer, size, MSG_NOSIGNAL, &q->client.any, sizeof(q->client.v4));
	query_end(q);
}

static bool same_question(const struct query *q, const uint8_t *answer, size_t size)
{
	size_t question = names_question(q->bytes, q->size);
	if (question != names_question(answer, size))
		return false;
	/* Servers may change the case of letters; the bytes of a question below 'A' are equal in any case. */
	for (size_t i = 12; i < question; i++)
		if (q->bytes[i] != answer[i] && (q->bytes[i] | 0x20) != (answer[i] | 0x20))
			return false;
	return true;
}

static void query_send(struct query *);

static void resolver_close(struct resolver *r)
{
	if (r->fd < 0)
		return;
	loop_forget(&r->watch);
	close(r->fd);
	r->fd = -1;
}

/* The server is not there: whoever waits for it asks the next one now. */
static void resolver_gone(struct resolver *r)
{
	resolver_close(r);
	for (struct query *q = queries; q < queries + MOST_QUERIES; q++)
		if (q->bytes && q->attempts && &resolvers[(q->attempts - 1) % resolver_count] == r)
			query_send(q);
}

static void resolver_ready(struct watch *w, uint32_t events)
{
	(void)events;
	struct resolver *r = container_of(w, struct resolver, watch);
	struct datagram list[FLOW_BATCH];
	int got = datagrams_receive(r->fd, list);
	if (got < 0 && errno != EAGAIN && errno != EINTR) {
		resolver_gone(r);
		return;
	}
	for (int i = 0; i < got; i++) {
		uint8_t *answer = (uint8_t *)list[i].bytes;
		if (list[i].size < 12 || !(answer[2] & 0x80))
			continue;
		uint16_t id;
		memcpy(&id, answer, 2);
		for (struct query *q = queries; q < queries + MOST_QUERIES; q++) {
			if (!q->bytes || q->id != id || !same_question(q, answer, list[i].size))
				continue;
			memcpy(answer, q->bytes, 2);
			sendto(q->server->datagrams_fd, answer, list[i].size, MSG_NOSIGNAL, &q->client.any, sizeof(q->client.v4));
			query_end(q);
			break;
		}
	}
}

static int resolver_open(struct resolver *r)
{
	if (r->fd >= 0)
		return 0;
	int fd = host_socket(r->address.any.sa_family, SOCK_DGRAM, 0);
	if (fd < 0)
		return -1;
	if (connect(fd, &r->address.any, address_size(&r->address)) < 0 ||
		loop_watch(&r->watch, fd, EPOLLIN, resolver_ready) < 0) {
		close(fd);
		return -1;
	}
	r->fd = fd;
	return 0;
}

/* Asks the next resolver that can be asked at all; fails the query when each has had its turns. */
static void query_send(struct query *q)
{
	for (;;) {
		if (q->attempts)
			resolvers[(q->attempts - 1) % resolver_count].queries--;
		struct resolver *r = &resolvers[q->attempts++ % resolver_count];
		r->queries++;
		if (q->attempts > ROUNDS * resolver_count) {
			query_fail(q);
			return;
		}
		if (resolver_open(r) < 0)
			continue;
		struct iovec parts[] = {{&q->id, 2}, {q->bytes + 2, q->size - 2}};
		struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
		/* The second attempt: the first error may be the report of an earlier query's fate. */
		if (sendmsg(r->fd, &message, MSG_NOSIGNAL) >= 0 || sendmsg(r->fd, &message, MSG_NOSIGNAL) >= 0) {
			q->due_ns = now_ns() + RETRY_NS;
			tick_soon();
			return;
		}
	}
}

static bool id_taken(uint16_t id)
{
	for (struct query *q = queries; q < queries + MOST_QUERIES; q++)
		if (q->bytes && q->id == id)
			return true;
	return false;
}

static void forward(const struct name_server *server, const struct datagram *d)
{
	uint8_t answer[DNS_ANSWER_SIZE];
	struct query *q = queries;
	while (q < queries + MOST_QUERIES && q->bytes)
		q++;
	uint8_t *bytes = resolver_count && q < queries + MOST_QUERIES && d->size <= QUERY_SIZE ? malloc(d->size) : NULL;
	if (!bytes) {
		size_t size = names_refuse((uint8_t *)d->bytes, d->size, SERVFAIL, answer);
		if (size)
			sendto(server->datagrams_fd, answer, size, MSG_NOSIGNAL, &d->from.any, sizeof(d->from.v4));
		return;
	}
	memcpy(bytes, d->bytes, d->size);
	*q = (struct query){.server = server, .size = d->size, .client = d->from};
	do
		if (getrandom(&q->id, sizeof(q->id), 0) < 0)
			q->id++;
	while (id_taken(q->id));
	q->bytes = bytes;
	query_send(q);
}

static void datagrams_ready(struct watch *w, uint32_t events)
{
	(void)events;
	const struct name_server *server = container_of(w, struct name_server, datagrams);
	struct datagram list[FLOW_BATCH];
	int got = datagrams_receive(server->datagrams_fd, list);
	for (int i = 0; i < got; i++) {
		uint8_t answer[DNS_ANSWER_SIZE];
		size_t size;
		enum verdict verdict = judge((uint8_t *)list[i].bytes, list[i].size, list[i].from.v4.sin_addr, answer, DNS_DATAGRAM, &size);
		if (verdict == DNS_ANSWERED)
			sendto(server->datagrams_fd, answer, size, MSG_NOSIGNAL, &list[i].from.any, sizeof(list[i].from.v4));
		else if (verdict == DNS_FORWARD)
			forward(server, &list[i]);
	}
}

/* ---- TCP ---- */

static void stream_end(struct stream *s, bool close_client)
{
	for (struct stream **at = &streams; *at; at = &(*at)->next)
		if (*at == s) {
			*at = s->next;
			break;
		}
	loop_forget(&s->watch);
	loop_forget(&s->dial);
	if (close_client)
		close(s->fd);
	if (s->dialed >= 0)
		close(s->dialed);
	stream_count--;
	free(s);
}

/* false: the connection is not worth keeping. */
static bool stream_answer(struct stream *s, const uint8_t *answer, size_t size)
{
	uint8_t length[2] = {(uint8_t)(size >> 8), (uint8_t)size};
	struct iovec parts[2] = {{length, 2}, {(void *)answer, size}};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
	return sendmsg(s->fd, &message, MSG_NOSIGNAL) == (ssize_t)(size + 2);
}

static void dial_ready(struct watch *w, uint32_t events)
{
	(void)events;
	struct stream *s = container_of(w, struct stream, dial);
	int error = 0;
	socklen_t size = sizeof(error);
	if (getsockopt(s->dialed, SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error ||
		send(s->dialed, s->bytes, s->size, MSG_NOSIGNAL) != (ssize_t)s->size) {
		loop_forget(&s->dial);
		close(s->dialed);
		s->dialed = -1;
		dial(s);
		return;
	}
	int client = s->fd, server = s->dialed;
	struct in_addr container = s->container;
	loop_forget(&s->dial);
	s->dialed = -1;
	stream_end(s, false);
	relay_start(client, server, false, resolvers, container);
}

/* Connects to the next resolver; a stream that has tried each is answered SERVFAIL and ended. */
static void dial(struct stream *s)
{
	while (s->attempts < resolver_count) {
		struct resolver *r = &resolvers[s->attempts++];
		s->dialed = host_socket(r->address.any.sa_family, SOCK_STREAM, 0);
		if (s->dialed < 0)
			continue;
		if ((connect(s->dialed, &r->address.any, address_size(&r->address)) == 0 || errno == EINPROGRESS) &&
			loop_watch(&s->dial, s->dialed, EPOLLOUT, dial_ready) == 0)
			return;
		close(s->dialed);
		s->dialed = -1;
	}
	uint8_t answer[DNS_ANSWER_SIZE];
	size_t size = names_refuse(s->bytes + 2, s->size - 2, SERVFAIL, answer);
	if (size)
		stream_answer(s, answer, size);
	stream_end(s, true);
}

static void stream_ready(struct watch *w, uint32_t events)
{
	(void)events;
	struct stream *s = container_of(w, struct stream, watch);
	ssize_t got = recv(s->fd, s->bytes + s->size, sizeof(s->bytes) - s->size, 0);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		stream_end(s, true);
		return;
	}
	s->size += (size_t)got;
	s->due_ns = now_ns() + STREAM_NS;
	while (s->size >= 2) {
		size_t length = (size_t)s->bytes[0] << 8 | s->bytes[1];
		if (length > QUERY_SIZE) {
			stream_end(s, true);
			return;
		}
		if (s->size < 2 + length)
			return;
		static uint8_t answer[DNS_STREAM];
		size_t size = 0;
		enum verdict verdict = judge(s->bytes + 2, length, s->container, answer, DNS_STREAM, &size);
		if (verdict == DNS_FORWARD) {
			loop_forget(&s->watch);
			dial(s);
			return;
		}
		if (verdict == DNS_IGNORE || !stream_answer(s, answer, size)) {
			stream_end(s, true);
			return;
		}
		s->size -= 2 + length;
		memmove(s->bytes, s->bytes + 2 + length, s->size);
	}
}

static void listener_ready(struct watch *w, uint32_t events)
{
	(void)events;
	int fd = accept_or_shed(container_of(w, struct name_server, listener)->listener_fd);
	if (fd < 0)
		return;
	struct sockaddr_in peer = {0};
	socklen_t size = sizeof(peer);
	struct stream *s = stream_count < MOST_STREAMS ? calloc(1, sizeof(*s)) : NULL;
	if (!s || getpeername(fd, (struct sockaddr *)&peer, &size) < 0 || loop_watch(&s->watch, fd, EPOLLIN, stream_ready) < 0) {
		free(s);
		reset_and_close(fd);
		return;
	}
	s->fd = fd;
	s->dialed = s->dial.fd = -1;
	s->container = peer.sin_addr;
	s->due_ns = now_ns() + STREAM_NS;
	s->next = streams;
	streams = s;
	stream_count++;
	tick_soon();
}

/* ---- both ---- */

/* Asks again, ends what took too long, closes sockets that nobody waits for: the next query has a new port. */
static void tick(struct timer *timer)
{
	uint64_t now = now_ns();
	bool again = false;
	for (struct query *q = queries; q < queries + MOST_QUERIES; q++)
		if (q->bytes && q->due_ns <= now)
			query_send(q);
	for (struct stream *s = streams, *next; s; s = next) {
		next = s->next;
		if (s->due_ns <= now)
			stream_end(s, true);
	}
	for (struct resolver *r = resolvers; r < resolvers + resolver_count; r++) {
		if (r->queries)
			again = true;
		else
			resolver_close(r);
	}
	if (again || streams)
		timer_set(timer, TICK_US, tick);
}

/* "192.0.2.1", "2001:db8::1", "fe80::1%eth0" (a link of the host). */
static bool parse_resolver(char *text, union address *address)
{
	memset(address, 0, sizeof(*address));
	if (inet_pton(AF_INET, text, &address->v4.sin_addr) == 1) {
		address->v4.sin_family = AF_INET;
		address->v4.sin_port = htons(PORT);
		return true;
	}
	char *zone = strchr(text, '%');
	if (zone)
		*zone++ = 0;
	if (inet_pton(AF_INET6, text, &address->v6.sin6_addr) != 1)
		return false;
	address->v6.sin6_family = AF_INET6;
	address->v6.sin6_port = htons(PORT);
	if (zone) {
		struct ifreq link = {0};
		int fd = host_socket(AF_INET, SOCK_DGRAM, 0);
		snprintf(link.ifr_name, sizeof(link.ifr_name), "%.15s", zone);
		if (fd >= 0 && ioctl(fd, SIOCGIFINDEX, &link) == 0)
			address->v6.sin6_scope_id = (uint32_t)link.ifr_ifindex;
		if (fd >= 0)
			close(fd);
	}
	return true;
}

static void parse_resolvers(const char *list)
{
	char text[1024], *rest = NULL;
	resolver_count = 0;
	snprintf(text, sizeof(text), "%s", list ? list : "");
	for (char *one = strtok_r(text, ", ", &rest); one; one = strtok_r(NULL, ", ", &rest)) {
		struct resolver *r = &resolvers[resolver_count];
		if (resolver_count == MOST_RESOLVERS)
			return;
		*r = (struct resolver){.watch = {.fd = -1}, .fd = -1};
		if (parse_resolver(one, &r->address))
			resolver_count++;
	}
}

void dns_open(const char *list)
{
	parse_resolvers(list);
}

int dns_serve(struct network *network, struct fault *f)
{
	int on = 1;
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr = network->gateway};
	struct name_server *server = malloc(sizeof(*server));
	if (!server)
		return fault(f, "network", "name server", ENOMEM, NULL);
	*server = (struct name_server){.datagrams.fd = -1, .listener.fd = -1, .network = network};
	network->names = server;
	server->datagrams_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	server->listener_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (server->datagrams_fd < 0 || server->listener_fd < 0 ||
		setsockopt(server->listener_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
		bind(server->datagrams_fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		bind(server->listener_fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(server->listener_fd, MOST_STREAMS) < 0 ||
		loop_watch(&server->datagrams, server->datagrams_fd, EPOLLIN, datagrams_ready) < 0 ||
		loop_watch(&server->listener, server->listener_fd, EPOLLIN, listener_ready) < 0) {
		int error = errno;
		dns_unserve(network);
		return fault(f, "network", "name server", error, "cannot listen on the gateway's port 53");
	}
	return 0;
}

void dns_unserve(struct network *network)
{
	struct name_server *server = network->names;
	if (!server)
		return;
	for (struct query *q = queries; q < queries + MOST_QUERIES; q++)
		if (q->bytes && q->server == server)
			query_end(q);
	for (struct stream *s = streams, *next; s; s = next) {
		next = s->next;
		if (network_of(s->container) == network)
			stream_end(s, true);
	}
	loop_forget(&server->datagrams);
	loop_forget(&server->listener);
	if (server->datagrams_fd >= 0)
		close(server->datagrams_fd);
	if (server->listener_fd >= 0)
		close(server->listener_fd);
	free(server);
	network->names = NULL;
}

void dns_close(void)
{
	timer_clear(&tick_timer);
	while (streams)
		stream_end(streams, true);
	for (struct query *q = queries; q < queries + MOST_QUERIES; q++)
		if (q->bytes)
			query_end(q);
	for (struct resolver *r = resolvers; r < resolvers + resolver_count; r++)
		resolver_close(r);
	relay_end_owner(resolvers);
}
