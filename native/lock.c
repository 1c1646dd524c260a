/* A lock is flock(2) on a descriptor that the warden keeps for a connection, so it costs no process. Only who has to wait gets one: a
 * child that sleeps in flock() on the same open file and ends when it has the lock, which then belongs to the warden's
 * descriptor as well. If the connection closes before, the child is killed. */
#define _GNU_SOURCE
#include "lock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "archive.h"
#include "job.h"
#include "loop.h"
#include "warden.h"

struct lock {
	struct connection *connection;       /* NULL: it is gone, and the lock goes when the child has ended */
	struct child child;                  /* waits; pid 0 = nobody does */
	struct timer timer;
	uint64_t seq;
	int fd, operation;                   /* fd: the file, -1 = not open */
	bool overdue;
	char path[];
};

enum got { GOT_IT, GOT_BUSY, GOT_FAULT };

static void close_file(struct lock *l)
{
	if (l->fd < 0)
		return;
	/* Said, not only closed: a child that was forked a moment ago has copies of all our descriptors until it closes them. */
	flock(l->fd, LOCK_UN);
	close(l->fd);
	l->fd = -1;
}

static void free_lock(struct lock *l)
{
	close_file(l);
	timer_clear(&l->timer);
	free(l);
}

/* The connection has closed. */
static void gone(struct connection *c)
{
	struct lock *l = c->owner;
	connection_free(c);
	l->connection = NULL;
	timer_clear(&l->timer);
	if (l->child.pid > 0)
		kill(l->child.pid, SIGKILL); /* free_lock follows from ended() */
	else
		free_lock(l);
}

/* Nobody sends anything here: it is the end. */
static void input(struct connection *c)
{
	char nothing[256];
	ssize_t got = recv(c->fd, nothing, sizeof(nothing), MSG_DONTWAIT);
	if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
		gone(c);
}

static void refuse(struct lock *l, int error, const char *why)
{
	struct request r = {.verb = "lock", .seq = l->seq};
	struct connection *c = l->connection;
	struct fault f = {0};
	fault(&f, "lock", l->path, error, why);
	free_lock(l);
	connection_refuse(c, r.seq, &f);
}

static void accept_lock(struct lock *l)
{
	struct json j = {0};
	timer_clear(&l->timer);
	json_begin(&j);
	json_number(&j, "seq", (int64_t)l->seq);
	json_bool(&j, "ok", true);
	json_end(&j);
	connection_send(l->connection, j.text, j.length);
	json_free(&j);
}

/* The file may have been removed, and made anew by somebody else, before we had the lock on the old one. */
static bool is_current(const struct lock *l)
{
	struct stat ours, there;
	return fstat(l->fd, &ours) == 0 && stat(l->path, &there) == 0 && ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

/* Tries without waiting; opens the file as often as it is replaced. */
static enum got try(struct lock *l)
{
	for (;;) {
		if (l->fd < 0)
			l->fd = open(l->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
		if (l->fd < 0)
			return GOT_FAULT;
		if (flock(l->fd, l->operation | LOCK_NB) < 0)
			return errno == EWOULDBLOCK ? GOT_BUSY : GOT_FAULT;
		if (is_current(l))
			return GOT_IT;
		close_file(l);
	}
}

static void wait_for(struct lock *);

static void take(struct lock *l, bool may_wait)
{
	switch (try(l)) {
	case GOT_IT:
		accept_lock(l);
		break;
	case GOT_BUSY:
		if (may_wait)
			wait_for(l);
		else
			refuse(l, EAGAIN, "somebody else holds the lock");
		break;
	case GOT_FAULT:
		refuse(l, errno, NULL);
		break;
	}
}

static void ended(struct child *child, int status)
{
	struct lock *l = container_of(child, struct lock, child);
	if (!l->connection) {
		free_lock(l);
		return;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
		refuse(l, ENOLCK, "cannot wait for it");
	else /* flock() by the child and by us is the same lock: asking again confirms it, or says that it was none */
		take(l, !l->overdue);
}

static void wait_for(struct lock *l)
{
	pid_t pid = fork();
	if (pid == 0) {
		sigset_t none;
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		child_keep_only(&l->fd, 1);
		while (flock(l->fd, l->operation) < 0)
			if (errno != EINTR)
				_exit(1);
		_exit(0);
	}
	if (pid < 0)
		refuse(l, errno, "cannot wait");
	else
		child_add(&l->child, pid, ended);
}

static void overdue(struct timer *timer)
{
	struct lock *l = container_of(timer, struct lock, timer);
	l->overdue = true;
	if (l->child.pid > 0)
		kill(l->child.pid, SIGKILL); /* the last try, and the answer, follow from ended() */
}

void lock_open(struct connection *c, const struct request *r)
{
	const char *path = request_get(r, "path"), *mode = request_get(r, "mode");
	bool shared = mode && !strcmp(mode, "shared");
	struct fault f = {0};
	int64_t wait_ms;
	struct lock *l = NULL;
	if (!archive_below_home(path))
		fault(&f, "lock", path ? path : "path", EINVAL, "the file must be below the store");
	else if (!mode || (!shared && strcmp(mode, "exclusive")))
		fault(&f, "request", "mode", EINVAL, "exclusive or shared is needed");
	else if (request_number(r, "wait", -1, &wait_ms) < 0 || wait_ms < -1 || wait_ms > INT32_MAX)
		fault(&f, "request", "wait", EINVAL, "milliseconds are needed, or -1");
	else if (!(l = calloc(1, sizeof(*l) + strlen(path) + 1)))
		fault(&f, "lock", path, ENOMEM, NULL);
	if (!l) {
		connection_refuse(c, r->seq, &f);
		return;
	}
	*l = (struct lock){.connection = c, .seq = r->seq, .fd = -1, .operation = shared ? LOCK_SH : LOCK_EX};
	strcpy(l->path, path);
	c->owner = l;
	c->gone = gone;
	c->input = input;
	connection_read(c, true);
	if (wait_ms > 0)
		timer_set(&l->timer, (uint64_t)wait_ms * 1000, overdue);
	take(l, wait_ms != 0);
}
