/* Probes: links, packet filter and sockets, each in a network namespace of its own. */
#define _GNU_SOURCE
#include "probe.h"
#include "netlink.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <linux/if_link.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int try_link(const char *kind, struct probe_report *r)
{
	struct netlink nl;
	struct batch batch;
	if (probe_enter(CLONE_NEWNET, &r->fault) < 0)
		return -1;
	if (netlink_open(&nl, NETLINK_ROUTE) < 0)
		return fault(&r->fault, "socket", "netlink route", errno, NULL);
	struct ifinfomsg link = {.ifi_family = AF_UNSPEC};
	batch_clear(&batch);
	message_begin(&batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, &link, sizeof(link));
	put_string(&batch, IFLA_IFNAME, "probe0");
	if (strcmp(kind, "veth") == 0) {
		struct veth veth = veth_begin(&batch, &link);
		put_string(&batch, IFLA_IFNAME, "probe1");
		veth_end(&batch, veth);
	} else {
		size_t information = nest_begin(&batch, IFLA_LINKINFO);
		put_string(&batch, IFLA_INFO_KIND, kind);
		nest_end(&batch, information);
	}
	int sent = netlink_send(&nl, &batch);
	int error = errno;
	netlink_close(&nl);
	return sent < 0 ? fault(&r->fault, "link", kind, error, NULL) : 0;
}

static int veth(struct probe_report *r) { return try_link("veth", r); }
static int bridge(struct probe_report *r) { return try_link("bridge", r); }

static void nft_message(struct batch *batch, uint16_t type, uint16_t flags)
{
	struct nfgenmsg header = {.nfgen_family = NFPROTO_IPV4, .version = NFNETLINK_V0};
	message_begin(batch, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags, &header, sizeof(header));
}

static void nft_bracket(struct batch *batch, uint16_t type)
{
	struct nfgenmsg header = {.version = NFNETLINK_V0, .res_id = htons(NFNL_SUBSYS_NFTABLES)};
	message_begin(batch, type, 0, &header, sizeof(header));
}

static void put_be32(struct batch *batch, uint16_t type, uint32_t value)
{
	put_u32(batch, type, htonl(value));
}

/* An expression of a rule, and how its attributes are written. */
struct expression {
	const char *name;
	void (*put_data)(struct batch *);
};

static void tproxy_data(struct batch *batch)
{
	put_be32(batch, NFTA_TPROXY_FAMILY, NFPROTO_IPV4);
	put_be32(batch, NFTA_TPROXY_REG_PORT, NFT_REG_1);
}

static void socket_data(struct batch *batch)
{
	put_be32(batch, NFTA_SOCKET_KEY, NFT_SOCKET_TRANSPARENT);
	put_be32(batch, NFTA_SOCKET_DREG, NFT_REG_1);
}

/* tproxy takes the port from a register, so that must have been loaded. */
static void put_port(struct batch *batch)
{
	size_t element = nest_begin(batch, NFTA_LIST_ELEM);
	put_string(batch, NFTA_EXPR_NAME, "immediate");
	size_t data = nest_begin(batch, NFTA_EXPR_DATA);
	put_be32(batch, NFTA_IMMEDIATE_DREG, NFT_REG_1);
	size_t value = nest_begin(batch, NFTA_IMMEDIATE_DATA);
	put_u16(batch, NFTA_DATA_VALUE, htons(53));
	nest_end(batch, value);
	nest_end(batch, data);
	nest_end(batch, element);
}

/* One table, one chain, one rule: all or nothing. */
static int try_nft(const struct expression *expression, struct probe_report *r)
{
	struct netlink nl;
	struct batch batch;
	if (probe_enter(CLONE_NEWNET, &r->fault) < 0)
		return -1;
	if (netlink_open(&nl, NETLINK_NETFILTER) < 0)
		return fault(&r->fault, "socket", "netlink netfilter", errno, NULL);
	batch_clear(&batch);
	nft_bracket(&batch, NFNL_MSG_BATCH_BEGIN);
	nft_message(&batch, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_ACK);
	put_string(&batch, NFTA_TABLE_NAME, "probe");
	nft_message(&batch, NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_ACK);
	put_string(&batch, NFTA_CHAIN_TABLE, "probe");
	put_string(&batch, NFTA_CHAIN_NAME, "chain");
	size_t hook = nest_begin(&batch, NFTA_CHAIN_HOOK);
	put_be32(&batch, NFTA_HOOK_HOOKNUM, NF_INET_PRE_ROUTING);
	put_be32(&batch, NFTA_HOOK_PRIORITY, 0);
	nest_end(&batch, hook);
	put_string(&batch, NFTA_CHAIN_TYPE, "filter");
	nft_message(&batch, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK);
	put_string(&batch, NFTA_RULE_TABLE, "probe");
	put_string(&batch, NFTA_RULE_CHAIN, "chain");
	size_t list = nest_begin(&batch, NFTA_RULE_EXPRESSIONS);
	if (strcmp(expression->name, "tproxy") == 0)
		put_port(&batch);
	size_t element = nest_begin(&batch, NFTA_LIST_ELEM);
	put_string(&batch, NFTA_EXPR_NAME, expression->name);
	size_t data = nest_begin(&batch, NFTA_EXPR_DATA);
	expression->put_data(&batch);
	nest_end(&batch, data);
	nest_end(&batch, element);
	nest_end(&batch, list);
	nft_bracket(&batch, NFNL_MSG_BATCH_END);
	int sent = netlink_send(&nl, &batch);
	int error = errno;
	netlink_close(&nl);
	return sent < 0 ? fault(&r->fault, "nft", expression->name, error, NULL) : 0;
}

static const struct expression tproxy = {"tproxy", tproxy_data};
static const struct expression socket_match = {"socket", socket_data};

static int nft_tproxy(struct probe_report *r) { return try_nft(&tproxy, r); }
static int nft_socket(struct probe_report *r) { return try_nft(&socket_match, r); }

/* On the host itself: the address that published ports need. */
static int ipv6_loopback(struct probe_report *r)
{
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fault(&r->fault, "socket", "IPv6", errno, NULL);
	struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return fault(&r->fault, "bind", "::1", errno, NULL);
	return 0;
}

const struct probe probes_of_network[] = {
	{"veth", veth},
	{"bridge", bridge},
	{"nft-tproxy", nft_tproxy},
	{"nft-socket", nft_socket},
	{"ipv6-loopback", ipv6_loopback},
	{NULL, NULL},
};
