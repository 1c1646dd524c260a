/* Faults of a container's network, for tests: packets that get lost, come late, or may not be more than so many bytes a second.
 *
 * Its port leaves the bridge, and the warden carries the frames between it and a port made for that (tap and shape):
 *
 *     ethN ══ portP  ◄─ packet sockets ─►  tapT ══ shapeS (a port of the same bridge)
 *
 * Here rules decide which frames go on and when. So it needs nothing of the kernel that the way out does not need as well; sch_netem
 * is missing in many kernels, and it cannot tell one peer from another without classes. Frames come one by one, not joined by the
 * segmentation offload: a rate and a loss shall be those of packets. Times are rounded up to the event loop's millisecond.
 *
 * Nothing here is in the way of a container without faults. */
#define _GNU_SOURCE
#include "net.h"
#include "router.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include "ip.h"
#include "loop.h"

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif
#ifndef IFLA_GSO_MAX_SEGS
#define IFLA_GSO_MAX_SEGS 40
#endif

enum {
	FRAMES = 64,                 /* handled before the loop looks at the others again */
	FRAME_SIZE = sizeof(struct virtio_net_hdr) + 65536 + 64,
	LANE_MOST = 16 << 20,        /* bytes that wait in one direction */
	SEGMENTS = 65535,            /* of a link without faults: as many as the kernel likes */
};
static const uint64_t RATE_WAIT_NS = 500000000;      /* what would wait longer for its rate is lost, as in a router's queue */
static const uint32_t EVERY = 1000000;

/* A frame that waits. */
struct parcel { struct parcel *next; uint64_t due_ns; struct shaper *shaper; size_t size; uint8_t bytes[]; };

/* One direction of a rule: frames leave in the order in which they came. */
struct lane { struct parcel *first, **last; size_t bytes; uint64_t last_due_ns, free_ns; };

/* outwards: from the container */
struct rule {
	struct rule *next;
	const struct net_slot *peer; /* whose packets it is about; NULL = all that no other rule is about */
	struct net_impairment is;
	struct lane outwards, inwards;
};

struct shaper {
	struct net_slot *slot;
	struct net_link *link;
	struct watch port, tap;
	int port_fd, tap_fd;
	unsigned shape;              /* interface index of the bridge's side */
};

static struct timer due_timer;
static uint8_t buffer[FRAME_SIZE];

static uint64_t random_number(void)
{
	static uint64_t state;
	while (!state)
		if (getrandom(&state, sizeof(state), 0) < 0)
			state = now_ns();
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

/* ---- lanes ---- */

static void send_on(const struct shaper *s, bool outwards, const uint8_t *bytes, size_t size)
{
	ssize_t sent;
	do
		sent = send(outwards ? s->tap_fd : s->port_fd, bytes, size, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);    /* lost otherwise, as frames may be */
}

static void lane_drop(struct lane *lane, const struct shaper *of)
{
	for (struct parcel **at = &lane->first; *at;) {
		struct parcel *p = *at;
		if (of && p->shaper != of) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		lane->bytes -= p->size;
		free(p);
	}
	lane->last = &lane->first;
	while (*lane->last)
		lane->last = &(*lane->last)->next;
}

/* Sends what is due; when the next is, or 0. */
static uint64_t lane_run(struct lane *lane, bool outwards, uint64_t now)
{
	while (lane->first && lane->first->due_ns <= now) {
		struct parcel *p = lane->first;
		lane->first = p->next;
		if (!lane->first)
			lane->last = &lane->first;
		lane->bytes -= p->size;
		send_on(p->shaper, outwards, p->bytes, p->size);
		free(p);
	}
	return lane->first ? lane->first->due_ns : 0;
}

static void run_due(struct timer *timer)
{
	uint64_t now = now_ns(), next = 0;
	for (struct net_slot *slot = slots_in_use(); slot; slot = slot->next)
		for (struct rule *rule = slot->rules; rule; rule = rule->next) {
			uint64_t due[] = {lane_run(&rule->outwards, true, now), lane_run(&rule->inwards, false, now)};
			for (int i = 0; i < 2; i++)
				if (due[i] && (!next || due[i] < next))
					next = due[i];
		}
	if (next)
		timer_set(timer, next > now ? (next - now + 999) / 1000 : 0, run_due);
}

/* When a frame may go: 0 = never. */
static uint64_t due_of(const struct rule *rule, struct lane *lane, size_t size, uint64_t now)
{
	const struct net_impairment *is = &rule->is;
	uint64_t due = now;
	if (is->loss && random_number() % EVERY < is->loss)
		return 0;
	if (is->bytes_per_second) {
		uint64_t start = lane->free_ns > now ? lane->free_ns : now;
		if (start - now > RATE_WAIT_NS)
			return 0;
		lane->free_ns = start + size * 1000000000u / is->bytes_per_second;
		due = lane->free_ns;
	}
	due += is->delay_us * 1000;
	if (is->jitter_us)
		due += random_number() % (is->jitter_us * 1000 + 1);
	if (due < lane->last_due_ns)
		due = lane->last_due_ns;
	return lane->last_due_ns = due;
}

static void pass(struct shaper *s, struct rule *rule, bool outwards, size_t size)
{
	struct lane *lane = !rule ? NULL : outwards ? &rule->outwards : &rule->inwards;
	uint64_t now = now_ns(), due = lane ? due_of(rule, lane, size - sizeof(struct virtio_net_hdr), now) : now;
	if (due && due <= now && (!lane || !lane->first))
		send_on(s, outwards, buffer, size);
	else if (due && lane->bytes + size <= LANE_MOST) {
		struct parcel *p = malloc(sizeof(*p) + size);
		if (!p)
			return;
		*p = (struct parcel){.due_ns = due, .shaper = s, .size = size};
		memcpy(p->bytes, buffer, size);
		*lane->last = p;
		lane->last = &p->next;
		lane->bytes += size;
		if (!due_timer.due_ns || due < due_timer.due_ns)
			timer_set(&due_timer, due > now ? (due - now + 999) / 1000 : 0, run_due);
	}
}

/* ---- which rule ---- */

static uint16_t type_of(const uint8_t *ethernet)
{
	uint16_t type;
	memcpy(&type, ethernet + 12, 2);
	return ntohs(type);
}

/* The address at the other end of a packet; :: of any other frame. */
static struct in6_addr other_end(const uint8_t *ethernet, size_t size, bool outwards)
{
	struct in6_addr address = {0};
	struct in_addr v4;
	if (type_of(ethernet) == ETH_P_IP && size >= ETH_HLEN + 20) {
		memcpy(&v4, ethernet + ETH_HLEN + (outwards ? 16 : 12), sizeof(v4));
		return ip_of(v4);
	}
	if (type_of(ethernet) == ETH_P_IPV6 && size >= ETH_HLEN + 40)
		memcpy(&address, ethernet + ETH_HLEN + (outwards ? 24 : 8), sizeof(address));
	return address;
}

/* The one of the link itself, which is not routed, counts as well: between two containers it is another way. */
static bool has_address(const struct net_slot *slot, const struct network *network, const struct in6_addr *address)
{
	for (const struct net_link *link = slot->links; link; link = link->next) {
		struct in6_addr local = link_local(link);
		if (link->network == network && (ip_is_v4(address) ? link->address.s_addr == ip_v4(address).s_addr
			: ip_equal(&link->v6, address) || ip_equal(&local, address)))
			return true;
	}
	return false;
}

/* Who asks for a hardware address, or tells one: ARP, and what IPv6 has instead. */
static bool finds_neighbours(const uint8_t *ethernet, size_t size)
{
	const uint8_t *ip = ethernet + ETH_HLEN;
	return type_of(ethernet) == ETH_P_ARP || (type_of(ethernet) == ETH_P_IPV6 && size > ETH_HLEN + 40 && ip[6] == IPPROTO_ICMPV6 &&
		(ip[40] == ND_NEIGHBOR_SOLICIT || ip[40] == ND_NEIGHBOR_ADVERT));
}

static struct rule *rule_for(const struct shaper *s, const uint8_t *ethernet, size_t size, bool outwards)
{
	struct in6_addr other = other_end(ethernet, size, outwards);
	struct rule *rest = NULL;
	/* A request that was lost is asked again after a second: a container that was healed would be away for so long still. */
	if (finds_neighbours(ethernet, size))
		return NULL;
	for (struct rule *rule = s->slot->rules; rule; rule = rule->next) {
		if (!rule->peer)
			rest = rule;
		else if (!IN6_IS_ADDR_UNSPECIFIED(&other) && has_address(rule->peer, s->link->network, &other))
			return rule;
	}
	return rest;
}

static void frames_ready(struct shaper *s, int fd, bool outwards)
{
	for (int i = 0; i < FRAMES; i++) {
		ssize_t got = recv(fd, buffer, sizeof(buffer), 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return;
		size_t header = sizeof(struct virtio_net_hdr), size = (size_t)got;
		if (size > header + ETH_HLEN)
			pass(s, rule_for(s, buffer + header, size - header, outwards), outwards, size);
	}
}

static void port_ready(struct watch *w, uint32_t events)
{
	struct shaper *s = container_of(w, struct shaper, port);
	(void)events;
	frames_ready(s, s->port_fd, true);
}

static void tap_ready(struct watch *w, uint32_t events)
{
	struct shaper *s = container_of(w, struct shaper, tap);
	(void)events;
	frames_ready(s, s->tap_fd, false);
}

/* ---- being in between ---- */

static int make_tap(const struct shaper *s, unsigned tap)
{
	struct batch b;
	char name[IFNAMSIZ];
	batch_clear(&b);
	snprintf(name, sizeof(name), "shape%u", s->shape);
	struct ifinfomsg link = {.ifi_index = (int)s->shape, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	message_begin(&b, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &link, sizeof(link));
	put_string(&b, IFLA_IFNAME, name);
	put_u32(&b, IFLA_MASTER, s->link->network->bridge);
	put_u32(&b, IFLA_GSO_MAX_SEGS, 1);
	struct ifinfomsg peer = {.ifi_index = (int)tap, .ifi_flags = IFF_NOARP, .ifi_change = IFF_NOARP};
	struct veth veth = veth_begin(&b, &peer);
	snprintf(name, sizeof(name), "tap%u", tap);
	put_string(&b, IFLA_IFNAME, name);
	veth_end(&b, veth);
	struct ifinfomsg up = {.ifi_index = (int)tap, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	message_begin(&b, RTM_NEWLINK, NLM_F_ACK, &up, sizeof(up));
	return netlink_send(&router.rtnl, &b);
}

/* All frames that come in by the link, with what is left to do for them (checksums). */
static int packet_socket(unsigned index)
{
	int on = 1, size = 4 << 20;
	struct sockaddr_ll where = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)index};
	/* Protocol 0: nothing is received before bind() says from which link. */
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) == 0 &&
		setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) == 0 &&
		bind(fd, (struct sockaddr *)&where, sizeof(where)) == 0)
		return fd;
	int error = errno;
	close(fd);
	errno = error;
	return -1;
}

/* Makes it a port of this bridge, or of none (0): then it takes nothing itself, for no frame has its hardware address and it answers no ARP. A
 * port that is only disabled is enabled again by the kernel when its other end goes down and up. */
static int set_bridge(unsigned port, unsigned bridge)
{
	struct batch b;
	struct ifinfomsg link = {.ifi_index = (int)port, .ifi_flags = bridge ? 0 : IFF_NOARP, .ifi_change = IFF_NOARP};
	batch_clear(&b);
	message_begin(&b, RTM_SETLINK, NLM_F_ACK, &link, sizeof(link));
	put_u32(&b, IFLA_MASTER, bridge);
	return netlink_send(&router.rtnl, &b);
}

/* Of the container's own interface. */
static void set_segments(const struct net_slot *slot, const struct net_link *link, uint32_t most)
{
	struct netlink inside = {.fd = -1};
	struct batch b;
	if (setns(slot->ns, CLONE_NEWNET) < 0)
		return;
	int opened = netlink_open(&inside, NETLINK_ROUTE);
	router_come_back();
	if (opened < 0)
		return;
	struct ifinfomsg header = {.ifi_index = link_index_inside(link)};
	batch_clear(&b);
	message_begin(&b, RTM_SETLINK, NLM_F_ACK, &header, sizeof(header));
	put_u32(&b, IFLA_GSO_MAX_SEGS, most);
	netlink_send(&inside, &b);    /* fails for what a container has removed itself */
	netlink_close(&inside);
}

void shaper_free(struct net_link *link)
{
	struct shaper *s = link->shaper;
	if (!s)
		return;
	for (struct rule *rule = s->slot->rules; rule; rule = rule->next) {
		lane_drop(&rule->outwards, s);
		lane_drop(&rule->inwards, s);
	}
	loop_forget(&s->port);
	loop_forget(&s->tap);
	if (s->port_fd >= 0)
		close(s->port_fd);
	if (s->tap_fd >= 0)
		close(s->tap_fd);
	cut_off(s->shape);
	discard(s->shape);
	free(s);
	link->shaper = NULL;
}

int shaper_make(struct net_slot *slot, struct net_link *link, struct fault *f)
{
	if (!slot->rules || link->shaper)
		return 0;
	struct shaper *s = calloc(1, sizeof(*s));
	if (!s)
		return fault(f, "network", "fault", ENOMEM, NULL);
	*s = (struct shaper){.slot = slot, .link = link, .port.fd = -1, .tap.fd = -1, .port_fd = -1, .tap_fd = -1, .shape = router_next_index()};
	link->shaper = s;
	unsigned tap = router_next_index();
	if (make_tap(s, tap) == 0 && (s->tap_fd = packet_socket(tap)) >= 0 && (s->port_fd = packet_socket(link->port)) >= 0 &&
		loop_watch(&s->port, s->port_fd, EPOLLIN, port_ready) == 0 && loop_watch(&s->tap, s->tap_fd, EPOLLIN, tap_ready) == 0 &&
		set_bridge(link->port, 0) == 0) {
		set_segments(slot, link, 1);
		return 0;
	}
	int error = errno;
	shaper_free(link);
	return fault(f, "network", "fault", error, "cannot come between the container and its network");
}

/* ---- rules ---- */

static void rule_end(struct rule **at)
{
	struct rule *rule = *at;
	*at = rule->next;
	lane_drop(&rule->outwards, NULL);
	lane_drop(&rule->inwards, NULL);
	free(rule);
}

static struct rule **rule_find(struct net_slot *slot, const struct net_slot *peer)
{
	struct rule **at = &slot->rules;
	while (*at && (*at)->peer != peer)
		at = &(*at)->next;
	return at;
}

/* Nobody is in between any more once there is no rule. */
static void step_back(struct net_slot *slot)
{
	for (struct net_link *link = slot->links; link && !slot->rules; link = link->next)
		if (link->shaper) {
			shaper_free(link);
			set_segments(slot, link, SEGMENTS);
			set_bridge(link->port, link->network->bridge);
		}
}

int net_impair(struct net_slot *slot, const struct net_slot *peer, const struct net_impairment *is, struct fault *f)
{
	struct rule **at = rule_find(slot, peer), *rule = *at;
	if (!is->loss && !is->delay_us && !is->jitter_us && !is->bytes_per_second) {
		if (rule)
			rule_end(at);
		step_back(slot);
		return 0;
	}
	if (!rule) {
		if (!(rule = calloc(1, sizeof(*rule))))
			return fault(f, "network", "fault", ENOMEM, NULL);
		rule->peer = peer;
		rule->outwards.last = &rule->outwards.first;
		rule->inwards.last = &rule->inwards.first;
		*at = rule;
	}
	rule->is = *is;
	rule->outwards.free_ns = rule->inwards.free_ns = 0;
	/* Its namespace has had other settings: it is not used again. */
	slot->home = NULL;
	for (struct net_link *link = slot->links; link; link = link->next)
		if (shaper_make(slot, link, f) < 0) {
			int error = errno;
			rule_end(rule_find(slot, peer));
			step_back(slot);
			errno = error;
			return -1;
		}
	return 0;
}

void net_heal(struct net_slot *slot)
{
	while (slot->rules)
		rule_end(&slot->rules);
	step_back(slot);
}

void impair_forget(struct net_slot *gone)
{
	while (gone->rules)
		rule_end(&gone->rules);
	for (struct net_slot *slot = slots_in_use(); slot; slot = slot->next) {
		struct rule **at = rule_find(slot, gone);
		if (*at) {
			rule_end(at);
			step_back(slot);
		}
	}
}

void impair_close(void)
{
	timer_clear(&due_timer);
}
