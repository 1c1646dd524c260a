/* Where the networks' subnets come from: pieces of three ranges that overlap no route of the host and no network of ours. */
#define _GNU_SOURCE
#include "router.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include "host.h"
#include "ip.h"

/* Seldom used at homes, in offices, by Docker's defaults or by clouds. */
static const struct { uint32_t first; unsigned bits; } ranges[] = {
	{0x0a530000, 16},    /* 10.83.0.0/16 */
	{0xac1d0000, 16},    /* 172.29.0.0/16 */
	{0xc6120000, 15},    /* 198.18.0.0/15, set aside for benchmarks */
};
enum { RANGES = sizeof(ranges) / sizeof(*ranges), MAX_ROUTES = 4096 };

static struct { struct { uint32_t first, last; } list[MAX_ROUTES]; unsigned count; } routes;    /* of the host */

unsigned subnet_candidates(unsigned bits)
{
	unsigned count = 0;
	for (unsigned i = 0; i < RANGES; i++)
		count += 1u << (bits - ranges[i].bits);
	return count;
}

uint32_t subnet_candidate(unsigned number, unsigned bits)
{
	number %= subnet_candidates(bits);
	for (unsigned i = 0; i < RANGES; i++) {
		unsigned pieces = 1u << (bits - ranges[i].bits);
		if (number < pieces)
			return ranges[i].first + (number << (32 - bits));
		number -= pieces;
	}
	return ranges[0].first;
}

static void remember_route(const struct nlmsghdr *message, void *context)
{
	(void)context;
	const struct rtmsg *route = NLMSG_DATA(message);
	const struct nlattr *found[RTA_MAX + 1];
	if (message->nlmsg_type != RTM_NEWROUTE || route->rtm_family != AF_INET || !route->rtm_dst_len || routes.count == MAX_ROUTES)
		return;
	attributes(message, sizeof(*route), found, RTA_MAX);
	if (!found[RTA_DST] || found[RTA_DST]->nla_len < NLA_HDRLEN + 4)
		return;
	uint32_t first;
	memcpy(&first, (const char *)found[RTA_DST] + NLA_HDRLEN, 4);
	first = ntohl(first);
	/* 0.0.0.0/1 and 128.0.0.0/1 are how VPN clients write a default route. */
	if (route->rtm_dst_len == 1)
		return;
	uint32_t span = route->rtm_dst_len >= 32 ? 0 : UINT32_MAX >> route->rtm_dst_len;
	routes.list[routes.count].first = first;
	routes.list[routes.count++].last = first + span;
}

/* All but the default one, asked for through a socket of the host's namespace (rootless, too: reading is free). Without an answer
 * no candidate is ruled out. */
static void look(uint8_t family, void (*each)(const struct nlmsghdr *, void *), unsigned *count)
{
	struct netlink host = {.fd = host_socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)};
	if (host.fd < 0)
		return;
	struct batch batch;
	for (int attempt = 0; attempt < 3; attempt++) {
		*count = 0;
		batch_clear(&batch);
		struct rtmsg all = {.rtm_family = family};
		message_begin(&batch, RTM_GETROUTE, NLM_F_DUMP, &all, sizeof(all));
		if (netlink_ask(&host, &batch, each, NULL) == 0 || errno != EINTR)
			break;
	}
	netlink_close(&host);
}

void subnets_look(void)
{
	routes.count = 0;
	look(AF_INET, remember_route, &routes.count);
}

bool subnet_is_free(uint32_t first, unsigned bits)
{
	uint32_t last = first + (UINT32_MAX >> bits);
	for (unsigned i = 0; i < routes.count; i++)
		if (routes.list[i].first <= last && first <= routes.list[i].last)
			return false;
	for (const struct network *n = router.networks; n; n = n->next)
		if (n->first <= last && first <= n->first + (UINT32_MAX >> n->bits))
			return false;
	return true;
}

/* ---- IPv6 ---- */

static struct { struct { struct in6_addr first; unsigned bits; } list[MAX_ROUTES]; unsigned count; } routes_v6;

static void remember_route_v6(const struct nlmsghdr *message, void *context)
{
	(void)context;
	const struct rtmsg *route = NLMSG_DATA(message);
	const struct nlattr *found[RTA_MAX + 1];
	/* Up to 3 bits: everything, or everything global, as VPN clients write a default route. */
	if (message->nlmsg_type != RTM_NEWROUTE || route->rtm_family != AF_INET6 || route->rtm_dst_len <= 3 || routes_v6.count == MAX_ROUTES)
		return;
	attributes(message, sizeof(*route), found, RTA_MAX);
	if (!found[RTA_DST] || found[RTA_DST]->nla_len < NLA_HDRLEN + sizeof(struct in6_addr))
		return;
	memcpy(&routes_v6.list[routes_v6.count].first, (const char *)found[RTA_DST] + NLA_HDRLEN, sizeof(struct in6_addr));
	routes_v6.list[routes_v6.count++].bits = route->rtm_dst_len;
}

void subnets_look_v6(void)
{
	routes_v6.count = 0;
	look(AF_INET6, remember_route_v6, &routes_v6.count);
}

bool subnet_is_free_v6(const struct in6_addr *first, unsigned bits)
{
	for (unsigned i = 0; i < routes_v6.count; i++)
		if (ip_shares(first, &routes_v6.list[i].first, bits < routes_v6.list[i].bits ? bits : routes_v6.list[i].bits))
			return false;
	for (const struct network *n = router.networks; n; n = n->next)
		if (n->v6.bits && ip_shares(first, &n->v6.first, bits < n->v6.bits ? bits : n->v6.bits))
			return false;
	return true;
}
