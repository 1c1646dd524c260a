#pragma once
/* Netlink messages built by hand: several requests in one send, each acknowledged. Used for links, addresses and routes
 * (rtnetlink) and for nftables (nfnetlink). */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

struct netlink {
	int fd;              /* -1 when closed */
	uint32_t sequence;   /* of the last message sent */
};

enum { BATCH_SIZE = 8192 };

/* Requests on their way to the kernel. Start with BATCH_EMPTY. Overflow is remembered and fails the send. */
struct batch {
	_Alignas(4) char bytes[BATCH_SIZE];
	size_t length;
	size_t message;      /* offset of the message being built */
	unsigned expected;   /* acknowledgements */
	bool overflow;
};

/* A socket in the network namespace that the caller is in. -1 with errno. */
int netlink_open(struct netlink *, int protocol);
void netlink_close(struct netlink *);

void batch_clear(struct batch *);
/* Starts a message with its fixed header (ifinfomsg, rtmsg, nfgenmsg…). NLM_F_REQUEST is added. */
void message_begin(struct batch *, uint16_t type, uint16_t flags, const void *header, size_t size);
void put(struct batch *, uint16_t type, const void *data, size_t size);
void put_u8(struct batch *, uint16_t type, uint8_t);
void put_u16(struct batch *, uint16_t type, uint16_t);
void put_u32(struct batch *, uint16_t type, uint32_t);
void put_string(struct batch *, uint16_t type, const char *);    /* with its NUL */
size_t nest_begin(struct batch *, uint16_t type);
void nest_end(struct batch *, size_t nest);

/* Makes the link of this message a veth. What is put until veth_end concerns its peer. */
struct veth {
	size_t info, data, peer;
};
struct veth veth_begin(struct batch *, const struct ifinfomsg *peer);
void veth_end(struct batch *, struct veth);

/* Sends the batch and waits for the acknowledgement of every message that asked for one (NLM_F_ACK). All are carried out,
 * even after one has failed (rtnetlink). 0, or -1 with the errno of the first failure. The batch is cleared. */
int netlink_send(struct netlink *, struct batch *);

/* Sends one request (with NLM_F_DUMP for many answers) and calls each for every message of the answer.
 * -1 with errno if the kernel refuses or the answer was disturbed (EINTR: ask again). */
int netlink_ask(struct netlink *, struct batch *, void (*each)(const struct nlmsghdr *, void *), void *context);

/* Walks the attributes behind the fixed header of a message: fills found[1..max] (NULL = absent). */
void attributes(const struct nlmsghdr *, size_t header, const struct nlattr **found, unsigned max);
