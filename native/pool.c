/* A pool of ready network namespaces.
 *
 * Making one costs about a millisecond (a new namespace, and a pair of links), does not scale with cores, and taking one
 * down waits for the kernel's single cleanup worker. So a few are made ahead while the warden has nothing else to do, and
 * one that comes back clean is used again: its processes are dead, nothing inside could have changed it, and the kernel
 * counts no socket in it any more, TIME_WAIT included. The counts come from a file of that namespace, kept open
 * (/proc/net/sockstat): one read, whatever the size of the socket tables. A sock_diag dump would
 * walk the host-wide hash table: milliseconds on a large machine.
 *
 * Inside: lo with ::1, and eth0 without IPv6, whose hardware address follows from its IPv4 address as with Docker. */
#define _GNU_SOURCE
#include "net.h"
#include "router.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "loop.h"

#ifndef SIOCGSKNS
#define SIOCGSKNS 0x894C
#endif

enum { SPARE_FIRST = 4, SPARE_MOST = 16, INDEX_ETH0 = 2, REFILL_AFTER_US = 2000 };
/* Addresses for containers: not the network's, the gateway's, the uplink's, the broadcast one. */
enum { FIRST_HOST = 2, LAST_HOST = SUBNET_SIZE - 3, HOSTS = LAST_HOST - FIRST_HOST + 1 };

struct net_slot {
	struct net_slot *next;       /* in the ready queue */
	int ns;                      /* the namespace */
	int sockstat;                /* its socket counts, -1 if they cannot be read: then it is used once */
	struct in_addr address;      /* 0.0.0.0: lonely */
	unsigned port;               /* interface index of the bridge's side */
	struct net_counters before;  /* at net_take */
};

struct queue { struct net_slot *first, **last; unsigned count; };

/* First in, first out, both of them: what was used last rests longest. */
static struct queue ready, lonely;
static uint16_t addresses[HOSTS];
static unsigned address_head, address_count;
static unsigned spare_target = SPARE_FIRST;
static uint32_t next_port = INDEX_FIRST_PORT;
static struct timer refill_timer;

static int read_counters(const struct net_slot *, struct net_counters *);

static void push(struct queue *q, struct net_slot *slot)
{
	slot->next = NULL;
	if (!q->first)
		q->last = &q->first;
	*q->last = slot;
	q->last = &slot->next;
	q->count++;
}

static struct net_slot *pop(struct queue *q)
{
	struct net_slot *slot = q->first;
	if (slot) {
		q->first = slot->next;
		q->count--;
	}
	return slot;
}

static void address_free(struct in_addr address)
{
	if (address.s_addr)
		addresses[(address_head + address_count++) % HOSTS] = (uint16_t)(ntohl(address.s_addr) - router.network);
}

static struct in_addr address_new(void)
{
	struct in_addr none = {0};
	if (!address_count)
		return none;
	uint16_t host = addresses[address_head];
	address_head = (address_head + 1) % HOSTS;
	address_count--;
	return (struct in_addr){htonl(router.network + host)};
}

static void slot_drop(struct net_slot *slot)
{
	if (!slot)
		return;
	address_free(slot->address);
	if (slot->sockstat >= 0)
		close(slot->sockstat);
	if (slot->ns >= 0)
		close(slot->ns);
	free(slot);
}

/* Our side up and a port of mf0, the other one inside the new namespace: one message. (A peer that is made up at once meets
 * ENOTCONN: it is opened before it is joined.) One queue instead of
 * one per processor: links have no queue discipline to profit from more, and each costs memory. */
static int make_link(struct net_slot *slot)
{
	struct batch b;
	char name[IFNAMSIZ];
	uint8_t mac[MAC_SIZE];
	batch_clear(&b);
	slot->port = next_port++;
	snprintf(name, sizeof(name), "port%u", slot->port);
	struct ifinfomsg link = {.ifi_index = (int)slot->port, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	message_begin(&b, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &link, sizeof(link));
	put_string(&b, IFLA_IFNAME, name);
	put_u32(&b, IFLA_MASTER, router.bridge);
	put_u32(&b, IFLA_NUM_TX_QUEUES, 1);
	put_u32(&b, IFLA_NUM_RX_QUEUES, 1);
	size_t info = nest_begin(&b, IFLA_LINKINFO);
	put_string(&b, IFLA_INFO_KIND, "veth");
	size_t data = nest_begin(&b, IFLA_INFO_DATA);
	size_t nest = nest_begin(&b, VETH_INFO_PEER);
	struct ifinfomsg peer = {.ifi_index = INDEX_ETH0};
	put_header(&b, &peer, sizeof(peer));
	put_string(&b, IFLA_IFNAME, "eth0");
	mac_of(slot->address, mac);
	put(&b, IFLA_ADDRESS, mac, sizeof(mac));
	put_u32(&b, IFLA_NET_NS_FD, (uint32_t)slot->ns);
	put_u32(&b, IFLA_NUM_TX_QUEUES, 1);
	put_u32(&b, IFLA_NUM_RX_QUEUES, 1);
	nest_end(&b, nest);
	nest_end(&b, data);
	nest_end(&b, info);
	return netlink_send(&router.rtnl, &b);
}

static void put_up(struct batch *b, int index)
{
	struct ifinfomsg link = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	message_begin(b, RTM_NEWLINK, NLM_F_ACK, &link, sizeof(link));
}

/* The router is a permanent neighbour, also for the host's end of the uplink, which the subnet's route makes look like one of
 * the bridge: no ARP before the first packet, and no container can pose as either. */
static void put_router(struct batch *b, struct in_addr address)
{
	uint8_t mac[MAC_SIZE];
	struct ndmsg neighbour = {.ndm_family = AF_INET, .ndm_ifindex = INDEX_ETH0, .ndm_state = NUD_PERMANENT};
	mac_of(router.gateway, mac);
	message_begin(b, RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, &neighbour, sizeof(neighbour));
	put(b, NDA_DST, &address, sizeof(address));
	put(b, NDA_LLADDR, mac, sizeof(mac));
}

static int configure(struct net_slot *slot, struct netlink *inside)
{
	struct batch b;
	struct in_addr broadcast = {htonl(router.network + SUBNET_SIZE - 1)};
	batch_clear(&b);
	put_up(&b, INDEX_ETH0);
	struct ifaddrmsg address = {.ifa_family = AF_INET, .ifa_prefixlen = SUBNET_BITS, .ifa_index = INDEX_ETH0};
	message_begin(&b, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &address, sizeof(address));
	put(&b, IFA_LOCAL, &slot->address, 4);
	put(&b, IFA_ADDRESS, &slot->address, 4);
	put(&b, IFA_BROADCAST, &broadcast, 4);
	struct rtmsg route = {
		.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT,
		.rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST,
	};
	message_begin(&b, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &route, sizeof(route));
	put(&b, RTA_GATEWAY, &router.gateway, 4);
	put_u32(&b, RTA_OIF, INDEX_ETH0);
	put_router(&b, router.gateway);
	if (router.host.s_addr)
		put_router(&b, router.host);
	return netlink_send(inside, &b);
}

static int open_proc(const char *path)
{
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* Everything that must be done from inside the namespace, in which the warden is now. */
static int furnish(struct net_slot *slot, struct netlink *inside, int *no_ipv6)
{
	if (netlink_open(inside, NETLINK_ROUTE) < 0)
		return -1;
	slot->ns = ioctl(inside->fd, SIOCGSKNS);
	if (slot->ns < 0)
		return -1;
	/* As Docker sets them. A user namespace takes only groups that it has: all, a range, or a single one. */
	net_sysctl("ipv4/ip_unprivileged_port_start", "0");
	if (net_sysctl("ipv4/ping_group_range", "0 2147483647") < 0 && net_sysctl("ipv4/ping_group_range", "0 65535") < 0)
		net_sysctl("ipv4/ping_group_range", "0 0");
	/* eth0 is to be born without IPv6; slot_make() then sets this back, for links that a container may make. */
	*no_ipv6 = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);
	if (*no_ipv6 >= 0 && pwrite(*no_ipv6, "1", 1, 0) < 0)
		return -1;
	slot->sockstat = open_proc("/proc/thread-self/net/sockstat");
	struct batch b;
	batch_clear(&b);
	put_up(&b, INDEX_LOOPBACK);
	return netlink_send(inside, &b);
}

static struct net_slot *slot_make(bool linked, struct fault *f)
{
	struct net_slot *slot = malloc(sizeof(*slot));
	struct netlink inside = {.fd = -1};
	int no_ipv6 = -1;
	const char *what = "namespace";
	if (!slot) {
		fault(f, "network", "slot", ENOMEM, NULL);
		return NULL;
	}
	/* A session without network still makes lonely ones. */
	if (router.ns < 0 && router_hold() < 0) {
		fault(f, "network", "namespace", errno, "cannot hold the warden's network namespace");
		free(slot);
		return NULL;
	}
	*slot = (struct net_slot){.ns = -1, .sockstat = -1};
	if (linked) {
		slot->address = address_new();
		if (!slot->address.s_addr) {
			fault(f, "network", "address", EADDRNOTAVAIL, "all addresses of the session's network are taken");
			slot_drop(slot);
			return NULL;
		}
	}
	int made = unshare(CLONE_NEWNET);
	if (made == 0) {
		made = furnish(slot, &inside, &no_ipv6);
		int error = errno;
		if (setns(router.ns, CLONE_NEWNET) < 0)
			abort();    /* the warden would work on in a container's network; dying takes the session down cleanly */
		errno = error;
	}
	if (made == 0 && linked) {
		what = "eth0";
		made = make_link(slot);
		if (made == 0)
			made = configure(slot, &inside);
	}
	int error = errno;
	netlink_close(&inside);
	if (no_ipv6 >= 0) {
		if (pwrite(no_ipv6, "0", 1, 0) < 0 && made == 0)
			made = -1, error = errno;
		close(no_ipv6);
	}
	if (made < 0) {
		fault(f, "network", what, error, "cannot make a container's network namespace");
		slot_drop(slot);
		return NULL;
	}
	return slot;
}

/* Idle job: one namespace a call. */
static bool refill(void)
{
	if (ready.count >= spare_target)
		return false;
	struct net_slot *slot = slot_make(true, NULL);
	if (slot)
		push(&ready, slot);
	return slot && ready.count < spare_target;
}

static void refill_now(struct timer *timer)
{
	(void)timer;
	loop_when_idle(refill);
}

int pool_open(struct fault *f)
{
	address_head = address_count = 0;
	for (uint32_t host = FIRST_HOST; host <= LAST_HOST; host++)
		addresses[address_count++] = (uint16_t)host;
	spare_target = SPARE_FIRST;
	/* The first one now: what cannot work here shall fail at the session's start. */
	struct net_slot *slot = slot_make(true, f);
	if (!slot)
		return -1;
	push(&ready, slot);
	loop_when_idle(refill);
	return 0;
}

void pool_close(void)
{
	timer_clear(&refill_timer);
	loop_when_idle(NULL);
	while (ready.count)
		slot_drop(pop(&ready));
	while (lonely.count)
		slot_drop(pop(&lonely));
}

struct net_slot *net_take(struct fault *f)
{
	struct net_slot *slot = pop(&ready);
	if (!slot) {
		if (spare_target < SPARE_MOST)
			spare_target *= 2;
		slot = slot_make(true, f);
	}
	/* Not at once: the request that follows this one would wait for it. And not for one that is missing, as it will be back: making one
	 * for it, and dropping one when it came, doubled the time of a run beside 200 others. */
	if (ready.count < spare_target / 2)
		timer_set(&refill_timer, REFILL_AFTER_US, refill_now);
	return slot;
}

struct net_slot *net_take_lonely(struct fault *f)
{
	struct net_slot *slot = pop(&lonely);
	return slot ? slot : slot_make(false, f);
}

int net_slot_ns(const struct net_slot *slot)
{
	return slot->ns;
}

struct in_addr net_slot_address(const struct net_slot *slot)
{
	return slot ? slot->address : (struct in_addr){0};
}

/* The number behind " word" in a line that starts with the label; -1 if the file has no such line. */
static long count_of(const char *text, const char *label, const char *word)
{
	const char *line = strstr(text, label);
	if (!line)
		return -1;
	const char *end = strchr(line, '\n');
	const char *at = strstr(line, word);
	if (!at || (end && at > end))
		return -1;
	return strtol(at + strlen(word), NULL, 10);
}

static bool no_sockets(const struct net_slot *slot)
{
	char text[1024];
	if (slot->sockstat < 0)
		return false;
	ssize_t got = pread(slot->sockstat, text, sizeof(text) - 1, 0);
	if (got <= 0)
		return false;
	text[got] = 0;
	/* "used" counts every socket of the namespace, of whatever family, orphans too, since Linux 4.16; TIME_WAIT is
	 * apart. A kernel without counts of its own for the namespace says more than zero, or nothing: not clean, then. */
	return count_of(text, "sockets:", " used ") == 0 && count_of(text, "TCP:", " tw ") == 0 &&
		count_of(text, "TCP:", " inuse ") == 0 && count_of(text, "UDP:", " inuse ") == 0;
}

void net_give_back(struct net_slot *slot, bool tainted)
{
	if (!slot)
		return;
	if (slot->address.s_addr)
		egress_forget(slot->address);
	struct queue *q = slot->address.s_addr ? &ready : &lonely;
	if (tainted || q->count >= SPARE_MOST || !no_sockets(slot)) {
		slot_drop(slot);
		return;
	}
	if (slot->address.s_addr)
		read_counters(slot, &slot->before);
	push(q, slot);
}

static void keep_stats(const struct nlmsghdr *message, void *context)
{
	const struct nlattr *found[IFLA_STATS_MAX + 1];
	if (message->nlmsg_type != RTM_NEWSTATS)
		return;
	attributes(message, sizeof(struct if_stats_msg), found, IFLA_STATS_MAX);
	const struct nlattr *stats = found[IFLA_STATS_LINK_64];
	struct rtnl_link_stats64 *to = context;
	if (!stats)
		return;
	size_t size = stats->nla_len - (size_t)NLA_HDRLEN;
	memcpy(to, (const char *)stats + NLA_HDRLEN, size < sizeof(*to) ? size : sizeof(*to));
}

/* Since the link was made, seen from the bridge's side: what it receives, the container has sent. */
static int read_counters(const struct net_slot *slot, struct net_counters *now)
{
	struct rtnl_link_stats64 stats = {0};
	struct batch b;
	batch_clear(&b);
	struct if_stats_msg which = {
		.family = AF_UNSPEC, .ifindex = slot->port, .filter_mask = IFLA_STATS_FILTER_BIT(IFLA_STATS_LINK_64)};
	message_begin(&b, RTM_GETSTATS, 0, &which, sizeof(which));
	if (netlink_ask(&router.rtnl, &b, keep_stats, &stats) < 0)
		return -1;
	*now = (struct net_counters){
		.rx_bytes = stats.tx_bytes, .rx_packets = stats.tx_packets,
		.rx_errors = stats.tx_errors, .rx_dropped = stats.tx_dropped,
		.tx_bytes = stats.rx_bytes, .tx_packets = stats.rx_packets,
		.tx_errors = stats.rx_errors, .tx_dropped = stats.rx_dropped,
	};
	return 0;
}

int net_slot_counters(const struct net_slot *slot, struct net_counters *counters)
{
	memset(counters, 0, sizeof(*counters));
	if (!slot->address.s_addr)
		return 0;
	if (read_counters(slot, counters) < 0)
		return -1;
	const struct net_counters *before = &slot->before;
	counters->rx_bytes -= before->rx_bytes;
	counters->rx_packets -= before->rx_packets;
	counters->rx_errors -= before->rx_errors;
	counters->rx_dropped -= before->rx_dropped;
	counters->tx_bytes -= before->tx_bytes;
	counters->tx_packets -= before->tx_packets;
	counters->tx_errors -= before->tx_errors;
	counters->tx_dropped -= before->tx_dropped;
	return 0;
}
