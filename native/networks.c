/* The session's networks: a bridge each, and what keeps them apart.
 *
 * The router would forward from one bridge to another, so two rules of its routing policy belong to each bridge: what comes from
 * it is routed, but by no route to a bridge (all bridges are of one group of links), and is unreachable otherwise. An internal
 * network has only the second. That a container claims no address of another network is the reverse path filter's part. These rules need no
 * nftables; egress.c looks again, at addresses, at what is about to leave. */
#define _GNU_SOURCE
#include "net.h"
#include "router.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { NETWORK_BITS = 24, BITS_LEAST = 16, BITS_MOST = 29, PRIORITY_ROUTED = 20, PRIORITY_UNREACHABLE = 21 };

void network_link_name(const struct network *n, char *name)
{
	snprintf(name, IFNAMSIZ, "mf%u", n->bridge == INDEX_BRIDGE ? 0 : n->bridge);
}

struct network *network_find(const char *id)
{
	struct network *n = router.networks;
	while (n && strcmp(n->id, id) != 0)
		n = n->next;
	return n;
}

struct network *network_of(struct in_addr address)
{
	uint32_t ip = ntohl(address.s_addr);
	struct network *n = router.networks;
	while (n && (ip < n->first || ip > n->first + (UINT32_MAX >> n->bits)))
		n = n->next;
	return n;
}

const char *network_id(const struct network *n)
{
	return n->id;
}

struct in_addr network_gateway(const struct network *n)
{
	return n->gateway;
}

struct in6_addr network_gateway_v6(const struct network *n)
{
	return n->v6.bits ? n->v6.gateway : (struct in6_addr){0};
}

void network_subnet(const struct network *n, char text[32])
{
	char address[INET_ADDRSTRLEN];
	struct in_addr first = {htonl(n->first)};
	snprintf(text, 32, "%s/%u", inet_ntop(AF_INET, &first, address, sizeof(address)), n->bits);
}

/* ---- addresses ---- */

/* For containers: neither the network's address nor the broadcast one; the gateway's is taken, and so is the uplink's in the default network. */
static bool is_host(const struct network *n, uint32_t host)
{
	return host > 0 && host < UINT32_MAX >> n->bits;
}

static bool is_taken(const struct network *n, uint32_t host)
{
	return n->taken[host / 8] & 1u << host % 8;
}

static struct in_addr take(struct network *n, uint32_t host)
{
	n->taken[host / 8] |= (uint8_t)(1u << host % 8);
	return (struct in_addr){htonl(n->first + host)};
}

struct in_addr network_address(struct network *n, struct in_addr wanted)
{
	struct in_addr none = {0};
	if (wanted.s_addr) {
		uint32_t host = ntohl(wanted.s_addr) - n->first;
		if (!is_host(n, host) || wanted.s_addr == n->gateway.s_addr || wanted.s_addr == router.host.s_addr) {
			errno = EADDRNOTAVAIL;
			return none;
		}
		if (is_taken(n, host)) {
			errno = EADDRINUSE;
			return none;
		}
		return take(n, host);
	}
	/* Onwards from the last one: what was used last rests longest. */
	for (uint32_t tries = n->high - n->low + 1; tries; tries--) {
		n->at = n->at >= n->high || n->at < n->low ? n->low : n->at + 1;
		if (!is_taken(n, n->at))
			return take(n, n->at);
	}
	errno = EADDRNOTAVAIL;
	return none;
}

void network_free_address(struct network *n, struct in_addr address)
{
	uint32_t host = ntohl(address.s_addr) - n->first;
	if (address.s_addr)
		n->taken[host / 8] &= (uint8_t)~(1u << host % 8);
}

/* ---- the kernel's part ---- */

static void put_rules(struct batch *b, const struct network *n, bool add)
{
	char name[IFNAMSIZ];
	network_link_name(n, name);
	uint16_t message = add ? RTM_NEWRULE : RTM_DELRULE, flags = NLM_F_ACK | (add ? NLM_F_CREATE | NLM_F_EXCL : 0);
	struct fib_rule_hdr routed = {.family = AF_INET, .table = RT_TABLE_MAIN, .action = FR_ACT_TO_TBL};
	if (!n->internal) {
		message_begin(b, message, flags, &routed, sizeof(routed));
		put_string(b, FRA_IIFNAME, name);
		put_u32(b, FRA_PRIORITY, PRIORITY_ROUTED);
		put_u32(b, FRA_SUPPRESS_IFGROUP, BRIDGES);
	}
	struct fib_rule_hdr unreachable = {.family = AF_INET, .action = FR_ACT_UNREACHABLE};
	message_begin(b, message, flags, &unreachable, sizeof(unreachable));
	put_string(b, FRA_IIFNAME, name);
	put_u32(b, FRA_PRIORITY, PRIORITY_UNREACHABLE);
}

/* The rules are there before anything can come from the bridge. */
static int make_bridge(const struct network *n)
{
	struct batch b;
	char name[IFNAMSIZ], setting[64];
	uint8_t mac[MAC_SIZE];
	network_link_name(n, name);
	mac_of(n->gateway, mac);
	batch_clear(&b);
	put_rules(&b, n, true);
	struct ifinfomsg link = {.ifi_index = (int)n->bridge, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	message_begin(&b, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &link, sizeof(link));
	put_string(&b, IFLA_IFNAME, name);
	put_u32(&b, IFLA_GROUP, BRIDGES);
	put(&b, IFLA_ADDRESS, mac, sizeof(mac));
	size_t info = nest_begin(&b, IFLA_LINKINFO);
	put_string(&b, IFLA_INFO_KIND, "bridge");
	size_t data = nest_begin(&b, IFLA_INFO_DATA);
	put_u32(&b, IFLA_BR_FORWARD_DELAY, 0);
	put_u8(&b, IFLA_BR_MCAST_SNOOPING, 0);
	nest_end(&b, data);
	nest_end(&b, info);
	struct ifaddrmsg header = {.ifa_family = AF_INET, .ifa_prefixlen = (uint8_t)n->bits, .ifa_index = n->bridge};
	message_begin(&b, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &header, sizeof(header));
	put(&b, IFA_LOCAL, &n->gateway, sizeof(n->gateway));
	put(&b, IFA_ADDRESS, &n->gateway, sizeof(n->gateway));
	if (netlink_send(&router.rtnl, &b) < 0)
		return -1;
	/* Containers may send raw frames; they shall not claim foreign source addresses. */
	snprintf(setting, sizeof(setting), "ipv4/conf/%s/rp_filter", name);
	return net_sysctl(setting, "1");
}

/* Its address goes at once, for the subnet may be used again; the rules when the bridge has no ports any more. */
static void remove_bridge(const struct network *n)
{
	struct batch b;
	struct ifaddrmsg header = {.ifa_family = AF_INET, .ifa_prefixlen = (uint8_t)n->bits, .ifa_index = n->bridge};
	batch_clear(&b);
	message_begin(&b, RTM_DELADDR, NLM_F_ACK, &header, sizeof(header));
	put(&b, IFA_LOCAL, &n->gateway, sizeof(n->gateway));
	put_rules(&b, n, false);
	netlink_send(&router.rtnl, &b);
	discard(n->bridge);
}

/* ---- making and removing ---- */

static void drop(struct network *n)
{
	free(n->taken);
	free(n);
}

/* A network of this piece, whose first address is the gateway, and all others for containers. */
static struct network *new_network(const char *id, uint32_t first, unsigned bits)
{
	struct network *n = calloc(1, sizeof(*n) + strlen(id) + 1);
	if (!n)
		return NULL;
	n->taken = calloc((UINT32_MAX >> bits) / 8 + 1, 1);
	n->first = first;
	n->bits = bits;
	n->gateway = (struct in_addr){htonl(first + 1)};
	n->low = 1;
	n->high = (UINT32_MAX >> bits) - 1;
	n->at = 1;
	strcpy(n->id, id);
	if (n->taken)
		return n;
	free(n);
	return NULL;
}

static void append(struct network *n)
{
	struct network **last = &router.networks;
	while (*last)
		last = &(*last)->next;
	*last = n;
}

static void detach(const struct network *n)
{
	for (struct network **at = &router.networks; *at; at = &(*at)->next)
		if (*at == n) {
			*at = n->next;
			return;
		}
}

int networks_open(uint32_t first, struct fault *f)
{
	struct network *n = new_network("bridge", first, SUBNET_BITS);
	if (!n)
		return fault(f, "network", "mf0", ENOMEM, NULL);
	n->bridge = INDEX_BRIDGE;
	n->routed = router.host.s_addr != 0;
	take(n, 1);
	take(n, n->high--);    /* the host's end of the uplink */
	append(n);
	struct batch b;
	struct ifinfomsg up = {.ifi_index = INDEX_LOOPBACK, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	batch_clear(&b);
	message_begin(&b, RTM_NEWLINK, NLM_F_ACK, &up, sizeof(up));
	if (netlink_send(&router.rtnl, &b) < 0)
		return fault(f, "network", "lo", errno, NULL);
	if (make_bridge(n) < 0)
		return fault(f, "network", "mf0", errno, "cannot make the bridge");
	return dns_serve(n, f);
}

void networks_close(void)
{
	while (router.networks) {
		struct network *n = router.networks;
		router.networks = n->next;
		dns_unserve(n);
		drop(n);
	}
}

/* "10.5.0.0/24": the address must be the subnet's first. */
static int read_subnet(const char *text, unsigned least, unsigned most, uint32_t *first, unsigned *bits)
{
	char address[INET_ADDRSTRLEN], *end;
	const char *slash = strchr(text, '/');
	struct in_addr ip;
	if (!slash || (size_t)(slash - text) >= sizeof(address) || slash[1] < '0' || slash[1] > '9')
		return -1;
	memcpy(address, text, (size_t)(slash - text));
	address[slash - text] = 0;
	unsigned long number = strtoul(slash + 1, &end, 10);
	if (*end || number < least || number > most || inet_pton(AF_INET, address, &ip) != 1)
		return -1;
	*bits = (unsigned)number;
	*first = ntohl(ip.s_addr);
	uint32_t ip_class = *first >> 24, rest = number < 32 ? UINT32_MAX >> number : 0;
	return *first & rest || !ip_class || ip_class == 127 || ip_class >= 224 ? -1 : 0;
}

/* Gateway, range and the rest as they are wanted. */
static int settle(struct network *n, const struct network_wish *wish, struct fault *f)
{
	uint32_t first, host = 1, last = UINT32_MAX >> n->bits;
	unsigned bits;
	if (wish->gateway) {
		struct in_addr gateway;
		if (inet_pton(AF_INET, wish->gateway, &gateway) != 1 || !is_host(n, host = ntohl(gateway.s_addr) - n->first))
			return fault(f, "gateway", wish->gateway, EINVAL, "an address of the subnet is needed, neither its first nor its last");
		n->gateway = gateway;
	}
	take(n, host);
	if (wish->range) {
		if (read_subnet(wish->range, n->bits, 32, &first, &bits) < 0 || first < n->first || first - n->first > last)
			return fault(f, "range", wish->range, EINVAL, "a part of the subnet is needed, such as 10.5.0.128/25");
		n->low = first - n->first;
		n->high = n->low + (bits < 32 ? UINT32_MAX >> bits : 0);
		if (!n->low)
			n->low = 1;
		if (n->high >= last)
			n->high = last - 1;
	}
	n->at = n->high;
	n->internal = wish->internal;
	return 0;
}

/* Chooses a subnet, or checks the one that is wanted, and has the host send what goes to it here. */
static int choose(const char *subnet, bool internal, uint32_t *first, unsigned *bits, bool *routed, struct fault *f)
{
	unsigned start = 0;
	*bits = NETWORK_BITS;
	*routed = router.host.s_addr && !internal;
	subnets_look();
	if (subnet) {
		if (read_subnet(subnet, BITS_LEAST, BITS_MOST, first, bits) < 0)
			return fault(f, "subnet", subnet, EINVAL, "an IPv4 subnet for hosts from /16 to /29 is needed, written with its first address, such as 10.5.0.0/24");
		if (!subnet_is_free(*first, *bits))
			return fault(f, "subnet", subnet, EADDRINUSE, "it overlaps a route of the host or another network");
		if (*routed && router_claim(*first, *bits) < 0)
			return fault(f, "subnet", subnet, errno == EEXIST ? EADDRINUSE : errno, "the host cannot have a route to it");
		return 0;
	}
	if (getrandom(&start, sizeof(start), 0) < 0)
		return fault(f, "subnet", "random", errno, NULL);
	unsigned candidates = subnet_candidates(*bits);
	for (unsigned i = 0; i < candidates; i++) {
		*first = subnet_candidate(start % candidates + i, *bits);
		if (!subnet_is_free(*first, *bits))
			continue;
		if (!*routed || router_claim(*first, *bits) == 0)
			return 0;
		if (errno != EEXIST)
			return fault(f, "subnet", "route", errno, "the host cannot have a route to it");
	}
	return fault(f, "subnet", "any", EADDRINUSE, "every candidate overlaps a route of the host or another network");
}

struct network *network_create(const char *id, const struct network_wish *wish, struct fault *f)
{
	uint32_t first = 0;
	unsigned bits;
	bool routed;
	if (!router.networks) {
		fault(f, "network", id, ENOTSUP, "this engine was opened without a network");
		return NULL;
	}
	if (network_find(id)) {
		fault(f, "network", id, EEXIST, "this id is taken");
		return NULL;
	}
	if ((wish->gateway || wish->range) && !wish->subnet) {
		fault(f, wish->gateway ? "gateway" : "range", wish->gateway ? wish->gateway : wish->range, EINVAL, "it needs a subnet beside it");
		return NULL;
	}
	if (choose(wish->subnet, wish->internal, &first, &bits, &routed, f) < 0)
		return NULL;
	struct network *n = new_network(id, first, bits);
	if (!n)
		fault(f, "network", id, ENOMEM, NULL);
	else if (settle(n, wish, f) < 0 || v6_settle(n, wish, f) < 0)
		drop(n);
	else {
		n->routed = routed;
		n->bridge = router_next_index();
		append(n);
		if (make_bridge(n) < 0)
			fault(f, "network", id, errno, "cannot make the bridge");
		else if (v6_make(n, f) == 0 && dns_serve(n, f) == 0) {
			pool_expect_links();
			return n;
		}
		remove_bridge(n);
		v6_remove(n);
		detach(n);
		drop(n);
	}
	if (routed)
		router_unclaim(first, bits);
	return NULL;
}

int network_remove(struct network *n, struct fault *f)
{
	if (n == router.networks)
		return fault(f, "network", n->id, EPERM, "the default network stays");
	pool_evict(n, &(struct address_wish){0});
	if (n->links)
		return fault(f, "network", n->id, EBUSY, "containers are connected to it");
	dns_unserve(n);
	remove_bridge(n);
	v6_remove(n);
	if (n->routed)
		router_unclaim(n->first, n->bits);
	detach(n);
	drop(n);
	return 0;
}
