#define _GNU_SOURCE
#include "request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LENGTH_DIGITS = 8, CHUNK = 16384 };

static int parse_decimal(const char *text, int64_t *number)
{
	char *end;
	errno = 0;
	*number = strtoll(text, &end, 10);
	/* strtoll takes blanks and signs that a machine would never send. */
	if (errno || end == text || *end || !((*text >= '0' && *text <= '9') || (*text == '-' && text[1] >= '0' && text[1] <= '9'))) {
		errno = EINVAL;
		return -1;
	}
	return 0;
}

int request_parse(char *payload, size_t length, struct request *r)
{
	*r = (struct request){0};
	if (!length || payload[length - 1]) {
		errno = EPROTO;
		return -1;
	}
	size_t words = 0;
	for (size_t i = 0; i < length; i++)
		words += !payload[i];
	if (words > REQUEST_MAX_WORDS) {
		errno = E2BIG;
		return -1;
	}
	if (words < 2 || words % 2) {
		errno = EPROTO;
		return -1;
	}
	int64_t seq;
	const char *word = payload;
	r->verb = word;
	word += strlen(word) + 1;
	if (parse_decimal(word, &seq) < 0 || seq < 0) {
		errno = EPROTO;
		return -1;
	}
	r->seq = (uint64_t)seq;
	r->count = words / 2 - 1;
	r->pairs = calloc(r->count + 1, sizeof(*r->pairs));
	if (!r->pairs)
		return -1;
	for (size_t i = 0; i < r->count; i++) {
		word += strlen(word) + 1;
		r->pairs[i].key = word;
		word += strlen(word) + 1;
		r->pairs[i].value = word;
	}
	return 0;
}

void request_free(struct request *r)
{
	free(r->pairs);
	*r = (struct request){0};
}

const char *request_get(const struct request *r, const char *key)
{
	for (size_t i = 0; i < r->count; i++)
		if (!strcmp(r->pairs[i].key, key))
			return r->pairs[i].value;
	return NULL;
}

bool request_flag(const struct request *r, const char *key, bool fallback)
{
	const char *text = request_get(r, key);
	return text ? *text == '1' : fallback;
}

int request_number(const struct request *r, const char *key, int64_t fallback, int64_t *number)
{
	const char *text = request_get(r, key);
	*number = fallback;
	return text ? parse_decimal(text, number) : 0;
}

int inbox_fill(struct inbox *in, int fd)
{
	if (in->capacity - in->length < CHUNK) {
		size_t capacity = in->capacity ? in->capacity * 2 : CHUNK * 2;
		if (capacity > (size_t)REQUEST_MAX_BYTES * 2) {
			errno = EMSGSIZE;
			return -1;
		}
		char *bytes = realloc(in->bytes, capacity);
		if (!bytes)
			return -1;
		in->bytes = bytes;
		in->capacity = capacity;
	}
	ssize_t got;
	do
		got = read(fd, in->bytes + in->length, in->capacity - in->length);
	while (got < 0 && errno == EINTR);
	if (got <= 0)
		return (int)got;
	in->length += (size_t)got;
	return 1;
}

int inbox_next(struct inbox *in, char **payload, size_t *length)
{
	size_t digits = 0, size = 0;
	for (;; digits++) {
		if (digits == in->length)
			return digits > LENGTH_DIGITS ? (errno = EPROTO, -1) : 0;
		char c = in->bytes[digits];
		if (!c && digits)
			break;
		if (c < '0' || c > '9' || digits == LENGTH_DIGITS) {
			errno = EPROTO;
			return -1;
		}
		size = size * 10 + (size_t)(c - '0');
	}
	if (!size || size > REQUEST_MAX_BYTES) {
		errno = size ? EMSGSIZE : EPROTO;
		return -1;
	}
	if (in->length - digits - 1 < size)
		return 0;
	*payload = in->bytes + digits + 1;
	*length = size;
	return 1;
}

void inbox_drop(struct inbox *in, const char *payload, size_t length)
{
	size_t used = (size_t)(payload - in->bytes) + length;
	memmove(in->bytes, in->bytes + used, in->length - used);
	in->length -= used;
	if (!in->length && in->capacity > CHUNK * 4)
		inbox_free(in); /* one big request must not keep its memory */
}

void inbox_free(struct inbox *in)
{
	free(in->bytes);
	*in = (struct inbox){0};
}
