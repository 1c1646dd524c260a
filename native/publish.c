/* Published ports: listeners on the host, connections and datagrams passed on to the container from the gateway's address.
 * The port is taken before publish_open() returns, so nobody polls for it and two workers never get the same one. */
#define _GNU_SOURCE
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "flow.h"
#include "host.h"
#include "loop.h"
#include "relay.h"

enum { BACKLOG = 4096, ACCEPTS = 16, TWIN_ATTEMPTS = 64 };

struct listener {
	struct watch watch;
	int fd;                      /* -1 if unused */
	bool wildcard;               /* answers must say which of the host's addresses they come from */
	struct publish *publish;
};

struct publish {
	bool udp;
	uint16_t port;               /* on the host */
	struct sockaddr_in to;       /* the container's */
	struct listener listeners[2];
};

/* From the router, not from the host: the container sees its gateway as the client. */
static int container_socket(const struct publish *p)
{
	return socket(AF_INET, (p->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

static void connections_ready(struct watch *w, uint32_t events)
{
	(void)events;
	struct listener *l = container_of(w, struct listener, watch);
	struct publish *p = l->publish;
	for (int i = 0; i < ACCEPTS; i++) {
		int client = accept_or_shed(l->fd);
		if (client < 0 && (errno == EAGAIN || errno == EBADF || errno == EINVAL))
			return;
		if (client < 0)
			continue;
		int fd = p->to.sin_addr.s_addr ? container_socket(p) : -1;
		if (fd < 0) {
			reset_and_close(client);
			continue;
		}
		int connected = connect(fd, (struct sockaddr *)&p->to, sizeof(p->to));
		/* The links are inside this kernel, so the answer is usually there by now. Asking again tells, and spares a turn of
		 * the loop. */
		if (connected < 0 && errno == EINPROGRESS)
			connected = connect(fd, (struct sockaddr *)&p->to, sizeof(p->to));
		if (connected < 0 && errno != EALREADY && errno != EINPROGRESS) {
			reset_and_close(client);
			close(fd);
			continue;
		}
		relay_start(client, fd, connected < 0, p, p->to.sin_addr);
	}
}

static struct flow *new_flow(struct publish *p, struct listener *l, const struct flow_key *key)
{
	if (!p->to.sin_addr.s_addr)    /* to connect there would lead to the router itself */
		return NULL;
	int fd = container_socket(p);
	if (fd < 0 && (errno == EMFILE || errno == ENFILE) && flow_end_oldest())
		fd = container_socket(p);
	if (fd < 0)
		return NULL;
	if (connect(fd, (struct sockaddr *)&p->to, sizeof(p->to)) < 0) {
		close(fd);
		return NULL;
	}
	return flow_add(key, fd, -1, l->fd, p->to.sin_addr, NULL);
}

static void datagrams_ready(struct watch *w, uint32_t events)
{
	(void)events;
	struct listener *l = container_of(w, struct listener, watch);
	struct publish *p = l->publish;
	struct datagram list[FLOW_BATCH];
	int got = datagrams_receive(l->fd, list);
	for (int i = 0; i < got; i++) {
		struct flow_key key = {.owner = p, .client = list[i].from};
		if (l->wildcard)
			key.local = list[i].local;
		struct flow *flow = flow_find(&key);
		if (!flow)
			flow = new_flow(p, l, &key);
		if (flow)
			flow_send(flow, list[i].bytes, list[i].size);
	}
}

/* A socket of the host bound to the address, listening if it is TCP. chosen: the number came from the kernel, no need to
 * tolerate old connections in TIME_WAIT. wildcard: report where datagrams were sent to. -1 with errno. */
static int bound_socket(bool udp, union address *address, bool chosen, bool wildcard)
{
	int on = 1;
	int fd = host_socket(address->any.sa_family, udp ? SOCK_DGRAM : SOCK_STREAM, 0);
	if (fd < 0)
		return -1;
	bool failed = false;
	if (address->any.sa_family == AF_INET6)
		failed = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0 ||
			(wildcard && setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on)) < 0);
	else if (wildcard)
		failed = setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)) < 0;
	/* For TCP this never shares a port that somebody listens on; for UDP it would. */
	if (!failed && !udp && !chosen)
		failed = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0;
	socklen_t size = sizeof(*address);
	failed = failed || bind(fd, &address->any, address_size(address)) < 0 || (!udp && listen(fd, BACKLOG) < 0) ||
		getsockname(fd, &address->any, &size) < 0;
	if (!failed)
		return fd;
	int error = errno;
	close(fd);
	errno = error;
	return -1;
}

static int publish_fault(struct fault *f, bool udp, const char *ip, uint16_t port, int error)
{
	char subject[128];
	snprintf(subject, sizeof(subject), strchr(ip, ':') ? "[%s]:%u/%s" : "%s:%u/%s", ip, port, udp ? "udp" : "tcp");
	return fault(f, "publish", subject, error, NULL);
}

static bool without_ipv6(int error)
{
	return error == EAFNOSUPPORT || error == EADDRNOTAVAIL || error == EPFNOSUPPORT;
}

/* 127.0.0.1 and ::1 on the same number. A free number must be free for both: ask again while the twin is taken. */
static int open_loopback(bool udp, uint16_t port, int fds[2], uint16_t *chosen, struct fault *f)
{
	for (int attempt = 0; attempt < TWIN_ATTEMPTS; attempt++) {
		union address v4 = {.v4 = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}}};
		fds[1] = -1;
		fds[0] = bound_socket(udp, &v4, !port, false);
		if (fds[0] < 0)
			return publish_fault(f, udp, "127.0.0.1", port, errno);
		*chosen = ntohs(v4.v4.sin_port);
		union address v6 = {.v6 = {.sin6_family = AF_INET6, .sin6_port = v4.v4.sin_port, .sin6_addr = IN6ADDR_LOOPBACK_INIT}};
		fds[1] = bound_socket(udp, &v6, !port, false);
		if (fds[1] >= 0 || without_ipv6(errno))
			return 0;
		int error = errno;
		close(fds[0]);
		if (port || error != EADDRINUSE)
			return publish_fault(f, udp, "::1", *chosen, error);
	}
	return publish_fault(f, udp, "::1", 0, EADDRINUSE);
}

static int open_one(bool udp, const char *ip, uint16_t port, int fds[2], uint16_t *chosen, bool *wildcard, struct fault *f)
{
	union address address = {0};
	fds[1] = -1;
	if (inet_pton(AF_INET, ip, &address.v4.sin_addr) == 1) {
		address.v4.sin_family = AF_INET;
		address.v4.sin_port = htons(port);
		*wildcard = address.v4.sin_addr.s_addr == htonl(INADDR_ANY);
	} else if (inet_pton(AF_INET6, ip, &address.v6.sin6_addr) == 1) {
		address.v6.sin6_family = AF_INET6;
		address.v6.sin6_port = htons(port);
		*wildcard = IN6_IS_ADDR_UNSPECIFIED(&address.v6.sin6_addr);
	} else {
		return publish_fault(f, udp, ip, port, EINVAL);
	}
	fds[0] = bound_socket(udp, &address, !port, udp && *wildcard);
	if (fds[0] < 0)
		return publish_fault(f, udp, ip, port, errno);
	*chosen = ntohs(address.any.sa_family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
	return 0;
}

struct publish *publish_open(bool udp, const char *host_ip, uint16_t host_port, struct in_addr to, uint16_t container_port,
	struct fault *f)
{
	int fds[2];
	bool wildcard = false;
	struct publish *p = calloc(1, sizeof(*p));
	if (!p) {
		publish_fault(f, udp, host_ip, host_port, ENOMEM);
		return NULL;
	}
	int opened = strcmp(host_ip, "*") == 0 ? open_loopback(udp, host_port, fds, &p->port, f)
		: open_one(udp, host_ip, host_port, fds, &p->port, &wildcard, f);
	if (opened < 0) {
		free(p);
		return NULL;
	}
	p->udp = udp;
	p->to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(container_port), .sin_addr = to};
	bool watched = true;
	for (int i = 0; i < 2; i++) {
		struct listener *l = &p->listeners[i];
		*l = (struct listener){.watch = {.fd = -1}, .fd = fds[i], .wildcard = wildcard, .publish = p};
		if (l->fd >= 0 && loop_watch(&l->watch, l->fd, EPOLLIN, udp ? datagrams_ready : connections_ready) < 0)
			watched = false;
	}
	if (!watched) {
		publish_fault(f, udp, host_ip, p->port, errno);
		publish_close(p);
		return NULL;
	}
	return p;
}

uint16_t publish_host_port(const struct publish *p)
{
	return p->port;
}

void publish_lead_to(struct publish *p, struct in_addr to)
{
	if (p->to.sin_addr.s_addr == to.s_addr)
		return;
	p->to.sin_addr = to;
	relay_end_owner(p);
	flow_end_owner(p);
}

void publish_close(struct publish *p)
{
	if (!p)
		return;
	for (int i = 0; i < 2; i++)
		if (p->listeners[i].fd >= 0) {
			loop_forget(&p->listeners[i].watch);
			close(p->listeners[i].fd);
		}
	relay_end_owner(p);
	flow_end_owner(p);
	free(p);
}
