#pragma once
/* The few kinds of packets that egress has to read and to write, IPv4 and IPv6. Addresses are those of ip.h. */
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PACKET_SIZE = 2048 };    /* the longest that is handled; links carry 1,500 bytes */

/* Compared as bytes. Ports in host order. */
struct tuple { struct in6_addr source, destination; uint16_t source_port, destination_port; };

/* A packet as it came, its parts checked to lie within it. */
struct packet {
	const uint8_t *bytes;
	size_t size;                 /* from the IP header on, without padding */
	const uint8_t *payload;      /* behind the IP header */
	size_t payload_size;
	uint8_t protocol;            /* IPPROTO_ICMPV6 is the IPv6 kind */
	struct tuple tuple;          /* ports are 0 unless the protocol is TCP or UDP */
};
/* False for anything malformed, for fragments, and for IPv6 with extension headers. */
bool packet_read(const uint8_t *bytes, size_t size, struct packet *);
bool packet_is_v6(const uint8_t *bytes);
bool packet_is_ping(const struct packet *);

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16 };
uint8_t tcp_flags(const struct packet *);

/* Computes the checksums of a whole packet (TCP, UDP, ICMP) anew: links inside one machine leave them out. */
void packet_seal(uint8_t *bytes, size_t size);

/* Each writes a packet into out and returns its size. */
size_t write_reset(const struct packet *to, uint8_t out[PACKET_SIZE]);
/* "Destination unreachable" about the packet, from the destination itself: the router's own address would be a martian
 * source on the link that packets are put back on. */
enum unreachable { NETWORK_UNREACHABLE, HOST_UNREACHABLE, PROTOCOL_UNREACHABLE, PORT_UNREACHABLE, FILTERED };
size_t write_unreachable(const struct packet *about, enum unreachable why, uint8_t out[PACKET_SIZE]);
/* A message of ICMP or ICMPv6, as the addresses are (type, code, checksum, …), from source to destination. */
size_t write_icmp(const struct in6_addr *source, const struct in6_addr *destination, const uint8_t *message, size_t size,
	uint8_t out[PACKET_SIZE]);
/* The start of a datagram that a conversation has sent, good enough to be quoted by write_unreachable(). */
size_t write_udp_start(const struct tuple *, uint8_t out[PACKET_SIZE]);
