/* Links of containers to networks: a pair of interfaces, one of them a port of the network's bridge, the other one eth0, eth1…
 * inside the container's namespace, with a hardware address that follows from its IPv4 address as with Docker, and without IPv6 unless the
 * network has it. */
#define _GNU_SOURCE
#include "net.h"
#include "router.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Inside. Those after the first are out of the way of what a container may make itself. */
enum { INDEX_ETH0 = 2, INDEX_FURTHER = 1000 };

int link_index_inside(const struct net_link *link)
{
	return link->number ? INDEX_FURTHER + (int)link->number : INDEX_ETH0;
}

/* Our side up and a port of the bridge, the other one inside the namespace: one message. (A peer that is made up at once meets
 * ENOTCONN: it is opened before it is joined.) One queue instead of
 * one per processor: links have no queue discipline to profit from more, and each costs memory. */
static int make_pair(const struct net_link *l, int ns)
{
	struct batch b;
	char name[IFNAMSIZ];
	uint8_t mac[MAC_SIZE];
	batch_clear(&b);
	snprintf(name, sizeof(name), "port%u", l->port);
	struct ifinfomsg link = {.ifi_index = (int)l->port, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	message_begin(&b, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &link, sizeof(link));
	put_string(&b, IFLA_IFNAME, name);
	put_u32(&b, IFLA_MASTER, l->network->bridge);
	put_u32(&b, IFLA_NUM_TX_QUEUES, 1);
	put_u32(&b, IFLA_NUM_RX_QUEUES, 1);
	struct ifinfomsg peer = {.ifi_index = link_index_inside(l)};
	struct veth veth = veth_begin(&b, &peer);
	snprintf(name, sizeof(name), "eth%u", l->number);
	put_string(&b, IFLA_IFNAME, name);
	mac_of(l->address, mac);
	put(&b, IFLA_ADDRESS, mac, sizeof(mac));
	put_u32(&b, IFLA_NET_NS_FD, (uint32_t)ns);
	put_u32(&b, IFLA_NUM_TX_QUEUES, 1);
	put_u32(&b, IFLA_NUM_RX_QUEUES, 1);
	veth_end(&b, veth);
	return netlink_send(&router.rtnl, &b);
}

/* The router is a permanent neighbour, also for the host's end of the uplink, which the subnet's route makes look like one of
 * the bridge: no ARP before the first packet, and no container can pose as either. */
static void put_router(struct batch *b, const struct net_link *link, struct in_addr address)
{
	uint8_t mac[MAC_SIZE];
	struct ndmsg neighbour = {.ndm_family = AF_INET, .ndm_ifindex = link_index_inside(link), .ndm_state = NUD_PERMANENT};
	mac_of(link->network->gateway, mac);
	message_begin(b, RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, &neighbour, sizeof(neighbour));
	put(b, NDA_DST, &address, sizeof(address));
	put(b, NDA_LLADDR, mac, sizeof(mac));
}

static void put_default_route(struct batch *b, const struct net_link *link)
{
	struct rtmsg route = {
		.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT,
		.rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST,
	};
	message_begin(b, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &route, sizeof(route));
	put(b, RTA_GATEWAY, &link->network->gateway, 4);
	put_u32(b, RTA_OIF, (uint32_t)link_index_inside(link));
}

/* As every interface with IPv6 has, made from its hardware address (RFC 4291, appendix A). */
struct in6_addr link_local(const struct net_link *link)
{
	uint8_t mac[MAC_SIZE];
	mac_of(link->address, mac);
	return (struct in6_addr){.s6_addr = {0xfe, 0x80, [8] = mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]}};
}

/* Nobody else has it: no duplicate address detection, which would keep it from being used for a second. */
static void put_address_v6(struct batch *b, const struct net_link *link, const struct in6_addr *address, unsigned bits, bool add)
{
	struct ifaddrmsg header = {.ifa_family = AF_INET6, .ifa_prefixlen = (uint8_t)bits, .ifa_flags = IFA_F_NODAD,
		.ifa_index = (unsigned)link_index_inside(link)};
	message_begin(b, add ? RTM_NEWADDR : RTM_DELADDR, NLM_F_ACK | (add ? NLM_F_CREATE | NLM_F_EXCL : 0), &header, sizeof(header));
	put(b, IFA_LOCAL, address, sizeof(*address));
	put(b, IFA_ADDRESS, address, sizeof(*address));
}

static void put_default_route_v6(struct batch *b, const struct net_link *link, bool add)
{
	struct rtmsg route = {
		.rtm_family = AF_INET6, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT,
		.rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST,
	};
	message_begin(b, add ? RTM_NEWROUTE : RTM_DELROUTE, NLM_F_ACK | (add ? NLM_F_CREATE | NLM_F_EXCL : 0), &route, sizeof(route));
	put(b, RTA_GATEWAY, &link->network->v6.gateway, sizeof(link->network->v6.gateway));
	put_u32(b, RTA_OIF, (uint32_t)link_index_inside(link));
}

static void put_v6(struct batch *b, const struct net_link *link)
{
	const struct network *n = link->network;
	uint8_t mac[MAC_SIZE];
	struct in6_addr local = link_local(link);
	struct ndmsg neighbour = {.ndm_family = AF_INET6, .ndm_ifindex = link_index_inside(link), .ndm_state = NUD_PERMANENT};
	put_address_v6(b, link, &local, 64, true);
	put_address_v6(b, link, &link->v6, n->v6.bits, true);
	if (link->is_default_v6)
		put_default_route_v6(b, link, true);
	mac_of(n->gateway, mac);
	message_begin(b, RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, &neighbour, sizeof(neighbour));
	put(b, NDA_DST, &n->v6.gateway, sizeof(n->v6.gateway));
	put(b, NDA_LLADDR, mac, sizeof(mac));
}

/* It was born without IPv6, so that it has taken nothing from anybody yet. */
static int switch_on_v6(const struct net_link *link, int ns)
{
	char name[IFNAMSIZ];
	snprintf(name, sizeof(name), "eth%u", link->number);
	if (setns(ns, CLONE_NEWNET) < 0)
		return -1;
	int done = link_without_advertisements(name);
	router_come_back();
	return done < 0 ? -1 : v6_introduce(link);
}

static int configure(const struct net_link *link, struct netlink *inside)
{
	struct batch b;
	const struct network *n = link->network;
	struct in_addr broadcast = {htonl(n->first + (UINT32_MAX >> n->bits))};
	batch_clear(&b);
	struct ifinfomsg up = {.ifi_index = link_index_inside(link), .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	message_begin(&b, RTM_NEWLINK, NLM_F_ACK, &up, sizeof(up));
	struct ifaddrmsg address = {.ifa_family = AF_INET, .ifa_prefixlen = (uint8_t)n->bits, .ifa_index = (unsigned)link_index_inside(link)};
	message_begin(&b, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &address, sizeof(address));
	put(&b, IFA_LOCAL, &link->address, 4);
	put(&b, IFA_ADDRESS, &link->address, 4);
	put(&b, IFA_BROADCAST, &broadcast, 4);
	if (link->is_default)
		put_default_route(&b, link);
	put_router(&b, link, n->gateway);
	if (router.host.s_addr && n == router.networks)
		put_router(&b, link, router.host);
	if (n->v6.bits)
		put_v6(&b, link);
	return netlink_send(inside, &b);
}

static void ignore(const struct nlmsghdr *message, void *context)
{
	(void)message, (void)context;
}

/* The kernel learns in a worker of its own that a link is up, and until then the bridge passes nothing on: a first packet that comes sooner is
 * lost, and the next one comes a second later, or more. Since Linux 6.8 a question about the link has that done at once. */
static void settle_link(unsigned index)
{
	struct batch b;
	struct ifinfomsg which = {.ifi_index = (int)index};
	batch_clear(&b);
	message_begin(&b, RTM_GETLINK, 0, &which, sizeof(which));
	put_u32(&b, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	netlink_ask(&router.rtnl, &b, ignore, NULL);
}

int link_make(struct net_slot *slot, struct network *network, const struct address_wish *wish, struct netlink *inside, struct fault *f)
{
	struct in_addr wanted = wish->v4;
	struct net_link *link = calloc(1, sizeof(*link)), **last = &slot->links;
	bool has_default = false, has_default_v6 = false;
	if (!link)
		return fault(f, "network", network->id, ENOMEM, NULL);
	for (; *last; last = &(*last)->next) {
		has_default = has_default || (*last)->is_default;
		has_default_v6 = has_default_v6 || (*last)->is_default_v6;
	}
	link->number = slot->made++;    /* never twice: the one before may not be gone yet */
	link->network = network;
	link->is_default = !has_default && !network->internal;
	link->is_default_v6 = network->v6.bits && !has_default_v6 && !network->internal;
	link->address = network_address(network, wanted);
	if (!link->address.s_addr) {
		char text[INET_ADDRSTRLEN];
		int error = errno;
		free(link);
		if (!wanted.s_addr)
			return fault(f, "address", network->id, EADDRINUSE, "all addresses of the network are taken");
		return fault(f, "address", inet_ntop(AF_INET, &wanted, text, sizeof(text)), error, error == EADDRINUSE
			? "the address is taken by another container" : "the address is none for a container of this network");
	}
	if (v6_take(network, link, &wish->v6, f) < 0) {
		network_free_address(network, link->address);
		free(link);
		return -1;
	}
	link->port = router_next_index();
	network->links++;
	*last = link;
	if (make_pair(link, slot->ns) == 0) {
		if ((!network->v6.bits || switch_on_v6(link, slot->ns) == 0) && configure(link, inside) == 0 && shaper_make(slot, link, f) == 0) {
			settle_link(link->port);
			if (network->links == 1)    /* the bridge is up with its first port */
				settle_link(network->bridge);
			return 0;
		}
		int error = errno;
		discard(link->port);
		errno = error;
	}
	int error = errno;
	link_forget(slot, link);
	return fault(f, "network", "eth", error, "cannot link a container's network namespace");
}

void link_forget(struct net_slot *slot, struct net_link *link)
{
	for (struct net_link **at = &slot->links; *at; at = &(*at)->next)
		if (*at == link) {
			*at = link->next;
			break;
		}
	shaper_free(link);
	/* The address may be wanted by the next container before the kernel has removed the link. */
	cut_off(link->port);
	v6_give_back(link);
	network_free_address(link->network, link->address);
	link->network->links--;
	free(link);
}

/* Its address goes at once, with the routes that depend on it. */
static int take_address(const struct net_link *link, struct netlink *inside)
{
	struct batch b;
	struct ifaddrmsg address = {
		.ifa_family = AF_INET, .ifa_prefixlen = (uint8_t)link->network->bits, .ifa_index = (unsigned)link_index_inside(link)};
	batch_clear(&b);
	message_begin(&b, RTM_DELADDR, NLM_F_ACK, &address, sizeof(address));
	put(&b, IFA_LOCAL, &link->address, 4);
	if (link->is_default_v6)
		put_default_route_v6(&b, link, false);
	if (link->network->v6.bits)
		put_address_v6(&b, link, &link->v6, link->network->v6.bits, false);
	return netlink_send(inside, &b);
}

/* The first of those that are left leads out from now on. */
static int move_default(struct net_slot *slot, struct netlink *inside, bool v6)
{
	for (struct net_link *link = slot->links; link; link = link->next) {
		struct batch b;
		if (link->network->internal || (v6 && !link->network->v6.bits))
			continue;
		batch_clear(&b);
		if (v6)
			put_default_route_v6(&b, link, true);
		else
			put_default_route(&b, link);
		*(v6 ? &link->is_default_v6 : &link->is_default) = true;
		return netlink_send(inside, &b) < 0 && errno != EEXIST ? -1 : 0;
	}
	return 0;
}

int link_remove(struct net_slot *slot, struct net_link *link, struct netlink *inside)
{
	bool was_default = link->is_default, was_default_v6 = link->is_default_v6;
	take_address(link, inside);    /* fails when the container has done so itself */
	discard(link->port);
	link_forget(slot, link);
	if (was_default && move_default(slot, inside, false) < 0)
		return -1;
	return was_default_v6 ? move_default(slot, inside, true) : 0;
}
