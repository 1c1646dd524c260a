#define _GNU_SOURCE
#include "json.h"
#include "grow.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put(struct json *j, const char *bytes, size_t length)
{
	char *text = grow(j->text, &j->capacity, j->length + length + 1, 1);
	if (!text) {
		j->failed = true;
		return;
	}
	j->text = text;
	memcpy(j->text + j->length, bytes, length);
	j->length += length;
	j->text[j->length] = 0;
}

static void put_text(struct json *j, const char *text)
{
	put(j, text, strlen(text));
}

/* Length of the well-formed UTF-8 sequence at s, 0 if there is none (RFC 3629; surrogates and overlong forms are refused). */
static size_t utf8_length(const unsigned char *s)
{
	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		return (s[1] & 0xc0) == 0x80 ? 2 : 0;
	if ((s[0] & 0xf0) == 0xe0) {
		if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f))
			return 0;
		return (s[1] & 0xc0) == 0x80 && (s[2] & 0xc0) == 0x80 ? 3 : 0;
	}
	if (s[0] >= 0xf0 && s[0] <= 0xf4) {
		if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
			return 0;
		return (s[1] & 0xc0) == 0x80 && (s[2] & 0xc0) == 0x80 && (s[3] & 0xc0) == 0x80 ? 4 : 0;
	}
	return 0;
}

static void put_quoted(struct json *j, const char *value)
{
	const unsigned char *s = (const unsigned char *)value;
	put(j, "\"", 1);
	while (*s) {
		size_t n = utf8_length(s);
		if (!n) {
			put_text(j, "\\ufffd");
			s++;
		} else if (*s < 0x20 || *s == '"' || *s == '\\' || *s == 0x7f) {
			char escape[8];
			snprintf(escape, sizeof(escape), "\\u%04x", *s);
			put_text(j, escape);
			s++;
		} else {
			put(j, (const char *)s, n);
			s += n;
		}
	}
	put(j, "\"", 1);
}

static void put_key(struct json *j, const char *key)
{
	if (j->length && j->text[j->length - 1] != '{')
		put(j, ",", 1);
	put_quoted(j, key);
	put(j, ":", 1);
}

void json_begin(struct json *j)
{
	j->length = 0;
	j->failed = false;
	put(j, "{", 1);
}

void json_string(struct json *j, const char *key, const char *value)
{
	put_key(j, key);
	put_quoted(j, value);
}

void json_number(struct json *j, const char *key, int64_t value)
{
	char text[32];
	snprintf(text, sizeof(text), "%" PRId64, value);
	put_key(j, key);
	put_text(j, text);
}

void json_decimal(struct json *j, const char *key, uint64_t value)
{
	char text[32];
	snprintf(text, sizeof(text), "\"%" PRIu64 "\"", value);
	put_key(j, key);
	put_text(j, text);
}

void json_bool(struct json *j, const char *key, bool value)
{
	put_key(j, key);
	put_text(j, value ? "true" : "false");
}

void json_raw(struct json *j, const char *key, const char *text)
{
	put_key(j, key);
	put_text(j, text);
}

void json_fault(struct json *j, const struct fault *f)
{
	const char *name = strerrorname_np(f->error);
	json_string(j, "step", f->step);
	json_string(j, "subject", f->subject);
	json_string(j, "errno", name ? name : "EIO");
	json_string(j, "message", f->message[0] ? f->message : strerror(f->error));
}

void json_end(struct json *j)
{
	put(j, "}\n", 2);
}

void json_free(struct json *j)
{
	free(j->text);
	*j = (struct json){0};
}
