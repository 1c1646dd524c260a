/* The program is stopped in its listen(2) while we look. For an internet socket we make the call ourselves on a copy of its
 * descriptor (pidfd_getfd): same socket, same effect, same errno; and when it has returned, the port is open: no later check, no
 * window. Other families go on as they were: a unix socket's listener is who called listen(2) (SO_PEERCRED), and that is not us. */
#define _GNU_SOURCE
#include "notify.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "warden.h"

void notify_init(struct notify *n)
{
	*n = (struct notify){.watch.fd = -1};
}

/* A pidfd of the thread's process: descriptors are the process's. PIDFD_THREAD (O_EXCL) is 6.9; before, /proc tells the leader. */
static int process_of(pid_t thread)
{
	int fd = (int)syscall(SYS_pidfd_open, thread, O_EXCL);
	if (fd >= 0 || errno != EINVAL)
		return fd;
	char path[64], text[512], *line;
	snprintf(path, sizeof(path), "/proc/%d/status", thread);
	int status = open(path, O_RDONLY | O_CLOEXEC);
	if (status < 0)
		return -1;
	ssize_t got = read(status, text, sizeof(text) - 1);
	close(status);
	text[got > 0 ? got : 0] = 0;
	if (!(line = strstr(text, "\nTgid:")))
		return -1;
	return (int)syscall(SYS_pidfd_open, atoi(line + 6), 0);
}

/* A program may call listen(2) a hundred thousand times a second, and node may be stopped: what it would have to read is bounded. */
enum { BACKLOG_MOST = 4 << 20 };

static void report(const struct notify *n, const struct sockaddr_storage *name)
{
	if (line_backlog() > BACKLOG_MOST)
		return;
	char address[INET6_ADDRSTRLEN] = "";
	bool v6 = name->ss_family == AF_INET6;
	const void *bytes = v6 ? (const void *)&((const struct sockaddr_in6 *)name)->sin6_addr
		: (const void *)&((const struct sockaddr_in *)name)->sin_addr;
	uint16_t port = v6 ? ((const struct sockaddr_in6 *)name)->sin6_port : ((const struct sockaddr_in *)name)->sin_port;
	inet_ntop(name->ss_family, bytes, address, sizeof(address));
	struct json *j = event_begin("listen");
	json_string(j, "container", n->container);
	json_number(j, "port", ntohs(port));
	json_string(j, "address", address);
	json_number(j, "family", v6 ? 6 : 4);
	line_end();
}

/* Returns true when the call was made here; *result is then 0 or -errno. */
static bool listen_for(const struct notify *n, const struct seccomp_notif *request, struct sockaddr_storage *name, int *result)
{
	int process = process_of((pid_t)request->pid);
	/* If the program still waits for this answer, the process is the one that asked (seccomp(2), race with a number used again). */
	bool is_same = process >= 0 && ioctl(n->watch.fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &request->id) == 0;
	int fd = is_same ? (int)syscall(SYS_pidfd_getfd, process, (int)request->data.args[0], 0) : -1;
	if (process >= 0)
		close(process);
	if (fd < 0)
		return false;
	int domain = 0, type = 0;
	socklen_t size = sizeof(domain), type_size = sizeof(type), name_size = sizeof(*name);
	bool internet = getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && (domain == AF_INET || domain == AF_INET6) &&
		getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) == 0 && type == SOCK_STREAM;
	if (internet) {
		*result = listen(fd, (int)request->data.args[1]) < 0 ? -errno : 0;
		if (*result == 0 && getsockname(fd, (struct sockaddr *)name, &name_size) < 0)
			name->ss_family = AF_UNSPEC;
		/* Ours may be the last descriptor by now, and closing a connected socket may wait for its peer as long as SO_LINGER says: the
		 * container's choice, which must not stop the session. One that listens never waits. */
		if (*result < 0)
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){0}, sizeof(struct linger));
	}
	close(fd);
	return internet;
}

static void notified(struct watch *w, uint32_t events)
{
	struct notify *n = container_of(w, struct notify, watch);
	/* The kernel may know a longer structure than we do, and fills all of it. */
	union { struct seccomp_notif request; char room[256]; } in = {0};
	union { struct seccomp_notif_resp answer; char room[64]; } out = {0};
	if (!(events & EPOLLIN)) { /* EPOLLHUP: the last process with the filter is gone */
		notify_close(n);
		return;
	}
	if (ioctl(w->fd, SECCOMP_IOCTL_NOTIF_RECV, &in) < 0)
		return;
	struct sockaddr_storage name = {0};
	int result = 0;
	out.answer.id = in.request.id;
	if (listen_for(n, &in.request, &name, &result))
		out.answer.error = result;
	else
		out.answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	ioctl(w->fd, SECCOMP_IOCTL_NOTIF_SEND, &out);
	if (!result && (name.ss_family == AF_INET || name.ss_family == AF_INET6))
		report(n, &name);
}

void notify_open(struct notify *n, int listener, const char *container_id)
{
	notify_close(n);
	n->container = container_id;
	if (loop_watch(&n->watch, listener, EPOLLIN, notified) < 0)
		close(listener);
}

void notify_close(struct notify *n)
{
	int fd = n->watch.fd;
	if (fd < 0)
		return;
	loop_forget(&n->watch);
	close(fd);
}
