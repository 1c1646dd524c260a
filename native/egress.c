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
#include "egress_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "loop.h"
#include "relay.h"
#include "router.h"

#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif
#ifndef IPV6_RECVORIGDSTADDR
#define IPV6_RECVORIGDSTADDR 74
#endif

enum {
	PACKETS = 32,                /* handled before the loop looks at the others again */
	BACKLOG = 1024,
	SWEEP_US = 1000000,
};

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

const char EGRESS[] = "egress";

static void sweep(struct timer *);

void egress_sweep_soon(void)
{
	if (!sweep_timer.due_ns)
		timer_set(&sweep_timer, SWEEP_US, sweep);
}

void egress_inject(const uint8_t *packet, size_t size)
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
bool egress_is_outside(const struct in6_addr *address)
{
	uint32_t ip = ntohl(ip_v4(address).s_addr);
	bool sound = ip_is_v4(address) ? ip >> 24 != 0 && ip >> 24 != 127 && ip < 0xe0000000 : ip_is_unicast(address);
	return sound && !network_at(address);
}

/* A container may send to the outside. */
bool egress_has_way_out(const struct in6_addr *source)
{
	const struct network *network = network_at(source);
	return network && !network->internal;
}

/* What is remembered of who is connected: its IPv4 address, which all have. 0.0.0.0: nobody. */
struct in_addr egress_container(const struct in6_addr *source)
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
	return is_gateway(&tuple->source, &tuple->destination) && host_access(slot_of(egress_container(&tuple->source)), tuple->destination_port);
}

union address socket_address(const struct in6_addr *ip, uint16_t port)
{
	union address address = {0};
	if (ip_is_v4(ip))
		address.v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = ip_v4(ip)};
	else
		address.v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = *ip};
	return address;
}

struct in6_addr ip_in(const union address *address)
{
	return address->any.sa_family == AF_INET6 ? address->v6.sin6_addr : ip_of(address->v4.sin_addr);
}

void egress_tell_failure(const struct packet *p, int error)
{
	uint8_t out[PACKET_SIZE];
	switch (error) {
	case ECONNREFUSED:
	case ECONNRESET:
		if (p->protocol == IPPROTO_TCP)
			egress_inject(out, write_reset(p, out));
		else
			egress_inject(out, write_unreachable(p, PORT_UNREACHABLE, out));
		return;
	case ENETUNREACH:
	case EADDRNOTAVAIL:          /* a host with IPv6 on its loopback only */
	case EAFNOSUPPORT:
		egress_inject(out, write_unreachable(p, NETWORK_UNREACHABLE, out));
		return;
	case EHOSTUNREACH:
	case EHOSTDOWN:
	case EINVAL:
		egress_inject(out, write_unreachable(p, HOST_UNREACHABLE, out));
		return;
	case EACCES:
	case EPERM:
		egress_inject(out, write_unreachable(p, FILTERED, out));
		return;
	default:
		return;    /* a timeout stays one */
	}
}

static void packet_arrived(const struct packet *p)
{
	uint8_t out[PACKET_SIZE];
	const struct network *network = network_at(&p->tuple.source);
	if (!network || !egress_container(&p->tuple.source).s_addr)
		return;
	bool to_gateway = p->protocol == IPPROTO_TCP && is_gateway(&p->tuple.source, &p->tuple.destination);
	if (network->internal ? !to_gateway : !to_gateway && !egress_is_outside(&p->tuple.destination)) {
		if (p->protocol != IPPROTO_ICMP && p->protocol != IPPROTO_ICMPV6)
			egress_inject(out, write_unreachable(p, NETWORK_UNREACHABLE, out));
		return;
	}
	if (p->protocol == IPPROTO_TCP) {
		uint8_t flags = tcp_flags(p) & (TCP_SYN | TCP_ACK | TCP_RST);
		if (flags == TCP_SYN && to_gateway && (network->internal || !leads_to_host(&p->tuple)))
			egress_inject(out, write_reset(p, out));
		else if (flags == TCP_SYN)
			tcp_first_segment(p, to_gateway);
		else if (!(flags & TCP_RST))
			egress_inject(out, write_reset(p, out));    /* of a connection that is over */
	} else if (p->protocol == IPPROTO_ICMP || p->protocol == IPPROTO_ICMPV6) {
		if (packet_is_ping(p))
			ping_request(p);
	} else {
		egress_inject(out, write_unreachable(p, PROTOCOL_UNREACHABLE, out));
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
	bool dials = tcp_sweep(now), pings = ping_sweep(now);
	if (dials || pings)
		timer_set(timer, SWEEP_US, sweep);
}

void egress_forget(struct in_addr container)
{
	relay_end_container(container);
	flow_end_container(container);
	tcp_forget(container);
	if (is_open)
		ping_forget(container);
}

int make_transparent(int fd, int family)
{
	int on = 1;
	return family == AF_INET6 ? setsockopt(fd, SOL_IPV6, IPV6_TRANSPARENT, &on, sizeof(on))
		: setsockopt(fd, SOL_IP, IP_TRANSPARENT, &on, sizeof(on));
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

static void connections_ready(struct watch *w, uint32_t events)
{
	(void)events;
	tcp_accept(container_of(w, struct door, connections)->connections_fd);
}

static void datagrams_ready(struct watch *w, uint32_t events)
{
	(void)events;
	udp_receive(container_of(w, struct door, datagrams)->datagrams_fd);
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
	ping_open();
	is_open = true;
	if (egress_make_links(egress_mac) < 0)
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

int egress_open_v6(struct fault *f)
{
	uint16_t tcp_port, udp_port;
	const union address loopback = {.v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT}};
	/* Both families from now on: the frames are told apart by their first digit. */
	struct sockaddr_ll far_end = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = INDEX_TAP};
	static int failure;    /* it would be the same the next time */
	if (is_open_v6 || !is_open)
		return 0;
	if (!failure && link_without_advertisements("egress") == 0 && egress_make_routes_v6() == 0 && bind(tap.fd, (struct sockaddr *)&far_end, sizeof(far_end)) == 0 &&
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
	tcp_close();
	ping_close();
	relay_end_owner(EGRESS);
	flow_end_owner(EGRESS);
	close_door(&v4);
	close_door(&v6);
	loop_forget(&tap.watch);
	if (tap.fd >= 0)
		close(tap.fd);
	tap.fd = -1;
	is_open = is_open_v6 = false;
}
