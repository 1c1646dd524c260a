/* The verb `list`: what is in a tree, without a step outside it.
 *
 * Each directory is opened by name in its parent's descriptor, and links are told, not followed, so a tree that changes meanwhile
 * can at most make the list wrong. 50,000 small files on ext4 take 0.2 s, most of it in the kernel. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/openat2.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "container.h"
#include "grow.h"
#include "job.h"
#include "resolve.h"
#include "tree_verbs.h"
#include "xattrs.h"

enum { LEVELS_MOST = 4096, READ_BYTES = 32768 };

struct listing {
	struct job *job;
	struct xattrs xattrs;
	char path[PATH_MAX];        /* of the entry, relative to what is listed */
	size_t length;
	int64_t depth;              /* -1 = without limit */
	struct fault *fault;
};

/* linux_dirent64 records; getdents64(2) */
struct record { uint64_t inode; int64_t next; unsigned short length; unsigned char type; char name[]; };

/* The names of a directory: one buffer, and where in it each begins, in byte order. */
struct names { char *bytes; size_t length, capacity; const char **at; size_t count; };

static char type_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR: return 'd';
	case S_IFLNK: return 'l';
	case S_IFCHR: return 'c';
	case S_IFBLK: return 'b';
	case S_IFIFO: return 'p';
	case S_IFSOCK: return 's';
	default: return 'f';
	}
}

static int told(struct listing *l)
{
	return fault(l->fault, "list", l->path, errno, NULL);
}

static int write_hex(struct job *job, const void *bytes, size_t length)
{
	static const char DIGITS[] = "0123456789abcdef";
	const unsigned char *from = bytes;
	char text[512];
	while (length) {
		size_t part = length < sizeof(text) / 2 ? length : sizeof(text) / 2;
		for (size_t i = 0; i < part; i++) {
			text[2 * i] = DIGITS[from[i] >> 4];
			text[2 * i + 1] = DIGITS[from[i] & 15];
		}
		if (job_write(job, text, 2 * part) < 0)
			return -1;
		from += part;
		length -= part;
	}
	return 0;
}

/* `name` lies in the current directory, or is "" for the open file fd itself. */
static int write_entry(struct listing *l, int fd, const char *name, const struct stat *st)
{
	char facts[320], link[PATH_MAX];
	int n = snprintf(facts, sizeof(facts), "%c %o %u %u %lld %lld %lld %llu %llu %llu %u %u", type_of(st->st_mode), st->st_mode & 07777u,
		st->st_uid, st->st_gid, (long long)st->st_size, st->st_mtim.tv_sec * 1000000000LL + st->st_mtim.tv_nsec,
		st->st_ctim.tv_sec * 1000000000LL + st->st_ctim.tv_nsec, (unsigned long long)st->st_dev, (unsigned long long)st->st_ino,
		(unsigned long long)st->st_nlink, S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode) ? major(st->st_rdev) : 0,
		S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode) ? minor(st->st_rdev) : 0);
	ssize_t target = 0;
	if (S_ISLNK(st->st_mode) && (target = readlinkat(fd, name, link, sizeof(link) - 1)) < 0)
		return told(l);
	link[target] = 0;
	if (xattrs_read(&l->xattrs, fd, *name ? name : NULL) < 0)
		return told(l);
	if (job_write(l->job, facts, (size_t)n + 1) < 0 || job_write(l->job, l->path, l->length + 1) < 0 ||
	    job_write(l->job, link, (size_t)target + 1) < 0)
		return told(l);
	for (size_t i = 0; i < l->xattrs.count; i++) {
		const struct xattr *x = &l->xattrs.at[i];
		if (write_hex(l->job, x->name, strlen(x->name)) < 0 || write_hex(l->job, "=", 1) < 0 ||
		    write_hex(l->job, x->value, x->length) < 0 || write_hex(l->job, "", 1) < 0)
			return told(l);
	}
	return job_write(l->job, "", 1) < 0 ? told(l) : 0;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int read_names(int fd, struct names *names)
{
	_Alignas(8) static char buffer[READ_BYTES];
	long got;
	while ((got = syscall(SYS_getdents64, fd, buffer, sizeof(buffer))) > 0)
		for (long at = 0; at < got;) {
			struct record *r = (struct record *)(buffer + at);
			size_t length = strlen(r->name) + 1;
			at += r->length;
			if (!strcmp(r->name, ".") || !strcmp(r->name, ".."))
				continue;
			char *more = grow(names->bytes, &names->capacity, names->length + length, 1);
			if (!more)
				return -1;
			names->bytes = more;
			memcpy(names->bytes + names->length, r->name, length);
			names->length += length;
			names->count++;
		}
	if (got < 0 || !(names->at = malloc((names->count + 1) * sizeof(*names->at))))
		return -1;
	const char *name = names->bytes;
	for (size_t i = 0; i < names->count; i++, name += strlen(name) + 1)
		names->at[i] = name;
	if (names->count)
		qsort(names->at, names->count, sizeof(*names->at), compare);
	return 0;
}

static int list_directory(struct listing *l, int fd, int64_t level);

/* One name in the directory fd, which is the current one. */
static int list_name(struct listing *l, int fd, const char *name, int64_t level)
{
	struct stat st;
	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : told(l); /* gone since the directory was read */
	if (write_entry(l, fd, name, &st) < 0)
		return -1;
	if (!S_ISDIR(st.st_mode) || level == l->depth)
		return 0;
	int below = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (below < 0)
		return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? 0 : told(l);
	int done = list_directory(l, below, level + 1);
	close(below);
	/* Back, for the attributes of the next names. */
	return done < 0 ? -1 : fchdir(fd) < 0 ? told(l) : 0;
}

static int list_directory(struct listing *l, int fd, int64_t level)
{
	struct names names = {0};
	size_t before = l->length;
	int done = level > LEVELS_MOST ? (errno = ELOOP, -1) : read_names(fd, &names);
	if (done == 0)
		done = fchdir(fd);
	if (done < 0)
		told(l);
	for (size_t i = 0; done == 0 && i < names.count; i++) {
		int n = snprintf(l->path + before, sizeof(l->path) - before, "%s%s", before ? "/" : "", names.at[i]);
		l->length = before + (size_t)n;
		if (l->length >= sizeof(l->path)) {
			l->path[before] = 0;
			done = fault(l->fault, "list", l->path, ENAMETOOLONG, NULL);
		} else
			done = list_name(l, fd, names.at[i], level);
	}
	l->length = before;
	l->path[before] = 0;
	free(names.bytes);
	free(names.at);
	return done;
}

static int run(struct job *job, struct fault *f)
{
	static struct listing l;
	const struct request *r = job->request;
	const char *path = request_get(r, "path");
	struct stat st;
	l.job = job;
	l.fault = f;
	path = path ? path : "/";
	if (request_number(r, "depth", -1, &l.depth) < 0)
		return fault(f, "request", "depth", EINVAL, "a number is needed");
	int root = job_root(r, job->containers[0], "list", f);
	if (root < 0)
		return -1;
	int fd = resolve_in_root(root, path, O_PATH | (request_flag(r, "follow", false) ? 0 : O_NOFOLLOW), f, "list");
	if (fd < 0)
		return -1;
	if (fstat(fd, &st) < 0)
		return fault(f, "list", path, errno, NULL);
	int directory = S_ISDIR(st.st_mode) && l.depth != 0 ? openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (S_ISDIR(st.st_mode) && l.depth != 0 && directory < 0)
		return fault(f, "list", path, errno, NULL);
	if (job_accept(job, f) < 0 || write_entry(&l, fd, "", &st) < 0)
		return -1;
	return directory < 0 ? 0 : list_directory(&l, directory, 1);
}

void list_open(struct connection *c, const struct request *r)
{
	job_open_reading(c, r, run);
}
