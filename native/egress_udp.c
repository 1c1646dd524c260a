/* UDP to the outside: a conversation's first datagram comes to the listener; what follows, to a socket that poses as its destination. See egress.c. */
#define _GNU_SOURCE
#include "egress_internal.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>
#include "host.h"
#include "router.h"

static void datagram_failed(const struct flow_key *key, int error)
{
	uint8_t start[PACKET_SIZE];
	struct packet p;
	struct tuple tuple = {
		ip_in(&key->client), ip_in(&key->local), ntohs(key->client.v4.sin_port), ntohs(key->local.v4.sin_port)};
	if (packet_read(start, write_udp_start(&tuple, start), &p))
		egress_tell_failure(&p, error);
}

static void datagram_refused(const struct flow_key *key)
{
	datagram_failed(key, ECONNREFUSED);
}

/* A socket that is the destination, as far as the container can tell. */
static int pose_as(const struct flow_key *key)
{
	int on = 1;
	int fd = socket(key->local.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	if (make_transparent(fd, key->local.any.sa_family) == 0 &&
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
		bind(fd, &key->local.any, address_size(&key->local)) == 0 &&
		connect(fd, &key->client.any, address_size(&key->client)) == 0)
		return fd;
	close(fd);
	return -1;
}

static struct flow *conversation(const struct flow_key *key)
{
	struct flow *flow = flow_find(key);
	if (flow)
		return flow;
	struct in6_addr client = ip_in(&key->client);
	for (int attempt = 0; attempt < 2; attempt++) {
		int far = host_socket(key->local.any.sa_family, SOCK_DGRAM, 0);
		int near = far < 0 ? -1 : pose_as(key);
		if (near >= 0) {
			if (connect(far, &key->local.any, address_size(&key->local)) == 0)
				return flow_add(key, far, near, -1, egress_container(&client), datagram_refused);
			datagram_failed(key, errno);
			close(near);
			close(far);
			break;
		}
		if (far >= 0)
			close(far);
		else if (errno == EAFNOSUPPORT) {
			datagram_failed(key, errno);
			break;
		}
		/* Perhaps too many descriptors: once more with fewer. */
		if (!flow_end_oldest())
			break;
	}
	return NULL;
}

void udp_receive(int listener)
{
	struct datagram list[FLOW_BATCH];
	int got = datagrams_receive(listener, list);
	for (int i = 0; i < got; i++) {
		struct flow_key key = {.owner = EGRESS, .client = list[i].from, .local = list[i].local};
		struct in6_addr client = ip_in(&key.client), local = ip_in(&key.local);
		if (!key.local.any.sa_family || !network_at(&client) || !egress_container(&client).s_addr)
			continue;
		if (!egress_is_outside(&local) || !egress_has_way_out(&client)) {
			datagram_refused(&key);
			continue;
		}
		struct flow *flow = conversation(&key);
		if (flow)
			flow_send(flow, list[i].bytes, list[i].size);
	}
}
