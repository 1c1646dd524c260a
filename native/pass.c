#define _GNU_SOURCE
#include "pass.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

ssize_t pass_send(int to, const void *bytes, size_t length, const int *fds, size_t count)
{
	struct iovec iov = {(void *)bytes, length};
	union { struct cmsghdr align; char room[CMSG_SPACE(sizeof(int) * PASS_MAX)]; } control = {0};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	if (count) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
		struct cmsghdr *c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * count);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * count);
	}
	ssize_t sent;
	do
		sent = sendmsg(to, &message, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent;
}

ssize_t pass_answer(int to, const void *bytes, size_t length, const int *fds, size_t count)
{
	enum { ATTEMPTS = 100 };
	ssize_t sent;
	for (int attempt = 0; (sent = pass_send(to, bytes, length, fds, count)) < 0 && attempt < ATTEMPTS; attempt++) {
		if (errno != ENOBUFS && errno != ENOMEM && errno != ETOOMANYREFS)
			break;
		nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
	}
	return sent;
}

ssize_t pass_receive(int from, void *bytes, size_t length, int flags, int fds[PASS_MAX], size_t *count)
{
	struct iovec iov = {bytes, length};
	union { struct cmsghdr align; char room[CMSG_SPACE(sizeof(int) * PASS_MAX)]; } control = {0};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	ssize_t got;
	do
		got = recvmsg(from, &message, MSG_CMSG_CLOEXEC | flags);
	while (got < 0 && errno == EINTR);
	struct cmsghdr *c = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	*count = 0;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
		*count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(c), *count * sizeof(int));
	}
	return got;
}
