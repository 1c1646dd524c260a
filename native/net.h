#pragma once
/* The session's network: router namespace with a bridge, a pool of ready container namespaces, published ports,
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

/* One container's network namespace with lo and eth0 up, address, default route, and the usual sysctls
 * (ip_unprivileged_port_start=0, ping_group_range). */
struct net_slot;
struct net_slot *net_take(struct fault *);               /* from the pool, else made now */
struct net_slot *net_take_lonely(struct fault *);        /* network "none": lo only */
int net_slot_ns(const struct net_slot *);                /* namespace descriptor, for setns in the child */
struct in_addr net_slot_address(const struct net_slot *); /* 0.0.0.0 for lonely, and for NULL */
/* All processes in it are dead. tainted: the container could have changed the namespace (CAP_NET_ADMIN, privileged,
 * sysctls): it is not used again. Otherwise it goes back to the pool if no socket is left in it (sock_diag says). */
void net_give_back(struct net_slot *, bool tainted);
/* rx/tx since net_take. */
struct net_counters { uint64_t rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped; };
int net_slot_counters(const struct net_slot *, struct net_counters *);

/* Published port. host_ip "*" = 127.0.0.1 and ::1 on the same number (only v4 where there is no IPv6 at all); host_port 0 = free one chosen
 * by binding it. Listens at once; connections are refused quickly (RST) while the container does not accept. Errors: step "publish",
 * subject "127.0.0.1:5432/tcp". */
struct publish;
struct publish *publish_open(bool udp, const char *host_ip, uint16_t host_port, struct in_addr to, uint16_t container_port, struct fault *);
uint16_t publish_host_port(const struct publish *);
void publish_close(struct publish *);   /* ends its connections too */

/* Names the server answers with address; a container may have several. owner identifies them for removal. */
int  names_add(const void *owner, const char *name, struct in_addr);
void names_remove(const void *owner);
