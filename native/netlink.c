#define _GNU_SOURCE
#include "netlink.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/veth.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ANSWER_SIZE = 32768 };    /* what the kernel packs into one datagram of a dump, at most */

int netlink_open(struct netlink *nl, int protocol)
{
	nl->sequence = 0;
	nl->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	if (nl->fd < 0)
		return -1;
	/* Errors then do not carry our request back, so an acknowledgement is always short. */
	int on = 1;
	setsockopt(nl->fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
	return 0;
}

void netlink_close(struct netlink *nl)
{
	if (nl->fd >= 0)
		close(nl->fd);
	nl->fd = -1;
}

void batch_clear(struct batch *b)
{
	b->length = b->message = 0;
	b->expected = 0;
	b->overflow = false;
}

/* Reserves zeroed, aligned room; NULL when full. */
static void *room(struct batch *b, size_t size)
{
	size_t aligned = NLMSG_ALIGN(size);
	if (b->overflow || aligned > sizeof(b->bytes) - b->length) {
		b->overflow = true;
		return NULL;
	}
	void *at = b->bytes + b->length;
	memset(at, 0, aligned);
	b->length += aligned;
	((struct nlmsghdr *)(b->bytes + b->message))->nlmsg_len = (uint32_t)(b->length - b->message);
	return at;
}

static void put_header(struct batch *b, const void *header, size_t size)
{
	void *fixed = room(b, size);
	if (fixed)
		memcpy(fixed, header, size);
}

void message_begin(struct batch *b, uint16_t type, uint16_t flags, const void *header, size_t size)
{
	b->message = b->length;
	if (sizeof(struct nlmsghdr) > sizeof(b->bytes) - b->length) {
		b->overflow = true;
		b->message = 0;
		return;
	}
	struct nlmsghdr *message = room(b, sizeof(*message));
	if (!message)
		return;
	message->nlmsg_type = type;
	message->nlmsg_flags = flags | NLM_F_REQUEST;
	if (flags & NLM_F_ACK)
		b->expected++;
	put_header(b, header, size);
}

void put(struct batch *b, uint16_t type, const void *data, size_t size)
{
	struct nlattr *attribute = room(b, NLA_HDRLEN + size);
	if (!attribute)
		return;
	attribute->nla_type = type;
	attribute->nla_len = (uint16_t)(NLA_HDRLEN + size);
	if (size)
		memcpy((char *)attribute + NLA_HDRLEN, data, size);
}

void put_u8(struct batch *b, uint16_t type, uint8_t value)
{
	put(b, type, &value, sizeof(value));
}

void put_u16(struct batch *b, uint16_t type, uint16_t value)
{
	put(b, type, &value, sizeof(value));
}

void put_u32(struct batch *b, uint16_t type, uint32_t value)
{
	put(b, type, &value, sizeof(value));
}

void put_string(struct batch *b, uint16_t type, const char *value)
{
	put(b, type, value, strlen(value) + 1);
}

size_t nest_begin(struct batch *b, uint16_t type)
{
	size_t nest = b->length;
	put(b, type | NLA_F_NESTED, NULL, 0);
	return nest;
}

void nest_end(struct batch *b, size_t nest)
{
	if (!b->overflow)
		((struct nlattr *)(b->bytes + nest))->nla_len = (uint16_t)(b->length - nest);
}

struct veth veth_begin(struct batch *b, const struct ifinfomsg *peer)
{
	struct veth veth = {.info = nest_begin(b, IFLA_LINKINFO)};
	put_string(b, IFLA_INFO_KIND, "veth");
	veth.data = nest_begin(b, IFLA_INFO_DATA);
	veth.peer = nest_begin(b, VETH_INFO_PEER);
	put_header(b, peer, sizeof(*peer));
	return veth;
}

void veth_end(struct batch *b, struct veth veth)
{
	nest_end(b, veth.peer);
	nest_end(b, veth.data);
	nest_end(b, veth.info);
}

/* Numbers the messages and hands them to the kernel, which carries out rtnetlink requests before it returns. */
static int deliver(struct netlink *nl, struct batch *b)
{
	if (b->overflow) {
		errno = EMSGSIZE;
		return -1;
	}
	for (size_t at = 0; at < b->length;) {
		struct nlmsghdr *message = (struct nlmsghdr *)(b->bytes + at);
		message->nlmsg_seq = ++nl->sequence;
		at += NLMSG_ALIGN(message->nlmsg_len);
	}
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	ssize_t sent;
	do
		sent = sendto(nl->fd, b->bytes, b->length, 0, (struct sockaddr *)&kernel, sizeof(kernel));
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -1 : 0;
}

/* One datagram of answers. Requests are carried out, and answers queued, before sendto() returns: no need to wait. */
static ssize_t receive(struct netlink *nl, void *answer, size_t size)
{
	ssize_t got;
	do
		got = recv(nl->fd, answer, size, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	return got;
}

int netlink_send(struct netlink *nl, struct batch *b)
{
	_Alignas(4) char answer[4096];
	int failure = 0;
	unsigned expected = b->expected;
	uint32_t before = nl->sequence;
	int delivered = deliver(nl, b);
	batch_clear(b);
	if (delivered < 0)
		return -1;
	for (;;) {
		ssize_t got = receive(nl, answer, sizeof(answer));
		if (got < 0 && errno != EAGAIN)
			return -1;
		if (got < 0)
			break;
		unsigned left = (unsigned)got;
		for (struct nlmsghdr *m = (struct nlmsghdr *)answer; NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
			if (m->nlmsg_type != NLMSG_ERROR || (int32_t)(m->nlmsg_seq - before) <= 0)
				continue;
			int error = -((struct nlmsgerr *)NLMSG_DATA(m))->error;
			if (error && !failure)
				failure = error;
			if (expected)
				expected--;
		}
		/* Spares the call that would say "nothing left"; after a failure there may be answers nobody asked for. */
		if (!expected && !failure)
			return 0;
	}
	errno = failure ? failure : EPROTO;
	return -1;
}

int netlink_ask(struct netlink *nl, struct batch *b, void (*each)(const struct nlmsghdr *, void *), void *context)
{
	static _Alignas(4) char answer[ANSWER_SIZE];
	bool dump = (((struct nlmsghdr *)b->bytes)->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
	bool disturbed = false;
	int delivered = deliver(nl, b);
	batch_clear(b);
	if (delivered < 0)
		return -1;
	for (;;) {
		ssize_t got = receive(nl, answer, sizeof(answer));
		if (got < 0)
			return -1;
		unsigned left = (unsigned)got;
		for (struct nlmsghdr *m = (struct nlmsghdr *)answer; NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
			if (m->nlmsg_seq != nl->sequence)
				continue;
			if (m->nlmsg_flags & NLM_F_DUMP_INTR)
				disturbed = true;
			if (m->nlmsg_type == NLMSG_ERROR) {
				errno = -((struct nlmsgerr *)NLMSG_DATA(m))->error;
				return errno ? -1 : 0;
			}
			if (m->nlmsg_type == NLMSG_DONE) {
				errno = EINTR;
				return disturbed ? -1 : 0;
			}
			each(m, context);
			if (!dump)
				return 0;
		}
	}
}

void attributes(const struct nlmsghdr *message, size_t header, const struct nlattr **found, unsigned max)
{
	memset(found, 0, (max + 1) * sizeof(*found));
	size_t at = NLMSG_HDRLEN + NLMSG_ALIGN(header);
	while (at + NLA_HDRLEN <= message->nlmsg_len) {
		const struct nlattr *attribute = (const struct nlattr *)((const char *)message + at);
		if (attribute->nla_len < NLA_HDRLEN || attribute->nla_len > message->nlmsg_len - at)
			return;
		unsigned type = attribute->nla_type & NLA_TYPE_MASK;
		if (type <= max)
			found[type] = attribute;
		at += NLA_ALIGN(attribute->nla_len);
	}
}
