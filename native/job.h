#pragma once
/* Jobs of bulk connections: each in a process of its own that reads and writes the connection itself, and may block. */
#include "fault.h"
#include "json.h"
#include "request.h"
#include "stream.h"

struct container;

enum { JOB_CONTAINERS = 2 };

/* In the job's process. */
struct job {
	int fd;                                    /* the connection, blocking */
	const struct request *request;
	struct container *containers[JOB_CONTAINERS]; /* NULL where there is none */
	struct json reply;                         /* begun; facts may be added until it is sent */
	bool replied;
	struct json notice;                        /* begun; what ends the stream if the reply was sent before and all went well */
	char out[65536]; size_t out_length;        /* archive bytes that wait to be sent */
};

/* Does the work, in the child. Returns 0, or -1 with the fault, which is told either way: in the reply, or in a last notice. */
typedef int job_run(struct job *, struct fault *);

/* Takes the connection over and forks. The containers are held until the process is gone. */
void job_open(struct connection *, const struct request *, struct container *const containers[JOB_CONTAINERS], job_run *);
/* The same for a job that reads the container of the request's key `id`, if it has one; refuses what has no root. */
void job_open_reading(struct connection *, const struct request *, job_run *);
/* The container of this key of the request, which must have a root; NULL with the fault. */
struct container *job_container(const struct request *, const char *key, struct fault *);

/* Sends the reply now: what follows are bytes, and a notice at the end. */
int job_accept(struct job *, struct fault *);
/* Adds to the archive bytes; -1 when the peer is gone. */
int job_write(struct job *, const void *bytes, size_t length);

/* The NUL-ended words that the peer sends. */
struct job_words { int fd; char *bytes; size_t start, length, capacity; };
/* Returns 1 with a word (valid until the next call), 0 at the end, -1 with errno (EPROTO: the last word has no end, EMSGSIZE). */
int job_word(struct job_words *, char **word);
/* The same for several words of one record; all stay valid until the next call. EPROTO also when the end cuts a record. */
int job_record(struct job_words *, char **words, size_t count);

/* Opens the root that the request names by `dir`, or the container's. Returns an O_PATH descriptor. */
int job_root(const struct request *, struct container *, const char *step, struct fault *);
