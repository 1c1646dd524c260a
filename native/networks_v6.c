/* IPv6 on networks that are to have it: a subnet beside the IPv4 one, addresses for containers, and what keeps networks apart.
 *
 * There is no reverse path filter for IPv6, so rules of the routing policy are in its place. What comes from a bridge with an address of its
 * network goes on, everything else ends there:
 *
 *     1: iif mf7 from fd12:…::/64 goto 3      4: first segments, to `egress`        20: iif mf7 main, but no bridge
 *     2: iif mf7 blackhole                    5: local   10: marked, ours           21: iif mf7 unreachable
 *
 * The uplink has the first two as well, for the host alone: it may forward what others send.
 * Neighbours are known, not asked for: a container's hardware address is a permanent entry here, and the gateway's is one there. Link-local
 * addresses, which containers have for each other, are nothing to the router. Nothing of this is there before the first network
 * with IPv6 is made. */
#define _GNU_SOURCE
#include "net.h"
#include "router.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip6.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include "ip.h"
#include "packet.h"

enum { BITS = 64, BITS_LEAST = 16, BITS_MOST = 126, ATTEMPTS = 64 };
enum { PRIORITY_OWN = 1, PRIORITY_FOREIGN = 2, PRIORITY_SOUND = 3, PRIORITY_ROUTED = 20, PRIORITY_UNREACHABLE = 21 };

/* RFC 4193: fd and 40 random bits, for all networks of the session. Subnet 0 is the uplink's. */
static struct in6_addr site;
static bool is_open;

bool ip_is_unicast(const struct in6_addr *ip)
{
	static const uint8_t translator[12] = {0x00, 0x64, 0xff, 0x9b};
	return (ip->s6_addr[0] & 0xe0) == 0x20 || (ip->s6_addr[0] & 0xfe) == 0xfc || memcmp(ip->s6_addr, translator, sizeof(translator)) == 0;
}

struct network *network_at(const struct in6_addr *ip)
{
	struct network *n = router.networks;
	if (ip_is_v4(ip))
		return network_of(ip_v4(ip));
	while (n && !(n->v6.bits && ip_shares(ip, &n->v6.first, n->v6.bits)))
		n = n->next;
	return n;
}

const struct net_link *link_at(const struct in6_addr *ip)
{
	const struct network *n = ip_is_v4(ip) ? NULL : network_at(ip);
	const struct net_link *link = n ? n->v6.links : NULL;
	while (link && !ip_equal(&link->v6, ip))
		link = link->next_v6;
	return link;
}

void network_subnet_v6(const struct network *n, char text[64])
{
	char address[INET6_ADDRSTRLEN];
	snprintf(text, 64, "%s/%u", inet_ntop(AF_INET6, &n->v6.first, address, sizeof(address)), n->v6.bits);
}

/* ---- addresses ---- */

static uint64_t low_half(const struct in6_addr *ip)
{
	uint64_t half;
	memcpy(&half, ip->s6_addr + 8, sizeof(half));
	return be64toh(half);
}

static struct in6_addr plus(struct in6_addr ip, uint64_t number)
{
	uint64_t half = htobe64(low_half(&ip) + number);
	memcpy(ip.s6_addr + 8, &half, sizeof(half));
	return ip;
}

/* Beyond the number behind the last address, or behind 64 bits of them. */
static uint64_t last_of(unsigned bits)
{
	return bits <= 64 ? UINT64_MAX : UINT64_MAX >> (bits - 64);
}

/* The subnet's first address stands for all of its routers (RFC 4291, 2.6.1). */
static bool is_host(const struct subnet_v6 *s, const struct in6_addr *ip)
{
	return ip_shares(ip, &s->first, s->bits) && !ip_equal(ip, &s->first);
}

static bool is_taken(const struct subnet_v6 *s, const struct in6_addr *ip)
{
	const struct net_link *link = s->links;
	while (link && !ip_equal(&link->v6, ip))
		link = link->next_v6;
	return link || ip_equal(ip, &s->gateway);
}

/* Begins with the number that its IPv4 address has in its subnet: then it usually has the same hardware address as the one before. */
static bool any_address(const struct network *n, struct net_link *link)
{
	const struct subnet_v6 *s = &n->v6;
	uint64_t number = ntohl(link->address.s_addr) - n->first, tries = 3;
	for (const struct net_link *one = s->links; one; one = one->next_v6)
		tries++;
	if (s->span != UINT64_MAX && tries > s->span)
		tries = s->span + 1;
	for (; tries; tries--, number++) {
		link->v6 = plus(s->range, s->span == UINT64_MAX ? number : number % (s->span + 1));
		if (is_host(s, &link->v6) && !is_taken(s, &link->v6))
			return true;
	}
	return false;
}

int v6_take(struct network *n, struct net_link *link, const struct in6_addr *wanted, struct fault *f)
{
	char text[INET6_ADDRSTRLEN];
	if (!n->v6.bits)
		return 0;
	if (IN6_IS_ADDR_UNSPECIFIED(wanted)) {
		if (!any_address(n, link))
			return fault(f, "address", n->id, EADDRINUSE, "all IPv6 addresses of the network are taken");
	} else {
		inet_ntop(AF_INET6, wanted, text, sizeof(text));
		if (!is_host(&n->v6, wanted) || ip_equal(wanted, &n->v6.gateway))
			return fault(f, "address", text, EADDRNOTAVAIL, "the address is none for a container of this network");
		if (is_taken(&n->v6, wanted))
			return fault(f, "address", text, EADDRINUSE, "the address is taken by another container");
		link->v6 = *wanted;
	}
	link->next_v6 = n->v6.links;
	n->v6.links = link;
	return 0;
}

/* ---- neighbours ---- */

static void put_container(struct batch *b, const struct net_link *link, bool add)
{
	uint8_t mac[MAC_SIZE];
	struct ndmsg header = {.ndm_family = AF_INET6, .ndm_ifindex = (int)link->network->bridge, .ndm_state = NUD_PERMANENT};
	mac_of(link->address, mac);
	message_begin(b, add ? RTM_NEWNEIGH : RTM_DELNEIGH, NLM_F_ACK | (add ? NLM_F_CREATE | NLM_F_REPLACE : 0), &header, sizeof(header));
	put(b, NDA_DST, &link->v6, sizeof(link->v6));
	put(b, NDA_LLADDR, mac, sizeof(mac));
}

/* Tells the others on the network who has the address from now on (RFC 4861, 7.2.6), for they may remember who had it before. Lost where it
 * cannot be sent: they ask after some seconds then. */
static void announce(const struct net_link *link)
{
	uint8_t packet[PACKET_SIZE], frame[ETH_HLEN + 128], mac[MAC_SIZE];
	struct in6_addr everyone = {.s6_addr = {0xff, 0x02, [15] = 1}};
	struct { struct nd_neighbor_advert advert; uint8_t option[2], mac[MAC_SIZE]; } message = {
		.advert = {.nd_na_type = ND_NEIGHBOR_ADVERT, .nd_na_flags_reserved = ND_NA_FLAG_OVERRIDE, .nd_na_target = link->v6},
		.option = {ND_OPT_TARGET_LINKADDR, 1}};
	mac_of(link->address, mac);
	memcpy(message.mac, mac, sizeof(mac));
	size_t size = write_icmp(&link->v6, &everyone, (uint8_t *)&message, sizeof(message), packet);
	packet[7] = 255;    /* the hop limit says that it comes from the same network */
	struct ethhdr ethernet = {.h_dest = {0x33, 0x33, 0, 0, 0, 1}, .h_proto = htons(ETH_P_IPV6)};
	memcpy(ethernet.h_source, mac, sizeof(mac));
	memcpy(frame, &ethernet, ETH_HLEN);
	memcpy(frame + ETH_HLEN, packet, size);
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)link->network->bridge, .sll_halen = MAC_SIZE};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	sendto(fd, frame, ETH_HLEN + size, MSG_NOSIGNAL, (struct sockaddr *)&to, sizeof(to));
	close(fd);
}

int v6_introduce(const struct net_link *link)
{
	struct batch b;
	batch_clear(&b);
	put_container(&b, link, true);
	if (netlink_send(&router.rtnl, &b) < 0)
		return -1;
	announce(link);
	return 0;
}

void v6_give_back(struct net_link *link)
{
	for (struct net_link **at = &link->network->v6.links; *at; at = &(*at)->next_v6)
		if (*at == link) {
			struct batch b;
			*at = link->next_v6;
			batch_clear(&b);
			put_container(&b, link, false);
			netlink_send(&router.rtnl, &b);    /* fails where it was never introduced */
			return;
		}
}

/* ---- the kernel's part ---- */

int link_without_advertisements(const char *name)
{
	static const char *const settings[][2] = {{"accept_ra", "0"}, {"autoconf", "0"}, {"accept_redirects", "0"}, {"accept_dad", "0"},
		{"addr_gen_mode", "1"}, {"disable_ipv6", "0"}};
	for (size_t i = 0; i < sizeof(settings) / sizeof(*settings); i++) {
		char path[64];
		snprintf(path, sizeof(path), "ipv6/conf/%s/%s", name, settings[i][0]);
		if (net_sysctl(path, settings[i][1]) < 0)
			return -1;
	}
	return 0;
}

static void begin_rule(struct batch *b, const struct fib_rule_hdr *rule, const char *name, uint32_t priority, bool add)
{
	message_begin(b, add ? RTM_NEWRULE : RTM_DELRULE, NLM_F_ACK | (add ? NLM_F_CREATE | NLM_F_EXCL : 0), rule, sizeof(*rule));
	put_string(b, FRA_IIFNAME, name);
	put_u32(b, FRA_PRIORITY, priority);
}

void v6_put_source(struct batch *b, const char *name, const struct in6_addr *first, unsigned bits, bool add)
{
	struct fib_rule_hdr own = {.family = AF_INET6, .src_len = (uint8_t)bits, .action = FR_ACT_GOTO},
		foreign = {.family = AF_INET6, .action = FR_ACT_BLACKHOLE};
	begin_rule(b, &own, name, PRIORITY_OWN, add);
	put(b, FRA_SRC, first, sizeof(*first));
	put_u32(b, FRA_GOTO, PRIORITY_SOUND);
	begin_rule(b, &foreign, name, PRIORITY_FOREIGN, add);
}

static void put_rules(struct batch *b, const struct network *n, bool add)
{
	char name[IFNAMSIZ];
	struct fib_rule_hdr routed = {.family = AF_INET6, .table = RT_TABLE_MAIN, .action = FR_ACT_TO_TBL},
		unreachable = {.family = AF_INET6, .action = FR_ACT_UNREACHABLE};
	network_link_name(n, name);
	v6_put_source(b, name, &n->v6.first, n->v6.bits, add);
	if (!n->internal) {
		begin_rule(b, &routed, name, PRIORITY_ROUTED, add);
		put_u32(b, FRA_SUPPRESS_IFGROUP, BRIDGES);
	}
	begin_rule(b, &unreachable, name, PRIORITY_UNREACHABLE, add);
}

static void put_gateway(struct batch *b, const struct network *n, bool add)
{
	struct ifaddrmsg header = {
		.ifa_family = AF_INET6, .ifa_prefixlen = (uint8_t)n->v6.bits, .ifa_index = n->bridge, .ifa_flags = IFA_F_NODAD};
	message_begin(b, add ? RTM_NEWADDR : RTM_DELADDR, NLM_F_ACK | (add ? NLM_F_CREATE | NLM_F_EXCL : 0), &header, sizeof(header));
	put(b, IFA_LOCAL, &n->v6.gateway, sizeof(n->v6.gateway));
	put(b, IFA_ADDRESS, &n->v6.gateway, sizeof(n->v6.gateway));
}

/* Once: the router forwards, and asks the rules of each bridge before it looks at its own addresses. */
static int open_router(struct fault *f)
{
	if (is_open)
		return 0;
	if (access("/proc/sys/net/ipv6", F_OK) < 0)
		return fault(f, "network", "ipv6", ENOTSUP, "this kernel has no IPv6, or it is switched off (ipv6.disable)");
	if (net_sysctl("ipv6/conf/all/forwarding", "1") < 0)
		return fault(f, "network", "ipv6", errno, "the router cannot forward IPv6");
	net_sysctl("bridge/bridge-nf-call-ip6tables", "0");
	struct batch b;
	struct fib_rule_hdr sound = {.family = AF_INET6, .action = FR_ACT_NOP},
		local = {.family = AF_INET6, .table = RT_TABLE_LOCAL, .action = FR_ACT_TO_TBL};
	batch_clear(&b);
	message_begin(&b, RTM_NEWRULE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &sound, sizeof(sound));
	put_u32(&b, FRA_PRIORITY, PRIORITY_SOUND);
	message_begin(&b, RTM_NEWRULE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &local, sizeof(local));
	put_u32(&b, FRA_PRIORITY, PRIORITY_LOCAL);
	message_begin(&b, RTM_DELRULE, NLM_F_ACK, &local, sizeof(local));
	put_u32(&b, FRA_PRIORITY, 0);
	if (netlink_send(&router.rtnl, &b) < 0)
		return fault(f, "network", "ipv6", errno, "the kernel cannot route IPv6 by rules (CONFIG_IPV6_MULTIPLE_TABLES)");
	is_open = true;
	return 0;
}

int v6_make(struct network *n, struct fault *f)
{
	struct batch b;
	char name[IFNAMSIZ];
	if (!n->v6.bits)
		return 0;
	network_link_name(n, name);
	batch_clear(&b);
	put_rules(&b, n, true);
	if (netlink_send(&router.rtnl, &b) < 0 || link_without_advertisements(name) < 0)
		return fault(f, "network", "ipv6", errno, "cannot give the bridge IPv6");
	put_gateway(&b, n, true);
	return netlink_send(&router.rtnl, &b) < 0 ? fault(f, "network", "ipv6", errno, "cannot give the bridge IPv6") : 0;
}

void v6_remove(struct network *n)
{
	struct batch b;
	if (!n->v6.bits)
		return;
	batch_clear(&b);
	put_gateway(&b, n, false);
	put_rules(&b, n, false);
	netlink_send(&router.rtnl, &b);
	if (n->v6.routed)
		router_unclaim_v6(&n->v6);
	n->v6.routed = false;
}

/* ---- making ---- */

/* "fd00:5::/64": the address must be the subnet's first. */
static int read_subnet(const char *text, unsigned least, unsigned most, struct in6_addr *first, unsigned *bits)
{
	char address[INET6_ADDRSTRLEN], *end;
	const char *slash = strchr(text, '/');
	if (!slash || (size_t)(slash - text) >= sizeof(address) || slash[1] < '0' || slash[1] > '9')
		return -1;
	memcpy(address, text, (size_t)(slash - text));
	address[slash - text] = 0;
	unsigned long number = strtoul(slash + 1, &end, 10);
	if (*end || number < least || number > most || inet_pton(AF_INET6, address, first) != 1)
		return -1;
	*bits = (unsigned)number;
	struct in6_addr rest = *first;
	for (unsigned i = 0; i < *bits; i++)
		rest.s6_addr[i / 8] &= (uint8_t)~(0x80u >> i % 8);
	return IN6_IS_ADDR_UNSPECIFIED(&rest) && ip_is_unicast(first) ? 0 : -1;
}

static int choose(struct network *n, const char *subnet, struct fault *f)
{
	struct subnet_v6 *s = &n->v6;
	bool routed = router_open_v6(&site) == 0 && !n->internal;
	subnets_look_v6();
	if (subnet) {
		if (read_subnet(subnet, BITS_LEAST, BITS_MOST, &s->first, &s->bits) < 0) {
			s->bits = 0;
			return fault(f, "subnet", subnet, EINVAL, "an IPv6 subnet for hosts from /16 to /126 is needed, written with its first address, such as fd00:5::/64");
		}
		bool is_free = subnet_is_free_v6(&s->first, s->bits);
		if (is_free && (!routed || router_claim_v6(s) == 0)) {
			s->routed = routed;
			return 0;
		}
		int error = is_free ? errno : EEXIST;
		s->bits = 0;
		return error == EEXIST ? fault(f, "subnet", subnet, EADDRINUSE, "it overlaps a route of the host or another network")
			: fault(f, "subnet", subnet, error, "the host cannot have a route to it");
	}
	for (int i = 0; i < ATTEMPTS; i++) {
		uint16_t number;
		if (getrandom(&number, sizeof(number), 0) != sizeof(number))
			return fault(f, "subnet", "random", errno, NULL);
		if (!number)
			continue;
		s->first = site;
		memcpy(s->first.s6_addr + 6, &number, sizeof(number));
		s->bits = BITS;
		if (!subnet_is_free_v6(&s->first, s->bits))
			continue;
		s->routed = routed && router_claim_v6(s) == 0;
		if (s->routed || !routed)
			return 0;
		if (errno != EEXIST) {
			int error = errno;
			s->bits = 0;
			return fault(f, "subnet", "route", error, "the host cannot have a route to it");
		}
	}
	s->bits = 0;
	return fault(f, "subnet", "any", EADDRINUSE, "every candidate overlaps a route of the host or another network");
}

static int settle(struct network *n, const struct network_wish *wish, struct fault *f)
{
	struct subnet_v6 *s = &n->v6;
	unsigned bits = s->bits;
	s->gateway = plus(s->first, 1);
	s->range = s->first;
	if (wish->gateway_v6 && (inet_pton(AF_INET6, wish->gateway_v6, &s->gateway) != 1 || !is_host(s, &s->gateway)))
		return fault(f, "gateway", wish->gateway_v6, EINVAL, "an address of the IPv6 subnet is needed, and not its first");
	if (wish->range_v6 && (read_subnet(wish->range_v6, s->bits, 128, &s->range, &bits) < 0 || !ip_shares(&s->range, &s->first, s->bits)))
		return fault(f, "range", wish->range_v6, EINVAL, "a part of the IPv6 subnet is needed, such as fd00:5::1:0/112");
	s->span = last_of(bits);
	return 0;
}

int v6_settle(struct network *n, const struct network_wish *wish, struct fault *f)
{
	uint8_t random[5];
	if (!wish->ipv6)
		return 0;
	if ((wish->gateway_v6 || wish->range_v6) && !wish->subnet_v6)
		return fault(f, wish->gateway_v6 ? "gateway" : "range", wish->gateway_v6 ? wish->gateway_v6 : wish->range_v6, EINVAL,
			"it needs an IPv6 subnet beside it");
	if (!site.s6_addr[0]) {
		if (getrandom(random, sizeof(random), 0) != sizeof(random))
			return fault(f, "subnet", "random", errno, NULL);
		memcpy(site.s6_addr + 1, random, sizeof(random));
		site.s6_addr[0] = 0xfd;
	}
	if (open_router(f) < 0 || choose(n, wish->subnet_v6, f) < 0)
		return -1;
	if (settle(n, wish, f) == 0 && egress_open_v6(f) == 0)
		return 0;
	if (n->v6.routed)
		router_unclaim_v6(&n->v6);
	n->v6.bits = 0;
	return -1;
}

void v6_close(void)
{
	is_open = false;
	memset(&site, 0, sizeof(site));
}
