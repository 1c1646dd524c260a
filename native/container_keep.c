/* The verb `keep`: what a container has written becomes a layer, by a rename. The warden unmounts the overlay, a process of its own
 * takes out what the start had made, looks whether anything is left, and moves it. */
#define _GNU_SOURCE
#include "container_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "archive.h"
#include "stubs.h"
#include "xattrs.h"

/* What the process found out; in memory that it shares with the warden. */
struct outcome { struct fault fault; bool done, empty; };

/* Who asks for it right after a copy is answered may be faster than the copy's process is gone. */
struct keep_request { uint64_t seq; bool sync, stay; char target[512]; };

struct keeper { struct child child; struct container *container; uint64_t seq; bool stay; struct outcome *outcome; };

/* Overlay's marks on the root of its upper mean nothing in a layer; what they say is of this one mount. */
static int clear_marks(int upper, struct fault *f)
{
	char names[4096];
	ssize_t length = flistxattr(upper, names, sizeof(names));
	for (char *name = names; length > 0 && name < names + length; name += strlen(name) + 1)
		if (xattr_is_overlay(name) && fremovexattr(upper, name) < 0 && errno != ENODATA)
			return fault(f, "keep", name, errno, "cannot remove a mark of overlay");
	return length < 0 && errno != ENOTSUP ? fault(f, "keep", "upper", errno, "cannot read the extended attributes") : 0;
}

/* 1 = no entry at all, 0 = some, -1. Only "." and ".." take 48 bytes (overlay.c). */
static int is_empty(int upper)
{
	_Alignas(8) char entries[1024];
	long got = lseek(upper, 0, SEEK_SET) < 0 ? -1 : syscall(SYS_getdents64, upper, entries, sizeof(entries));
	return got < 0 ? -1 : got <= 48;
}

static int keep(struct container *c, const char *target, bool sync, bool *empty, struct fault *f)
{
	char tree[512];
	int upper = open(c->scratch.upper, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (upper < 0)
		return fault(f, "upper", c->scratch.upper, errno, NULL);
	if (c->started_once && stubs_remove(&c->plan, upper, c->started_ns, session.rootless, f) < 0)
		return -1;
	int is = is_empty(upper);
	if (is < 0)
		return fault(f, "upper", c->scratch.upper, errno, NULL);
	*empty = is > 0;
	if (*empty)
		return 0;
	if (clear_marks(upper, f) < 0)
		return -1;
	if (sync && syncfs(upper) < 0)
		return fault(f, "keep", target, errno, "the layer could not be written to disk");
	if (snprintf(tree, sizeof(tree), "%s/tree", target) >= (int)sizeof(tree))
		return fault(f, "keep", target, ENAMETOOLONG, NULL);
	if (mkdir(target, 0700) < 0)
		return fault(f, "keep", target, errno, NULL);
	if (rename(c->scratch.upper, tree) < 0) {
		int error = errno;
		rmdir(target);
		return fault(f, "keep", target, error, NULL);
	}
	return 0;
}

/* The container is as it was; somebody may have asked for its removal meanwhile. */
static void failed(struct container *c, uint64_t seq, const struct fault *f)
{
	c->keeping = false;
	reply_fault(seq, f);
	if (c->removing)
		container_finish_removal(c);
}

static void kept(struct child *child, int status)
{
	struct keeper *k = container_of(child, struct keeper, child);
	struct container *c = k->container;
	struct fault f = k->outcome->fault;
	bool done = k->outcome->done, empty = k->outcome->empty, stay = k->stay;
	uint64_t seq = k->seq;
	(void)status;
	munmap(k->outcome, sizeof(*k->outcome));
	free(k);
	if (!done) {
		if (!f.error)
			fault(&f, "keep", c->plan.id, EIO, "the process that makes the layer ended early");
		failed(c, seq, &f);
		return;
	}
	c->keeping = false;
	if (stay && !c->removing)
		container_shed_scratch(c);
	else {
		c->removing = true;
		container_finish_removal(c);
	}
	json_bool(reply_begin(seq), "empty", empty);
	line_end();
}

static int check(const struct container *c, const char *target, struct fault *f)
{
	if (!archive_below_home(target))
		return fault(f, "keep", target ? target : "target", EINVAL, "the target must be below the store");
	if (c->state == CONTAINER_REMOVED || c->removing || c->keeping)
		return fault(f, "state", c->plan.id, ENOENT, "the container is removed");
	if (c->state != CONTAINER_CREATED && c->state != CONTAINER_EXITED)
		return fault(f, "state", c->plan.id, EBUSY, "the container is running; stop it first");
	if (!c->scratch.made)
		return fault(f, "state", c->plan.id, EBUSY, "what it had written was kept already");
	if (container_lends(c))
		return fault(f, "state", c->plan.id, EBUSY, "a running container has a mount of it");
	if (!scratch_is_on_disk(&c->scratch))
		return fault(f, "keep", c->plan.id, EXDEV, "what it has written is in memory, which cannot become a layer on disk");
	return 0;
}

void container_keep_now(struct container *c)
{
	struct keep_request asked = *c->keep_later;
	struct fault f = {0};
	struct keeper *k = calloc(1, sizeof(*k));
	struct outcome *outcome = mmap(NULL, sizeof(*outcome), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	free(c->keep_later);
	c->keep_later = NULL;
	scratch_unmount(&c->scratch);
	pid_t pid = k && outcome != MAP_FAILED ? fork() : -1;
	if (pid == 0) {
		sigset_t none;
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		umask(0);
		child_keep_only(NULL, 0);
		outcome->done = keep(c, asked.target, asked.sync, &outcome->empty, &outcome->fault) == 0;
		_exit(0);
	}
	if (pid < 0) {
		fault(&f, "keep", asked.target, errno ? errno : ENOMEM, NULL);
		if (outcome != MAP_FAILED)
			munmap(outcome, sizeof(*outcome));
		free(k);
		failed(c, asked.seq, &f);
		return;
	}
	*k = (struct keeper){.container = c, .seq = asked.seq, .stay = asked.stay, .outcome = outcome};
	child_add(&k->child, pid, kept);
}

void container_keep(struct container *c, const struct request *r)
{
	struct fault f = {0};
	const char *target = request_get(r, "target");
	struct keep_request *asked = calloc(1, sizeof(*asked));
	if (!asked)
		fault(&f, "keep", c->plan.id, ENOMEM, NULL);
	else if (check(c, target, &f) == 0 && snprintf(asked->target, sizeof(asked->target), "%s", target) >= (int)sizeof(asked->target))
		fault(&f, "keep", target, ENAMETOOLONG, NULL);
	if (f.error) {
		free(asked);
		reply_fault(r->seq, &f);
		return;
	}
	asked->seq = r->seq;
	asked->sync = request_flag(r, "sync", false);
	asked->stay = request_flag(r, "stay", false);
	c->keep_later = asked;
	c->keeping = true;
	if (!c->holds)
		container_keep_now(c);
}
