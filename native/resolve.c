#define _GNU_SOURCE
/* Two ways through an untrusted tree.
 *
 * Where the tree is only read, the kernel does it: openat2(RESOLVE_IN_ROOT). Where something may have to be made, and where
 * an escape must be told instead of clamped, walk() goes component by component: it holds one O_PATH descriptor and the
 * path that led there, free of links and dots. A component is opened with O_NOFOLLOW, so a link is seen as a link and its
 * target spliced into what is still to walk. ".." opens the shortened path anew with RESOLVE_NO_SYMLINKS, never the
 * directory's own "..", which a rename may have moved. */
#include "resolve.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define PROC_MAGIC 0x9fa0 /* linux/magic.h */
#define MOST_LINKS 40     /* as the kernel */
#define MOST_RETRIES 4096 /* a hostile renamer can make openat2 return EAGAIN for ever */

enum {
	WALK_MAKE = 1,   /* missing components are made */
	WALK_FILE = 2,   /* the last one is a file, else a directory */
	WALK_LENIENT = 4 /* ".." stops at the root and dangling links are filled */
};

struct walk {
	int root_fd, fd;       /* fd: O_PATH, where we are */
	char done[PATH_MAX];   /* the path of fd below the root, without links, "" = root */
	char rest[PATH_MAX];   /* what is still to walk */
	size_t position;       /* where in rest */
	char link[PATH_MAX];   /* the outermost link that the current component comes from, "" = none */
	size_t after_link;     /* length of rest when that link is used up */
	unsigned links;
	unsigned flags;
	const char *path, *step;
	const struct resolve_made *made;
	struct fault *fault;
};

int resolve_open(int dir_fd, const char *path, int flags, uint64_t resolve)
{
	struct open_how how = { .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC), .resolve = resolve };

	for (int tries = 0;; tries++) {
		int fd = (int)syscall(SYS_openat2, dir_fd, *path ? path : ".", &how, sizeof(how));

		if (fd >= 0 || (errno != EAGAIN && errno != EINTR) || tries == MOST_RETRIES)
			return fd;
		if (tries > 16)
			sched_yield();
	}
}

int resolve_in_root(int root_fd, const char *path, int flags, struct fault *f, const char *step)
{
	int fd = resolve_open(root_fd, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);

	return fd >= 0 ? fd : fault(f, step, path, errno, NULL);
}

static int refuse(struct walk *w, int error, const char *why)
{
	return fault(w->fault, w->step, w->path, error, why);
}

static int refuse_link(struct walk *w, const char *what)
{
	char why[256];

	snprintf(why, sizeof(why), "symbolic link /%.*s %s", (int)(sizeof(why) - 64), w->link, what);
	return refuse(w, EXDEV, why);
}

static void enter(struct walk *w, int fd)
{
	close(w->fd);
	w->fd = fd;
}

/* Back to where the walk began, or to the directory above. */
static int enter_done(struct walk *w)
{
	int fd = resolve_open(w->root_fd, w->done, O_PATH | O_DIRECTORY, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);

	if (fd < 0)
		return refuse(w, errno, "something is changing the directories on the way");
	enter(w, fd);
	return 0;
}

static int go_up(struct walk *w)
{
	char *slash = strrchr(w->done, '/');

	if (!*w->done) {
		if (w->flags & WALK_LENIENT)
			return 0;
		return *w->link ? refuse_link(w, "leads above the root") : refuse(w, EXDEV, "path leads above the root");
	}
	*(slash ? slash : w->done) = '\0';
	return enter_done(w);
}

/* Puts the link's target in front of what is left to walk. */
static int follow(struct walk *w, int link_fd, const char *name)
{
	char target[PATH_MAX], rest[PATH_MAX];
	struct statfs fs;
	ssize_t length = readlinkat(link_fd, "", target, sizeof(target) - 1);
	const char *left = w->rest + w->position;

	if (length < 0)
		return refuse(w, errno, "cannot read a symbolic link on the way");
	target[length] = '\0';
	if (fstatfs(link_fd, &fs) == 0 && fs.f_type == PROC_MAGIC)
		return refuse(w, ELOOP, "path goes through a link of /proc");
	if (++w->links > MOST_LINKS)
		return refuse(w, ELOOP, NULL);
	left += strspn(left, "/");
	if (!*w->link) {
		int printed = snprintf(w->link, sizeof(w->link), "%s%s%s", w->done, *w->done ? "/" : "", name);

		if (printed < 0 || (size_t)printed >= sizeof(w->link))
			return refuse(w, ENAMETOOLONG, NULL);
		w->after_link = strlen(left);
	}
	int printed = snprintf(rest, sizeof(rest), "%s/%s", target, left);

	if (printed < 0 || (size_t)printed >= sizeof(rest))
		return refuse(w, ENAMETOOLONG, NULL);
	memcpy(w->rest, rest, (size_t)printed + 1);
	w->position = 0;
	if (target[0] == '/' && *w->done) {
		*w->done = '\0';
		return enter_done(w);
	}
	return 0;
}

static int make(struct walk *w, const char *name, bool last, mode_t mode)
{
	if (*w->link && !(w->flags & WALK_LENIENT))
		return refuse_link(w, "leads to nothing");
	if (!last || !(w->flags & WALK_FILE)) {
		char path[PATH_MAX + NAME_MAX + 2];

		if (mkdirat(w->fd, name, last ? mode : 0755) < 0)
			return errno == EEXIST ? 0 : refuse(w, errno, "cannot make a directory");
		snprintf(path, sizeof(path), "%s%s%s", w->done, *w->done ? "/" : "", name);
		return w->made && w->made->tell(w->made->context, w->fd, name, path) < 0 ? refuse(w, errno, NULL) : 0;
	}
	int fd = openat(w->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);

	if (fd < 0)
		return errno == EEXIST ? 0 : refuse(w, errno, "cannot make an empty file");
	close(fd);
	return 0;
}

/* Walks one component. What was made is then opened like what was there: whoever swapped it meanwhile gains nothing. */
static int step_into(struct walk *w, const char *name, bool last, mode_t mode)
{
	struct stat st;
	int fd = -1;

	for (int tries = 0; fd < 0; tries++) {
		fd = openat(w->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0)
			break;
		if (errno != ENOENT || !(w->flags & WALK_MAKE) || tries == MOST_RETRIES)
			return refuse(w, errno, NULL);
		if (make(w, name, last, mode) < 0)
			return -1;
	}
	if (fstat(fd, &st) < 0) {
		int error = errno;

		close(fd);
		return refuse(w, error, NULL);
	}
	if (S_ISLNK(st.st_mode)) {
		int result = follow(w, fd, name);

		close(fd);
		return result;
	}
	size_t length = strlen(w->done), more = strlen(name);

	if (length + 1 + more >= sizeof(w->done)) {
		close(fd);
		return refuse(w, ENAMETOOLONG, NULL);
	}
	if (length)
		w->done[length++] = '/';
	memcpy(w->done + length, name, more + 1);
	enter(w, fd);
	return 0;
}

static int walk_all(struct walk *w, mode_t mode)
{
	for (;;) {
		const char *left = w->rest + w->position;
		char name[NAME_MAX + 1];
		struct stat st;

		left += strspn(left, "/");
		if (*w->link && strlen(left) <= w->after_link)
			*w->link = '\0';
		size_t length = strcspn(left, "/");

		if (!length) {
			if (fstat(w->fd, &st) < 0)
				return refuse(w, errno, NULL);
			if (!(w->flags & WALK_FILE) && !S_ISDIR(st.st_mode))
				return refuse(w, ENOTDIR, NULL);
			if (w->flags & WALK_FILE && S_ISDIR(st.st_mode))
				return refuse(w, EISDIR, NULL);
			return w->fd;
		}
		if (length > NAME_MAX)
			return refuse(w, ENAMETOOLONG, NULL);
		memcpy(name, left, length);
		name[length] = '\0';
		w->position = (size_t)(left - w->rest) + length;
		if (!strcmp(name, "."))
			continue;
		if (!strcmp(name, "..")) {
			if (go_up(w) < 0)
				return -1;
			continue;
		}
		left += length;
		if (step_into(w, name, left[strspn(left, "/")] == '\0', mode) < 0)
			return -1;
	}
}

static int walk(int root_fd, const char *path, unsigned flags, mode_t mode, const struct resolve_made *made, struct fault *f,
	const char *step)
{
	struct walk w = { .root_fd = root_fd, .flags = flags, .path = path, .step = step, .made = made, .fault = f };

	if (strlen(path) >= sizeof(w.rest))
		return fault(f, step, path, ENAMETOOLONG, NULL);
	memcpy(w.rest, path, strlen(path) + 1);
	w.fd = openat(root_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (w.fd < 0)
		return fault(f, step, path, errno, NULL);

	mode_t mask = umask(0); /* one thread: nobody else makes files meanwhile */
	int fd = walk_all(&w, mode);
	int error = errno;

	umask(mask);
	if (fd < 0)
		close(w.fd);
	errno = error;
	return fd;
}

int resolve_make(int root_fd, const char *path, bool directory, mode_t mode, struct fault *f, const char *step)
{
	return walk(root_fd, path, WALK_MAKE | (directory ? 0 : WALK_FILE), mode, NULL, f, step);
}

int resolve_workdir(int root_fd, const char *path, struct fault *f, const char *step)
{
	return walk(root_fd, path, 0, 0, NULL, f, step);
}

int resolve_make_parents(int root_fd, const char *path, struct fault *f, const char *step)
{
	return walk(root_fd, path, WALK_MAKE | WALK_LENIENT, 0755, NULL, f, step);
}

int resolve_make_told(int root_fd, const char *path, const struct resolve_made *made, struct fault *f, const char *step)
{
	return walk(root_fd, path, WALK_MAKE | WALK_LENIENT, 0755, made, f, step);
}
