#pragma once
/* What the parts of the session's network share. router.c makes it; the warden sees net.h only. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <netinet/in.h>
#include "fault.h"
#include "net.h"
#include "netlink.h"

enum { SUBNET_BITS = 22, SUBNET_SIZE = 1 << (32 - SUBNET_BITS), MAC_SIZE = 6 };

struct name_server;
struct net_link;
struct slots { struct net_slot *first, **last; unsigned count; };

/* The IPv6 part of a network (networks_v6.c). */
struct subnet_v6 {
	struct in6_addr first;
	unsigned bits;               /* 0: the network has none, and the rest means nothing */
	struct in6_addr gateway;
	struct in6_addr range;       /* the first of those that are given to who asks for none */
	uint64_t span;               /* and how many follow it */
	bool routed;                 /* the host has a route to it */
	struct net_link *links;      /* those that have an address of it (next_v6) */
};

/* A bridge in the router with a subnet of its own. The first one is the default network, there as long as the router. */
struct network {
	struct network *next;
	uint32_t first;              /* address of the subnet, host byte order; the gateway is the next one */
	unsigned bits;
	struct in_addr gateway;      /* the bridge's address, and the name server's */
	unsigned bridge;             /* interface index */
	bool internal;               /* no way out */
	bool routed;                 /* the host has a route to it */
	unsigned links;              /* those of containers, and of the namespaces in ready */
	struct slots ready;          /* namespaces with a link to it, for the next containers */
	uint8_t *taken;              /* bits: its addresses in use */
	uint32_t at;                 /* where the search for a free address goes on */
	uint32_t low, high;          /* the first and the last of those that are given to who asks for none; numbers in the subnet */
	struct name_server *names;
	struct subnet_v6 v6;
	char id[];
};

struct router {
	int ns;                      /* the router's network namespace: the way back from every hop */
	struct netlink rtnl;         /* rtnetlink in it */
	struct network *networks;    /* the default one first */
	struct in_addr gateway;      /* of the default network */
	struct in_addr host;         /* the host's end of the uplink, the default network's last address but one; 0.0.0.0 without uplink */
	int host_link;               /* that end's interface index on the host */
	uint8_t host_mac[MAC_SIZE], uplink_mac[MAC_SIZE];    /* of both ends */
	struct in6_addr host_v6;     /* the host's end again; :: without uplink, or before there is a network with IPv6 */
};
extern struct router router;

/* Fixed interface indexes in the router's namespace, which is ours alone: nothing has to be asked after making a link. */
enum { INDEX_LOOPBACK = 1, INDEX_BRIDGE = 2, INDEX_UPLINK = 3, INDEX_EGRESS = 4, INDEX_TAP = 5, INDEX_FIRST_PORT = 16 };
/* The next index that nobody has. */
unsigned router_next_index(void);
/* The group of all bridges, by which rules know them. */
enum { BRIDGES = 1 };
/* Where the rule that finds the router's own addresses is: after those that must come first. */
enum { PRIORITY_LOCAL = 5 };

/* Fills router.ns from the namespace that the warden is in. -1 with errno. */
int router_hold(void);

/* The hardware address that Docker, too, derives from an IPv4 address: 02:42 and the four bytes. */
void mac_of(struct in_addr, uint8_t mac[MAC_SIZE]);

/* Gives the host a route to a subnet: EEXIST if another session has that one. And takes it back. */
int router_claim(uint32_t first, unsigned bits);
void router_unclaim(uint32_t first, unsigned bits);

/* The same for an IPv6 subnet, once the uplink has IPv6: its two ends are the first addresses of the site. -1 if it cannot have it. */
int router_open_v6(const struct in6_addr *site);
int router_claim_v6(const struct subnet_v6 *);
void router_unclaim_v6(const struct subnet_v6 *);

/* Subnets to choose from (subnets.c), none of which may overlap a route of the host or a network of ours. subnets_look() reads the
 * host's routes anew; candidates are numbered from 0. */
void subnets_look(void);
bool subnet_is_free(uint32_t first, unsigned bits);
unsigned subnet_candidates(unsigned bits);
uint32_t subnet_candidate(unsigned number, unsigned bits);
void subnets_look_v6(void);
bool subnet_is_free_v6(const struct in6_addr *first, unsigned bits);

/* Makes the default network, whose subnet is the router's already to use. -1 with the fault. */
int networks_open(uint32_t first, struct fault *);
void networks_close(void);
/* The network with this address in its subnet, or NULL. */
struct network *network_of(struct in_addr);
/* A free address, or the one that is wanted (0.0.0.0 = any); 0.0.0.0 with errno: EADDRNOTAVAIL none is left or it is none for a
 * container, EADDRINUSE. */
struct in_addr network_address(struct network *, struct in_addr wanted);
void network_free_address(struct network *, struct in_addr);

/* The name of its bridge, at most IFNAMSIZ. */
void network_link_name(const struct network *, char *name);

/* IPv6 (networks_v6.c). Addresses of either family are those of ip.h: the network that has one in its subnet, and the link with this IPv6
 * address; or NULL. */
struct network *network_at(const struct in6_addr *);
const struct net_link *link_at(const struct in6_addr *);
/* An IPv6 address that routers route: global, or of a site. */
bool ip_is_unicast(const struct in6_addr *);
/* Chooses the subnet if one is wanted; gives the bridge its part of it; and takes all of it back. Nothing without IPv6. */
int v6_settle(struct network *, const struct network_wish *, struct fault *);
int v6_make(struct network *, struct fault *);
void v6_remove(struct network *);
void v6_close(void);
/* Rules: what comes from this link goes on only with a source of these bits. */
void v6_put_source(struct batch *, const char *link, const struct in6_addr *first, unsigned bits, bool add);
/* Gives the link an address, the wanted one unless that is ::, if its network has IPv6; and frees it. */
int v6_take(struct network *, struct net_link *, const struct in6_addr *wanted, struct fault *);
void v6_give_back(struct net_link *);
/* From now on the router and the network know where the address is. Before the container's side has it. */
int v6_introduce(const struct net_link *);
/* Switches IPv6 on for a link of the current namespace, that gets its addresses from us alone. */
int link_without_advertisements(const char *name);

/* A container's namespace (pool.c). */
struct net_slot {
	struct net_slot *next;       /* in a queue of ready ones, or among those in use */
	int ns;                      /* the namespace */
	int sockstat;                /* its socket counts, -1 if they cannot be read: then it is used once */
	struct network *home;        /* its first link is to this network and serves again with it; NULL = none does */
	struct net_link *links;      /* in the order in which they were made */
	unsigned made;               /* how many links it has had: the number of the next */
	struct host_ports *host;     /* ports of the host that it may reach beside the session's, or NULL */
	struct rule *rules;          /* faults of its network (impair.c) */
};
/* Those that containers have. */
struct net_slot *slots_in_use(void);
/* From a container's network namespace to the router's. */
void router_come_back(void);
/* The slot in use with this address, or NULL. */
const struct net_slot *slot_of(struct in_addr);
/* Which addresses a link shall have; 0.0.0.0 and :: = any. */
struct address_wish { struct in_addr v4; struct in6_addr v6; };
/* Drops those that are ready for this network and have such an address; all, if any will do. */
void pool_evict(struct network *, const struct address_wish *);
/* Namespaces without a link shall be made ahead too: there are networks to which they will be linked. */
void pool_expect_links(void);
/* Links of a container to networks (links.c). inside: rtnetlink in its namespace. Makes one, as the slot's last; the first one to a
 * network with a way out gets the default route. */
int link_make(struct net_slot *, struct network *, const struct address_wish *, struct netlink *inside, struct fault *);
/* Removes it; another link takes over the default route. */
int link_remove(struct net_slot *, struct net_link *, struct netlink *inside);
/* The IPv6 address that its side has for the network alone, if the network has IPv6. */
struct in6_addr link_local(const struct net_link *);
/* Index of the container's side, in its namespace. */
int link_index_inside(const struct net_link *);
/* Frees what is known of it. It is cut off; the link itself goes with its namespace. */
void link_forget(struct net_slot *, struct net_link *);

/* Removes a link of the router's, soon (discard.c). */
void discard(unsigned index);
void discard_close(void);
/* A port of a bridge passes nothing on from now on, nor is anything known to be behind it. */
void cut_off(unsigned port);

/* Comes between a link and its network if its slot has rules; and goes. The link stays cut off. */
int shaper_make(struct net_slot *, struct net_link *, struct fault *);
void shaper_free(struct net_link *);
/* The slot is not in use any more: neither are its rules, nor those about it. */
void impair_forget(struct net_slot *);
void impair_close(void);

/* Whether this container may reach the port on the host's loopback; or, port 0, any port at all (host_access.c). */
bool host_access(const struct net_slot *, uint16_t port);
void host_access_forget(struct net_slot *);
void host_access_close(void);

/* Writes a value below /proc/sys/net of the current network namespace. -1 with errno. */
int net_sysctl(const char *name, const char *value);

int pool_open(struct fault *);
void pool_close(void);

/* why: filled with one sentence when containers will not reach the outside. Never fails the session. */
bool egress_open(char *why, size_t size);
bool egress_is_open(void);
/* The same for IPv6, unless it is there or there is no way out at all. */
int egress_open_v6(struct fault *);
void egress_close(void);
/* Ends every connection and flow of a container that is gone. */
void egress_forget(struct in_addr);

/* resolvers: comma-separated addresses of the host's name servers. */
void dns_open(const char *resolvers);
void dns_close(void);
/* The name server on a network's gateway, port 53. */
int dns_serve(struct network *, struct fault *);
void dns_unserve(struct network *);

/* What the name server makes of a query (without the length that TCP puts before it). */
enum verdict { DNS_IGNORE, DNS_ANSWERED, DNS_FORWARD };
enum { DNS_ANSWER_SIZE = 1024 /* of any that is not a list of addresses */, DNS_DATAGRAM = 512 /* RFC 1035, 4.2.1 */, DNS_STREAM = 32768 };
/* Touches nothing but the table of names, and takes any bytes. asker: who hears of its own networks only. answer has DNS_ANSWER_SIZE
 * bytes at least, and is filled when DNS_ANSWERED: with as many addresses as fit into room, marked as truncated if there are more. */
enum verdict names_answer(const uint8_t *query, size_t size, struct in_addr asker, uint8_t *answer, size_t room, size_t *answer_size);
/* The query's header and question with an error code (2 SERVFAIL, 3 NXDOMAIN); 0 if the query has no sound question. */
size_t names_refuse(const uint8_t *query, size_t size, unsigned code, uint8_t answer[DNS_ANSWER_SIZE]);
/* Bytes of header and question; 0 if malformed. */
size_t names_question(const uint8_t *message, size_t size);
void names_clear(void);

/* The rules that bring the containers' packets to the egress listeners on 127.0.0.1 (nft.c). -1 with errno. */
enum { EGRESS_MARK = 1, FIRST_MARK = 2 };
int nft_open(uint16_t tcp_port, uint16_t udp_port);
int nft_open_v6(uint16_t tcp_port, uint16_t udp_port);    /* on ::1 */
