#pragma once
/* What the parts of the way out share. egress.c has the tap, and says what becomes of each packet that comes out of it. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "flow.h"
#include "ip.h"
#include "packet.h"

/* Whose the relays and flows are. */
extern const char EGRESS[];

/* Puts a packet into the router as if it came from the outside. */
void egress_inject(const uint8_t *packet, size_t size);
/* Tells the sender what the host has heard, or nothing: a timeout stays one. */
void egress_tell_failure(const struct packet *, int error);
/* The parts' sweep functions are called every second from now on, until all of them have nothing left. */
void egress_sweep_soon(void);

bool egress_is_outside(const struct in6_addr *);
bool egress_has_way_out(const struct in6_addr *source);
struct in_addr egress_container(const struct in6_addr *source);

union address socket_address(const struct in6_addr *, uint16_t port);
struct in6_addr ip_in(const union address *);
/* A socket that takes what is for other addresses, and sends as if it were they. -1 with errno. */
int make_transparent(int fd, int family);

/* TCP (egress_tcp.c). to_host: to the host's loopback, whatever its destination says. */
void tcp_first_segment(const struct packet *, bool to_host);
void tcp_accept(int listener);
bool tcp_sweep(uint64_t now);    /* true: some are left */
void tcp_forget(struct in_addr container);
void tcp_close(void);

/* UDP (egress_udp.c) */
void udp_receive(int listener);

/* Ping (egress_ping.c) */
void ping_open(void);
void ping_request(const struct packet *);
bool ping_sweep(uint64_t now);
void ping_forget(struct in_addr container);
void ping_close(void);

/* The pair of links and the routes into it (egress_links.c). -1 with errno. mac: filled with the address of `egress`. */
int egress_make_links(uint8_t mac[]);
int egress_make_routes_v6(void);
