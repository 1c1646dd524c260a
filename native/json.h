#pragma once
/* Builds one JSON object in memory. No parser here: node speaks in words (request.h). */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "fault.h"

struct json { char *text; size_t length, capacity; bool failed; };   /* zero-initialised; failed = out of memory */

void json_begin(struct json *);                                     /* "{" ; reuses the memory */
void json_string(struct json *, const char *key, const char *value); /* bytes that are not UTF-8 become U+FFFD */
void json_number(struct json *, const char *key, int64_t value);
void json_decimal(struct json *, const char *key, uint64_t value);   /* as a string: beyond 2^53 node's numbers lose digits */
void json_bool(struct json *, const char *key, bool value);
void json_raw(struct json *, const char *key, const char *text);     /* text is JSON already */
void json_fault(struct json *, const struct fault *);                /* step, subject, errno, message */
void json_end(struct json *);                                        /* "}\n" */
void json_free(struct json *);
