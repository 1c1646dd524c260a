#define _GNU_SOURCE
#include "archive.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "resolve.h"
#include "scratch.h"
#include "tar.h"
#include "warden.h"

struct job { struct child child; struct container *held; pid_t pid; };

static void ended(struct child *child, int status)
{
	struct job *job = container_of(child, struct job, child);
	(void)status;
	if (job->held) {
		container_copy_ended(job->held, job->pid);
		container_hold(job->held, -1);
	}
	free(job);
}

static void answer(int fd, uint64_t seq, const struct fault *f, const struct tar_result *result)
{
	struct json j = {0};
	json_begin(&j);
	json_number(&j, "seq", (int64_t)seq);
	json_bool(&j, "ok", !f);
	if (f)
		json_fault(&j, f);
	if (result) {
		json_number(&j, "entries", (int64_t)result->entries);
		json_number(&j, "bytes", (int64_t)result->bytes);
		json_number(&j, "omitted", (int64_t)result->omitted);
	}
	json_end(&j);
	(void)!send(fd, j.text, j.length, MSG_NOSIGNAL);
	json_free(&j);
}

static int unpack(int fd, const struct request *r, struct tar_result *result, struct fault *f)
{
	const char *target = request_get(r, "target");
	size_t home = strlen(session.home);
	if (!target || strncmp(target, session.home, home) || target[home] != '/' || strstr(target, "/.."))
		return fault(f, "archive", target ? target : "target", EINVAL, "the target must be below the store");
	if (mkdir(target, 0755) < 0)
		return fault(f, "archive", target, errno, NULL);
	int root = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0 || fchmod(root, 0755) < 0)
		return fault(f, "archive", target, errno, NULL);
	struct tar_options options = {.keep_ids = !session.single_id, .userxattr = session.rootless, .strict_times = true};
	const char *layer = request_get(r, "layer");
	options.layer = layer && *layer == '1';
	if (tar_unpack(fd, root, "", &options, result, f) < 0)
		return -1;
	/* The layer gets its final name next: that must not reach the disk before what is in it (a torn layer after a power cut). */
	return syncfs(root) < 0 ? fault(f, "archive", target, errno, "the layer could not be written to disk") : 0;
}

static int delete(const struct request *r, struct fault *f)
{
	const char *target = request_get(r, "target");
	size_t home = strlen(session.home);
	if (!target || strncmp(target, session.home, home) || target[home] != '/' || strstr(target, "/.."))
		return fault(f, "archive", target ? target : "target", EINVAL, "the target must be below the store");
	return remove_tree(AT_FDCWD, target, 0) ? fault(f, "archive", target, errno, NULL) : 0;
}

static int copy_in(int fd, struct container *c, const struct request *r, struct tar_result *result, struct fault *f)
{
	const char *path = request_get(r, "path"), *chown = request_get(r, "chown");
	int root = container_enter_root(c, f);
	if (root < 0)
		return -1;
	int dir = resolve_in_root(root, path ? path : "/", O_PATH | O_DIRECTORY, f, "archive");
	if (dir < 0)
		return -1;
	close(dir);
	struct tar_options options = {.keep_ids = chown && *chown == '1' && !session.single_id, .strict_times = true};
	return tar_unpack(fd, root, path ? path : "/", &options, result, f);
}

/* tar_pack writes a plain stream; a pipe and a second process put it into frames, so that an error half way can still be told. */
static int copy_out(int fd, struct container *c, const struct request *r, struct fault *f)
{
	const char *path = request_get(r, "path");
	int root = container_enter_root(c, f), ends[2];
	if (root < 0)
		return -1;
	int there = resolve_in_root(root, path ? path : "/", O_PATH | O_NOFOLLOW, f, "archive");
	if (there < 0)
		return -1;
	close(there);
	if (pipe2(ends, O_CLOEXEC) < 0)
		return fault(f, "archive", path, errno, NULL);
	answer(fd, (uint64_t)r->seq, NULL, NULL);
	signal(SIGPIPE, SIG_IGN);
	pid_t framer = fork();
	if (framer == 0) {
		static char buffer[65536];
		ssize_t got;
		close(ends[1]);
		while ((got = read(ends[0], buffer, sizeof(buffer))) > 0) {
			struct frame frame = {.stream = STREAM_ARCHIVE, .length = (uint32_t)got, .time_ns = wall_ns()};
			if (send(fd, &frame, sizeof(frame), MSG_NOSIGNAL | MSG_MORE) < 0)
				_exit(1);
			for (ssize_t sent = 0, n; sent < got; sent += n)
				if ((n = send(fd, buffer + sent, (size_t)(got - sent), MSG_NOSIGNAL)) < 0)
					_exit(1);
		}
		_exit(0);
	}
	close(ends[0]);
	int done = framer < 0 ? fault(f, "archive", path, errno, NULL) : tar_pack(ends[1], root, path ? path : "/", f);
	close(ends[1]);
	if (framer > 0)
		child_wait(framer);
	struct json j = {0};
	json_begin(&j);
	json_bool(&j, "ok", done == 0);
	if (done < 0)
		json_fault(&j, f);
	json_end(&j);
	struct frame frame = {.stream = STREAM_NOTICE, .length = (uint32_t)j.length, .time_ns = wall_ns()};
	(void)!send(fd, &frame, sizeof(frame), MSG_NOSIGNAL | MSG_MORE);
	(void)!send(fd, j.text, j.length, MSG_NOSIGNAL);
	return 0;
}

static _Noreturn void work(int fd, struct container *c, const struct request *r)
{
	struct fault f = {0};
	struct tar_result result = {0};
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	umask(0);
	child_keep_only((int[]){fd, c ? container_pidfd(c) : -1}, 2);
	int flags = fcntl(fd, F_GETFL);
	fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
	int done = !strcmp(r->verb, "unpack") ? unpack(fd, r, &result, &f)
		: !strcmp(r->verb, "delete") ? delete(r, &f)
		: !strcmp(r->verb, "copy-in") ? copy_in(fd, c, r, &result, &f) : copy_out(fd, c, r, &f);
	if (done < 0)
		answer(fd, r->seq, &f, NULL);
	else if (strcmp(r->verb, "copy-out"))
		answer(fd, r->seq, NULL, &result);
	/* What the peer still sends would turn our close into a reset that eats the answer; take it, but not for ever. */
	shutdown(fd, SHUT_WR);
	struct timeval patience = {.tv_sec = 5};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	char rest[4096];
	while (recv(fd, rest, sizeof(rest), 0) > 0)
		;
	_exit(done < 0);
}

void archive_open(struct connection *c, const struct request *r)
{
	struct fault f = {0};
	bool of_container = !strncmp(r->verb, "copy", 4);
	const char *id = request_get(r, "id");
	struct container *container = of_container ? container_find(id) : NULL;
	struct job *job = calloc(1, sizeof(*job));
	c->gone = connection_free;
	if (of_container && (!container || !container_has_root(container)))
		fault(&f, container ? "state" : "id", id ? id : "", ENOENT, container ? "the container is removed" : "no such container");
	pid_t pid = f.error || !job ? -1 : fork();
	if (pid == 0)
		work(c->fd, container, r);
	if (pid < 0) {
		fault(&f, "archive", r->verb, errno ? errno : ENOMEM, NULL);
		answer(c->fd, r->seq, &f, NULL);
		free(job);
		connection_end(c);
		return;
	}
	job->held = container;
	job->pid = pid;
	if (container)
		container_hold(container, 1);
	child_add(&job->child, pid, ended);
	connection_free(c);
}
