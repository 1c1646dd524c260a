#define _GNU_SOURCE
/* libFuzzer: any bytes as a query for the name server, and as an answer of the host's. The session has two networks, a container on both, names on
 * each, one of them for many. Every answer must fit, begin with the query's identifier, and hold as many records as it says. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include "ip.h"
#include "net.h"
#include "router.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* -- what the name server knows of the session ----------------------------------------------------------------------------- */

static struct network wide = { .internal = false }, closed = { .internal = true };
static struct net_link on_closed = { .network = &closed }, on_both = { .network = &wide, .next = &on_closed };
static char both;                        /* stands for the container that is on both */

struct network *network_of(struct in_addr address)
{
	uint32_t third = ntohl(address.s_addr) >> 8;

	return third == 0x0a0000 ? &wide : third == 0x0a0001 ? &closed : NULL;
}

/* fd00:1::/64 is a part of the first one. */
struct network *network_at(const struct in6_addr *address)
{
	static const struct in6_addr first = { .s6_addr = { 0xfd, 0x00, 0x00, 0x01 } };

	return ip_is_v4(address) ? network_of(ip_v4(address)) : ip_shares(address, &first, 64) ? &wide : NULL;
}

const struct net_slot *slot_of(struct in_addr address)
{
	return ntohl(address.s_addr) == 0x0a000002 ? (const struct net_slot *)&both : NULL;
}

const struct net_link *net_slot_links(const struct net_slot *slot)
{
	return slot ? &on_both : NULL;
}

bool host_access(const struct net_slot *slot, uint16_t port)
{
	(void)port;
	return slot != NULL;
}

static struct in_addr ip(uint32_t address)
{
	return (struct in_addr){ htonl(address) };
}

static void fill(void)
{
	static char long_name[255];
	struct in6_addr v6 = { .s6_addr = { 0xfd, 0x00, 0x00, 0x01, [15] = 3 } };

	memset(long_name, 'n', sizeof(long_name) - 1);
	for (size_t i = 63; i < sizeof(long_name) - 1; i += 64)
		long_name[i] = '.';
	names_add(&wide, "db", ip(0x0a000003), &v6);
	names_add(&wide, "db.internal", ip(0x0a000003), &v6);
	names_add(&wide, long_name, ip(0x0a000004), NULL);
	names_add(&closed, "db", ip(0x0a000103), NULL);
	for (uint32_t i = 0; i < 100; i++) {
		names_add(&wide, long_name, ip(0x0a000010 + i), &v6);
		names_add(&wide, "many", ip(0x0a000010 + i), i % 2 ? &v6 : NULL);
	}
}

/* -- the checks ------------------------------------------------------------------------------------------------------------ */

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void look_at(const uint8_t *query, size_t size, const uint8_t *answer, size_t length)
{
	require(length >= 12 && length <= 512);    /* what fits any client's datagram */
	require(answer[0] == query[0] && answer[1] == query[1] && answer[2] & 0x80);
	size_t question = names_question(query, size), at = question ? question : 12;
	unsigned records = (unsigned)answer[6] << 8 | answer[7];
	for (; records; records--) {
		require(at + 12 <= length);
		at += 12 + ((size_t)answer[at + 10] << 8 | answer[at + 11]);
	}
	require(at == length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint32_t askers[] = { 0x0a000002, 0x0a000005, 0x0a000105, 0x7f000001 };
	static bool filled;
	uint8_t answer[DNS_ANSWER_SIZE];
	size_t length;

	if (!filled)
		fill();
	filled = true;
	/* A copy of exactly that size: one byte too many read is told. */
	uint8_t *query = malloc(size ? size : 1);
	if (!query)
		return 0;
	memcpy(query, data, size);
	for (size_t i = 0; i < sizeof(askers) / sizeof(*askers); i++) {
		length = 0;
		if (names_answer(query, size, ip(askers[i]), answer, DNS_DATAGRAM, &length) == DNS_ANSWERED)
			look_at(query, size, answer, length);
	}
	length = names_refuse(query, size, 2, answer);
	if (length)
		look_at(query, size, answer, length);
	require(names_question(query, size) <= size);
	free(query);
	return 0;
}
