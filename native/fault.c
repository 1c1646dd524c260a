#define _GNU_SOURCE
#include "fault.h"

#include <stdio.h>

int fault(struct fault *f, const char *step, const char *subject, int error, const char *why)
{
	if (f && !f->error) {
		f->error = error ? error : EIO;
		snprintf(f->step, sizeof(f->step), "%s", step);
		snprintf(f->subject, sizeof(f->subject), "%s", subject ? subject : "");
		snprintf(f->message, sizeof(f->message), "%s", why ? why : "");
	}
	errno = error;
	return -1;
}
