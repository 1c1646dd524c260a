/* Pings: echo requests that come out of the tap are sent from a ping socket of the host, or a raw one. See egress.c. */
#define _GNU_SOURCE
#include "egress_internal.h"

#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include "host.h"
#include "loop.h"

enum { MOST_PINGS = 64 };
static const uint64_t PING_NS = 30000000000u;

/* Echo requests of one program in one container to one destination. */
struct ping {
	struct watch watch;
	int fd;                      /* -1: this entry is free */
	bool raw;
	struct in_addr container;
	struct in6_addr source, destination;
	uint16_t id, our_id;         /* network byte order */
	uint64_t used_ns;
};
static struct ping pings[MOST_PINGS];

void ping_open(void)
{
	for (struct ping *ping = pings; ping < pings + MOST_PINGS; ping++)
		*ping = (struct ping){.watch = {.fd = -1}, .fd = -1};
}

static void end(struct ping *ping)
{
	loop_forget(&ping->watch);
	close(ping->fd);
	ping->fd = -1;
}

static void ready(struct watch *w, uint32_t events)
{
	(void)events;
	struct ping *ping = container_of(w, struct ping, watch);
	uint8_t bytes[PACKET_SIZE], out[PACKET_SIZE];
	ssize_t got = recv(ping->fd, bytes, sizeof(bytes), 0);
	uint8_t *message = bytes;
	bool is_v4 = ip_is_v4(&ping->destination);
	if (got > 0 && ping->raw && is_v4) {
		size_t header = (size_t)(bytes[0] & 15) * 4;
		if ((size_t)got < header)
			return;
		message += header;
		got -= (ssize_t)header;
	}
	if (got < (ssize_t)sizeof(struct icmphdr) || message[0] != (is_v4 ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY) ||
		(ping->raw && memcmp(message + 4, &ping->our_id, 2) != 0))
		return;
	memcpy(message + 4, &ping->id, 2);
	egress_inject(out, write_icmp(&ping->destination, &ping->source, message, (size_t)got, out));
}

static bool begin(struct ping *ping)
{
	union address to = socket_address(&ping->destination, 0);
	bool is_v4 = ip_is_v4(&ping->destination);
	int protocol = is_v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	ping->raw = false;
	ping->fd = host_socket(to.any.sa_family, SOCK_DGRAM, protocol);
	if (ping->fd < 0) {
		/* net.ipv4.ping_group_range of the host does not include us; root may send raw messages. */
		uint32_t all_but_replies = ~(1u << ICMP_ECHOREPLY);
		ping->raw = true;
		ping->fd = host_socket(to.any.sa_family, SOCK_RAW, protocol);
		if (ping->fd >= 0 && is_v4)
			setsockopt(ping->fd, SOL_RAW, 1 /* ICMP_FILTER */, &all_but_replies, sizeof(all_but_replies));
	}
	if (ping->fd < 0)
		return false;
	if (connect(ping->fd, &to.any, address_size(&to)) == 0 &&
		getrandom(&ping->our_id, sizeof(ping->our_id), 0) == sizeof(ping->our_id) &&
		loop_watch(&ping->watch, ping->fd, EPOLLIN, ready) == 0)
		return true;
	int error = errno;
	close(ping->fd);
	ping->fd = -1;
	errno = error;
	return false;
}

void ping_request(const struct packet *p)
{
	uint8_t message[PACKET_SIZE];
	uint16_t id;
	if (p->payload_size > sizeof(message))
		return;
	memcpy(&id, p->payload + 4, 2);
	struct ping *ping = NULL, *oldest = pings;
	for (struct ping *one = pings; one < pings + MOST_PINGS && !ping; one++) {
		if (one->fd >= 0 && one->id == id && ip_equal(&one->source, &p->tuple.source) &&
			ip_equal(&one->destination, &p->tuple.destination))
			ping = one;
		else if (oldest->fd >= 0 && (one->fd < 0 || one->used_ns < oldest->used_ns))
			oldest = one;
	}
	if (!ping) {
		ping = oldest;
		if (ping->fd >= 0)
			end(ping);
		*ping = (struct ping){
			.watch = {.fd = -1}, .fd = -1, .container = egress_container(&p->tuple.source), .source = p->tuple.source,
			.destination = p->tuple.destination, .id = id};
		if (!begin(ping)) {
			egress_tell_failure(p, errno);
			return;
		}
		egress_sweep_soon();
	}
	ping->used_ns = now_ns();
	memcpy(message, p->payload, p->payload_size);
	memcpy(message + 4, &ping->our_id, 2);
	/* The checksum is computed on a whole packet; a ping socket does it anew, a raw one does not. */
	uint8_t whole[PACKET_SIZE];
	size_t size = write_icmp(&p->tuple.source, &p->tuple.destination, message, p->payload_size, whole);
	if (size)
		send(ping->fd, whole + (size - p->payload_size), p->payload_size, MSG_NOSIGNAL);
}

bool ping_sweep(uint64_t now)
{
	bool left = false;
	for (struct ping *ping = pings; ping < pings + MOST_PINGS; ping++) {
		if (ping->fd >= 0 && now - ping->used_ns > PING_NS)
			end(ping);
		left = left || ping->fd >= 0;
	}
	return left;
}

void ping_forget(struct in_addr container)
{
	for (struct ping *ping = pings; ping < pings + MOST_PINGS; ping++)
		if (ping->fd >= 0 && ping->container.s_addr == container.s_addr)
			end(ping);
}

void ping_close(void)
{
	for (struct ping *ping = pings; ping < pings + MOST_PINGS; ping++)
		if (ping->fd >= 0)
			end(ping);
}
