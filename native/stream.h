#pragma once
/* Bytes between a bulk connection and a process, with backpressure both ways and nothing unbounded in between. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "json.h"
#include "loop.h"

struct connection {
	struct watch watch;
	int fd;
	char *out; size_t out_start, out_length, out_capacity;
	bool reading, ending;                            /* ending: close when all is sent */
	void (*drained)(struct connection *);            /* all output is sent; may send more */
	void (*input)(struct connection *);              /* readable, while reading is on */
	void (*gone)(struct connection *);               /* the peer went away or everything was sent after connection_end; frees the owner */
	void *owner;                                     /* the job behind it */
	void *reader;                                    /* log.c's */
	struct feed *feed;                               /* where its input goes */
};
void connection_init(struct connection *, int fd);
/* Starts watching; reading says whether input is wanted now. */
int connection_watch(struct connection *, bool reading);
void connection_read(struct connection *, bool reading);
/* Queues and sends as far as possible; false when out of memory. */
bool connection_send(struct connection *, const void *bytes, size_t length);
bool connection_frame(struct connection *, int stream, uint64_t time_ns, const void *bytes, size_t length);
bool connection_busy(const struct connection *);     /* output is waiting */
void connection_end(struct connection *);            /* gone is called once everything is sent */
void connection_close(struct connection *);          /* now; gone is not called */
void connection_free(struct connection *);           /* a gone callback for a connection that nobody owns */
/* Answers the request of this number with a fault, and ends. The connection has no owner any more. */
void connection_refuse(struct connection *, uint64_t seq, const struct fault *);

/* Writes to a process's stdin (a pipe or a terminal) what connections bring, one at a time. */
struct feed {
	int fd;                                          /* -1 when closed */
	struct watch watch;
	char *bytes; size_t start, length;
	struct connection *from;                         /* who feeds it now */
	bool close_at_end, terminal;
};
void feed_init(struct feed *, int fd, bool terminal);
/* The connection's input goes to the feed until the connection's owner lets go. When its input ends, the feed is closed if close_at_end. */
void feed_attach(struct feed *, struct connection *, bool close_at_end);
void feed_release(struct feed *, struct connection *);
void feed_close(struct feed *);
