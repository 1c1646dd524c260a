/* TCP to the outside: from the first segment, which nobody has answered yet, to the accepted connection; then it is relay.c's. See egress.c. */
#define _GNU_SOURCE
#include "egress_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "host.h"
#include "loop.h"
#include "relay.h"

enum { ACCEPTS = 16, MOST_DIALS = 1024, DIAL_BUCKETS = 256 };
static const uint64_t DIAL_NS = 150000000000u;      /* longer than the host's own attempts to connect last */
static const uint64_t ACCEPT_NS = 10000000000u;     /* from connected to accepted; else the container has given up */

/* A connection on its way: from the first segment to the accepted connection. */
struct dial {
	struct dial *next;
	struct tuple tuple;
	struct in_addr container;
	struct watch watch;
	int fd;                      /* the host's socket */
	bool to_host;                /* to the host's loopback: 127.0.0.1, then ::1 */
	bool connected;
	uint64_t due_ns;
	size_t size;
	uint8_t segment[PACKET_SIZE];
};
static struct dial *dials[DIAL_BUCKETS];
static unsigned dial_count;

static struct dial **bucket_of(const struct tuple *tuple)
{
	uint32_t hash = 2166136261u;    /* FNV-1a */
	for (size_t i = 0; i < sizeof(*tuple); i++)
		hash = (hash ^ ((const uint8_t *)tuple)[i]) * 16777619u;
	return &dials[(hash ^ hash >> 16) % DIAL_BUCKETS];
}

static struct dial **dial_find(const struct tuple *tuple)
{
	struct dial **at = bucket_of(tuple);
	while (*at && memcmp(&(*at)->tuple, tuple, sizeof(*tuple)) != 0)
		at = &(*at)->next;
	return at;
}

/* Returns the host's socket if it is wanted, else closes it. */
static int dial_end(struct dial **at, bool keep_socket)
{
	struct dial *d = *at;
	int fd = d->fd;
	*at = d->next;
	loop_forget(&d->watch);
	if (!keep_socket)
		close(fd);
	free(d);
	dial_count--;
	return keep_socket ? fd : -1;
}

static void dial_failed(struct dial *d, int error)
{
	struct packet p;
	if (packet_read(d->segment, d->size, &p))
		egress_tell_failure(&p, error);
	dial_end(dial_find(&d->tuple), false);
}

static void dial_connected(struct dial *d)
{
	loop_forget(&d->watch);
	d->connected = true;
	d->due_ns = now_ns() + ACCEPT_NS;
	egress_inject(d->segment, d->size);
}

static void dial_ready(struct watch *, uint32_t events);

/* Connects the dial's socket. 0 when it is connected already, 1 when that is under way, -1 with errno. */
static int dial_connect(struct dial *d, const union address *to)
{
	if (connect(d->fd, &to->any, address_size(to)) == 0)
		return 0;
	return errno != EINPROGRESS || loop_watch(&d->watch, d->fd, EPOLLOUT, dial_ready) < 0 ? -1 : 1;
}

/* A server on the host may listen on ::1 only. */
static int dial_other_loopback(struct dial *d)
{
	union address to = {.v6 = {
		.sin6_family = AF_INET6, .sin6_port = htons(d->tuple.destination_port), .sin6_addr = IN6ADDR_LOOPBACK_INIT}};
	int fd = host_socket(AF_INET6, SOCK_STREAM, 0);
	d->to_host = false;
	if (fd < 0)
		return -1;
	loop_forget(&d->watch);
	close(d->fd);
	d->fd = fd;
	return dial_connect(d, &to);
}

/* What connect() has come to, at last or at once. */
static void dial_tried(struct dial *d, int result, int error)
{
	if (result < 0 && d->to_host && error == ECONNREFUSED)
		result = dial_other_loopback(d);
	if (result < 0)
		dial_failed(d, error);
	else if (result == 0)
		dial_connected(d);
}

static void dial_ready(struct watch *w, uint32_t events)
{
	(void)events;
	struct dial *d = container_of(w, struct dial, watch);
	int error = 0;
	socklen_t size = sizeof(error);
	if (getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
		error = errno;
	dial_tried(d, error ? -1 : 0, error);
}

/* A container may have as many dials as are still free (Choudhury and Hahne's dynamic threshold, for the buffers of switches): one alone has half of
 * them, and however many it sends to what does not answer, the others have a place. */
static bool has_share(struct in_addr container)
{
	unsigned own = 0, free_dials = MOST_DIALS - dial_count;
	if (dial_count < free_dials)
		return true;
	for (unsigned i = 0; i < DIAL_BUCKETS; i++)
		for (const struct dial *d = dials[i]; d; d = d->next)
			own += d->container.s_addr == container.s_addr;
	return own < free_dials;
}

void tcp_first_segment(const struct packet *p, bool to_host)
{
	struct dial *d = *dial_find(&p->tuple);
	if (p->size > PACKET_SIZE)
		return;
	if (d) {
		/* Sent again, or another attempt from the same port: the latest counts. */
		memcpy(d->segment, p->bytes, p->size);
		d->size = p->size;
		packet_seal(d->segment, d->size);
		if (d->connected)
			egress_inject(d->segment, d->size);
		return;
	}
	struct in_addr container = egress_container(&p->tuple.source);
	/* Not told: whoever sends the segment again may find a place. */
	if (!has_share(container) || !(d = malloc(sizeof(*d))))
		return;
	union address to = to_host ? (union address){.v4 = {.sin_family = AF_INET, .sin_port = htons(p->tuple.destination_port),
		.sin_addr = {htonl(INADDR_LOOPBACK)}}} : socket_address(&p->tuple.destination, p->tuple.destination_port);
	int fd = host_socket(to.any.sa_family, SOCK_STREAM, 0);
	if (fd < 0) {
		egress_tell_failure(p, errno);
		free(d);
		return;
	}
	d->tuple = p->tuple;
	d->container = container;
	d->watch = (struct watch){.fd = -1};
	d->fd = fd;
	d->to_host = to_host;
	d->connected = false;
	d->due_ns = now_ns() + DIAL_NS;
	d->size = p->size;
	memcpy(d->segment, p->bytes, p->size);
	packet_seal(d->segment, d->size);
	struct dial **bucket = bucket_of(&d->tuple);
	d->next = *bucket;
	*bucket = d;
	dial_count++;
	egress_sweep_soon();
	int result = dial_connect(d, &to);
	dial_tried(d, result, errno);
}

void tcp_accept(int listener)
{
	for (int i = 0; i < ACCEPTS; i++) {
		union address source = {0}, destination = {0};
		socklen_t source_size = sizeof(source), destination_size = sizeof(destination);
		int fd = accept_or_shed(listener);
		if (fd < 0 && (errno == EAGAIN || errno == EBADF || errno == EINVAL))
			return;
		if (fd < 0)
			continue;
		/* The listener's address is the destination's: that is what a transparent socket is. */
		if (getpeername(fd, &source.any, &source_size) < 0 || getsockname(fd, &destination.any, &destination_size) < 0) {
			reset_and_close(fd);
			continue;
		}
		/* The port is in the same place in both families. */
		struct tuple tuple = {ip_in(&source), ip_in(&destination), ntohs(source.v4.sin_port), ntohs(destination.v4.sin_port)};
		struct dial **at = dial_find(&tuple);
		if (*at && (*at)->connected) {
			struct in_addr container = (*at)->container;
			relay_start(fd, dial_end(at, true), false, EGRESS, container);
		} else
			reset_and_close(fd);
	}
}

bool tcp_sweep(uint64_t now)
{
	for (unsigned i = 0; i < DIAL_BUCKETS; i++)
		for (struct dial **at = &dials[i]; *at;) {
			if ((*at)->due_ns <= now)
				dial_end(at, false);
			else
				at = &(*at)->next;
		}
	return dial_count > 0;
}

void tcp_forget(struct in_addr container)
{
	for (unsigned i = 0; dial_count && i < DIAL_BUCKETS; i++)
		for (struct dial **at = &dials[i]; *at;) {
			if ((*at)->container.s_addr == container.s_addr)
				dial_end(at, false);
			else
				at = &(*at)->next;
		}
}

void tcp_close(void)
{
	for (unsigned i = 0; i < DIAL_BUCKETS; i++)
		while (dials[i])
			dial_end(&dials[i], false);
}
