#pragma once
/* What the parts of the session's network share. router.c makes it; the warden sees net.h only. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <netinet/in.h>
#include "fault.h"
#include "netlink.h"

enum { SUBNET_BITS = 22, SUBNET_SIZE = 1 << (32 - SUBNET_BITS), MAC_SIZE = 6 };

struct router {
	int ns;                      /* the router's network namespace: the way back from every hop */
	struct netlink rtnl;         /* rtnetlink in it */
	uint32_t network;            /* first address of the subnet, host byte order; the gateway is the next one */
	struct in_addr gateway;      /* the bridge's address */
	struct in_addr host;         /* the host's end of the uplink, the last address but one; 0.0.0.0 without uplink */
	unsigned bridge;             /* interface index of mf0 */
};
extern struct router router;

/* Fixed interface indexes in the router's namespace, which is ours alone: nothing has to be asked after making a link. */
enum { INDEX_LOOPBACK = 1, INDEX_BRIDGE = 2, INDEX_UPLINK = 3, INDEX_EGRESS = 4, INDEX_TAP = 5, INDEX_FIRST_PORT = 16 };

/* Fills router.ns from the namespace that the warden is in. -1 with errno. */
int router_hold(void);

/* The hardware address that Docker, too, derives from an IPv4 address: 02:42 and the four bytes. */
void mac_of(struct in_addr, uint8_t mac[MAC_SIZE]);
bool in_subnet(struct in_addr);

/* Writes a value below /proc/sys/net of the current network namespace. -1 with errno. */
int net_sysctl(const char *name, const char *value);

int pool_open(struct fault *);
void pool_close(void);

/* why: filled with one sentence when containers will not reach the outside. Never fails the session. */
bool egress_open(char *why, size_t size);
void egress_close(void);
/* Ends every connection and flow of a container that is gone. */
void egress_forget(struct in_addr);

/* The name server on the gateway. resolvers: comma-separated addresses of the host's name servers. */
int dns_open(const char *resolvers, struct fault *);
void dns_close(void);

/* What the name server makes of a query (without the length that TCP puts before it). */
enum verdict { DNS_IGNORE, DNS_ANSWERED, DNS_FORWARD };
enum { DNS_ANSWER_SIZE = 1024 };
/* Touches nothing but the table of names, and takes any bytes. answer is filled when DNS_ANSWERED. */
enum verdict names_answer(const uint8_t *query, size_t size, uint8_t answer[DNS_ANSWER_SIZE], size_t *answer_size);
/* The query's header and question with an error code (2 SERVFAIL); 0 if the query has no sound question. */
size_t names_refuse(const uint8_t *query, size_t size, unsigned code, uint8_t answer[DNS_ANSWER_SIZE]);
/* Bytes of header and question; 0 if malformed. */
size_t names_question(const uint8_t *message, size_t size);
void names_clear(void);

/* The rules that bring the containers' packets to the egress listeners on 127.0.0.1 (nft.c). -1 with errno. */
enum { EGRESS_MARK = 1 };
int nft_open(uint16_t tcp_port, uint16_t udp_port);
