#pragma once
/* Messages between our own processes that carry descriptors (SCM_RIGHTS). */
#include <stddef.h>
#include <sys/types.h>

enum { PASS_MAX = 24 };     /* descriptors a message may carry */

/* As send(2) and recv(2) on a socket that keeps messages apart. What is received is close-on-exec; *count is how many came. */
ssize_t pass_send(int to, const void *bytes, size_t length, const int *fds, size_t count);
/* For an answer that somebody waits for: tries again for a second while the kernel has no memory for it, or too many descriptors on their way. */
ssize_t pass_answer(int to, const void *bytes, size_t length, const int *fds, size_t count);
ssize_t pass_receive(int from, void *bytes, size_t length, int flags, int fds[PASS_MAX], size_t *count);
