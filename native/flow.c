/* UDP conversations, in a hash table by client and destination and in a list by their last use. */
#define _GNU_SOURCE
#include "flow.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "loop.h"

#ifndef IPV6_ORIGDSTADDR
#define IPV6_ORIGDSTADDR 74
#endif

enum { MOST_FLOWS = 2048, BUCKETS = 1024, SWEEP_US = 5000000 };
static const uint64_t UNANSWERED_NS = 30000000000u, ANSWERED_NS = 180000000000u;

struct flow {
	struct flow_key key;
	struct flow *next, **at;     /* in its bucket */
	struct flow *newer, *older;  /* by last use */
	struct watch far, near;
	int far_fd, near_fd, shared;
	bool answered;
	uint64_t used_ns;
	struct in_addr container;
	void (*refused)(const struct flow_key *);
};

static struct flow *buckets[BUCKETS], *newest, *oldest;
static unsigned flow_count;
static struct timer sweep_timer;
/* Pages are touched, hence taken, only as far as datagrams are long. */
static char buffers[FLOW_BATCH][DATAGRAM_SIZE];

socklen_t address_size(const union address *address)
{
	return address->any.sa_family == AF_INET6 ? sizeof(address->v6) : sizeof(address->v4);
}

static struct flow **bucket_of(const struct flow_key *key)
{
	uint64_t hash = 14695981039346656037u;    /* FNV-1a */
	for (size_t i = 0; i < sizeof(*key); i++)
		hash = (hash ^ ((const uint8_t *)key)[i]) * 1099511628211u;
	return &buckets[(hash ^ hash >> 32) % BUCKETS];
}

struct flow *flow_find(const struct flow_key *key)
{
	struct flow *flow = *bucket_of(key);
	while (flow && memcmp(&flow->key, key, sizeof(*key)) != 0)
		flow = flow->next;
	return flow;
}

static void line_up(struct flow *flow)
{
	flow->newer = NULL;
	flow->older = newest;
	if (newest)
		newest->newer = flow;
	else
		oldest = flow;
	newest = flow;
}

static void step_out(struct flow *flow)
{
	if (flow->newer)
		flow->newer->older = flow->older;
	else
		newest = flow->older;
	if (flow->older)
		flow->older->newer = flow->newer;
	else
		oldest = flow->newer;
}

static void used(struct flow *flow)
{
	flow->used_ns = now_ns();
	step_out(flow);
	line_up(flow);
}

static void flow_end(struct flow *flow)
{
	loop_forget(&flow->far);
	loop_forget(&flow->near);
	close(flow->far_fd);
	if (flow->near_fd >= 0)
		close(flow->near_fd);
	if (flow->next)
		flow->next->at = flow->at;
	*flow->at = flow->next;
	step_out(flow);
	flow_count--;
	free(flow);
}

static void sweep(struct timer *timer)
{
	uint64_t now = now_ns();
	for (struct flow *flow = oldest, *next; flow; flow = next) {
		next = flow->newer;
		if (now - flow->used_ns > (flow->answered ? ANSWERED_NS : UNANSWERED_NS))
			flow_end(flow);
	}
	if (flow_count)
		timer_set(timer, SWEEP_US, sweep);
}

bool flow_end_oldest(void)
{
	if (!oldest)
		return false;
	flow_end(oldest);
	return true;
}

void flow_end_owner(const void *owner)
{
	for (struct flow *flow = oldest, *next; flow; flow = next) {
		next = flow->newer;
		if (flow->key.owner == owner)
			flow_end(flow);
	}
}

void flow_end_container(struct in_addr container)
{
	for (struct flow *flow = oldest, *next; flow; flow = next) {
		next = flow->newer;
		if (flow->container.s_addr == container.s_addr)
			flow_end(flow);
	}
}

/* The address a datagram was sent to, as far as the socket reports it. */
static void read_local(struct msghdr *message, union address *local)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_ORIGDSTADDR) {
			memcpy(&local->v4, CMSG_DATA(c), sizeof(local->v4));
			memset(local->v4.sin_zero, 0, sizeof(local->v4.sin_zero));
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_ORIGDSTADDR) {
			memcpy(&local->v6, CMSG_DATA(c), sizeof(local->v6));
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;
			memcpy(&info, CMSG_DATA(c), sizeof(info));
			local->v4.sin_family = AF_INET;
			local->v4.sin_addr = info.ipi_spec_dst;
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo info;
			memcpy(&info, CMSG_DATA(c), sizeof(info));
			local->v6.sin6_family = AF_INET6;
			local->v6.sin6_addr = info.ipi6_addr;
		}
	}
}

int datagrams_receive(int fd, struct datagram list[FLOW_BATCH])
{
	struct mmsghdr messages[FLOW_BATCH] = {0};
	struct iovec vectors[FLOW_BATCH];
	_Alignas(struct cmsghdr) char controls[FLOW_BATCH][CONTROL_SIZE];
	for (int i = 0; i < FLOW_BATCH; i++) {
		vectors[i] = (struct iovec){buffers[i], DATAGRAM_SIZE};
		memset(&list[i], 0, sizeof(list[i]));
		messages[i].msg_hdr = (struct msghdr){
			.msg_name = &list[i].from, .msg_namelen = sizeof(list[i].from),
			.msg_iov = &vectors[i], .msg_iovlen = 1,
			.msg_control = controls[i], .msg_controllen = CONTROL_SIZE,
		};
	}
	int got = recvmmsg(fd, messages, FLOW_BATCH, 0, NULL);
	for (int i = 0; i < got; i++) {
		list[i].bytes = buffers[i];
		list[i].size = messages[i].msg_len;
		read_local(&messages[i].msg_hdr, &list[i].local);
	}
	return got;
}

/* Sends all of them from one socket: to `to` from `local`, or where the socket is connected. What does not fit is lost. */
static void datagrams_send(int fd, const struct datagram *list, int count, union address *to, const union address *local)
{
	struct mmsghdr messages[FLOW_BATCH] = {0};
	struct iovec vectors[FLOW_BATCH];
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct in6_pktinfo))] = {0};
	size_t control_size = 0;
	struct cmsghdr *c = (struct cmsghdr *)control;
	if (local && local->any.sa_family == AF_INET) {
		struct in_pktinfo info = {.ipi_spec_dst = local->v4.sin_addr};
		*c = (struct cmsghdr){CMSG_LEN(sizeof(info)), IPPROTO_IP, IP_PKTINFO};
		memcpy(CMSG_DATA(c), &info, sizeof(info));
		control_size = CMSG_SPACE(sizeof(info));
	} else if (local && local->any.sa_family == AF_INET6) {
		struct in6_pktinfo info = {.ipi6_addr = local->v6.sin6_addr};
		*c = (struct cmsghdr){CMSG_LEN(sizeof(info)), IPPROTO_IPV6, IPV6_PKTINFO};
		memcpy(CMSG_DATA(c), &info, sizeof(info));
		control_size = CMSG_SPACE(sizeof(info));
	}
	for (int i = 0; i < count; i++) {
		vectors[i] = (struct iovec){list[i].bytes, list[i].size};
		messages[i].msg_hdr = (struct msghdr){
			.msg_name = to, .msg_namelen = to ? address_size(to) : 0,
			.msg_iov = &vectors[i], .msg_iovlen = 1,
			.msg_control = control_size ? control : NULL, .msg_controllen = control_size,
		};
	}
	for (int sent = 0; sent < count;) {
		int now = sendmmsg(fd, messages + sent, (unsigned)(count - sent), MSG_NOSIGNAL);
		/* An error belongs to the first one: a report of an earlier datagram's fate, or the buffer is full. */
		sent += now > 0 ? now : 1;
	}
}

static void far_ready(struct watch *w, uint32_t events)
{
	(void)events;
	struct flow *flow = container_of(w, struct flow, far);
	struct datagram list[FLOW_BATCH];
	int got = datagrams_receive(flow->far_fd, list);
	if (got < 0 && errno == ECONNREFUSED && flow->refused)
		flow->refused(&flow->key);
	if (got <= 0)
		return;
	flow->answered = true;
	used(flow);
	if (flow->near_fd >= 0)
		datagrams_send(flow->near_fd, list, got, NULL, NULL);
	else
		datagrams_send(flow->shared, list, got, &flow->key.client, &flow->key.local);
}

static void near_ready(struct watch *w, uint32_t events)
{
	(void)events;
	struct flow *flow = container_of(w, struct flow, near);
	struct datagram list[FLOW_BATCH];
	int got = datagrams_receive(flow->near_fd, list);
	if (got <= 0)
		return;
	used(flow);
	datagrams_send(flow->far_fd, list, got, NULL, NULL);
}

struct flow *flow_add(const struct flow_key *key, int far, int near, int shared, struct in_addr container,
	void (*refused)(const struct flow_key *))
{
	if (flow_count >= MOST_FLOWS)
		flow_end_oldest();
	struct flow *flow = calloc(1, sizeof(*flow));
	if (flow) {
		flow->far.fd = flow->near.fd = -1;
		if (loop_watch(&flow->far, far, EPOLLIN, far_ready) < 0 ||
			(near >= 0 && loop_watch(&flow->near, near, EPOLLIN, near_ready) < 0)) {
			loop_forget(&flow->far);
			free(flow);
			flow = NULL;
		}
	}
	if (!flow) {
		close(far);
		if (near >= 0)
			close(near);
		return NULL;
	}
	flow->key = *key;
	flow->far_fd = far;
	flow->near_fd = near;
	flow->shared = shared;
	flow->container = container;
	flow->refused = refused;
	flow->used_ns = now_ns();
	flow->at = bucket_of(key);
	flow->next = *flow->at;
	if (flow->next)
		flow->next->at = &flow->next;
	*flow->at = flow;
	line_up(flow);
	flow_count++;
	if (!sweep_timer.due_ns)
		timer_set(&sweep_timer, SWEEP_US, sweep);
	return flow;
}

void flow_send(struct flow *flow, const void *bytes, size_t size)
{
	used(flow);
	/* The first error may be the report of an earlier datagram's fate. */
	for (int attempt = 0; attempt < 2; attempt++) {
		if (send(flow->far_fd, bytes, size, MSG_NOSIGNAL) >= 0 || errno == EAGAIN)
			return;
		if (errno == ECONNREFUSED && flow->refused)
			flow->refused(&flow->key);
	}
}
