#define _GNU_SOURCE
/* libFuzzer: any bytes as what node sends. They come through a pipe in two parts, so that a request is also seen half there. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look_at(struct request *request)
{
	volatile size_t seen = strlen(request->verb);
	int64_t number;

	for (size_t i = 0; i < request->count; i++) {
		seen += strlen(request->pairs[i].key) + strlen(request->pairs[i].value);
		if (!request_get(request, request->pairs[i].key))
			abort();
		(void)request_number(request, request->pairs[i].key, 0, &number);
	}
	(void)seen;
}

/* Takes out whatever is whole. False when the bytes are no requests: the connection would be closed. */
static bool take_all(struct inbox *inbox)
{
	struct request request;
	char *payload;
	size_t length;
	int whole;

	while ((whole = inbox_next(inbox, &payload, &length)) > 0) {
		if (request_parse(payload, length, &request) == 0) {
			look_at(&request);
			request_free(&request);
		}
		inbox_drop(inbox, payload, length);
	}
	return whole == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct inbox inbox = { 0 };
	size_t first = size ? data[0] % size : 0;
	const size_t parts[2] = { first, size - first };
	bool good = true;

	if (size > 60000) /* a pipe holds 64 KiB */
		return 0;
	for (int i = 0; i < 2 && good; i++) {
		int ends[2], got;

		if (pipe(ends) < 0 || write(ends[1], data, parts[i]) != (ssize_t)parts[i])
			abort();
		close(ends[1]);
		while (good && (got = inbox_fill(&inbox, ends[0])) > 0)
			good = take_all(&inbox);
		close(ends[0]);
		data += parts[i];
	}
	inbox_free(&inbox);
	return 0;
}
