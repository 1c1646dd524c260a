#pragma once
/* What a container's start had to make in its upper directory, so that something could be mounted there: empty directories and files. */
#include <stdbool.h>
#include <stdint.h>

#include "fault.h"
#include "plan.h"

/* Removes them from the upper, which is not mounted, where they are still as they were made and the layers do not have them; and
 * the copies of the layers' directories that overlay made only to hold them. Follows no link of the upper.
 * started_ns: when the program was started; what has changed since is its work. */
int stubs_remove(const struct plan *, int upper_fd, uint64_t started_ns, bool rootless, struct fault *);
