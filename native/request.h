#pragma once
/* Requests from node: `<length>` NUL `<payload>`, the payload being NUL-ended words (PROTOCOL.md). */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { REQUEST_MAX_BYTES = 8 << 20, REQUEST_MAX_WORDS = 65536 };

struct pair { const char *key, *value; };

struct request {
	const char *verb;
	uint64_t seq;
	struct pair *pairs;     /* malloc'd; the strings point into the payload */
	size_t count;
};

/* Splits a payload in place. Returns 0; -1 with errno: EPROTO malformed, E2BIG too many words, ENOMEM. */
int request_parse(char *payload, size_t length, struct request *);
void request_free(struct request *);

/* The value of the first pair with this key, or NULL. */
const char *request_get(const struct request *, const char *key);
/* The same for "0" and "1". */
bool request_flag(const struct request *, const char *key, bool fallback);
/* The same for numbers in decimal: fallback if absent; -1 with errno EINVAL when it is no number. */
int request_number(const struct request *, const char *key, int64_t fallback, int64_t *number);

/* Bytes received so far and not yet handed out. Zero-initialised. */
struct inbox { char *bytes; size_t length, capacity; };

/* Reads what is there. Returns 1 = got bytes, 0 = end of file, -1 = errno (EAGAIN: nothing now, EMSGSIZE: too long). */
int inbox_fill(struct inbox *, int fd);
/* Takes one whole request. Returns 1 with *payload (valid until inbox_drop) and *length; 0 = incomplete; -1 EPROTO/EMSGSIZE. */
int inbox_next(struct inbox *, char **payload, size_t *length);
/* Drops the request handed out last. */
void inbox_drop(struct inbox *, const char *payload, size_t length);
void inbox_free(struct inbox *);
