/* Segment files hold frames exactly as they go over the wire. A segment is half of the cap; when the newer one is full the older one is
 * dropped. A reader is a position in the endless sequence of bytes; if its segment is gone it is told how much it missed and
 * goes on with the oldest byte there is. So a slow reader costs nothing and a flood fills nothing. */
#define _GNU_SOURCE
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "warden.h"

enum { CHUNK = 65536 };

struct segment { int fd; uint64_t start, end, output; bool in_memory; };  /* output: bytes of output before it, without frame heads */

struct reader {
	struct reader *next;
	struct log *log;
	struct connection *connection;
	struct log_query query;
	uint64_t at, until;          /* position; a reader that does not follow ends here */
	uint64_t output;             /* bytes of output before the position */
	uint64_t skip_newlines;      /* for tail: output before the n-th newline is left out */
	bool ended;
};

struct log {
	struct segment now, old;     /* fd -1 = none */
	uint64_t cap, written, kept; /* output: ever seen, ever stored */
	bool open;
	struct reader *readers;
};

struct log *log_new(uint64_t cap_bytes)
{
	struct log *log = calloc(1, sizeof(*log));
	if (log)
		*log = (struct log){.now.fd = -1, .old.fd = -1, .cap = cap_bytes};
	return log;
}

uint64_t log_bytes(const struct log *log)
{
	return log->written;
}

static void segment_open(struct segment *s, bool in_memory)
{
	s->fd = in_memory ? -1 : openat(session.directory_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	s->in_memory = s->fd < 0;
	if (s->fd < 0)
		s->fd = memfd_create("log", MFD_CLOEXEC);
}

/* The newer segment becomes the older one. */
static void rotate(struct log *log)
{
	if (log->old.fd >= 0)
		close(log->old.fd);
	log->old = log->now;
	log->now = (struct segment){.fd = -1, .start = log->old.end, .end = log->old.end, .output = log->kept};
}

static const struct segment *oldest_segment(const struct log *log)
{
	return log->old.fd >= 0 ? &log->old : &log->now;
}

static uint64_t oldest(const struct log *log)
{
	return oldest_segment(log)->start;
}

static void pump(struct reader *);

static void append_piece(struct log *log, int stream, const char *bytes, size_t length)
{
	struct frame frame = {.stream = (uint8_t)stream, .length = (uint32_t)length, .time_ns = wall_ns()};
	uint64_t size = log->now.end - log->now.start;
	if (log->now.fd >= 0 && size && size + sizeof(frame) + length > log->cap / 2)
		rotate(log);
	if (log->now.fd < 0)
		segment_open(&log->now, false);
	struct iovec parts[2] = {{&frame, sizeof(frame)}, {(void *)bytes, length}};
	ssize_t whole = (ssize_t)(sizeof(frame) + length);
	ssize_t put = log->now.fd < 0 ? -1 : pwritev(log->now.fd, parts, 2, (off_t)(log->now.end - log->now.start));
	if (put != whole && !log->now.in_memory) {
		/* The disk is full. Who reads an empty log takes it for all there was, so the next segment is in memory, under the same cap. */
		if (log->now.end > log->now.start)
			rotate(log);
		else if (log->now.fd >= 0)
			close(log->now.fd);
		segment_open(&log->now, true);
		put = log->now.fd < 0 ? -1 : pwritev(log->now.fd, parts, 2, 0);
	}
	if (put == whole) /* no memory either costs output, never the container; the next writes over the half frame */
		log->now.end += (uint64_t)put, log->kept += length;
}

void log_append(struct log *log, int stream, const char *bytes, size_t length)
{
	log->written += length;
	while (length) {
		size_t piece = length < log->cap / 4 ? length : (size_t)(log->cap / 4);
		append_piece(log, stream, bytes, piece);
		bytes += piece;
		length -= piece;
	}
	for (struct reader *r = log->readers, *next; r; r = next) {
		next = r->next;
		if (r->query.follow && !connection_busy(r->connection))
			pump(r);
	}
}

/* Reads at a position; returns bytes read, 0 where there is nothing. */
static ssize_t log_pread(const struct log *log, uint64_t at, void *to, size_t length)
{
	const struct segment *s = log->old.fd >= 0 && at < log->old.end ? &log->old : &log->now;
	if (s->fd < 0 || at < s->start || at >= s->end)
		return 0;
	if (length > s->end - at)
		length = (size_t)(s->end - at);
	ssize_t got = pread(s->fd, to, length, (off_t)(at - s->start));
	return got < 0 ? 0 : got;
}

static void reader_end(struct reader *r)
{
	r->ended = true;
	r->connection->drained = NULL;
	connection_end(r->connection); /* may free r through gone */
}

static bool wants(const struct reader *r, const struct frame *frame)
{
	return (frame->stream == STREAM_STDOUT ? r->query.stdout_wanted : r->query.stderr_wanted) &&
		frame->time_ns >= r->query.since_ns;
}

/* Sends what is there until the connection is busy or the reader has caught up. */
static void pump(struct reader *r)
{
	static char buffer[CHUNK];
	struct log *log = r->log;
	if (r->ended)
		return;
	while (!connection_busy(r->connection)) {
		if (r->at < oldest(log)) {
			char lost[64];
			int n = snprintf(lost, sizeof(lost), "{\"lost\":%llu}", (unsigned long long)(oldest_segment(log)->output - r->output));
			r->at = oldest(log);
			r->output = oldest_segment(log)->output;
			connection_frame(r->connection, STREAM_NOTICE, wall_ns(), lost, (size_t)n);
			continue;
		}
		struct frame frame;
		bool at_end = r->at >= log->now.end || (!r->query.follow && r->at >= r->until);
		if (at_end || log_pread(log, r->at, &frame, sizeof(frame)) != sizeof(frame)) {
			if (!r->query.follow || !log->open)
				reader_end(r);
			return;
		}
		if (r->query.until_ns && frame.time_ns > r->query.until_ns) {
			reader_end(r);
			return;
		}
		uint64_t from = r->at + sizeof(frame), left = frame.length;
		r->at += sizeof(frame) + frame.length;
		r->output += frame.length;
		if (!wants(r, &frame))
			continue;
		/* Frames are as long as one read from the pipe, at most CHUNK. */
		ssize_t got = log_pread(log, from, buffer, left < CHUNK ? (size_t)left : CHUNK);
		char *bytes = buffer;
		while (got > 0 && r->skip_newlines) {
			char *newline = memchr(bytes, '\n', (size_t)got);
			ssize_t used = newline ? newline + 1 - bytes : got;
			r->skip_newlines -= newline != NULL;
			bytes += used;
			got -= used;
		}
		if (got > 0 && !connection_frame(r->connection, frame.stream, frame.time_ns, bytes, (size_t)got)) {
			reader_end(r);
			return;
		}
	}
}

static void drained(struct connection *c)
{
	pump(c->reader);
}

/* How many newlines lie before the last `lines` lines of what the reader wants. */
static uint64_t newlines_before_tail(struct reader *r)
{
	static char buffer[CHUNK];
	uint64_t newlines = 0;
	bool partial = false;
	struct frame frame;
	for (uint64_t at = r->at; log_pread(r->log, at, &frame, sizeof(frame)) == sizeof(frame); at += sizeof(frame) + frame.length) {
		if (!wants(r, &frame) || (r->query.until_ns && frame.time_ns > r->query.until_ns))
			continue;
		ssize_t got = log_pread(r->log, at + sizeof(frame), buffer, frame.length < CHUNK ? frame.length : CHUNK);
		for (char *p = buffer; p < buffer + got && (p = memchr(p, '\n', (size_t)(buffer + got - p))); p++)
			newlines++;
		if (got > 0)
			partial = buffer[got - 1] != '\n';
	}
	uint64_t lines = newlines + partial;
	return lines > (uint64_t)r->query.tail_lines ? lines - (uint64_t)r->query.tail_lines : 0;
}

/* The owner is free to free itself in gone; the reader goes first. */
static void unlink_reader(struct reader *r)
{
	for (struct reader **at = &r->log->readers; *at; at = &(*at)->next)
		if (*at == r) {
			*at = r->next;
			break;
		}
}

int log_read(struct log *log, struct connection *c, const struct log_query *query)
{
	struct reader *r = calloc(1, sizeof(*r));
	if (!r)
		return -1;
	*r = (struct reader){.next = log->readers, .log = log, .connection = c, .query = *query};
	log->readers = r;
	c->reader = r;
	c->drained = drained;
	/* From the very first byte: a reader who wants all is told what is gone already. */
	r->at = query->from_now ? log->now.end : query->tail_lines >= 0 ? oldest(log) : 0;
	r->output = query->from_now ? log->kept : query->tail_lines >= 0 ? oldest_segment(log)->output : 0;
	r->until = log->now.end;
	if (query->tail_lines >= 0)
		r->skip_newlines = newlines_before_tail(r);
	pump(r);
	return 0;
}

void log_forget_reader(struct connection *c)
{
	struct reader *r = c->reader;
	if (!r)
		return;
	if (r->log)
		unlink_reader(r);
	c->reader = NULL;
	c->drained = NULL;
	free(r);
}

void log_set_open(struct log *log, bool open)
{
	log->open = open;
	for (struct reader *r = log->readers, *next; r && !open; r = next) {
		next = r->next;
		if (r->query.follow && !connection_busy(r->connection))
			pump(r);
	}
}

void log_free(struct log *log)
{
	if (!log)
		return;
	log->open = false;
	while (log->readers) {
		struct reader *r = log->readers;
		log->readers = r->next;
		r->log = NULL;
		r->connection->feed = NULL; /* the container's stdin, which goes with the log */
		if (!r->ended)
			reader_end(r);
	}
	if (log->now.fd >= 0)
		close(log->now.fd);
	if (log->old.fd >= 0)
		close(log->old.fd);
	free(log);
}
