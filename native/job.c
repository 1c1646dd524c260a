#define _GNU_SOURCE
#include "job.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "container.h"
#include "log.h"
#include "warden.h"

enum { WORDS_READ = 65536, WORDS_MOST = 1 << 20 /* bytes of one record */, PATIENCE_SECONDS = 5 };

/* -- the warden's side ---------------------------------------------------------------------------------------------------- */

struct held { struct child child; pid_t pid; struct container *containers[JOB_CONTAINERS]; };

static void ended(struct child *child, int status)
{
	struct held *held = container_of(child, struct held, child);
	(void)status;
	for (size_t i = 0; i < JOB_CONTAINERS; i++)
		if (held->containers[i]) {
			container_copy_ended(held->containers[i], held->pid);
			container_hold(held->containers[i], -1);
		}
	free(held);
}

struct container *job_container(const struct request *r, const char *key, struct fault *f)
{
	const char *id = request_get(r, key);
	struct container *c = container_find(id);
	if (c && container_has_root(c))
		return c;
	fault(f, c ? "state" : "id", id ? id : "", ENOENT, c ? "the container is removed" : "no such container");
	return NULL;
}

static _Noreturn void work(struct job *, job_run *);

void job_open(struct connection *c, const struct request *r, struct container *const containers[JOB_CONTAINERS], job_run *run)
{
	static struct job job; /* 64 KiB that only the child writes to */
	struct held *held = calloc(1, sizeof(*held));
	pid_t pid = held ? fork() : -1;
	if (pid == 0) {
		job.fd = c->fd;
		job.request = r;
		memcpy(job.containers, containers, sizeof(job.containers));
		work(&job, run);
	}
	if (pid < 0) {
		struct fault f = {0};
		fault(&f, "archive", r->verb, held ? errno : ENOMEM, NULL);
		free(held);
		connection_refuse(c, r->seq, &f);
		return;
	}
	held->pid = pid;
	for (size_t i = 0; i < JOB_CONTAINERS; i++)
		if ((held->containers[i] = containers[i]))
			container_hold(containers[i], 1);
	child_add(&held->child, pid, ended);
	connection_free(c);
}

void job_open_reading(struct connection *c, const struct request *r, job_run *run)
{
	struct fault f = {0};
	struct container *of = request_get(r, "id") ? job_container(r, "id", &f) : NULL;
	if (f.error)
		connection_refuse(c, r->seq, &f);
	else
		job_open(c, r, (struct container *[JOB_CONTAINERS]){of}, run);
}

/* -- the job's side ------------------------------------------------------------------------------------------------------- */

static int send_all(int fd, const void *bytes, size_t length, int flags)
{
	const char *at = bytes;
	while (length) {
		ssize_t sent = send(fd, at, length, MSG_NOSIGNAL | flags);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return -1;
		at += sent;
		length -= (size_t)sent;
	}
	return 0;
}

static int send_frame(int fd, int stream, const void *bytes, size_t length)
{
	struct frame frame = {.stream = (uint8_t)stream, .length = (uint32_t)length, .time_ns = wall_ns()};
	return send_all(fd, &frame, sizeof(frame), MSG_MORE) < 0 ? -1 : send_all(fd, bytes, length, 0);
}

int job_accept(struct job *job, struct fault *f)
{
	json_end(&job->reply);
	job->replied = true;
	return send_all(job->fd, job->reply.text, job->reply.length, 0) < 0 ? fault(f, "archive", "connection", errno, NULL) : 0;
}

static int flush(struct job *job)
{
	size_t length = job->out_length;
	job->out_length = 0;
	return length ? send_frame(job->fd, STREAM_ARCHIVE, job->out, length) : 0;
}

int job_write(struct job *job, const void *bytes, size_t length)
{
	const char *at = bytes;
	while (length) {
		size_t room = sizeof(job->out) - job->out_length, part = length < room ? length : room;
		memcpy(job->out + job->out_length, at, part);
		job->out_length += part;
		at += part;
		length -= part;
		if (job->out_length == sizeof(job->out) && flush(job) < 0)
			return -1;
	}
	return 0;
}

/* The reply if there was none yet, else the notice that ends the stream. */
static void conclude(struct job *job, const struct fault *f)
{
	struct json j = {0};
	if (!job->replied && !f) {
		json_end(&job->reply);
		(void)!send_all(job->fd, job->reply.text, job->reply.length, 0);
		return;
	}
	if (!f) {
		json_end(&job->notice);
		if (flush(job) == 0)
			(void)!send_frame(job->fd, STREAM_NOTICE, job->notice.text, job->notice.length);
		return;
	}
	json_begin(&j);
	if (!job->replied)
		json_number(&j, "seq", (int64_t)job->request->seq);
	json_bool(&j, "ok", false);
	json_fault(&j, f);
	json_end(&j);
	if (!job->replied)
		(void)!send_all(job->fd, j.text, j.length, 0);
	else if (flush(job) == 0)
		(void)!send_frame(job->fd, STREAM_NOTICE, j.text, j.length);
}

static _Noreturn void work(struct job *job, job_run *run)
{
	struct fault f = {0};
	sigset_t none;
	int keep[JOB_CONTAINERS + 1] = {job->fd};
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	umask(0);
	/* It holds descriptors of two worlds; nobody in either may look at it. */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	for (size_t i = 0; i < JOB_CONTAINERS; i++)
		keep[i + 1] = job->containers[i] ? container_pidfd(job->containers[i]) : -1;
	child_keep_only(keep, JOB_CONTAINERS + 1);
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) { /* a descriptor a level, of trees that may be deep */
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	fcntl(job->fd, F_SETFL, fcntl(job->fd, F_GETFL) & ~O_NONBLOCK);
	json_begin(&job->reply);
	json_number(&job->reply, "seq", (int64_t)job->request->seq);
	json_bool(&job->reply, "ok", true);
	json_begin(&job->notice);
	json_bool(&job->notice, "ok", true);
	int done = run(job, &f);
	conclude(job, done < 0 ? &f : NULL);
	/* What the peer still sends would turn our close into a reset that eats the answer; take it, but not for ever. */
	shutdown(job->fd, SHUT_WR);
	struct timeval patience = {.tv_sec = PATIENCE_SECONDS};
	setsockopt(job->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	while (recv(job->fd, job->out, sizeof(job->out), 0) > 0)
		;
	_exit(done < 0);
}

/* -- words from the peer -------------------------------------------------------------------------------------------------- */

/* Makes room, and reads more. Returns 1, 0 at the end, -1. */
static int read_more(struct job_words *w)
{
	if (w->start) {
		memmove(w->bytes, w->bytes + w->start, w->length - w->start);
		w->length -= w->start;
		w->start = 0;
	}
	if (w->capacity - w->length < WORDS_READ) {
		if (w->length > WORDS_MOST) {
			errno = EMSGSIZE;
			return -1;
		}
		char *more = realloc(w->bytes, w->length + 2 * WORDS_READ);
		if (!more)
			return -1;
		w->bytes = more;
		w->capacity = w->length + 2 * WORDS_READ;
	}
	ssize_t got;
	do
		got = read(w->fd, w->bytes + w->length, w->capacity - w->length);
	while (got < 0 && errno == EINTR);
	w->length += got > 0 ? (size_t)got : 0;
	return got > 0 ? 1 : (int)got;
}

int job_record(struct job_words *w, char **words, size_t count)
{
	for (;;) {
		size_t found = 0, at = w->start;
		for (char *end; found < count && at < w->length && (end = memchr(w->bytes + at, 0, w->length - at)); found++) {
			words[found] = w->bytes + at;
			at = (size_t)(end - w->bytes) + 1;
		}
		if (found == count) {
			w->start = at;
			return 1;
		}
		int more = read_more(w);
		if (more < 0 || (more == 0 && w->start == w->length))
			return more;
		if (more == 0) {
			errno = EPROTO;
			return -1;
		}
	}
}

int job_word(struct job_words *w, char **word)
{
	return job_record(w, word, 1);
}

int job_root(const struct request *r, struct container *c, const char *step, struct fault *f)
{
	const char *dir = request_get(r, "dir");
	if (c)
		return container_open_root(c, f);
	if (!dir || *dir != '/')
		return fault(f, "request", dir ? dir : "dir", EINVAL, "an absolute directory or the id of a container is needed");
	int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? fault(f, step, dir, errno, NULL) : fd;
}
