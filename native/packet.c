#define _GNU_SOURCE
#include "packet.h"

#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>
#include "ip.h"

enum { IP_SIZE = 20, IP6_SIZE = 40, TCP_SIZE = 20, UDP_SIZE = 8, ICMP_SIZE = 8, QUOTED = 128 };

bool packet_is_v6(const uint8_t *bytes)
{
	return bytes[0] >> 4 == 6;
}

static bool read_v4(const uint8_t *bytes, size_t size, struct packet *p)
{
	struct iphdr ip;
	memcpy(&ip, bytes, sizeof(ip));
	size_t header = (size_t)ip.ihl * 4, total = ntohs(ip.tot_len);
	if (ip.version != 4 || header < IP_SIZE || total < header || total > size)
		return false;
	if (ntohs(ip.frag_off) & (IP_MF | IP_OFFMASK))
		return false;
	p->size = total;
	p->payload = bytes + header;
	p->protocol = ip.protocol;
	p->tuple.source = ip_of((struct in_addr){ip.saddr});
	p->tuple.destination = ip_of((struct in_addr){ip.daddr});
	return ip.protocol != IPPROTO_ICMPV6;
}

static bool read_v6(const uint8_t *bytes, size_t size, struct packet *p)
{
	struct ip6_hdr ip;
	if (size < IP6_SIZE)
		return false;
	memcpy(&ip, bytes, sizeof(ip));
	p->size = IP6_SIZE + (size_t)ntohs(ip.ip6_plen);
	if (p->size > size || ip_is_v4(&ip.ip6_src) || ip_is_v4(&ip.ip6_dst))
		return false;
	p->payload = bytes + IP6_SIZE;
	p->protocol = ip.ip6_nxt;
	p->tuple.source = ip.ip6_src;
	p->tuple.destination = ip.ip6_dst;
	/* Nothing else that a program could send without privileges comes without a header of its own in between. */
	return ip.ip6_nxt == IPPROTO_TCP || ip.ip6_nxt == IPPROTO_UDP || ip.ip6_nxt == IPPROTO_ICMPV6;
}

bool packet_read(const uint8_t *bytes, size_t size, struct packet *p)
{
	memset(p, 0, sizeof(*p));
	if (size < IP_SIZE)
		return false;
	p->bytes = bytes;
	if (!(packet_is_v6(bytes) ? read_v6 : read_v4)(bytes, size, p))
		return false;
	p->payload_size = p->size - (size_t)(p->payload - bytes);
	if (p->protocol == IPPROTO_TCP) {
		if (p->payload_size < TCP_SIZE || (size_t)(p->payload[12] >> 4) * 4 > p->payload_size || p->payload[12] >> 4 < 5)
			return false;
	} else if (p->protocol == IPPROTO_UDP) {
		if (p->payload_size < UDP_SIZE)
			return false;
	} else {
		return (p->protocol != IPPROTO_ICMP && p->protocol != IPPROTO_ICMPV6) || p->payload_size >= ICMP_SIZE;
	}
	p->tuple.source_port = (uint16_t)(p->payload[0] << 8 | p->payload[1]);
	p->tuple.destination_port = (uint16_t)(p->payload[2] << 8 | p->payload[3]);
	return true;
}

bool packet_is_ping(const struct packet *p)
{
	return p->protocol == IPPROTO_ICMP ? p->payload[0] == ICMP_ECHO : p->protocol == IPPROTO_ICMPV6 && p->payload[0] == ICMP6_ECHO_REQUEST;
}

uint8_t tcp_flags(const struct packet *p)
{
	return p->payload[13];
}

/* The Internet checksum (RFC 1071), in network order as it is stored. */
static uint32_t sum(const uint8_t *bytes, size_t size, uint32_t start)
{
	for (; size > 1; bytes += 2, size -= 2)
		start += (uint32_t)bytes[0] << 8 | bytes[1];
	return size ? start + ((uint32_t)bytes[0] << 8) : start;
}

static void store(uint8_t *at, uint32_t total)
{
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	at[0] = (uint8_t)(~total >> 8);
	at[1] = (uint8_t)~total;
}

static size_t checksum_at(uint8_t protocol, size_t otherwise)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return 16;
	case IPPROTO_UDP:
		return 6;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return 2;
	default:
		return otherwise;
	}
}

void packet_seal(uint8_t *bytes, size_t size)
{
	bool v6 = packet_is_v6(bytes);
	size_t header = v6 ? IP6_SIZE : (size_t)(bytes[0] & 15) * 4, length = size - header;
	uint8_t *payload = bytes + header, protocol = bytes[v6 ? 6 : 9];
	if (!v6) {
		memset(bytes + 10, 0, 2);
		store(bytes + 10, sum(bytes, header, 0));
	}
	size_t at = checksum_at(protocol, length);
	if (at + 2 > length)
		return;
	/* All but the old ICMP cover the addresses, the protocol and the length, too. */
	uint32_t pseudo = protocol == IPPROTO_ICMP ? 0
		: sum(bytes + (v6 ? 8 : 12), v6 ? 32 : 8, (uint32_t)protocol + (uint32_t)length);
	memset(payload + at, 0, 2);
	store(payload + at, sum(payload, length, pseudo));
	/* 0 would say that there is none, which IPv6 does not allow. */
	if (protocol == IPPROTO_UDP && !payload[at] && !payload[at + 1])
		memset(payload + at, 0xff, 2);
}

/* The header of a packet with so much behind it. Returns its own size. */
static size_t write_ip(uint8_t *out, const struct in6_addr *source, const struct in6_addr *destination, uint8_t protocol, size_t size)
{
	if (!ip_is_v4(source)) {
		struct ip6_hdr ip = {.ip6_flow = htonl(6u << 28), .ip6_src = *source, .ip6_dst = *destination};
		ip.ip6_plen = htons((uint16_t)size);
		ip.ip6_nxt = protocol;
		ip.ip6_hlim = 64;
		memcpy(out, &ip, sizeof(ip));
		return IP6_SIZE;
	}
	struct iphdr ip = {
		.version = 4, .ihl = IP_SIZE / 4, .tot_len = htons((uint16_t)(IP_SIZE + size)), .frag_off = htons(IP_DF), .ttl = 64,
		.protocol = protocol, .saddr = ip_v4(source).s_addr, .daddr = ip_v4(destination).s_addr,
	};
	memcpy(out, &ip, sizeof(ip));
	return IP_SIZE;
}

/* A whole packet: header and payload, sealed. */
static size_t write_packet(uint8_t out[PACKET_SIZE], const struct in6_addr *source, const struct in6_addr *destination, uint8_t protocol,
	const void *payload, size_t size)
{
	size_t header = write_ip(out, source, destination, protocol, size);
	memcpy(out + header, payload, size);
	packet_seal(out, header + size);
	return header + size;
}

size_t write_reset(const struct packet *to, uint8_t out[PACKET_SIZE])
{
	struct tcphdr segment, reset = {0};
	memcpy(&segment, to->payload, sizeof(segment));
	/* RFC 9293, 3.5.2: from the number that was acknowledged; if none was, number 0 and an acknowledgement of it all. */
	size_t data = to->payload_size - (size_t)segment.doff * 4;
	reset.source = segment.dest;
	reset.dest = segment.source;
	reset.doff = TCP_SIZE / 4;
	reset.rst = 1;
	if (segment.ack) {
		reset.seq = segment.ack_seq;
	} else {
		reset.ack = 1;
		reset.ack_seq = htonl(ntohl(segment.seq) + (uint32_t)data + segment.syn + segment.fin);
	}
	return write_packet(out, &to->tuple.destination, &to->tuple.source, IPPROTO_TCP, &reset, TCP_SIZE);
}

size_t write_icmp(const struct in6_addr *source, const struct in6_addr *destination, const uint8_t *message, size_t size,
	uint8_t out[PACKET_SIZE])
{
	if (size > PACKET_SIZE - IP6_SIZE)
		return 0;
	return write_packet(out, source, destination, ip_is_v4(source) ? IPPROTO_ICMP : IPPROTO_ICMPV6, message, size);
}

size_t write_unreachable(const struct packet *about, enum unreachable why, uint8_t out[PACKET_SIZE])
{
	static const uint8_t codes[][2] = {
		[NETWORK_UNREACHABLE] = {ICMP_NET_UNREACH, ICMP6_DST_UNREACH_NOROUTE},
		[HOST_UNREACHABLE] = {ICMP_HOST_UNREACH, ICMP6_DST_UNREACH_ADDR},
		[PROTOCOL_UNREACHABLE] = {ICMP_PROT_UNREACH, ICMP6_DST_UNREACH_NOPORT},
		[PORT_UNREACHABLE] = {ICMP_PORT_UNREACH, ICMP6_DST_UNREACH_NOPORT},
		[FILTERED] = {ICMP_PKT_FILTERED, ICMP6_DST_UNREACH_ADMIN},
	};
	bool v6 = packet_is_v6(about->bytes);
	uint8_t message[ICMP_SIZE + QUOTED] = {v6 ? ICMP6_DST_UNREACH : ICMP_DEST_UNREACH, codes[why][v6]};
	size_t quoted = about->size < QUOTED ? about->size : QUOTED;
	memcpy(message + ICMP_SIZE, about->bytes, quoted);
	return write_icmp(&about->tuple.destination, &about->tuple.source, message, ICMP_SIZE + quoted, out);
}

size_t write_udp_start(const struct tuple *tuple, uint8_t out[PACKET_SIZE])
{
	struct udphdr udp = {
		.source = htons(tuple->source_port), .dest = htons(tuple->destination_port), .len = htons(UDP_SIZE)};
	return write_packet(out, &tuple->source, &tuple->destination, IPPROTO_UDP, &udp, UDP_SIZE);
}
