/* Which containers may reach which TCP ports on the host's loopback: by default none. They connect to their gateway's address;
 * egress.c asks here and makes the connection. Port 53 of the gateway is the name server's. */
#define _GNU_SOURCE
#include "net.h"
#include "router.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct host_ports { uint8_t bits[65536 / 8]; };

static struct host_ports *of_session;

static bool contains(const struct host_ports *ports, uint16_t port)
{
	return ports && (!port || ports->bits[port / 8] & 1u << port % 8);
}

bool host_access(const struct net_slot *slot, uint16_t port)
{
	return contains(of_session, port) || (slot && contains(slot->host, port));
}

static int add(struct host_ports **to, const char *const *ports, size_t count, struct fault *f)
{
	if (!count)
		return 0;
	if (!egress_is_open())
		return fault(f, "host-port", ports[0], ENOTSUP, "containers of this session do not reach the outside");
	for (size_t i = 0; i < count; i++) {
		char *end;
		unsigned long port = strtoul(ports[i], &end, 10);
		bool is_number = ports[i][0] >= '0' && ports[i][0] <= '9' && !*end;
		if (strcmp(ports[i], "*") && (!is_number || !port || port > 65535 || port == 53))
			return fault(f, "host-port", ports[i], EINVAL, port == 53 ? "port 53 of the gateway is the name server's" : "a port is needed");
	}
	if (!*to && !(*to = calloc(1, sizeof(**to))))
		return fault(f, "host-port", ports[0], ENOMEM, NULL);
	for (size_t i = 0; i < count; i++) {
		unsigned long port = strtoul(ports[i], NULL, 10);
		if (port)
			(*to)->bits[port / 8] |= (uint8_t)(1u << port % 8);
		else
			memset((*to)->bits, 0xff, sizeof((*to)->bits));
	}
	return 0;
}

int net_host_ports(const char *const *ports, size_t count, struct fault *f)
{
	return add(&of_session, ports, count, f);
}

int net_slot_host_ports(struct net_slot *slot, const char *const *ports, size_t count, struct fault *f)
{
	return add(&slot->host, ports, count, f);
}

void host_access_forget(struct net_slot *slot)
{
	free(slot->host);
	slot->host = NULL;
}

void host_access_close(void)
{
	free(of_session);
	of_session = NULL;
}
