/* The pair of links through which first segments leave the router, and the routes that lead them there. See egress.c. */
#define _GNU_SOURCE
#include "egress_internal.h"

#include <linux/fib_rules.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/random.h>
#include "router.h"

enum {
	TABLE = 100,                 /* routes everything to this namespace, for packets with EGRESS_MARK */
	FIRST_TABLE = 101,           /* routes everything into `egress`, for packets with FIRST_MARK */
	PRIORITY_FIRST = 1, PRIORITY_FIRST_V6 = 4, PRIORITY_MARKED = 10,
};

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
int egress_make_links(uint8_t mac[])
{
	uint8_t tap_mac[MAC_SIZE];
	if (getrandom(mac, MAC_SIZE, 0) != MAC_SIZE || getrandom(tap_mac, MAC_SIZE, 0) != MAC_SIZE)
		return -1;
	mac[0] = tap_mac[0] = 0x02;
	struct batch b;
	batch_clear(&b);
	/* Without ARP the kernel addresses its packets to `egress` itself, so `tap` takes none of them for its own. */
	struct ifinfomsg link = {
		.ifi_index = INDEX_EGRESS, .ifi_flags = IFF_UP | IFF_NOARP, .ifi_change = IFF_UP | IFF_NOARP};
	message_begin(&b, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &link, sizeof(link));
	put_string(&b, IFLA_IFNAME, "egress");
	put(&b, IFLA_ADDRESS, mac, MAC_SIZE);
	struct ifinfomsg peer = {.ifi_index = INDEX_TAP, .ifi_flags = IFF_NOARP, .ifi_change = IFF_NOARP};
	struct veth veth = veth_begin(&b, &peer);
	put_string(&b, IFLA_IFNAME, "tap");
	put(&b, IFLA_ADDRESS, tap_mac, MAC_SIZE);
	veth_end(&b, veth);

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

/* As the above, upon the same links. */
int egress_make_routes_v6(void)
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
