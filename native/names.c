/* The containers' names, and the answers made from them (RFC 1035). Queries come from containers: no byte is trusted. */
#define _GNU_SOURCE
#include "net.h"
#include "router.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "ip.h"

enum { HEADER = 12, NAME_MOST = 255, TTL_S = 1, RECORD = 12, TRUNCATED = 0x02 /* of the third byte */ };
enum { TYPE_A = 1, TYPE_PTR = 12, TYPE_AAAA = 28, CLASS_IN = 1, NXDOMAIN = 3, FORMERR = 1 };

struct name {
	struct name *next;
	const void *owner;
	const struct network *network;       /* for whose containers it is */
	struct in_addr address;
	struct in6_addr v6;                  /* or :: */
	char text[];
};
static struct name *names, **last = &names;

int names_add(const void *owner, const char *text, struct in_addr address, const struct in6_addr *v6)
{
	size_t size = strlen(text);
	while (size && text[size - 1] == '.')
		size--;
	if (!size || size > NAME_MOST) {
		errno = EINVAL;
		return -1;
	}
	struct name *name = calloc(1, sizeof(*name) + size + 1);
	if (!name)
		return -1;
	name->owner = owner;
	name->address = address;
	if (v6)
		name->v6 = *v6;
	name->network = network_of(address);
	memcpy(name->text, text, size);
	*last = name;
	last = &name->next;
	return 0;
}

void names_remove(const void *owner)
{
	for (struct name **at = &names; *at;) {
		struct name *name = *at;
		if (name->owner == owner) {
			*at = name->next;
			free(name);
		} else {
			at = &name->next;
		}
	}
	last = &names;
	while (*last)
		last = &(*last)->next;
}

void names_clear(void)
{
	while (names) {
		struct name *name = names;
		names = name->next;
		free(name);
	}
	last = &names;
}

static unsigned read_u16(const uint8_t *at)
{
	return (unsigned)at[0] << 8 | at[1];
}

static uint8_t *write_u16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
	return at + 2;
}

/* Reads the question's name as text. Returns the bytes up to the end of the question, 0 if malformed. A label with a dot
 * or a NUL of its own cannot be one of ours: the text is empty then. */
static size_t read_question(const uint8_t *message, size_t size, char text[NAME_MOST + 1])
{
	size_t at = HEADER, length = 0;
	bool plain = true;
	if (size < HEADER || read_u16(message + 4) != 1)
		return 0;
	for (;;) {
		if (at >= size)
			return 0;
		unsigned label = message[at++];
		if (!label)
			break;
		/* Above 63 is a compression pointer, which has nothing to point to here. */
		if (label > 63 || label > size - at || length + label + 1 > NAME_MOST)
			return 0;
		if (length)
			text[length++] = '.';
		for (unsigned i = 0; i < label; i++) {
			char c = (char)message[at++];
			plain = plain && c && c != '.';
			text[length++] = c;
		}
	}
	text[plain ? length : 0] = 0;
	return size - at < 4 ? 0 : at + 4;
}

size_t names_question(const uint8_t *message, size_t size)
{
	char text[NAME_MOST + 1];
	return read_question(message, size, text);
}

/* Header and question of an answer; flags: QR, the query's opcode and RD, RA, and what is given. */
static size_t begin_answer(const uint8_t *query, size_t question, unsigned flags, uint8_t *answer)
{
	memcpy(answer, query, question);
	write_u16(answer + 2, 0x8080u | (read_u16(query + 2) & 0x7900) | flags);
	memset(answer + 6, 0, 6);
	return question;
}

size_t names_refuse(const uint8_t *query, size_t size, unsigned code, uint8_t answer[DNS_ANSWER_SIZE])
{
	size_t question = names_question(query, size);
	return question ? begin_answer(query, question, code, answer) : 0;
}

/* A record whose name is the question's (a pointer to offset 12). */
static size_t add_record(uint8_t *answer, size_t at, unsigned type, const void *data, size_t size)
{
	uint8_t *to = answer + at;
	to = write_u16(to, 0xc00c);
	to = write_u16(to, type);
	to = write_u16(to, CLASS_IN);
	to = write_u16(to, 0);
	to = write_u16(to, TTL_S);
	to = write_u16(to, (unsigned)size);
	memcpy(to, data, size);
	write_u16(answer + 6, read_u16(answer + 6) + 1);
	return at + 12 + size;
}

/* "4.3.2.1.in-addr.arpa" */
static bool reverse_address(const char *text, struct in_addr *address)
{
	unsigned a, b, c, d;
	int end = 0;
	if (sscanf(text, "%3u.%3u.%3u.%3u.%n", &d, &c, &b, &a, &end) != 4 || !end || strcasecmp(text + end, "in-addr.arpa") != 0)
		return false;
	if (a > 255 || b > 255 || c > 255 || d > 255)
		return false;
	address->s_addr = htonl(a << 24 | b << 16 | c << 8 | d);
	return true;
}

/* A nibble a label, the last one first: "1.0.0.0.….0.0.d.f.ip6.arpa" */
static bool reverse_address_v6(const char *text, struct in6_addr *address)
{
	memset(address, 0, sizeof(*address));
	for (int i = 31; i >= 0; i--, text += 2) {
		int digit = isxdigit((unsigned char)*text) ? isdigit((unsigned char)*text) ? *text - '0' : tolower((unsigned char)*text) - 'a' + 10 : -1;
		if (digit < 0 || text[1] != '.')
			return false;
		address->s6_addr[i / 2] |= (uint8_t)(i % 2 ? digit : digit << 4);
	}
	return strcasecmp(text, "ip6.arpa") == 0 && !ip_is_v4(address);
}

/* The name in wire format: labels with their lengths. 0 if it cannot be written so. */
static size_t write_name(const char *text, uint8_t to[NAME_MOST + 2])
{
	size_t at = 0;
	while (*text) {
		size_t label = strcspn(text, ".");
		if (!label || label > 63 || at + label + 2 > NAME_MOST)
			return 0;
		to[at++] = (uint8_t)label;
		memcpy(to + at, text, label);
		at += label;
		text += label;
		text += *text == '.';
	}
	to[at++] = 0;
	return at;
}

/* The networks of who asks: those of its container, or just the one that its address is of. */
struct asker { const struct net_link *link; const struct network *network; };

static struct asker asker_of(struct in_addr address)
{
	const struct net_slot *slot = slot_of(address);
	const struct net_link *links = slot ? net_slot_links(slot) : NULL;
	return (struct asker){links, links ? NULL : network_of(address)};
}

static const struct network *next_network(struct asker *asker)
{
	const struct network *network = asker->link ? asker->link->network : asker->network;
	asker->link = asker->link ? asker->link->next : NULL;
	asker->network = NULL;
	return network;
}

static bool is_on(struct in_addr address, const struct network *wanted)
{
	struct asker asker = asker_of(address);
	for (const struct network *network; (network = next_network(&asker));)
		if (network == wanted)
			return true;
	return false;
}

static bool has_address(const struct name *name, const struct in6_addr *address)
{
	return ip_is_v4(address) ? name->address.s_addr == ip_v4(address).s_addr : ip_equal(&name->v6, address);
}

static size_t answer_reverse(const uint8_t *query, size_t question, const struct in6_addr *address, struct in_addr asker, uint8_t *answer)
{
	uint8_t wire[NAME_MOST + 2];
	for (const struct name *name = names; name; name = name->next)
		if (has_address(name, address) && is_on(asker, name->network)) {
			size_t at = begin_answer(query, question, 0x0400, answer);
			size_t length = write_name(name->text, wire);
			return length ? add_record(answer, at, TYPE_PTR, wire, length) : at;
		}
	return begin_answer(query, question, 0x0400 | NXDOMAIN, answer);
}

static bool is_called(const struct name *name, const struct network *network, const char *text)
{
	return name->network == network && strcasecmp(name->text, text) == 0;
}

static bool has_record(const struct name *name, unsigned type)
{
	return type == TYPE_A || (type == TYPE_AAAA && !IN6_IS_ADDR_UNSPECIFIED(&name->v6));
}

/* All addresses of the wanted family that have the name on this network, beginning with another one each time. 0: there is none of any. The name
 * exists, with an empty answer for what it does not have: a client asks for AAAA, too, and must not take "no such name" for its answer to
 * both. */
static size_t answer_name(const uint8_t *query, size_t question, const char *text, const struct network *network, uint8_t *answer, size_t room)
{
	static unsigned turn;
	unsigned type = read_u16(query + question - 4), count = 0, seen = 0;
	bool exists = false;
	for (const struct name *name = names; name; name = name->next)
		if (is_called(name, network, text)) {
			exists = true;
			count += has_record(name, type);
		}
	if (!exists)
		return 0;
	size_t at = begin_answer(query, question, 0x0400, answer);
	unsigned first = count > 1 ? turn++ % count : 0;
	for (int round = 0; round < 2; round++, seen = 0)
		for (const struct name *name = names; name; name = name->next) {
			if (!is_called(name, network, text) || !has_record(name, type))
				continue;
			bool is_before = seen++ < first;
			size_t size = type == TYPE_A ? sizeof(name->address) : sizeof(name->v6);
			if (is_before != (round == 1))
				continue;
			if (at + RECORD + size > room)
				answer[2] |= TRUNCATED; /* the client asks again over TCP; one that does not hears of the others by and by */
			else
				at = type == TYPE_A ? add_record(answer, at, type, &name->address, size) : add_record(answer, at, type, &name->v6, size);
		}
	return at;
}

/* Names of the host for who may reach a port of it, whether /etc/hosts says so too or not. */
static size_t answer_host(const uint8_t *query, size_t question, const char *text, struct in_addr asker, uint8_t *answer)
{
	static const char *const HOST[] = {"host.mayfly.internal", "host.testcontainers.internal", "host.docker.internal"};
	const struct network *network = network_of(asker);
	bool is_host = false;
	for (size_t i = 0; i < sizeof(HOST) / sizeof(*HOST); i++)
		is_host = is_host || strcasecmp(HOST[i], text) == 0;
	if (!is_host || !network || !host_access(slot_of(asker), 0))
		return 0;
	struct asker all = asker_of(asker);
	for (const struct network *one = network; one; one = next_network(&all))
		if (!one->internal) {
			size_t at = begin_answer(query, question, 0x0400, answer);
			return read_u16(query + question - 4) == TYPE_A ? add_record(answer, at, TYPE_A, &one->gateway, 4) : at;
		}
	return 0;
}

enum verdict names_answer(const uint8_t *query, size_t size, struct in_addr asker, uint8_t *answer, size_t room, size_t *answer_size)
{
	char text[NAME_MOST + 1];
	/* QR set: an answer. Answering answers would let two servers talk for ever. */
	if (size < HEADER || (query[2] & 0x80))
		return DNS_IGNORE;
	if ((query[2] & 0x78) != 0)
		return DNS_FORWARD;
	size_t question = read_question(query, size, text);
	if (!question) {
		memcpy(answer, query, HEADER);
		write_u16(answer + 2, 0x8080u | (read_u16(query + 2) & 0x7900) | FORMERR);
		memset(answer + 4, 0, 8);
		*answer_size = HEADER;
		return DNS_ANSWERED;
	}
	unsigned type = read_u16(query + question - 4);
	if (!*text || read_u16(query + question - 2) != CLASS_IN)
		return DNS_FORWARD;

	struct in_addr v4;
	struct in6_addr address = {0};
	bool is_reverse = type == TYPE_PTR && (reverse_address(text, &v4) ? (address = ip_of(v4), true) : reverse_address_v6(text, &address));
	if (is_reverse && network_at(&address)) {
		*answer_size = answer_reverse(query, question, &address, asker, answer);
		return DNS_ANSWERED;
	}
	struct asker all = asker_of(asker);
	size_t at = 0;
	for (const struct network *network; !at && (network = next_network(&all));)
		at = answer_name(query, question, text, network, answer, room);
	*answer_size = at ? at : answer_host(query, question, text, asker, answer);
	return *answer_size ? DNS_ANSWERED : DNS_FORWARD;
}
