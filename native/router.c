/* The session's router: a network namespace of its own with a bridge for the containers and, as root, an uplink that gives
 * the host a route to the containers' addresses.
 *
 *     host ── mf-1a2b3c4d ══ uplink ┐
 *                                   ├ mf0 (gateway) ══ eth0 of every container
 *     (egress.c)            egress ─┘
 *                                     further bridges: networks.c
 *
 * On the host there is one link, and a route for each network; they vanish with the router's namespace. The subnet is one /22 out of
 * three ranges; a session claims it by adding the host's route with NLM_F_EXCL, so two sessions never get the same one.
 * Neither end of the uplink resolves the other by ARP: both have the neighbour as a permanent entry. */
#define _GNU_SOURCE
#include "net.h"
#include "router.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include "host.h"

#ifndef SIOCGSKNS
#define SIOCGSKNS 0x894C
#endif
#ifndef IN6_ADDR_GEN_MODE_NONE
#define IN6_ADDR_GEN_MODE_NONE 1
#endif

struct router router = {.ns = -1, .rtnl = {.fd = -1}};

void mac_of(struct in_addr address, uint8_t mac[MAC_SIZE])
{
	mac[0] = 0x02;
	mac[1] = 0x42;
	memcpy(mac + 2, &address.s_addr, 4);
}

unsigned router_next_index(void)
{
	static unsigned last = INDEX_FIRST_PORT - 1;
	return ++last;
}

int net_sysctl(const char *name, const char *value)
{
	char path[128];
	snprintf(path, sizeof(path), "/proc/sys/net/%s", name);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t written = write(fd, value, strlen(value));
	int error = errno;
	close(fd);
	errno = error;
	return written < 0 ? -1 : 0;
}

static void put_link_up(struct batch *b, unsigned index)
{
	struct ifinfomsg up = {.ifi_index = (int)index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	message_begin(b, RTM_NEWLINK, NLM_F_ACK, &up, sizeof(up));
}

static void put_address(struct batch *b, unsigned index, struct in_addr address, uint8_t bits)
{
	struct ifaddrmsg header = {.ifa_family = AF_INET, .ifa_prefixlen = bits, .ifa_index = index};
	message_begin(b, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &header, sizeof(header));
	put(b, IFA_LOCAL, &address, sizeof(address));
	put(b, IFA_ADDRESS, &address, sizeof(address));
}

static void put_neighbour(struct batch *b, unsigned index, struct in_addr address, const uint8_t mac[MAC_SIZE])
{
	struct ndmsg header = {.ndm_family = AF_INET, .ndm_ifindex = (int)index, .ndm_state = NUD_PERMANENT};
	message_begin(b, RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, &header, sizeof(header));
	put(b, NDA_DST, &address, sizeof(address));
	put(b, NDA_LLADDR, mac, MAC_SIZE);
}

/* No IPv6 link-local address, hence no duplicate address detection and no router solicitations. */
static void put_without_ipv6(struct batch *b, int index)
{
	struct ifinfomsg link = {.ifi_index = index};
	message_begin(b, RTM_SETLINK, NLM_F_ACK, &link, sizeof(link));
	size_t families = nest_begin(b, IFLA_AF_SPEC);
	size_t inet6 = nest_begin(b, AF_INET6);
	put_u8(b, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	nest_end(b, inet6);
	nest_end(b, families);
}

/* Before any link is made, for devices take over what "default" says then. */
static int set_sysctls(struct fault *f)
{
	/* A new namespace starts with a copy of the host's values; these are the ones that matter here. rp_filter: the highest of "all" and the device's own counts, and egress needs 0. */
	if (net_sysctl("ipv4/ip_forward", "1") < 0)
		return fault(f, "network", "ip_forward", errno, "/proc/sys/net of the session must be writable");
	static const char *const settings[][2] = {
		{"ipv4/conf/all/rp_filter", "0"}, {"ipv4/conf/default/rp_filter", "0"},
		{"ipv4/conf/all/arp_ignore", "0"}, {"ipv4/conf/default/arp_ignore", "0"},
		{"ipv4/conf/all/send_redirects", "0"}, {"ipv4/conf/default/send_redirects", "0"},
		{"ipv6/conf/default/disable_ipv6", "1"},
		/* The relays open many short connections to few addresses: let their ports be used again after a second. */
		{"ipv4/tcp_tw_reuse", "1"}, {"ipv4/ip_local_port_range", "1024 65535"},
		/* A closed socket with bytes for a container that is gone keeps this namespace, and the host's uplink, alive. On
		 * these links nothing gets lost, so few retransmissions (about a second) are enough. */
		{"ipv4/tcp_orphan_retries", "2"},
		/* Where br_netfilter is loaded, bridged frames would pass the egress rules. */
		{"bridge/bridge-nf-call-iptables", "0"}, {"bridge/bridge-nf-call-arptables", "0"},
	};
	for (size_t i = 0; i < sizeof(settings) / sizeof(*settings); i++)
		net_sysctl(settings[i][0], settings[i][1]);
	return 0;
}

static void keep_index(const struct nlmsghdr *message, void *context)
{
	if (message->nlmsg_type == RTM_NEWLINK)
		*(int *)context = ((const struct ifinfomsg *)NLMSG_DATA(message))->ifi_index;
}

static int index_of(struct netlink *nl, const char *name)
{
	struct batch b;
	int index = 0;
	batch_clear(&b);
	struct ifinfomsg which = {.ifi_family = AF_UNSPEC};
	message_begin(&b, RTM_GETLINK, 0, &which, sizeof(which));
	put_string(&b, IFLA_IFNAME, name);
	if (netlink_ask(nl, &b, keep_index, &index) < 0)
		return -1;
	return index;
}

/* Makes the pair of links: the host's end without IPv6, ours in the router, both up. Returns the host's end's index. */
static int make_uplink(struct netlink *host, int hostns, const uint8_t host_mac[MAC_SIZE], const uint8_t our_mac[MAC_SIZE],
	char name[IFNAMSIZ])
{
	for (int attempt = 0; attempt < 8; attempt++) {
		uint32_t unique;
		if (getrandom(&unique, sizeof(unique), 0) != sizeof(unique))
			return -1;
		snprintf(name, IFNAMSIZ, "mf-%08x", unique);
		struct batch b;
		batch_clear(&b);
		/* From our side: the kernel heeds an index for the peer only if it gets one for both. */
		struct ifinfomsg link = {.ifi_index = INDEX_UPLINK}, peer = {0};
		message_begin(&b, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &link, sizeof(link));
		put_string(&b, IFLA_IFNAME, "uplink");
		put(&b, IFLA_ADDRESS, our_mac, MAC_SIZE);
		struct veth veth = veth_begin(&b, &peer);
		put_string(&b, IFLA_IFNAME, name);
		put(&b, IFLA_ADDRESS, host_mac, MAC_SIZE);
		put_u32(&b, IFLA_NET_NS_FD, (uint32_t)hostns);
		veth_end(&b, veth);
		if (netlink_send(&router.rtnl, &b) == 0) {
			int index = index_of(host, name);
			put_without_ipv6(&b, index);
			netlink_send(host, &b);    /* may fail where there is no IPv6 */
			put_link_up(&b, (unsigned)index);
			if (netlink_send(host, &b) < 0)
				return -1;
			put_link_up(&b, INDEX_UPLINK);
			return netlink_send(&router.rtnl, &b) < 0 ? -1 : index;
		}
		if (errno != EEXIST)
			return -1;
	}
	return -1;
}

static struct in_addr gateway_of(uint32_t network)
{
	return (struct in_addr){htonl(network + 1)};
}

static struct in_addr host_end_of(uint32_t network)
{
	return (struct in_addr){htonl(network + SUBNET_SIZE - 2)};
}

/* Adds the host's route to a subnet, or takes it back. */
static int route_by_uplink(struct netlink *host, int index, uint32_t first, unsigned bits, struct in_addr gateway, struct in_addr end,
	bool add)
{
	struct in_addr subnet = {htonl(first)};
	struct batch b;
	struct rtmsg route = {
		.rtm_family = AF_INET, .rtm_dst_len = (unsigned char)bits, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_STATIC,
		.rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST, .rtm_flags = RTNH_F_ONLINK,
	};
	batch_clear(&b);
	message_begin(&b, add ? RTM_NEWROUTE : RTM_DELROUTE, NLM_F_ACK | (add ? NLM_F_CREATE | NLM_F_EXCL : 0), &route, sizeof(route));
	put(&b, RTA_DST, &subnet, sizeof(subnet));
	put(&b, RTA_GATEWAY, &gateway, sizeof(gateway));
	put(&b, RTA_PREFSRC, &end, sizeof(end));
	put_u32(&b, RTA_OIF, (uint32_t)index);
	return netlink_send(host, &b);
}

static int route_of(uint32_t first, unsigned bits, bool add)
{
	struct netlink host = {.fd = host_socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)};
	if (host.fd < 0)
		return -1;
	int done = route_by_uplink(&host, router.host_link, first, bits, router.gateway, router.host, add);
	int error = errno;
	netlink_close(&host);
	errno = error;
	return done;
}

int router_claim(uint32_t first, unsigned bits)
{
	return route_of(first, bits, true);
}

void router_unclaim(uint32_t first, unsigned bits)
{
	route_of(first, bits, false);
}

/* Gives the host's end its address and the route to the subnet; EEXIST if another session has that route. */
static int claim(struct netlink *host, int index, uint32_t network, const uint8_t our_mac[MAC_SIZE])
{
	struct in_addr gateway = gateway_of(network), end = host_end_of(network);
	struct batch b;
	batch_clear(&b);
	put_address(&b, (unsigned)index, end, 32);
	put_neighbour(&b, (unsigned)index, gateway, our_mac);
	if (netlink_send(host, &b) < 0)
		return -1;
	if (route_by_uplink(host, index, network, SUBNET_BITS, gateway, end, true) == 0)
		return 0;
	int error = errno;
	batch_clear(&b);
	struct ifaddrmsg header = {.ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_index = (unsigned)index};
	message_begin(&b, RTM_DELADDR, NLM_F_ACK, &header, sizeof(header));
	put(&b, IFA_LOCAL, &end, sizeof(end));
	netlink_send(host, &b);
	errno = error;
	return -1;
}

/* ---- the uplink's IPv6, once there is a network that has it ---- */

static void put_v6_address(struct batch *b, unsigned index, const struct in6_addr *address)
{
	struct ifaddrmsg header = {.ifa_family = AF_INET6, .ifa_prefixlen = 128, .ifa_index = index, .ifa_flags = IFA_F_NODAD};
	message_begin(b, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &header, sizeof(header));
	put(b, IFA_LOCAL, address, sizeof(*address));
	put(b, IFA_ADDRESS, address, sizeof(*address));
}

static void put_v6_neighbour(struct batch *b, unsigned index, const struct in6_addr *address, const uint8_t mac[MAC_SIZE])
{
	struct ndmsg header = {.ndm_family = AF_INET6, .ndm_ifindex = (int)index, .ndm_state = NUD_PERMANENT};
	message_begin(b, RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, &header, sizeof(header));
	put(b, NDA_DST, address, sizeof(*address));
	put(b, NDA_LLADDR, mac, MAC_SIZE);
}

/* Our end, as the host knows it: it is no address of ours, packets for it are for what is behind us. */
static struct in6_addr uplink_v6(void)
{
	struct in6_addr ours = router.host_v6;
	ours.s6_addr[15]++;
	return ours;
}

/* In the host's namespace, through a socket of it. */
static int ask_host(struct batch *b)
{
	struct netlink host = {.fd = host_socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)};
	int done = host.fd < 0 ? -1 : netlink_send(&host, b), error = errno;
	netlink_close(&host);
	errno = error;
	return done;
}

int router_open_v6(const struct in6_addr *site)
{
	struct batch b;
	struct in6_addr nobody = {0};
	if (!router.host.s_addr)
		return -1;
	if (!IN6_IS_ADDR_UNSPECIFIED(&router.host_v6))
		return 0;
	router.host_v6 = *site;
	router.host_v6.s6_addr[15] = 1;
	struct in6_addr ours = uplink_v6();
	batch_clear(&b);
	put_v6_address(&b, (unsigned)router.host_link, &router.host_v6);
	put_v6_neighbour(&b, (unsigned)router.host_link, &ours, router.uplink_mac);
	struct rtmsg route = {
		.rtm_family = AF_INET6, .rtm_dst_len = 128, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_STATIC, .rtm_type = RTN_UNICAST,
	};
	/* Refused where the host has IPv6 switched off: then it has no route to the containers' IPv6 addresses. */
	if (ask_host(&b) == 0 && link_without_advertisements("uplink") == 0) {
		put_v6_neighbour(&b, INDEX_UPLINK, &router.host_v6, router.host_mac);
		message_begin(&b, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &route, sizeof(route));
		put(&b, RTA_DST, &router.host_v6, sizeof(router.host_v6));
		put_u32(&b, RTA_OIF, INDEX_UPLINK);
		v6_put_source(&b, "uplink", &router.host_v6, 128, true);
		if (netlink_send(&router.rtnl, &b) == 0)
			return 0;
	}
	router.host_v6 = nobody;
	return -1;
}

static int route_v6(const struct subnet_v6 *subnet, bool add)
{
	struct batch b;
	struct in6_addr ours = uplink_v6();
	struct rtmsg route = {
		.rtm_family = AF_INET6, .rtm_dst_len = (unsigned char)subnet->bits, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_STATIC,
		.rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST, .rtm_flags = RTNH_F_ONLINK,
	};
	batch_clear(&b);
	message_begin(&b, add ? RTM_NEWROUTE : RTM_DELROUTE, NLM_F_ACK | (add ? NLM_F_CREATE | NLM_F_EXCL : 0), &route, sizeof(route));
	put(&b, RTA_DST, &subnet->first, sizeof(subnet->first));
	put(&b, RTA_GATEWAY, &ours, sizeof(ours));
	put(&b, RTA_PREFSRC, &router.host_v6, sizeof(router.host_v6));
	put_u32(&b, RTA_OIF, (uint32_t)router.host_link);
	return ask_host(&b);
}

int router_claim_v6(const struct subnet_v6 *subnet)
{
	return route_v6(subnet, true);
}

void router_unclaim_v6(const struct subnet_v6 *subnet)
{
	route_v6(subnet, false);
}

static int open_in(int ns, struct netlink *nl)
{
	if (setns(ns, CLONE_NEWNET) < 0)
		return -1;
	int opened = netlink_open(nl, NETLINK_ROUTE);
	int error = errno;
	if (setns(router.ns, CLONE_NEWNET) < 0)
		return -1;
	errno = error;
	return opened;
}

static void remove_link(struct netlink *nl, int index)
{
	struct batch b;
	batch_clear(&b);
	struct ifinfomsg link = {.ifi_index = index};
	message_begin(&b, RTM_DELLINK, NLM_F_ACK, &link, sizeof(link));
	netlink_send(nl, &b);
}

/* Picks the subnet. As root also makes the uplink and claims the subnet with it; where that cannot be done, why is filled
 * and the session goes on with published ports only. */
static int settle(bool rooted, int hostns, uint32_t *subnet, char *why, size_t why_size)
{
	subnets_look();
	uint8_t *host_mac = router.host_mac, *our_mac = router.uplink_mac;
	struct netlink host = {.fd = -1};
	char name[IFNAMSIZ] = "";
	int index = -1;
	uint32_t start = 0;
	if (getrandom(&start, sizeof(start), 0) < 0 || getrandom(host_mac, MAC_SIZE, 0) < 0 ||
		getrandom(our_mac, MAC_SIZE, 0) < 0)
		return -1;
	host_mac[0] = our_mac[0] = 0x02;
	if (rooted) {
		if (open_in(hostns, &host) < 0 || (index = make_uplink(&host, hostns, host_mac, our_mac, name)) <= 0)
			snprintf(why, why_size, "The host has no route to the containers: cannot make the uplink (%s)", strerror(errno));
	}
	int error = EADDRINUSE;
	bool found = false;
	unsigned candidates = subnet_candidates(SUBNET_BITS);
	for (unsigned i = 0; i < candidates && !found; i++) {
		uint32_t network = subnet_candidate(start % candidates + i, SUBNET_BITS);
		if (!subnet_is_free(network, SUBNET_BITS))
			continue;
		if (index > 0 && claim(&host, index, network, our_mac) < 0) {
			error = errno;
			if (error == EEXIST)
				continue;
			snprintf(why, why_size, "The host has no route to the containers: %s refused (%s)", name, strerror(error));
			remove_link(&host, index);
			index = -1;
		}
		*subnet = network;
		found = true;
	}
	if (found && index > 0) {
		struct batch b;
		router.host = host_end_of(*subnet);
		router.host_link = index;
		batch_clear(&b);
		put_neighbour(&b, INDEX_UPLINK, router.host, host_mac);
		struct rtmsg route = {
			.rtm_family = AF_INET, .rtm_dst_len = 32, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_STATIC,
			.rtm_scope = RT_SCOPE_LINK, .rtm_type = RTN_UNICAST,
		};
		message_begin(&b, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &route, sizeof(route));
		put(&b, RTA_DST, &router.host, sizeof(router.host));
		put_u32(&b, RTA_OIF, INDEX_UPLINK);
		if (netlink_send(&router.rtnl, &b) < 0) {
			snprintf(why, why_size, "The host has no route to the containers: uplink (%s)", strerror(errno));
			router.host.s_addr = 0;
		}
		/* Nobody but the host itself: it may forward what others send to the containers. */
		net_sysctl("ipv4/conf/uplink/rp_filter", "1");
	}
	netlink_close(&host);
	errno = error;
	return found ? 0 : -1;
}

int router_hold(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	/* Not /proc/self/ns/net: some sandboxes hide it. */
	router.ns = ioctl(fd, SIOCGSKNS);
	int error = errno;
	close(fd);
	errno = error;
	return router.ns < 0 ? -1 : 0;
}

int net_open(bool rooted, int hostns, const char *resolvers, struct net_facts *facts, struct fault *f)
{
	memset(facts, 0, sizeof(*facts));
	if (netlink_open(&router.rtnl, NETLINK_ROUTE) < 0)
		return fault(f, "network", "rtnetlink", errno, NULL);
	if (router_hold() < 0) {
		fault(f, "network", "namespace", errno, "cannot hold the router's network namespace");
		goto failed;
	}
	char why_host[160] = "", why_egress[160] = "";
	if (set_sysctls(f) < 0)
		goto failed;
	uint32_t subnet = 0;
	if (settle(rooted, hostns, &subnet, why_host, sizeof(why_host)) < 0) {
		fault(f, "network", "subnet", errno, "every candidate overlaps a route of the host");
		goto failed;
	}
	router.gateway = gateway_of(subnet);
	dns_open(resolvers);
	if (networks_open(subnet, f) < 0 || pool_open(f) < 0)
		goto failed;
	facts->egress = egress_open(why_egress, sizeof(why_egress));
	facts->host_reachable = router.host.s_addr != 0;
	network_subnet(router.networks, facts->subnet);
	inet_ntop(AF_INET, &router.gateway, facts->gateway, sizeof(facts->gateway));
	snprintf(facts->warning, sizeof(facts->warning), "%.120s%s%.120s", why_host, *why_host && *why_egress ? "; " : "", why_egress);
	return 0;
failed:;
	int error = errno;
	net_close();
	errno = error;
	return -1;
}

void net_close(void)
{
	egress_close();
	dns_close();
	names_clear();
	pool_close();
	networks_close();
	discard_close();
	host_access_close();
	impair_close();
	v6_close();
	netlink_close(&router.rtnl);
	if (router.ns >= 0)
		close(router.ns);
	router.ns = -1;
	router.host.s_addr = 0;
	memset(&router.host_v6, 0, sizeof(router.host_v6));
}
