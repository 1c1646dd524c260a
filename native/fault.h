#pragma once
/* Why something failed: a stable step (PROTOCOL.md lists them), what it failed on, and errno. */
#include <errno.h>

struct fault {
	int error;          /* errno value, 0 = no fault */
	char step[24];      /* stable word for programs */
	char subject[256];  /* path, name or value it failed on; cut if longer */
	char message[256];  /* one sentence for people; may be empty */
};

/* Records the fault (the first one wins) and returns -1, so that a caller can `return fault(f, …)`. error is an errno value.
 * why may be NULL. f may be NULL. Leaves errno = error. */
int fault(struct fault *f, const char *step, const char *subject, int error, const char *why);
