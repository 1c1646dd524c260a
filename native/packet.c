#define _GNU_SOURCE
#include "packet.h"

#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>

enum { IP_SIZE = 20, TCP_SIZE = 20, UDP_SIZE = 8, ICMP_SIZE = 8, QUOTED = 128 };

bool packet_read(const uint8_t *bytes, size_t size, struct packet *p)
{
	struct iphdr ip;
	memset(p, 0, sizeof(*p));
	if (size < IP_SIZE)
		return false;
	memcpy(&ip, bytes, sizeof(ip));
	size_t header = (size_t)ip.ihl * 4, total = ntohs(ip.tot_len);
	if (ip.version != 4 || header < IP_SIZE || total < header || total > size)
		return false;
	if (ntohs(ip.frag_off) & (IP_MF | IP_OFFMASK))
		return false;
	p->bytes = bytes;
	p->size = total;
	p->payload = bytes + header;
	p->payload_size = total - header;
	p->protocol = ip.protocol;
	p->tuple.source.s_addr = ip.saddr;
	p->tuple.destination.s_addr = ip.daddr;
	if (ip.protocol == IPPROTO_TCP) {
		if (p->payload_size < TCP_SIZE || (size_t)(p->payload[12] >> 4) * 4 > p->payload_size || p->payload[12] >> 4 < 5)
			return false;
	} else if (ip.protocol == IPPROTO_UDP) {
		if (p->payload_size < UDP_SIZE)
			return false;
	} else {
		return ip.protocol != IPPROTO_ICMP || p->payload_size >= ICMP_SIZE;
	}
	p->tuple.source_port = (uint16_t)(p->payload[0] << 8 | p->payload[1]);
	p->tuple.destination_port = (uint16_t)(p->payload[2] << 8 | p->payload[3]);
	return true;
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

void packet_seal(uint8_t *bytes, size_t size)
{
	size_t header = (size_t)(bytes[0] & 15) * 4;
	uint8_t *payload = bytes + header;
	size_t length = size - header;
	memset(bytes + 10, 0, 2);
	store(bytes + 10, sum(bytes, header, 0));
	size_t at = bytes[9] == IPPROTO_TCP ? 16 : bytes[9] == IPPROTO_UDP ? 6 : bytes[9] == IPPROTO_ICMP ? 2 : length;
	if (at + 2 > length)
		return;
	/* TCP and UDP cover the addresses, the protocol and the length, too. */
	uint32_t pseudo = bytes[9] == IPPROTO_ICMP ? 0 : sum(bytes + 12, 8, (uint32_t)bytes[9] + (uint32_t)length);
	memset(payload + at, 0, 2);
	store(payload + at, sum(payload, length, pseudo));
}

static void write_ip(uint8_t *out, struct in_addr source, struct in_addr destination, uint8_t protocol, size_t size)
{
	struct iphdr ip = {
		.version = 4, .ihl = IP_SIZE / 4, .tot_len = htons((uint16_t)size), .frag_off = htons(IP_DF), .ttl = 64,
		.protocol = protocol, .saddr = source.s_addr, .daddr = destination.s_addr,
	};
	memcpy(out, &ip, sizeof(ip));
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
	write_ip(out, to->tuple.destination, to->tuple.source, IPPROTO_TCP, IP_SIZE + TCP_SIZE);
	memcpy(out + IP_SIZE, &reset, sizeof(reset));
	packet_seal(out, IP_SIZE + TCP_SIZE);
	return IP_SIZE + TCP_SIZE;
}

size_t write_icmp(struct in_addr source, struct in_addr destination, const uint8_t *message, size_t size, uint8_t out[PACKET_SIZE])
{
	if (size > PACKET_SIZE - IP_SIZE)
		return 0;
	write_ip(out, source, destination, IPPROTO_ICMP, IP_SIZE + size);
	memcpy(out + IP_SIZE, message, size);
	packet_seal(out, IP_SIZE + size);
	return IP_SIZE + size;
}

size_t write_unreachable(const struct packet *about, uint8_t code, uint8_t out[PACKET_SIZE])
{
	uint8_t message[ICMP_SIZE + QUOTED] = {ICMP_DEST_UNREACH, code};
	size_t quoted = about->size < QUOTED ? about->size : QUOTED;
	memcpy(message + ICMP_SIZE, about->bytes, quoted);
	return write_icmp(about->tuple.destination, about->tuple.source, message, ICMP_SIZE + quoted, out);
}

size_t write_udp_start(const struct tuple *tuple, uint8_t out[PACKET_SIZE])
{
	struct udphdr udp = {
		.source = htons(tuple->source_port), .dest = htons(tuple->destination_port), .len = htons(UDP_SIZE)};
	write_ip(out, tuple->source, tuple->destination, IPPROTO_UDP, IP_SIZE + UDP_SIZE);
	memcpy(out + IP_SIZE, &udp, sizeof(udp));
	packet_seal(out, IP_SIZE + UDP_SIZE);
	return IP_SIZE + UDP_SIZE;
}
