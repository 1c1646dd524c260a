/* A pool of ready network namespaces.
 *
 * Making one costs about a millisecond (a new namespace, and a pair of links), does not scale with cores, and taking one
 * down waits for the kernel's single cleanup worker. So a few are made ahead while the warden has nothing else to do, and
 * one that comes back clean is used again: its processes are dead, nothing inside could have changed it, and the kernel
 * counts no socket in it any more, TIME_WAIT included. The counts come from a file of that namespace, kept open
 * (/proc/net/sockstat): one read, whatever the size of the socket tables. A sock_diag dump would
 * walk the host-wide hash table: milliseconds on a large machine.
 *
 * Those made ahead have lo with ::1, and a link to the default network; once there are other networks, some have lo only, and what
 * was linked to one of these alone serves the next container of that network. */
#define _GNU_SOURCE
#include "net.h"
#include "router.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "ip.h"
#include "loop.h"

#ifndef SIOCGSKNS
#define SIOCGSKNS 0x894C
#endif

enum { SPARE_FIRST = 4, SPARE_MOST = 16, REFILL_AFTER_US = 2000, REST_US = 40000 };

/* First in, first out, as those of the networks: what was used last rests longest. */
static struct slots lonely;
/* Given back too soon after a link was made: the kernel counts the netlink socket for that a little longer. */
static struct slots resting;
static struct net_slot *in_use;
static unsigned spare_target = SPARE_FIRST, lonely_target;
static struct timer refill_timer, rest_timer;

static int read_counters(const struct net_link *, struct net_counters *);

static void push(struct slots *q, struct net_slot *slot)
{
	slot->next = NULL;
	if (!q->first)
		q->last = &q->first;
	*q->last = slot;
	q->last = &slot->next;
	q->count++;
}

static struct net_slot *pop(struct slots *q)
{
	struct net_slot *slot = q->first;
	if (slot) {
		q->first = slot->next;
		q->count--;
	}
	return slot;
}

static void slot_drop(struct net_slot *slot)
{
	if (!slot)
		return;
	host_access_forget(slot);
	while (slot->links)
		link_forget(slot, slot->links);
	if (slot->sockstat >= 0)
		close(slot->sockstat);
	if (slot->ns >= 0)
		close(slot->ns);
	free(slot);
}

static struct net_slot *use(struct net_slot *slot)
{
	if (slot) {
		slot->next = in_use;
		in_use = slot;
	}
	return slot;
}

struct net_slot *slots_in_use(void)
{
	return in_use;
}

const struct net_slot *slot_of(struct in_addr address)
{
	for (const struct net_slot *slot = in_use; slot; slot = slot->next)
		for (const struct net_link *link = slot->links; link; link = link->next)
			if (link->address.s_addr == address.s_addr)
				return slot;
	return NULL;
}

static int open_proc(const char *path)
{
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* In the namespace, in which the warden is now: eth0 is to be born without IPv6; with_ipv6() sets this back, for links that a container may
 * make. */
static int without_ipv6(int *setting)
{
	*setting = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);
	return *setting >= 0 && pwrite(*setting, "1", 1, 0) < 0 ? -1 : 0;
}

static int with_ipv6(int setting)
{
	if (setting < 0)
		return 0;
	int done = pwrite(setting, "0", 1, 0) < 0 ? -1 : 0;
	int error = errno;
	close(setting);
	errno = error;
	return done;
}

void router_come_back(void)
{
	int error = errno;
	if (setns(router.ns, CLONE_NEWNET) < 0)
		abort();    /* the warden would work on in a container's network; dying takes the session down cleanly */
	errno = error;
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
	if (without_ipv6(no_ipv6) < 0)
		return -1;
	slot->sockstat = open_proc("/proc/thread-self/net/sockstat");
	struct batch b;
	struct ifinfomsg up = {.ifi_index = INDEX_LOOPBACK, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	batch_clear(&b);
	message_begin(&b, RTM_NEWLINK, NLM_F_ACK, &up, sizeof(up));
	return netlink_send(inside, &b);
}

static struct net_slot *slot_make(bool linked, struct fault *f)
{
	struct net_slot *slot = malloc(sizeof(*slot));
	struct netlink inside = {.fd = -1};
	int no_ipv6 = -1;
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
	*slot = (struct net_slot){.ns = -1, .sockstat = -1, .home = linked ? router.networks : NULL};
	int made = unshare(CLONE_NEWNET);
	if (made == 0) {
		made = furnish(slot, &inside, &no_ipv6);
		router_come_back();
	}
	int error = errno;
	if (made < 0)
		fault(f, "network", "namespace", error, "cannot make a container's network namespace");
	else if (linked)
		made = link_make(slot, router.networks, &(struct address_wish){0}, &inside, f);
	netlink_close(&inside);
	if (with_ipv6(no_ipv6) < 0 && made == 0)
		made = fault(f, "network", "disable_ipv6", errno, "cannot make a container's network namespace");
	if (made < 0) {
		slot_drop(slot);
		return NULL;
	}
	return slot;
}

/* Idle job: one namespace a call. */
static bool refill(void)
{
	struct slots *ready = &router.networks->ready;
	bool linked = ready->count < spare_target;
	if (!linked && lonely.count >= lonely_target)
		return false;
	struct net_slot *slot = slot_make(linked, NULL);
	if (slot)
		push(linked ? ready : &lonely, slot);
	return slot && (ready->count < spare_target || lonely.count < lonely_target);
}

static void refill_now(struct timer *timer)
{
	(void)timer;
	loop_when_idle(refill);
}

int pool_open(struct fault *f)
{
	spare_target = SPARE_FIRST;
	lonely_target = 0;
	/* The first one now: what cannot work here shall fail at the session's start. */
	struct net_slot *slot = slot_make(true, f);
	if (!slot)
		return -1;
	push(&router.networks->ready, slot);
	loop_when_idle(refill);
	return 0;
}

void pool_expect_links(void)
{
	if (lonely_target)
		return;
	lonely_target = SPARE_FIRST;
	loop_when_idle(refill);
}

static bool has_wanted(const struct net_link *link, const struct address_wish *wish)
{
	bool any = !wish->v4.s_addr && IN6_IS_ADDR_UNSPECIFIED(&wish->v6);
	return any || (wish->v4.s_addr && link->address.s_addr == wish->v4.s_addr) ||
		(!IN6_IS_ADDR_UNSPECIFIED(&wish->v6) && ip_equal(&link->v6, &wish->v6));
}

static void evict(struct slots *from, const struct network *network, const struct address_wish *wish)
{
	for (unsigned i = from->count; i; i--) {
		struct net_slot *slot = pop(from);
		if (slot->home != network || !has_wanted(slot->links, wish))
			push(from, slot);
		else
			slot_drop(slot);
	}
}

void pool_evict(struct network *network, const struct address_wish *wish)
{
	evict(&network->ready, network, wish);
	evict(&resting, network, wish);
}

void pool_close(void)
{
	timer_clear(&refill_timer);
	timer_clear(&rest_timer);
	loop_when_idle(NULL);
	for (struct network *n = router.networks; n; n = n->next)
		pool_evict(n, &(struct address_wish){0});
	while (lonely.count)
		slot_drop(pop(&lonely));
}

struct net_slot *net_take(struct fault *f)
{
	struct slots *ready = &router.networks->ready;
	struct net_slot *slot = pop(ready);
	if (!slot) {
		if (spare_target < SPARE_MOST)
			spare_target *= 2;
		slot = slot_make(true, f);
	}
	/* Not at once: the request that follows this one would wait for it. And not for one that is missing, as it will be back: making one
	 * for it, and dropping one when it came, doubled the time of a run beside 200 others. */
	if (ready->count < spare_target / 2)
		timer_set(&refill_timer, REFILL_AFTER_US, refill_now);
	return use(slot);
}

struct net_slot *net_take_lonely(struct fault *f)
{
	struct net_slot *slot = pop(&lonely);
	if (!slot)
		slot = slot_make(false, f);
	if (lonely.count < lonely_target / 2)
		timer_set(&refill_timer, REFILL_AFTER_US, refill_now);
	return use(slot);
}

struct net_slot *net_take_on(struct network *network, const char *address, const char *address_v6, struct fault *f)
{
	bool any = (!address || !*address) && (!address_v6 || !*address_v6);
	if (any && network == router.networks)
		return net_take(f);
	struct net_slot *slot = any ? pop(&network->ready) : NULL;
	if (slot)
		return use(slot);
	slot = net_take_lonely(f);
	if (!slot)
		return NULL;
	if (net_connect(slot, network, address, address_v6, f) < 0) {
		net_give_back(slot, false);
		return NULL;
	}
	/* A certain address must not be kept from who wants it next. */
	slot->home = any ? network : NULL;
	return slot;
}

int net_slot_ns(const struct net_slot *slot)
{
	return slot->ns;
}

const struct net_link *net_slot_links(const struct net_slot *slot)
{
	return slot->links;
}

const struct net_link *net_slot_primary(const struct net_slot *slot)
{
	const struct net_link *link = slot->links;
	while (link && !link->is_default)
		link = link->next;
	return link ? link : slot->links;
}

struct in_addr net_slot_address(const struct net_slot *slot)
{
	const struct net_link *link = slot ? net_slot_primary(slot) : NULL;
	return link ? link->address : (struct in_addr){0};
}

static struct net_link *link_to(const struct net_slot *slot, const struct network *network)
{
	struct net_link *link = slot->links;
	while (link && link->network != network)
		link = link->next;
	return link;
}

static int read_wish(const struct network *network, const char *address, const char *address_v6, struct address_wish *wish, struct fault *f)
{
	if (address && *address && inet_pton(AF_INET, address, &wish->v4) != 1)
		return fault(f, "address", address, EINVAL, "an IPv4 address is needed");
	if (!address_v6 || !*address_v6)
		return 0;
	if (inet_pton(AF_INET6, address_v6, &wish->v6) != 1 || IN6_IS_ADDR_UNSPECIFIED(&wish->v6))
		return fault(f, "address", address_v6, EINVAL, "an IPv6 address is needed");
	return network->v6.bits ? 0 : fault(f, "address", address_v6, EADDRNOTAVAIL, "the network has no IPv6");
}

int net_connect(struct net_slot *slot, struct network *network, const char *address, const char *address_v6, struct fault *f)
{
	struct address_wish wanted = {0};
	struct netlink inside = {.fd = -1};
	int no_ipv6 = -1;
	if (link_to(slot, network))
		return fault(f, "network", network->id, EEXIST, "it is connected to this network already");
	if (read_wish(network, address, address_v6, &wanted, f) < 0)
		return -1;
	bool any = !wanted.v4.s_addr && IN6_IS_ADDR_UNSPECIFIED(&wanted.v6);
	if (!any)
		pool_evict(network, &wanted);
	if (setns(slot->ns, CLONE_NEWNET) < 0)
		return fault(f, "network", network->id, errno, "cannot enter the container's network namespace");
	int made = netlink_open(&inside, NETLINK_ROUTE);
	if (made == 0)
		made = without_ipv6(&no_ipv6);
	/* Between networks nothing is passed on, whatever this namespace has inherited; a container that is to do so says it by a sysctl. */
	if (slot->links && !slot->links->next) {
		net_sysctl("ipv4/ip_forward", "0");
		if (network->v6.bits || slot->links->network->v6.bits)
			net_sysctl("ipv6/conf/all/forwarding", "0");
	}
	router_come_back();
	int error = errno;
	struct fault full = {0};
	if (made < 0)
		made = fault(f, "network", network->id, error, "cannot enter the container's network namespace");
	else if ((made = link_make(slot, network, &wanted, &inside, &full)) < 0) {
		/* Namespaces that wait for the next containers have addresses, too. */
		bool is_full = full.error == EADDRINUSE && !strcmp(full.subject, network->id);
		if (is_full)
			pool_evict(network, &(struct address_wish){0});
		made = is_full ? link_make(slot, network, &wanted, &inside, f) : fault(f, full.step, full.subject, full.error, full.message);
	}
	if (with_ipv6(no_ipv6) < 0 && made == 0)
		made = fault(f, "network", "disable_ipv6", errno, NULL);
	netlink_close(&inside);
	return made;
}

int net_disconnect(struct net_slot *slot, struct network *network, struct fault *f)
{
	struct net_link *link = link_to(slot, network);
	struct netlink inside = {.fd = -1};
	if (!link)
		return fault(f, "network", network->id, ENOTCONN, "it is not connected to this network");
	if (setns(slot->ns, CLONE_NEWNET) < 0)
		return fault(f, "network", network->id, errno, "cannot enter the container's network namespace");
	int opened = netlink_open(&inside, NETLINK_ROUTE);
	router_come_back();
	if (opened < 0)
		return fault(f, "network", network->id, errno, "cannot enter the container's network namespace");
	slot->home = NULL;
	egress_forget(link->address);
	int removed = link_remove(slot, link, &inside);
	int error = errno;
	netlink_close(&inside);
	return removed < 0 ? fault(f, "network", network->id, error, "cannot change the default route") : 0;
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

static void keep_or_drop(struct net_slot *slot)
{
	struct slots *q = slot->home ? &slot->home->ready : &lonely;
	if (q->count >= SPARE_MOST || !no_sockets(slot)) {
		slot_drop(slot);
		return;
	}
	if (slot->home)
		read_counters(slot->links, &slot->links->before);
	push(q, slot);
}

static void rested(struct timer *timer)
{
	(void)timer;
	while (resting.count)
		keep_or_drop(pop(&resting));
}

void net_give_back(struct net_slot *slot, bool tainted)
{
	if (!slot)
		return;
	for (struct net_slot **at = &in_use; *at; at = &(*at)->next)
		if (*at == slot) {
			*at = slot->next;
			break;
		}
	impair_forget(slot);
	for (const struct net_link *link = slot->links; link; link = link->next)
		egress_forget(link->address);
	host_access_forget(slot);
	bool whole = slot->home ? slot->links && !slot->links->next : !slot->made;
	if (tainted || !whole)
		slot_drop(slot);
	else if (slot->home && slot->home != router.networks && !no_sockets(slot)) {
		push(&resting, slot);
		if (!rest_timer.due_ns)
			timer_set(&rest_timer, REST_US, rested);
	} else
		keep_or_drop(slot);
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
static int read_counters(const struct net_link *link, struct net_counters *now)
{
	struct rtnl_link_stats64 stats = {0};
	struct batch b;
	batch_clear(&b);
	struct if_stats_msg which = {
		.family = AF_UNSPEC, .ifindex = link->port, .filter_mask = IFLA_STATS_FILTER_BIT(IFLA_STATS_LINK_64)};
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
	for (const struct net_link *link = slot->links; link; link = link->next) {
		struct net_counters now;
		const struct net_counters *before = &link->before;
		if (read_counters(link, &now) < 0)
			return -1;
		counters->rx_bytes += now.rx_bytes - before->rx_bytes;
		counters->rx_packets += now.rx_packets - before->rx_packets;
		counters->rx_errors += now.rx_errors - before->rx_errors;
		counters->rx_dropped += now.rx_dropped - before->rx_dropped;
		counters->tx_bytes += now.tx_bytes - before->tx_bytes;
		counters->tx_packets += now.tx_packets - before->tx_packets;
		counters->tx_errors += now.tx_errors - before->tx_errors;
		counters->tx_dropped += now.tx_dropped - before->tx_dropped;
	}
	return 0;
}
