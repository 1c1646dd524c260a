#pragma once
/* An address of either family in one shape: IPv4 as ::ffff:a.b.c.d, as the kernel maps it too. */
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>

static inline struct in6_addr ip_of(struct in_addr v4)
{
	struct in6_addr ip = {.s6_addr = {[10] = 0xff, [11] = 0xff}};
	memcpy(ip.s6_addr + 12, &v4, sizeof(v4));
	return ip;
}

static inline bool ip_is_v4(const struct in6_addr *ip)
{
	return IN6_IS_ADDR_V4MAPPED(ip);
}

/* 0.0.0.0 unless it is one. */
static inline struct in_addr ip_v4(const struct in6_addr *ip)
{
	struct in_addr v4 = {0};
	if (ip_is_v4(ip))
		memcpy(&v4, ip->s6_addr + 12, sizeof(v4));
	return v4;
}

static inline bool ip_equal(const struct in6_addr *a, const struct in6_addr *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* The first bits of both are the same. */
static inline bool ip_shares(const struct in6_addr *a, const struct in6_addr *b, unsigned bits)
{
	unsigned bytes = bits / 8, rest = bits % 8;
	return memcmp(a, b, bytes) == 0 && (!rest || (a->s6_addr[bytes] ^ b->s6_addr[bytes]) >> (8 - rest) == 0);
}
