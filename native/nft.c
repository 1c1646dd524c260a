/* The router's nftables rules, as messages built by hand (nfnetlink), so no program or library is needed:
 *
 *     table ip mayfly {
 *         chain egress {
 *             type filter hook prerouting priority mangle
 *             iif egress   meta l4proto tcp  tcp flags & (syn|ack) == syn  tproxy to 127.0.0.1:<tcp>  meta mark set 1 accept
 *             ip daddr <the host's end of the uplink> accept
 *             iifgroup 1   meta l4proto tcp  tcp flags & (syn|ack) == syn  tcp dport != 53  meta mark set 2 accept
 *             ip daddr <default network> accept
 *             ip daddr 224.0.0.0/3 accept
 *             iifgroup 1   meta l4proto tcp  socket transparent 1   meta mark set 1 accept
 *             iifgroup 1   meta l4proto udp  socket transparent 0   accept
 *             iifgroup 1   meta l4proto udp  tproxy to 127.0.0.1:<udp>  meta mark set 1 accept
 *         }
 *     }
 *
 * Group 1 are the bridges, so nothing here changes with the networks. UDP that finds a plain socket is for a name server. Table ip6 mayfly is
 * made with the first network that has IPv6, and is the same, but for the addresses and that no name server listens there.
 * The encoding is that of `nft --debug=netlink`. The table dies with the namespace. */
#define _GNU_SOURCE
#include "router.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stddef.h>
#include <string.h>

static const char table[] = "mayfly", chain[] = "egress";

static void put_be32(struct batch *b, uint16_t type, uint32_t value)
{
	put_u32(b, type, htonl(value));
}

static void begin(struct batch *b, uint8_t family, uint16_t message, uint16_t flags)
{
	struct nfgenmsg header = {.nfgen_family = family, .version = NFNETLINK_V0};
	message_begin(b, NFNL_SUBSYS_NFTABLES << 8 | message, flags | NLM_F_ACK, &header, sizeof(header));
}

/* Brackets of a transaction: all messages between them take effect, or none. */
static void bracket(struct batch *b, uint16_t type)
{
	struct nfgenmsg header = {.version = NFNETLINK_V0, .res_id = htons(NFNL_SUBSYS_NFTABLES)};
	message_begin(b, type, 0, &header, sizeof(header));
}

struct expression { size_t element, data; };

static struct expression expression_begin(struct batch *b, const char *name)
{
	struct expression e;
	e.element = nest_begin(b, NFTA_LIST_ELEM);
	put_string(b, NFTA_EXPR_NAME, name);
	e.data = nest_begin(b, NFTA_EXPR_DATA);
	return e;
}

static void expression_end(struct batch *b, struct expression e)
{
	nest_end(b, e.data);
	nest_end(b, e.element);
}

static void put_value(struct batch *b, uint16_t type, const void *value, size_t size)
{
	size_t nest = nest_begin(b, type);
	put(b, NFTA_DATA_VALUE, value, size);
	nest_end(b, nest);
}

static void load_meta(struct batch *b, uint32_t key)
{
	struct expression e = expression_begin(b, "meta");
	put_be32(b, NFTA_META_KEY, key);
	put_be32(b, NFTA_META_DREG, NFT_REG_1);
	expression_end(b, e);
}

static void load_payload(struct batch *b, uint32_t base, uint32_t offset, uint32_t size)
{
	struct expression e = expression_begin(b, "payload");
	put_be32(b, NFTA_PAYLOAD_DREG, NFT_REG_1);
	put_be32(b, NFTA_PAYLOAD_BASE, base);
	put_be32(b, NFTA_PAYLOAD_OFFSET, offset);
	put_be32(b, NFTA_PAYLOAD_LEN, size);
	expression_end(b, e);
}

static void mask(struct batch *b, const void *bits, uint32_t size)
{
	static const uint8_t zero[16];
	struct expression e = expression_begin(b, "bitwise");
	put_be32(b, NFTA_BITWISE_SREG, NFT_REG_1);
	put_be32(b, NFTA_BITWISE_DREG, NFT_REG_1);
	put_be32(b, NFTA_BITWISE_LEN, size);
	put_value(b, NFTA_BITWISE_MASK, bits, size);
	put_value(b, NFTA_BITWISE_XOR, zero, size);
	expression_end(b, e);
}

static void compare(struct batch *b, uint32_t operation, const void *value, size_t size)
{
	struct expression e = expression_begin(b, "cmp");
	put_be32(b, NFTA_CMP_SREG, NFT_REG_1);
	put_be32(b, NFTA_CMP_OP, operation);
	put_value(b, NFTA_CMP_DATA, value, size);
	expression_end(b, e);
}

static void equals(struct batch *b, const void *value, size_t size)
{
	compare(b, NFT_CMP_EQ, value, size);
}

static void load_immediate(struct batch *b, uint32_t reg, const void *value, size_t size)
{
	struct expression e = expression_begin(b, "immediate");
	put_be32(b, NFTA_IMMEDIATE_DREG, reg);
	put_value(b, NFTA_IMMEDIATE_DATA, value, size);
	expression_end(b, e);
}

static void accept_packet(struct batch *b)
{
	struct expression e = expression_begin(b, "immediate");
	put_be32(b, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
	size_t data = nest_begin(b, NFTA_IMMEDIATE_DATA);
	size_t verdict = nest_begin(b, NFTA_DATA_VERDICT);
	put_be32(b, NFTA_VERDICT_CODE, NF_ACCEPT);
	nest_end(b, verdict);
	nest_end(b, data);
	expression_end(b, e);
}

/* The mark is in host byte order, as skb->mark. */
static void mark_and_accept(struct batch *b, uint32_t value)
{
	load_immediate(b, NFT_REG_1, &value, sizeof(value));
	struct expression e = expression_begin(b, "meta");
	put_be32(b, NFTA_META_KEY, NFT_META_MARK);
	put_be32(b, NFTA_META_SREG, NFT_REG_1);
	expression_end(b, e);
	accept_packet(b);
}

/* key: NFT_META_IIF or NFT_META_IIFGROUP */
static void comes_from(struct batch *b, uint32_t key, uint32_t value, uint8_t protocol)
{
	load_meta(b, key);
	equals(b, &value, sizeof(value));
	load_meta(b, NFT_META_L4PROTO);
	equals(b, &protocol, sizeof(protocol));
}

static void is_destined(struct batch *b, uint32_t network, uint32_t netmask)
{
	uint32_t first = htonl(network), bits = htonl(netmask);
	load_payload(b, NFT_PAYLOAD_NETWORK_HEADER, 16, 4);
	mask(b, &bits, sizeof(bits));
	equals(b, &first, sizeof(first));
}

static void is_destined_v6(struct batch *b, const struct in6_addr *first, const struct in6_addr *bits)
{
	load_payload(b, NFT_PAYLOAD_NETWORK_HEADER, 24, 16);
	mask(b, bits, sizeof(*bits));
	equals(b, first, sizeof(*first));
}

static void has_socket(struct batch *b, uint8_t is_transparent)
{
	struct expression e = expression_begin(b, "socket");
	put_be32(b, NFTA_SOCKET_KEY, NFT_SOCKET_TRANSPARENT);
	put_be32(b, NFTA_SOCKET_DREG, NFT_REG_1);
	expression_end(b, e);
	equals(b, &is_transparent, sizeof(is_transparent));
}

static void is_first_segment(struct batch *b)
{
	uint8_t syn_or_ack = 0x12, syn = 0x02;
	load_payload(b, NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1);
	mask(b, &syn_or_ack, sizeof(syn_or_ack));
	equals(b, &syn, sizeof(syn));
}

static void is_no_query(struct batch *b)
{
	uint16_t port = htons(53);
	load_payload(b, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2);
	compare(b, NFT_CMP_NEQ, &port, sizeof(port));
}

static void redirect(struct batch *b, uint8_t family, uint16_t port)
{
	uint32_t loopback = htonl(INADDR_LOOPBACK);
	uint16_t number = htons(port);
	if (family == NFPROTO_IPV6)
		load_immediate(b, NFT_REG_1, &in6addr_loopback, sizeof(in6addr_loopback));
	else
		load_immediate(b, NFT_REG_1, &loopback, sizeof(loopback));
	load_immediate(b, NFT_REG_2, &number, sizeof(number));
	struct expression e = expression_begin(b, "tproxy");
	put_be32(b, NFTA_TPROXY_FAMILY, family);
	put_be32(b, NFTA_TPROXY_REG_ADDR, NFT_REG_1);
	put_be32(b, NFTA_TPROXY_REG_PORT, NFT_REG_2);
	expression_end(b, e);
}

static size_t rule_begin(struct batch *b, uint8_t family)
{
	begin(b, family, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
	put_string(b, NFTA_RULE_TABLE, table);
	put_string(b, NFTA_RULE_CHAIN, chain);
	return nest_begin(b, NFTA_RULE_EXPRESSIONS);
}

static void put_chain(struct batch *b, uint8_t family)
{
	begin(b, family, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL);
	put_string(b, NFTA_TABLE_NAME, table);
	begin(b, family, NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL);
	put_string(b, NFTA_CHAIN_TABLE, table);
	put_string(b, NFTA_CHAIN_NAME, chain);
	put_string(b, NFTA_CHAIN_TYPE, "filter");
	size_t hook = nest_begin(b, NFTA_CHAIN_HOOK);
	put_be32(b, NFTA_HOOK_HOOKNUM, NF_INET_PRE_ROUTING);
	put_be32(b, NFTA_HOOK_PRIORITY, (uint32_t)-150);    /* mangle: where tproxy belongs */
	nest_end(b, hook);
	put_be32(b, NFTA_CHAIN_POLICY, NF_ACCEPT);
}

static void put_exception(struct batch *b, uint32_t network, uint32_t netmask)
{
	size_t rule = rule_begin(b, NFPROTO_IPV4);
	is_destined(b, network, netmask);
	accept_packet(b);
	nest_end(b, rule);
}

static void put_exception_v6(struct batch *b, const struct in6_addr *first, const struct in6_addr *netmask)
{
	size_t rule = rule_begin(b, NFPROTO_IPV6);
	is_destined_v6(b, first, netmask);
	accept_packet(b);
	nest_end(b, rule);
}

/* What was put back: to our listener. */
static void put_returned(struct batch *b, uint8_t family, uint16_t tcp_port)
{
	size_t rule = rule_begin(b, family);
	comes_from(b, NFT_META_IIF, INDEX_EGRESS, IPPROTO_TCP);
	is_first_segment(b);
	redirect(b, family, tcp_port);
	mark_and_accept(b, EGRESS_MARK);
	nest_end(b, rule);
}

/* The rest of TCP that is ours. */
static void put_segments(struct batch *b, uint8_t family)
{
	size_t rule = rule_begin(b, family);
	comes_from(b, NFT_META_IIFGROUP, BRIDGES, IPPROTO_TCP);
	has_socket(b, 1);
	mark_and_accept(b, EGRESS_MARK);
	nest_end(b, rule);
}

static void put_datagrams(struct batch *b, uint8_t family, uint16_t udp_port)
{
	size_t rule = rule_begin(b, family);
	comes_from(b, NFT_META_IIFGROUP, BRIDGES, IPPROTO_UDP);
	redirect(b, family, udp_port);
	mark_and_accept(b, EGRESS_MARK);
	nest_end(b, rule);
}

static int commit(struct batch *b)
{
	struct netlink nl;
	bracket(b, NFNL_MSG_BATCH_END);
	if (netlink_open(&nl, NETLINK_NETFILTER) < 0)
		return -1;
	int sent = netlink_send(&nl, b);
	int error = errno;
	netlink_close(&nl);
	errno = error;
	return sent;
}

int nft_open(uint16_t tcp_port, uint16_t udp_port)
{
	struct batch b;
	batch_clear(&b);
	bracket(&b, NFNL_MSG_BATCH_BEGIN);
	put_chain(&b, NFPROTO_IPV4);
	put_returned(&b, NFPROTO_IPV4, tcp_port);

	if (router.host.s_addr)
		put_exception(&b, ntohl(router.host.s_addr), UINT32_MAX);
	size_t rule = rule_begin(&b, NFPROTO_IPV4);
	comes_from(&b, NFT_META_IIFGROUP, BRIDGES, IPPROTO_TCP);
	is_first_segment(&b);
	is_no_query(&b);
	mark_and_accept(&b, FIRST_MARK);
	nest_end(&b, rule);

	put_exception(&b, router.networks->first, UINT32_MAX << (32 - router.networks->bits));
	put_exception(&b, 0xe0000000, 0xe0000000);
	put_segments(&b, NFPROTO_IPV4);

	rule = rule_begin(&b, NFPROTO_IPV4);
	comes_from(&b, NFT_META_IIFGROUP, BRIDGES, IPPROTO_UDP);
	has_socket(&b, 0);
	accept_packet(&b);
	nest_end(&b, rule);

	put_datagrams(&b, NFPROTO_IPV4, udp_port);
	return commit(&b);
}

int nft_open_v6(uint16_t tcp_port, uint16_t udp_port)
{
	static const struct in6_addr all = {.s6_addr = {[0 ... 15] = 0xff}}, groups = {.s6_addr = {0xff}},
		links = {.s6_addr = {0xfe, 0x80}}, link_bits = {.s6_addr = {0xff, 0xc0}};
	struct batch b;
	batch_clear(&b);
	bracket(&b, NFNL_MSG_BATCH_BEGIN);
	put_chain(&b, NFPROTO_IPV6);
	put_returned(&b, NFPROTO_IPV6, tcp_port);
	if (!IN6_IS_ADDR_UNSPECIFIED(&router.host_v6))
		put_exception_v6(&b, &router.host_v6, &all);
	put_exception_v6(&b, &groups, &groups);
	put_exception_v6(&b, &links, &link_bits);

	size_t rule = rule_begin(&b, NFPROTO_IPV6);
	comes_from(&b, NFT_META_IIFGROUP, BRIDGES, IPPROTO_TCP);
	is_first_segment(&b);
	mark_and_accept(&b, FIRST_MARK);
	nest_end(&b, rule);
	put_segments(&b, NFPROTO_IPV6);
	put_datagrams(&b, NFPROTO_IPV6, udp_port);
	return commit(&b);
}
