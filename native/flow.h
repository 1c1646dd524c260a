#pragma once
/* UDP conversations: what one client sends to one destination, and the answers. They have no end of their own, so they
 * expire: 30 s after the last datagram, 180 s once there was an answer. When there are too many, the one that was quiet for
 * longest makes room. */
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};
socklen_t address_size(const union address *);

/* Identifies a conversation; compared as bytes, so start from {0}. */
struct flow_key {
	const void *owner;
	union address client;
	union address local;         /* where the client's datagrams arrived: the source of the answers */
};

struct flow;
struct flow *flow_find(const struct flow_key *);

/* Takes over both sockets (non-blocking). far is connected to the destination. near is connected to the client, or -1: then
 * answers leave through shared, from the address key->local if that has a family, and the owner passes datagrams on with
 * flow_send(). refused: called when the destination told that nobody listens; may be NULL. container: for
 * flow_end_container(). NULL with errno: both sockets are closed then. */
struct flow *flow_add(const struct flow_key *, int far, int near, int shared, struct in_addr container,
	void (*refused)(const struct flow_key *));
/* A datagram from the client. Lost, as datagrams may be, when the socket's buffer is full. */
void flow_send(struct flow *, const void *bytes, size_t size);

/* Ends the conversation that was quiet for longest, to free its descriptors; false if there is none. */
bool flow_end_oldest(void);
void flow_end_owner(const void *owner);
void flow_end_container(struct in_addr);

/* Receives up to FLOW_BATCH datagrams into buffers that stay valid until the next call. Their number, or -1 with errno. */
enum { FLOW_BATCH = 8, DATAGRAM_SIZE = 65536, CONTROL_SIZE = 128 };
struct datagram {
	char *bytes;
	size_t size;
	union address from;
	union address local;         /* family 0 unless the socket reports it (IP_PKTINFO, IPV6_RECVPKTINFO, or both kinds of RECVORIGDSTADDR) */
};
int datagrams_receive(int fd, struct datagram list[FLOW_BATCH]);
