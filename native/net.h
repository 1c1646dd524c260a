#pragma once
/* The session's network: router namespace with bridges, a pool of ready container namespaces, published ports,
 * name server, egress. All calls come from the warden's single thread, and the warden is in the router's network
 * namespace between calls (functions that hop elsewhere come back before they return). */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <netinet/in.h>
#include "fault.h"

struct net_facts {
	char subnet[32];        /* "10.83.4.0/22" */
	char gateway[16];       /* the bridge's address and the name server's */
	bool host_reachable;    /* the host has a route to the containers' addresses (root only) */
	bool egress;            /* containers reach the outside */
	char warning[256];      /* why not, "" if all is well */
};

/* Makes the router: lo, bridge, name server, egress, host uplink (rooted only). hostns is a descriptor of the host's
 * network namespace, used only when rooted. resolvers: comma-separated addresses of the host's name servers. */
int net_open(bool rooted, int hostns, const char *resolvers, struct net_facts *, struct fault *);
void net_close(void);   /* at the session's end: closes; the kernel removes the rest with the namespaces */

struct net_counters { uint64_t rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped; };

/* One container's network namespace with lo and eth0 up, address, default route, and the usual sysctls
 * (ip_unprivileged_port_start=0, ping_group_range). */
struct net_slot;
struct network;
struct net_slot *net_take(struct fault *);               /* from the pool, else made now */
struct net_slot *net_take_lonely(struct fault *);        /* network "none": lo only */
/* linked to it; addresses as net_connect */
struct net_slot *net_take_on(struct network *, const char *address, const char *address_v6, struct fault *);
int net_slot_ns(const struct net_slot *);                /* namespace descriptor, for setns in the child */
struct in_addr net_slot_address(const struct net_slot *); /* of its primary link; 0.0.0.0 without links, and for NULL */

/* What a container is to a network: eth0, eth1… inside. The primary one has the default route, or is the first if none has. */
struct net_link {
	struct net_link *next;
	struct network *network;
	struct in_addr address;
	struct in6_addr v6;              /* its IPv6 address; :: if the network has none */
	struct net_link *next_v6;        /* on the same network */
	unsigned port;                   /* interface index of the bridge's side */
	unsigned number;                 /* of ethN */
	bool is_default;                 /* the way out leads over it */
	bool is_default_v6;
	struct net_counters before;      /* at net_take */
	struct shaper *shaper;           /* between it and its network, while the container has faults (impair.c); or NULL */
};
const struct net_link *net_slot_links(const struct net_slot *);
const struct net_link *net_slot_primary(const struct net_slot *);
/* Links it to one more network, running or not. Addresses: "" or NULL = a free one. */
int net_connect(struct net_slot *, struct network *, const char *address, const char *address_v6, struct fault *);
/* Connections over it end. */
int net_disconnect(struct net_slot *, struct network *, struct fault *);

/* Faults, for tests, in both directions: of a million packets so many are lost, the others come so much later, up to jitter more, and no
 * more than so many bytes a second; 0 = not so. */
struct net_impairment { uint32_t loss; uint64_t delay_us, jitter_us, bytes_per_second; };
/* What is between it and the peer, or with NULL everything that no peer's rule is about. All 0 = nothing any more. */
int net_impair(struct net_slot *, const struct net_slot *peer, const struct net_impairment *, struct fault *);
/* Ends all of its faults. */
void net_heal(struct net_slot *);

/* What a network shall be. NULL = whatever. */
struct network_wish {
	const char *subnet;              /* such as "10.5.0.0/24"; else a free one */
	const char *gateway;             /* an address of the subnet; else its first */
	const char *range;               /* part of the subnet from which containers get addresses that they did not ask for; else all of it */
	bool internal;                   /* no way out */
	bool ipv6;                       /* and an IPv6 subnet beside it */
	const char *subnet_v6;           /* such as "fd00:5::/64"; else one below a random fd00::/8 */
	const char *gateway_v6, *range_v6;
};
/* Further networks; their containers reach none of the others'. The default one has the id "bridge". */
struct network *network_create(const char *id, const struct network_wish *, struct fault *);
struct network *network_find(const char *id);
/* EBUSY while a container is linked to it. */
int network_remove(struct network *, struct fault *);
const char *network_id(const struct network *);
struct in_addr network_gateway(const struct network *);
void network_subnet(const struct network *, char text[32]);
/* :: without IPv6 */
struct in6_addr network_gateway_v6(const struct network *);
void network_subnet_v6(const struct network *, char text[64]);

/* TCP ports of the host's loopback that containers reach under their gateway's address: all of the session's, or this one. Each call adds.
 * "*" stands for every port. */
int net_host_ports(const char *const *ports, size_t count, struct fault *);
int net_slot_host_ports(struct net_slot *, const char *const *ports, size_t count, struct fault *);
/* All processes in it are dead. tainted: the container could have changed the namespace (CAP_NET_ADMIN, privileged,
 * sysctls): it is not used again. Otherwise it goes back to the pool if no socket is left in it (sock_diag says). */
void net_give_back(struct net_slot *, bool tainted);
/* rx/tx since net_take, of all links. */
int net_slot_counters(const struct net_slot *, struct net_counters *);

/* Published port. host_ip "*" = 127.0.0.1 and ::1 on the same number (only v4 where there is no IPv6 at all); host_port 0 = free one chosen
 * by binding it. Listens at once; connections are refused quickly (RST) while the container does not accept. Errors: step "publish",
 * subject "127.0.0.1:5432/tcp". */
struct publish;
struct publish *publish_open(bool udp, const char *host_ip, uint16_t host_port, struct in_addr to, uint16_t container_port, struct fault *);
uint16_t publish_host_port(const struct publish *);
/* From now on it leads to another address of the container; 0.0.0.0 = to none, connections are refused. */
void publish_lead_to(struct publish *, struct in_addr);
void publish_close(struct publish *);   /* ends its connections too */

/* Names the server answers with these addresses, for containers on the first one's network; a container may have several. v6: NULL or :: =
 * none. owner identifies them for removal. */
int  names_add(const void *owner, const char *name, struct in_addr, const struct in6_addr *v6);
void names_remove(const void *owner);
