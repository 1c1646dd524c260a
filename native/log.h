#pragma once
/* A container's output: frames in two unnamed files that take turns, so that it is bounded, costs no memory and leaves nothing behind.
 * Readers have positions of their own and are told when they were too slow. */
#include <stdbool.h>
#include <stdint.h>

#include "stream.h"

enum { STREAM_STDOUT = 1, STREAM_STDERR = 2, STREAM_NOTICE = 3, STREAM_ARCHIVE = 4 };

struct frame { uint8_t stream, zero[3]; uint32_t length; uint64_t time_ns; };

struct log;
struct log *log_new(uint64_t cap_bytes);
void log_free(struct log *);                        /* ends its readers, and what they fed */
void log_append(struct log *, int stream, const char *bytes, size_t length);
uint64_t log_bytes(const struct log *);             /* ever written, without headers */
/* The writer has come or gone (a restart opens it again): followers end when it is gone and they have read all. */
void log_set_open(struct log *, bool open);

struct log_query { bool follow, from_now, stdout_wanted, stderr_wanted; uint64_t since_ns, until_ns; int64_t tail_lines; };
/* Sends what is asked for on the connection, which it owns from now on; on_gone of the connection stays free for the caller. */
int log_read(struct log *, struct connection *, const struct log_query *);
/* To be called by the connection's owner in gone. */
void log_forget_reader(struct connection *);
