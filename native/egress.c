/* The way out for containers, without any help from the host's forwarding, firewall or links: their connections end in the
 * router and go on from sockets of the host. So it works where ip_forward is 0, where Docker, ufw or firewalld drop what is
 * forwarded (an nftables drop is final, whatever a table of ours accepts), and the same without privileges on the host.
 *
 *     container ── mf0 ─ first segment of a connection, pings ─► default route ─► egress ══ tap ─► this file
 *                   └─── the rest of TCP, UDP ─► nft.c: transparent sockets ─► relay.c, flow.c ─► host_socket()
 *
 * TCP: the first segment (SYN) comes out of the tap, where nobody has answered it yet. We connect to its destination from
 * the host. Only when that has succeeded is the segment put back, and tproxy hands it to our listener; the connection that
 * is accepted there is joined to the one from the host. If it was refused, a reset is put back instead, or "unreachable":
 * containers see what the host would see, refusals and timeouts too. Segments sent again meanwhile are ignored.
 *
 * UDP: tproxy hands the first datagram of a conversation to one listener; then a transparent socket, bound to the
 * destination and connected to the container, takes the rest and sends the answers.
 *
 * The host itself: the first segment to a gateway comes out of the tap as well. Where host_access.c allows the port it goes on to the
 * host's loopback; else it is refused.
 *
 * Ping: echo requests come out of the tap and are sent from a ping socket of the host, or a raw one.
 *
 * The tap is a pair of links with a packet socket on the far end, not a TUN device: it needs no /dev/net/tun, which
 * containers in which mayfly runs do not have.
 *
 * IPv6 is the same with listeners and rules of its own, made with the first network that has it. Where the host has no IPv6, it is
 * the host that says so, at once: "no route", and containers see that. */
#define _GNU_SOURCE
#include "router.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include "flow.h"
#include "host.h"
#include "ip.h"
#include "loop.h"
#include "packet.h"
#include "relay.h"

#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif
#ifndef IPV6_RECVORIGDSTADDR
#define IPV6_RECVORIGDSTADDR 74
#endif

enum {
	TABLE = 100,                 /* routes everything to this namespace, for packets with EGRESS_MARK */
	FIRST_TABLE = 101,           /* routes everything into `egress`, for packets with FIRST_MARK */
	PRIORITY_FIRST = 1, PRIORITY_FIRST_V6 = 4, PRIORITY_MARKED = 10,
	PACKETS = 32,                /* handled before the loop looks at the others again */
	ACCEPTS = 16, BACKLOG = 1024,
	MOST_DIALS = 1024, DIAL_BUCKETS = 256,
	MOST_PINGS = 64,
	SWEEP_US = 1000000,
};
static const uint64_t DIAL_NS = 150000000000u;      /* longer than the host's own attempts to connect last */
static const uint64_t ACCEPT_NS = 10000000000u;     /* from connected to accepted; else the container has given up */
static const uint64_t PING_NS = 30000000000u;

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

/* The listeners of one family. */
struct door {
	struct watch connections, datagrams;
	int connections_fd, datagrams_fd;
};

static bool is_open, is_open_v6;    /* v6: once there is a network that has it */
static struct { struct watch watch; int fd; } tap = {.fd = -1};
static struct door v4 = {.connections_fd = -1, .datagrams_fd = -1}, v6 = {.connections_fd = -1, .datagrams_fd = -1};
static uint8_t egress_mac[MAC_SIZE];
static struct timer sweep_timer;
static uint8_t frame[ETH_HLEN + 65536];

static void sweep(struct timer *);

static void sweep_soon(void)
{
	if (!sweep_timer.due_ns)
		timer_set(&sweep_timer, SWEEP_US, sweep);
}

/* Puts a packet into the router as if it came from the outside. */
static void inject(const uint8_t *packet, size_t size)
{
	static uint8_t out[ETH_HLEN + PACKET_SIZE];
	if (!size || size > PACKET_SIZE)
		return;
	struct ethhdr ethernet = {.h_proto = htons(packet_is_v6(packet) ? ETH_P_IPV6 : ETH_P_IP), .h_source = {2}};
	memcpy(ethernet.h_dest, egress_mac, MAC_SIZE);
	memcpy(out, &ethernet, ETH_HLEN);
	memcpy(out + ETH_HLEN, packet, size);
	ssize_t sent;
	do
		sent = send(tap.fd, out, ETH_HLEN + size, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);    /* lost otherwise, as packets may be: whoever waits for it asks again */
}

/* What is neither the host itself by another name nor a group, nor in a network of ours. 0.0.0.0/8 would connect to the host's loopback.
 * Of IPv6 what is routed: global addresses, those of sites, and IPv4 behind a translator. */
static bool is_outside(const struct in6_addr *address)
{
	uint32_t ip = ntohl(ip_v4(address).s_addr);
	bool sound = ip_is_v4(address) ? ip >> 24 != 0 && ip >> 24 != 127 && ip < 0xe0000000 : ip_is_unicast(address);
	return sound && !network_at(address);
}

/* A container may send to the outside. */
static bool has_way_out(const struct in6_addr *source)
{
	const struct network *network = network_at(source);
	return network && !network->internal;
}

/* What is remembered of who is connected: its IPv4 address, which all have. 0.0.0.0: nobody. */
static struct in_addr container_at(const struct in6_addr *source)
{
	const struct net_link *link = ip_is_v4(source) ? NULL : link_at(source);
	return link ? link->address : ip_v4(source);
}

static bool is_gateway(const struct in6_addr *source, const struct in6_addr *address)
{
	const struct network *network = network_at(source);
	struct in6_addr gateway = ip_is_v4(address) ? ip_of(network->gateway) : network->v6.gateway;
	return ip_equal(&gateway, address);
}

/* A connection to the gateway on the container's network, and a port of the host that it may reach. */
static bool leads_to_host(const struct tuple *tuple)
{
	return is_gateway(&tuple->source, &tuple->destination) && host_access(slot_of(container_at(&tuple->source)), tuple->destination_port);
}

static union address socket_address(const struct in6_addr *ip, uint16_t port)
{
	union address address = {0};
	if (ip_is_v4(ip))
		address.v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = ip_v4(ip)};
	else
		address.v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = *ip};
	return address;
}

static struct in6_addr ip_in(const union address *address)
{
	return address->any.sa_family == AF_INET6 ? address->v6.sin6_addr : ip_of(address->v4.sin_addr);
}

static struct tuple tuple_of(const union address *source, const union address *destination)
{
	/* The port is in the same place in both. */
	return (struct tuple){ip_in(source), ip_in(destination), ntohs(source->v4.sin_port), ntohs(destination->v4.sin_port)};
}

static void tell_failure(const struct packet *p, int error)
{
	uint8_t out[PACKET_SIZE];
	switch (error) {
	case ECONNREFUSED:
	case ECONNRESET:
		if (p->protocol == IPPROTO_TCP)
			inject(out, write_reset(p, out));
		else
			inject(out, write_unreachable(p, PORT_UNREACHABLE, out));
		return;
	case ENETUNREACH:
	case EADDRNOTAVAIL:          /* a host with IPv6 on its loopback only */
	case EAFNOSUPPORT:
		inject(out, write_unreachable(p, NETWORK_UNREACHABLE, out));
		return;
	case EHOSTUNREACH:
	case EHOSTDOWN:
	case EINVAL:
		inject(out, write_unreachable(p, HOST_UNREACHABLE, out));
		return;
	case EACCES:
	case EPERM:
		inject(out, write_unreachable(p, FILTERED, out));
		return;
	default:
		return;    /* a timeout stays one */
	}
}

/* ---- TCP ---- */

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
		tell_failure(&p, error);
	dial_end(dial_find(&d->tuple), false);
}

static void dial_connected(struct dial *d)
{
	loop_forget(&d->watch);
	d->connected = true;
	d->due_ns = now_ns() + ACCEPT_NS;
	inject(d->segment, d->size);
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

/* to_host: to the host's loopback, whatever its destination says. */
static void first_segment(const struct packet *p, bool to_host)
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
			inject(d->segment, d->size);
		return;
	}
	if (dial_count == MOST_DIALS || !(d = malloc(sizeof(*d))))
		return;
	union address to = to_host ? (union address){.v4 = {.sin_family = AF_INET, .sin_port = htons(p->tuple.destination_port),
		.sin_addr = {htonl(INADDR_LOOPBACK)}}} : socket_address(&p->tuple.destination, p->tuple.destination_port);
	int fd = host_socket(to.any.sa_family, SOCK_STREAM, 0);
	if (fd < 0) {
		tell_failure(p, errno);
		free(d);
		return;
	}
	d->tuple = p->tuple;
	d->container = container_at(&p->tuple.source);
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
	sweep_soon();
	int result = dial_connect(d, &to);
	dial_tried(d, result, errno);
}

static void connections_ready(struct watch *w, uint32_t events)
{
	(void)events;
	const struct door *door = container_of(w, struct door, connections);
	for (int i = 0; i < ACCEPTS; i++) {
		union address source = {0}, destination = {0};
		socklen_t source_size = sizeof(source), destination_size = sizeof(destination);
		int fd = accept_or_shed(door->connections_fd);
		if (fd < 0 && (errno == EAGAIN || errno == EBADF || errno == EINVAL))
			return;
		if (fd < 0)
			continue;
		/* The listener's address is the destination's: that is what a transparent socket is. */
		if (getpeername(fd, &source.any, &source_size) < 0 || getsockname(fd, &destination.any, &destination_size) < 0) {
			reset_and_close(fd);
			continue;
		}
		struct tuple tuple = tuple_of(&source, &destination);
		struct dial **at = dial_find(&tuple);
		if (*at && (*at)->connected) {
			struct in_addr container = (*at)->container;
			relay_start(fd, dial_end(at, true), false, &v4, container);
		} else
			reset_and_close(fd);
	}
}

/* ---- UDP ---- */

static void datagram_failed(const struct flow_key *key, int error)
{
	uint8_t start[PACKET_SIZE];
	struct packet p;
	struct tuple tuple = tuple_of(&key->client, &key->local);
	if (packet_read(start, write_udp_start(&tuple, start), &p))
		tell_failure(&p, error);
}

static void datagram_refused(const struct flow_key *key)
{
	datagram_failed(key, ECONNREFUSED);
}

static int make_transparent(int fd, int family)
{
	int on = 1;
	return family == AF_INET6 ? setsockopt(fd, SOL_IPV6, IPV6_TRANSPARENT, &on, sizeof(on))
		: setsockopt(fd, SOL_IP, IP_TRANSPARENT, &on, sizeof(on));
}

/* A socket that is the destination, as far as the container can tell. */
static int pose_as(const struct flow_key *key)
{
	int on = 1;
	int fd = socket(key->local.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	if (make_transparent(fd, key->local.any.sa_family) == 0 &&
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
		bind(fd, &key->local.any, address_size(&key->local)) == 0 &&
		connect(fd, &key->client.any, address_size(&key->client)) == 0)
		return fd;
	close(fd);
	return -1;
}

static struct flow *conversation(const struct flow_key *key)
{
	struct flow *flow = flow_find(key);
	if (flow)
		return flow;
	struct in6_addr client = ip_in(&key->client);
	for (int attempt = 0; attempt < 2; attempt++) {
		int far = host_socket(key->local.any.sa_family, SOCK_DGRAM, 0);
		int near = far < 0 ? -1 : pose_as(key);
		if (near >= 0) {
			if (connect(far, &key->local.any, address_size(&key->local)) == 0)
				return flow_add(key, far, near, -1, container_at(&client), datagram_refused);
			datagram_failed(key, errno);
			close(near);
			close(far);
			break;
		}
		if (far >= 0)
			close(far);
		else if (errno == EAFNOSUPPORT) {
			datagram_failed(key, errno);
			break;
		}
		/* Perhaps too many descriptors: once more with fewer. */
		if (!flow_end_oldest())
			break;
	}
	return NULL;
}

static void datagrams_ready(struct watch *w, uint32_t events)
{
	(void)events;
	struct datagram list[FLOW_BATCH];
	int got = datagrams_receive(container_of(w, struct door, datagrams)->datagrams_fd, list);
	for (int i = 0; i < got; i++) {
		struct flow_key key = {.owner = &v4, .client = list[i].from, .local = list[i].local};
		struct in6_addr client = ip_in(&key.client), local = ip_in(&key.local);
		if (!key.local.any.sa_family || !network_at(&client) || !container_at(&client).s_addr)
			continue;
		if (!is_outside(&local) || !has_way_out(&client)) {
			datagram_refused(&key);
			continue;
		}
		struct flow *flow = conversation(&key);
		if (flow)
			flow_send(flow, list[i].bytes, list[i].size);
	}
}

/* ---- ping ---- */

static void ping_end(struct ping *ping)
{
	loop_forget(&ping->watch);
	close(ping->fd);
	ping->fd = -1;
}

static void ping_ready(struct watch *w, uint32_t events)
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
	inject(out, write_icmp(&ping->destination, &ping->source, message, (size_t)got, out));
}

static bool ping_open(struct ping *ping)
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
		loop_watch(&ping->watch, ping->fd, EPOLLIN, ping_ready) == 0)
		return true;
	int error = errno;
	close(ping->fd);
	ping->fd = -1;
	errno = error;
	return false;
}

static void echo_request(const struct packet *p)
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
			ping_end(ping);
		*ping = (struct ping){
			.watch = {.fd = -1}, .fd = -1, .container = container_at(&p->tuple.source), .source = p->tuple.source,
			.destination = p->tuple.destination, .id = id};
		if (!ping_open(ping)) {
			tell_failure(p, errno);
			return;
		}
		sweep_soon();
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

/* ---- the tap ---- */

static void packet_arrived(const struct packet *p)
{
	uint8_t out[PACKET_SIZE];
	const struct network *network = network_at(&p->tuple.source);
	if (!network || !container_at(&p->tuple.source).s_addr)
		return;
	bool to_gateway = p->protocol == IPPROTO_TCP && is_gateway(&p->tuple.source, &p->tuple.destination);
	if (network->internal ? !to_gateway : !to_gateway && !is_outside(&p->tuple.destination)) {
		if (p->protocol != IPPROTO_ICMP && p->protocol != IPPROTO_ICMPV6)
			inject(out, write_unreachable(p, NETWORK_UNREACHABLE, out));
		return;
	}
	if (p->protocol == IPPROTO_TCP) {
		uint8_t flags = tcp_flags(p) & (TCP_SYN | TCP_ACK | TCP_RST);
		if (flags == TCP_SYN && to_gateway && (network->internal || !leads_to_host(&p->tuple)))
			inject(out, write_reset(p, out));
		else if (flags == TCP_SYN)
			first_segment(p, to_gateway);
		else if (!(flags & TCP_RST))
			inject(out, write_reset(p, out));    /* of a connection that is over */
	} else if (p->protocol == IPPROTO_ICMP || p->protocol == IPPROTO_ICMPV6) {
		if (packet_is_ping(p))
			echo_request(p);
	} else {
		inject(out, write_unreachable(p, PROTOCOL_UNREACHABLE, out));
	}
}

static void tap_ready(struct watch *w, uint32_t events)
{
	(void)w, (void)events;
	for (int i = 0; i < PACKETS; i++) {
		struct packet p;
		ssize_t got = recv(tap.fd, frame, sizeof(frame), 0);
		if (got < 0)
			return;
		if (got > ETH_HLEN && packet_read(frame + ETH_HLEN, (size_t)got - ETH_HLEN, &p))
			packet_arrived(&p);
	}
}

static void sweep(struct timer *timer)
{
	uint64_t now = now_ns();
	bool again = false;
	for (unsigned i = 0; i < DIAL_BUCKETS; i++)
		for (struct dial **at = &dials[i]; *at;) {
			if ((*at)->due_ns <= now)
				dial_end(at, false);
			else
				at = &(*at)->next;
		}
	for (struct ping *ping = pings; ping < pings + MOST_PINGS; ping++) {
		if (ping->fd >= 0 && now - ping->used_ns > PING_NS)
			ping_end(ping);
		again = again || ping->fd >= 0;
	}
	if (again || dial_count)
		timer_set(timer, SWEEP_US, sweep);
}

void egress_forget(struct in_addr container)
{
	relay_end_container(container);
	flow_end_container(container);
	for (unsigned i = 0; dial_count && i < DIAL_BUCKETS; i++)
		for (struct dial **at = &dials[i]; *at;) {
			if ((*at)->container.s_addr == container.s_addr)
				dial_end(at, false);
			else
				at = &(*at)->next;
		}
	for (struct ping *ping = pings; is_open && ping < pings + MOST_PINGS; ping++)
		if (ping->fd >= 0 && ping->container.s_addr == container.s_addr)
			ping_end(ping);
}

/* ---- opening ---- */

/* Marked packets (0 = all) go by this table. */
static void put_rule(struct batch *b, uint8_t family, uint8_t table, uint32_t mark, uint32_t priority)
{
	struct fib_rule_hdr rule = {.family = family, .table = table, .action = FR_ACT_TO_TBL};
	message_begin(b, RTM_NEWRULE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &rule, sizeof(rule));
	if (mark)
		put_u32(b, FRA_FWMARK, mark);
	put_u32(b, FRA_PRIORITY, priority);
}

/* The pair of links, the default route into it, and the table that makes every address one of this namespace. */
static int make_links(void)
{
	uint8_t tap_mac[MAC_SIZE];
	if (getrandom(egress_mac, MAC_SIZE, 0) != MAC_SIZE || getrandom(tap_mac, MAC_SIZE, 0) != MAC_SIZE)
		return -1;
	egress_mac[0] = tap_mac[0] = 0x02;
	struct batch b;
	batch_clear(&b);
	/* Without ARP the kernel addresses its packets to `egress` itself, so `tap` takes none of them for its own. */
	struct ifinfomsg link = {
		.ifi_index = INDEX_EGRESS, .ifi_flags = IFF_UP | IFF_NOARP, .ifi_change = IFF_UP | IFF_NOARP};
	message_begin(&b, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &link, sizeof(link));
	put_string(&b, IFLA_IFNAME, "egress");
	put(&b, IFLA_ADDRESS, egress_mac, MAC_SIZE);
	size_t info = nest_begin(&b, IFLA_LINKINFO);
	put_string(&b, IFLA_INFO_KIND, "veth");
	size_t data = nest_begin(&b, IFLA_INFO_DATA);
	size_t nest = nest_begin(&b, VETH_INFO_PEER);
	struct ifinfomsg peer = {.ifi_index = INDEX_TAP, .ifi_flags = IFF_NOARP, .ifi_change = IFF_NOARP};
	put_header(&b, &peer, sizeof(peer));
	put_string(&b, IFLA_IFNAME, "tap");
	put(&b, IFLA_ADDRESS, tap_mac, MAC_SIZE);
	nest_end(&b, nest);
	nest_end(&b, data);
	nest_end(&b, info);

	struct ifinfomsg up = {.ifi_index = INDEX_TAP, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	message_begin(&b, RTM_NEWLINK, NLM_F_ACK, &up, sizeof(up));

	struct in_addr nowhere = {htonl(0xa9fe0001)};    /* 169.254.0.1: a gateway, or there were a neighbour per destination */
	struct rtmsg route = {
		.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_STATIC, .rtm_scope = RT_SCOPE_UNIVERSE,
		.rtm_type = RTN_UNICAST, .rtm_flags = RTNH_F_ONLINK,
	};
	message_begin(&b, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &route, sizeof(route));
	put(&b, RTA_GATEWAY, &nowhere, sizeof(nowhere));
	put_u32(&b, RTA_OIF, INDEX_EGRESS);

	struct rtmsg everything = {
		.rtm_family = AF_INET, .rtm_table = TABLE, .rtm_protocol = RTPROT_STATIC, .rtm_scope = RT_SCOPE_HOST,
		.rtm_type = RTN_LOCAL,
	};
	message_begin(&b, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &everything, sizeof(everything));
	put_u32(&b, RTA_OIF, INDEX_LOOPBACK);

	put_rule(&b, AF_INET, TABLE, EGRESS_MARK, PRIORITY_MARKED);

	/* First segments leave by `egress` even if they are for a gateway, which is an address of this namespace. The rule for such
	 * addresses usually comes before all others, so it has to move. */
	route.rtm_table = FIRST_TABLE;
	message_begin(&b, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &route, sizeof(route));
	put(&b, RTA_GATEWAY, &nowhere, sizeof(nowhere));
	put_u32(&b, RTA_OIF, INDEX_EGRESS);
	put_rule(&b, AF_INET, FIRST_TABLE, FIRST_MARK, PRIORITY_FIRST);
	put_rule(&b, AF_INET, RT_TABLE_LOCAL, 0, PRIORITY_LOCAL);
	struct fib_rule_hdr usual = {.family = AF_INET, .table = RT_TABLE_LOCAL, .action = FR_ACT_TO_TBL};
	message_begin(&b, RTM_DELRULE, NLM_F_ACK, &usual, sizeof(usual));
	put_u32(&b, FRA_PRIORITY, 0);
	if (netlink_send(&router.rtnl, &b) < 0)
		return -1;
	/* A gateway's answers are put back here with its own address as the source. */
	return net_sysctl("ipv4/conf/egress/accept_local", "1");
}

/* Two listeners on the family's loopback, in the router. Their ports are those that the rules lead to. */
static int listen_on(int fd, union address at, uint16_t *port, bool stream)
{
	int on = 1, family = at.any.sa_family;
	socklen_t size = sizeof(at);
	if (fd < 0 || make_transparent(fd, family) < 0 || bind(fd, &at.any, address_size(&at)) < 0 || getsockname(fd, &at.any, &size) < 0 ||
		(stream && listen(fd, BACKLOG) < 0))
		return -1;
	if (!stream && (family == AF_INET6 ? setsockopt(fd, SOL_IPV6, IPV6_RECVORIGDSTADDR, &on, sizeof(on))
		: setsockopt(fd, SOL_IP, IP_RECVORIGDSTADDR, &on, sizeof(on))) < 0)
		return -1;
	*port = ntohs(at.v4.sin_port);    /* in the same place in both families */
	return 0;
}

static int open_door(struct door *door, const union address *at, uint16_t *tcp_port, uint16_t *udp_port)
{
	door->connections.fd = door->datagrams.fd = -1;
	door->connections_fd = socket(at->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	door->datagrams_fd = socket(at->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return listen_on(door->connections_fd, *at, tcp_port, true) < 0 || listen_on(door->datagrams_fd, *at, udp_port, false) < 0 ? -1 : 0;
}

static int watch_door(struct door *door)
{
	return loop_watch(&door->connections, door->connections_fd, EPOLLIN, connections_ready) < 0 ||
		loop_watch(&door->datagrams, door->datagrams_fd, EPOLLIN, datagrams_ready) < 0 ? -1 : 0;
}

static void close_door(struct door *door)
{
	if (door->connections_fd >= 0) {
		loop_forget(&door->connections);
		close(door->connections_fd);
	}
	if (door->datagrams_fd >= 0) {
		loop_forget(&door->datagrams);
		close(door->datagrams_fd);
	}
	door->connections_fd = door->datagrams_fd = -1;
}

bool egress_open(char *why, size_t size)
{
	uint16_t tcp_port, udp_port;
	const char *step = "links";
	const union address loopback = {.v4 = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}}};
	struct sockaddr_ll far_end = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = INDEX_TAP};
	for (struct ping *ping = pings; ping < pings + MOST_PINGS; ping++)
		*ping = (struct ping){.watch = {.fd = -1}, .fd = -1};
	is_open = true;
	if (make_links() < 0)
		goto failed;
	step = "packet socket";
	/* Protocol 0: nothing is received before bind() says from which link. */
	tap.fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (tap.fd < 0 || bind(tap.fd, (struct sockaddr *)&far_end, sizeof(far_end)) < 0)
		goto failed;
	step = "transparent sockets";
	if (open_door(&v4, &loopback, &tcp_port, &udp_port) < 0)
		goto failed;
	step = "nftables with socket and tproxy";
	if (nft_open(tcp_port, udp_port) < 0)
		goto failed;
	step = "epoll";
	if (loop_watch(&tap.watch, tap.fd, EPOLLIN, tap_ready) < 0 || watch_door(&v4) < 0)
		goto failed;
	return true;
failed:
	snprintf(why, size, "Containers do not reach the outside: %s (%s)", step, strerror(errno));
	egress_close();
	return false;
}

/* As make_links(), upon the same links. */
static int make_routes_v6(void)
{
	struct batch b;
	batch_clear(&b);
	struct in6_addr nowhere = {.s6_addr = {0xfe, 0x80, [15] = 1}};
	struct rtmsg route = {
		.rtm_family = AF_INET6, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_STATIC, .rtm_scope = RT_SCOPE_UNIVERSE,
		.rtm_type = RTN_UNICAST, .rtm_flags = RTNH_F_ONLINK,
	};
	struct rtmsg everything = {
		.rtm_family = AF_INET6, .rtm_table = TABLE, .rtm_protocol = RTPROT_STATIC, .rtm_scope = RT_SCOPE_HOST,
		.rtm_type = RTN_LOCAL,
	};
	for (int first = 0; first < 2; first++) {
		route.rtm_table = first ? FIRST_TABLE : RT_TABLE_MAIN;
		message_begin(&b, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &route, sizeof(route));
		put(&b, RTA_GATEWAY, &nowhere, sizeof(nowhere));
		put_u32(&b, RTA_OIF, INDEX_EGRESS);
	}
	message_begin(&b, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &everything, sizeof(everything));
	put_u32(&b, RTA_OIF, INDEX_LOOPBACK);
	put_rule(&b, AF_INET6, TABLE, EGRESS_MARK, PRIORITY_MARKED);
	put_rule(&b, AF_INET6, FIRST_TABLE, FIRST_MARK, PRIORITY_FIRST_V6);
	return netlink_send(&router.rtnl, &b);
}

int egress_open_v6(struct fault *f)
{
	uint16_t tcp_port, udp_port;
	const union address loopback = {.v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT}};
	/* Both families from now on: the frames are told apart by their first digit. */
	struct sockaddr_ll far_end = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = INDEX_TAP};
	static int failure;    /* it would be the same the next time */
	if (is_open_v6 || !is_open)
		return 0;
	if (!failure && link_without_advertisements("egress") == 0 && make_routes_v6() == 0 && bind(tap.fd, (struct sockaddr *)&far_end, sizeof(far_end)) == 0 &&
		open_door(&v6, &loopback, &tcp_port, &udp_port) == 0 && nft_open_v6(tcp_port, udp_port) == 0 && watch_door(&v6) == 0) {
		is_open_v6 = true;
		return 0;
	}
	if (!failure)
		failure = errno;
	close_door(&v6);
	return fault(f, "network", "ipv6", failure, "the way out cannot be made");
}

bool egress_is_open(void)
{
	return is_open;
}

void egress_close(void)
{
	if (!is_open)
		return;
	timer_clear(&sweep_timer);
	for (unsigned i = 0; i < DIAL_BUCKETS; i++)
		while (dials[i])
			dial_end(&dials[i], false);
	for (struct ping *ping = pings; ping < pings + MOST_PINGS; ping++)
		if (ping->fd >= 0)
			ping_end(ping);
	relay_end_owner(&v4);
	flow_end_owner(&v4);
	close_door(&v4);
	close_door(&v6);
	loop_forget(&tap.watch);
	if (tap.fd >= 0)
		close(tap.fd);
	tap.fd = -1;
	is_open = is_open_v6 = false;
}
