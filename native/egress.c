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
 * containers in which mayfly runs do not have. */
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
#include <netinet/ip_icmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include "flow.h"
#include "host.h"
#include "loop.h"
#include "packet.h"
#include "relay.h"

enum {
	TABLE = 100,                 /* routes everything to this namespace, for packets with EGRESS_MARK */
	FIRST_TABLE = 101,           /* routes everything into `egress`, for packets with FIRST_MARK */
	PRIORITY_FIRST = 1, PRIORITY_LOCAL = 5, PRIORITY_MARKED = 10,
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
	struct in_addr container, destination;
	uint16_t id, our_id;         /* network byte order */
	uint64_t used_ns;
};
static struct ping pings[MOST_PINGS];

static bool is_open;
static struct { struct watch watch; int fd; } tap = {.fd = -1}, connections = {.fd = -1}, datagrams = {.fd = -1};
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
	struct ethhdr ethernet = {.h_proto = htons(ETH_P_IP), .h_source = {2}};
	memcpy(ethernet.h_dest, egress_mac, MAC_SIZE);
	memcpy(out, &ethernet, ETH_HLEN);
	memcpy(out + ETH_HLEN, packet, size);
	ssize_t sent;
	do
		sent = send(tap.fd, out, ETH_HLEN + size, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);    /* lost otherwise, as packets may be: whoever waits for it asks again */
}

/* What is neither the host itself by another name nor a group, nor in a network of ours. 0.0.0.0/8 would connect to the host's loopback. */
static bool is_outside(struct in_addr address)
{
	uint32_t ip = ntohl(address.s_addr);
	return ip >> 24 != 0 && ip >> 24 != 127 && ip < 0xe0000000 && !network_of(address);
}

/* A container may send to the outside. */
static bool has_way_out(struct in_addr source)
{
	const struct network *network = network_of(source);
	return network && !network->internal;
}

/* A connection to the gateway on the container's network, and a port of the host that it may reach. */
static bool leads_to_host(const struct tuple *tuple)
{
	const struct network *network = network_of(tuple->source);
	return network->gateway.s_addr == tuple->destination.s_addr && host_access(slot_of(tuple->source), tuple->destination_port);
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
			inject(out, write_unreachable(p, ICMP_PORT_UNREACH, out));
		return;
	case ENETUNREACH:
		inject(out, write_unreachable(p, ICMP_NET_UNREACH, out));
		return;
	case EHOSTUNREACH:
	case EHOSTDOWN:
	case EINVAL:
		inject(out, write_unreachable(p, ICMP_HOST_UNREACH, out));
		return;
	case EACCES:
	case EPERM:
		inject(out, write_unreachable(p, ICMP_PKT_FILTERED, out));
		return;
	default:
		return;    /* a timeout stays one */
	}
}

/* ---- TCP ---- */

static struct dial **bucket_of(const struct tuple *tuple)
{
	uint32_t hash = (tuple->source.s_addr ^ tuple->destination.s_addr * 31) * 2654435761u;
	hash ^= ((uint32_t)tuple->source_port << 16 | tuple->destination_port) * 2246822519u;
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
	int fd = host_socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0) {
		free(d);
		return;
	}
	d->tuple = p->tuple;
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
	union address to = {.v4 = {.sin_family = AF_INET, .sin_port = htons(p->tuple.destination_port),
		.sin_addr = to_host ? (struct in_addr){htonl(INADDR_LOOPBACK)} : p->tuple.destination}};
	int result = dial_connect(d, &to);
	dial_tried(d, result, errno);
}

static void connections_ready(struct watch *w, uint32_t events)
{
	(void)w, (void)events;
	for (int i = 0; i < ACCEPTS; i++) {
		struct sockaddr_in source, destination;
		socklen_t source_size = sizeof(source), destination_size = sizeof(destination);
		int fd = accept_or_shed(connections.fd);
		if (fd < 0 && (errno == EAGAIN || errno == EBADF || errno == EINVAL))
			return;
		if (fd < 0)
			continue;
		/* The listener's address is the destination's: that is what a transparent socket is. */
		if (getpeername(fd, (struct sockaddr *)&source, &source_size) < 0 ||
			getsockname(fd, (struct sockaddr *)&destination, &destination_size) < 0) {
			reset_and_close(fd);
			continue;
		}
		struct tuple tuple = {
			source.sin_addr, destination.sin_addr, ntohs(source.sin_port), ntohs(destination.sin_port)};
		struct dial **at = dial_find(&tuple);
		if (*at && (*at)->connected)
			relay_start(fd, dial_end(at, true), false, &connections, tuple.source);
		else
			reset_and_close(fd);
	}
}

/* ---- UDP ---- */

static void datagram_refused(const struct flow_key *key)
{
	uint8_t start[PACKET_SIZE];
	struct packet p;
	struct tuple tuple = {
		key->client.v4.sin_addr, key->local.v4.sin_addr,
		ntohs(key->client.v4.sin_port), ntohs(key->local.v4.sin_port)};
	if (packet_read(start, write_udp_start(&tuple, start), &p))
		tell_failure(&p, ECONNREFUSED);
}

/* A socket that is the destination, as far as the container can tell. */
static int pose_as(const struct flow_key *key)
{
	int on = 1;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_IP, IP_TRANSPARENT, &on, sizeof(on)) == 0 &&
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
		bind(fd, &key->local.any, sizeof(key->local.v4)) == 0 &&
		connect(fd, &key->client.any, sizeof(key->client.v4)) == 0)
		return fd;
	close(fd);
	return -1;
}

static struct flow *conversation(const struct flow_key *key)
{
	struct flow *flow = flow_find(key);
	if (flow)
		return flow;
	for (int attempt = 0; attempt < 2; attempt++) {
		int far = host_socket(AF_INET, SOCK_DGRAM, 0);
		int near = far < 0 ? -1 : pose_as(key);
		if (near >= 0) {
			if (connect(far, &key->local.any, sizeof(key->local.v4)) == 0)
				return flow_add(key, far, near, -1, key->client.v4.sin_addr, datagram_refused);
			close(near);
		}
		if (far >= 0)
			close(far);
		/* Perhaps too many descriptors: once more with fewer. */
		if (near >= 0 || !flow_end_oldest())
			break;
	}
	return NULL;
}

static void datagrams_ready(struct watch *w, uint32_t events)
{
	(void)w, (void)events;
	struct datagram list[FLOW_BATCH];
	int got = datagrams_receive(datagrams.fd, list);
	for (int i = 0; i < got; i++) {
		struct flow_key key = {.owner = &datagrams, .client = list[i].from, .local = list[i].local};
		if (key.local.any.sa_family != AF_INET || !network_of(key.client.v4.sin_addr))
			continue;
		if (!is_outside(key.local.v4.sin_addr) || !has_way_out(key.client.v4.sin_addr)) {
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
	if (got > 0 && ping->raw) {
		size_t header = (size_t)(bytes[0] & 15) * 4;
		if ((size_t)got < header)
			return;
		message += header;
		got -= (ssize_t)header;
	}
	if (got < (ssize_t)sizeof(struct icmphdr) || message[0] != ICMP_ECHOREPLY ||
		(ping->raw && memcmp(message + 4, &ping->our_id, 2) != 0))
		return;
	memcpy(message + 4, &ping->id, 2);
	inject(out, write_icmp(ping->destination, ping->container, message, (size_t)got, out));
}

static bool ping_open(struct ping *ping)
{
	ping->raw = false;
	ping->fd = host_socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
	if (ping->fd < 0) {
		/* net.ipv4.ping_group_range of the host does not include us; root may send raw messages. */
		uint32_t all_but_replies = ~(1u << ICMP_ECHOREPLY);
		ping->raw = true;
		ping->fd = host_socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
		if (ping->fd >= 0)
			setsockopt(ping->fd, SOL_RAW, 1 /* ICMP_FILTER */, &all_but_replies, sizeof(all_but_replies));
	}
	if (ping->fd < 0)
		return false;
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = ping->destination};
	if (connect(ping->fd, (struct sockaddr *)&to, sizeof(to)) == 0 &&
		getrandom(&ping->our_id, sizeof(ping->our_id), 0) == sizeof(ping->our_id) &&
		loop_watch(&ping->watch, ping->fd, EPOLLIN, ping_ready) == 0)
		return true;
	close(ping->fd);
	ping->fd = -1;
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
		if (one->fd >= 0 && one->id == id && one->container.s_addr == p->tuple.source.s_addr &&
			one->destination.s_addr == p->tuple.destination.s_addr)
			ping = one;
		else if (oldest->fd >= 0 && (one->fd < 0 || one->used_ns < oldest->used_ns))
			oldest = one;
	}
	if (!ping) {
		ping = oldest;
		if (ping->fd >= 0)
			ping_end(ping);
		*ping = (struct ping){
			.watch = {.fd = -1}, .fd = -1, .container = p->tuple.source, .destination = p->tuple.destination, .id = id};
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
	size_t size = write_icmp(p->tuple.source, p->tuple.destination, message, p->payload_size, whole);
	if (size)
		send(ping->fd, whole + (size - p->payload_size), p->payload_size, MSG_NOSIGNAL);
}

/* ---- the tap ---- */

static void packet_arrived(const struct packet *p)
{
	uint8_t out[PACKET_SIZE];
	const struct network *network = network_of(p->tuple.source);
	if (!network)
		return;
	bool to_gateway = p->protocol == IPPROTO_TCP && p->tuple.destination.s_addr == network->gateway.s_addr;
	if (network->internal ? !to_gateway : !to_gateway && !is_outside(p->tuple.destination)) {
		if (p->protocol != IPPROTO_ICMP)
			inject(out, write_unreachable(p, ICMP_NET_UNREACH, out));
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
	} else if (p->protocol == IPPROTO_ICMP) {
		if (p->payload[0] == ICMP_ECHO)
			echo_request(p);
	} else {
		inject(out, write_unreachable(p, ICMP_PROT_UNREACH, out));
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
			if ((*at)->tuple.source.s_addr == container.s_addr)
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
static void put_rule(struct batch *b, uint8_t table, uint32_t mark, uint32_t priority)
{
	struct fib_rule_hdr rule = {.family = AF_INET, .table = table, .action = FR_ACT_TO_TBL};
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

	put_rule(&b, TABLE, EGRESS_MARK, PRIORITY_MARKED);

	/* First segments leave by `egress` even if they are for a gateway, which is an address of this namespace. The rule for such
	 * addresses usually comes before all others, so it has to move. */
	route.rtm_table = FIRST_TABLE;
	message_begin(&b, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &route, sizeof(route));
	put(&b, RTA_GATEWAY, &nowhere, sizeof(nowhere));
	put_u32(&b, RTA_OIF, INDEX_EGRESS);
	put_rule(&b, FIRST_TABLE, FIRST_MARK, PRIORITY_FIRST);
	put_rule(&b, RT_TABLE_LOCAL, 0, PRIORITY_LOCAL);
	struct fib_rule_hdr usual = {.family = AF_INET, .table = RT_TABLE_LOCAL, .action = FR_ACT_TO_TBL};
	message_begin(&b, RTM_DELRULE, NLM_F_ACK, &usual, sizeof(usual));
	put_u32(&b, FRA_PRIORITY, 0);
	if (netlink_send(&router.rtnl, &b) < 0)
		return -1;
	/* A gateway's answers are put back here with its own address as the source. */
	return net_sysctl("ipv4/conf/egress/accept_local", "1");
}

static int listen_on(int fd, uint16_t *port, bool stream)
{
	int on = 1;
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t size = sizeof(address);
	if (fd < 0 || setsockopt(fd, SOL_IP, IP_TRANSPARENT, &on, sizeof(on)) < 0 ||
		bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		getsockname(fd, (struct sockaddr *)&address, &size) < 0 || (stream && listen(fd, BACKLOG) < 0) ||
		(!stream && setsockopt(fd, SOL_IP, IP_RECVORIGDSTADDR, &on, sizeof(on)) < 0))
		return -1;
	*port = ntohs(address.sin_port);
	return 0;
}

bool egress_open(char *why, size_t size)
{
	uint16_t tcp_port, udp_port;
	const char *step = "links";
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
	connections.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	datagrams.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listen_on(connections.fd, &tcp_port, true) < 0 || listen_on(datagrams.fd, &udp_port, false) < 0)
		goto failed;
	step = "nftables with socket and tproxy";
	if (nft_open(tcp_port, udp_port) < 0)
		goto failed;
	step = "epoll";
	if (loop_watch(&tap.watch, tap.fd, EPOLLIN, tap_ready) < 0 ||
		loop_watch(&connections.watch, connections.fd, EPOLLIN, connections_ready) < 0 ||
		loop_watch(&datagrams.watch, datagrams.fd, EPOLLIN, datagrams_ready) < 0)
		goto failed;
	return true;
failed:
	snprintf(why, size, "Containers do not reach the outside: %s (%s)", step, strerror(errno));
	egress_close();
	return false;
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
	relay_end_owner(&connections);
	flow_end_owner(&datagrams);
	loop_forget(&tap.watch);
	loop_forget(&connections.watch);
	loop_forget(&datagrams.watch);
	int *fds[] = {&tap.fd, &connections.fd, &datagrams.fd};
	for (int i = 0; i < 3; i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
	is_open = false;
}
