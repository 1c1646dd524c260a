#define _GNU_SOURCE
/* Writes a file or tree as a PAX archive, in sorted order, so that equal trees give equal archives.
 *
 * The tree may be in use. Every name is opened without following it, what was opened is asked what it is, and a file's entry
 * has exactly the length its header says: what grew meanwhile is cut, what shrank is filled with zeros, what vanished before
 * its header is left out. Deeper than LEVELS a directory is closed while its subdirectories are written and found again by
 * its path below the top, without links; a path that does not fit PATH_MAX is an error. */
#include "tar.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "grow.h"
#include "resolve.h"

#define STEP "archive"

enum { BLOCK = 512, OUT_BYTES = 1 << 20, LEVELS = 100, XATTR_NAMES = 65536, XATTR_VALUE = 65536 };

/* The first name of a file with several. */
struct link { dev_t device; ino_t inode; char *name; };

struct text { char *bytes; size_t length, capacity; };

struct pack {
	const struct tar_sink *sink;
	int top_fd;                  /* the directory at path, -1 for a single file */
	bool layer;                  /* overlay's marks become .wh. entries */
	const char *marks;           /* of a layer: the prefix of overlay's attributes that count, and its length */
	size_t marks_length;
	struct fault *fault;
	unsigned char *out;          /* OUT_BYTES, of which out_length wait to be written */
	size_t out_length;
	struct link *links;          /* open addressing; capacity is a power of two */
	size_t link_count, link_capacity;
	struct text pax;             /* records of the current entry */
	char *xattr_names;
	char *xattr_value;
	char path[PATH_MAX];         /* name of the current entry in the archive */
	size_t path_length, top_length; /* top_length: of its part that stands for top_fd, with the slash */
};

static int refuse(struct pack *p, int error, const char *why)
{
	return fault(p->fault, STEP, p->path, error, why);
}

static int flush(struct pack *p)
{
	size_t length = p->out_length;

	p->out_length = 0;
	return length && p->sink->write(p->sink->context, p->out, length) < 0 ? refuse(p, errno, "cannot write the archive") : 0;
}

/* Copies bytes out; NULL means zeros. */
static int put(struct pack *p, const void *bytes, uint64_t length)
{
	for (const char *at = bytes; length;) {
		size_t part = OUT_BYTES - p->out_length;

		if (part > length)
			part = (size_t)length;
		if (at) {
			memcpy(p->out + p->out_length, at, part);
			at += part;
		} else {
			memset(p->out + p->out_length, 0, part);
		}
		p->out_length += part;
		length -= part;
		if (p->out_length == OUT_BYTES && flush(p) < 0)
			return -1;
	}
	return 0;
}

static int put_padding(struct pack *p, uint64_t length)
{
	return put(p, NULL, -length & (BLOCK - 1));
}

static int append(struct pack *p, const void *bytes, size_t length)
{
	struct text *t = &p->pax;
	char *longer = grow(t->bytes, &t->capacity, t->length + length, 1);

	if (!longer)
		return refuse(p, ENOMEM, NULL);
	t->bytes = longer;
	memcpy(t->bytes + t->length, bytes, length);
	t->length += length;
	return 0;
}

/* "<length> <key>=<value>\n": the length counts its own digits. */
static int pax(struct pack *p, const char *prefix, const char *key, const void *value, size_t size)
{
	size_t rest = strlen(prefix) + strlen(key) + size + 3, total = rest;
	char head[XATTR_NAME_MAX + 64];

	for (size_t printed = 0; printed != total;) {
		printed = total;
		total = rest + (size_t)snprintf(NULL, 0, "%zu", printed);
	}
	int length = snprintf(head, sizeof(head), "%zu %s%s=", total, prefix, key);

	return append(p, head, (size_t)length) < 0 || append(p, value, size) < 0 || append(p, "\n", 1) < 0 ? -1 : 0;
}

static int pax_number(struct pack *p, const char *key, uint64_t number)
{
	char text[24];
	int length = snprintf(text, sizeof(text), "%llu", (unsigned long long)number);

	return pax(p, "", key, text, (size_t)length);
}

/* Octal into a header field, false if it does not fit (then PAX has it). */
static bool octal(char *field, size_t width, uint64_t number)
{
	char text[32];

	if (number >> (3 * (width - 1)))
		return false;
	snprintf(text, sizeof(text), "%0*llo", (int)width - 1, (unsigned long long)number);
	memcpy(field, text, width);
	return true;
}

static int put_header(struct pack *p, char type, const char *name, const char *link, const struct stat *st, uint64_t size)
{
	char header[BLOCK] = { 0 };
	unsigned sum = 0;

	memcpy(header, name, strnlen(name, 100));
	octal(header + 100, 8, st->st_mode & 07777);
	if (!octal(header + 108, 8, st->st_uid))
		octal(header + 108, 8, 0);
	if (!octal(header + 116, 8, st->st_gid))
		octal(header + 116, 8, 0);
	if (!octal(header + 124, 12, size))
		octal(header + 124, 12, 0);
	if (st->st_mtim.tv_sec < 0 || !octal(header + 136, 12, (uint64_t)st->st_mtim.tv_sec))
		octal(header + 136, 12, 0);
	header[156] = type;
	memcpy(header + 157, link, strnlen(link, 100));
	memcpy(header + 257, "ustar\0" "00", 8);
	if (type == '3' || type == '4') {
		if (!octal(header + 329, 8, major(st->st_rdev)))
			octal(header + 329, 8, 0);
		if (!octal(header + 337, 8, minor(st->st_rdev)))
			octal(header + 337, 8, 0);
	}
	memset(header + 148, ' ', 8);
	for (int i = 0; i < BLOCK; i++)
		sum += (unsigned char)header[i];
	snprintf(header + 148, 8, "%06o", sum);
	return put(p, header, BLOCK);
}

/* What a header block cannot hold goes before it as PAX records. */
static int put_entry(struct pack *p, char type, const char *name, const char *link, const struct stat *st, uint64_t size)
{
	static const struct stat plain = { .st_mode = 0644 };
	char time[48];

	if (strlen(name) > 100 && pax(p, "", "path", name, strlen(name)) < 0)
		return -1;
	if (strlen(link) > 100 && pax(p, "", "linkpath", link, strlen(link)) < 0)
		return -1;
	if (size >> 33 && pax_number(p, "size", size) < 0)
		return -1;
	if (st->st_uid >> 21 && pax_number(p, "uid", st->st_uid) < 0)
		return -1;
	if (st->st_gid >> 21 && pax_number(p, "gid", st->st_gid) < 0)
		return -1;
	if (st->st_mtim.tv_nsec || st->st_mtim.tv_sec < 0 || st->st_mtim.tv_sec >> 33) {
		long long seconds = st->st_mtim.tv_sec;
		long nanoseconds = st->st_mtim.tv_nsec;
		bool negative = seconds < 0;

		if (negative) { /* -1.5 s is stored as -2 s and 0.5 s */
			seconds = -seconds - (nanoseconds != 0);
			nanoseconds = nanoseconds ? 1000000000 - nanoseconds : 0;
		}
		int length = snprintf(time, sizeof(time), "%s%lld", negative ? "-" : "", seconds);

		if (nanoseconds) {
			length += snprintf(time + length, sizeof(time) - (size_t)length, ".%09ld", nanoseconds);
			while (time[length - 1] == '0')
				length--;
		}
		if (pax(p, "", "mtime", time, (size_t)length) < 0)
			return -1;
	}
	if (p->pax.length && (put_header(p, 'x', "PaxHeaders/entry", "", &plain, p->pax.length) < 0 ||
			put(p, p->pax.bytes, p->pax.length) < 0 || put_padding(p, p->pax.length) < 0))
		return -1;
	p->pax.length = 0;
	return put_header(p, type, name, link, st, size);
}

/* Those that mean something elsewhere: user.*, file capabilities, ACLs; not overlay's own. */
static bool is_portable(const char *name)
{
	return (!strncmp(name, "user.", 5) && strncmp(name, "user.overlay.", 13)) || !strcmp(name, "security.capability") ||
		!strncmp(name, "system.posix_acl_", 17);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* What overlay's attributes say of a file or directory; none of them goes into an archive. */
struct marks { bool opaque, whiteout; };

static int read_mark(struct pack *p, int fd, const char *attribute, struct marks *marks)
{
	const char *name = attribute + p->marks_length;
	char value[4];

	if (!strcmp(name, "opaque")) /* "x" is not opaque: it says that whiteouts of this directory may be files (Linux 6.8) */
		marks->opaque = fgetxattr(fd, attribute, value, sizeof(value)) == 1 && value[0] == 'y';
	else if (!strcmp(name, "whiteout"))
		marks->whiteout = true;
	else if (!strcmp(name, "redirect") || !strcmp(name, "metacopy")) /* our mounts make none: what it needs lies in another layer */
		return refuse(p, ENOTSUP, "its content lies in another layer");
	return 0;
}

static int pax_xattrs(struct pack *p, int fd, struct marks *marks)
{
	const char *sorted[256];
	size_t count = 0;
	ssize_t length = flistxattr(fd, p->xattr_names, XATTR_NAMES);

	for (ssize_t at = 0; at < length; at += (ssize_t)strlen(p->xattr_names + at) + 1) {
		const char *name = p->xattr_names + at;

		if (p->layer && !strncmp(name, p->marks, p->marks_length) && read_mark(p, fd, name, marks) < 0)
			return -1;
		if (!is_portable(name))
			continue;
		if (count == sizeof(sorted) / sizeof(*sorted))
			return refuse(p, E2BIG, "it has too many extended attributes");
		sorted[count++] = name;
	}
	qsort(sorted, count, sizeof(*sorted), compare_names);
	for (size_t i = 0; i < count; i++) {
		ssize_t size = fgetxattr(fd, sorted[i], p->xattr_value, XATTR_VALUE);

		if (size >= 0 && pax(p, "SCHILY.xattr.", sorted[i], p->xattr_value, (size_t)size) < 0)
			return -1;
	}
	return 0;
}

static struct link *find_link(struct link *links, size_t capacity, const struct stat *st)
{
	size_t at = (size_t)((st->st_ino ^ (uint64_t)st->st_dev << 40) * 0x9e3779b97f4a7c15u >> 20);

	for (;; at++) {
		struct link *link = &links[at & (capacity - 1)];

		if (!link->name || (link->device == st->st_dev && link->inode == st->st_ino))
			return link;
	}
}

static int grow_links(struct pack *p)
{
	size_t capacity = p->link_capacity ? 2 * p->link_capacity : 256;
	struct link *grown = calloc(capacity, sizeof(*grown));

	if (!grown)
		return refuse(p, ENOMEM, NULL);
	for (size_t i = 0; i < p->link_capacity; i++) {
		struct stat st = { .st_dev = p->links[i].device, .st_ino = p->links[i].inode };

		if (p->links[i].name)
			*find_link(grown, capacity, &st) = p->links[i];
	}
	free(p->links);
	p->links = grown;
	p->link_capacity = capacity;
	return 0;
}

/* 1 = a hard link to an earlier entry was written; 0 = the first of its kind; -1 = fault. */
static int put_hard_link(struct pack *p, const struct stat *st)
{
	if (st->st_nlink < 2 || S_ISDIR(st->st_mode))
		return 0;
	if (2 * p->link_count >= p->link_capacity && grow_links(p) < 0)
		return -1;
	struct link *link = find_link(p->links, p->link_capacity, st);

	if (link->name) {
		p->pax.length = 0;
		return put_entry(p, '1', p->path, link->name, st, 0) < 0 ? -1 : 1;
	}
	*link = (struct link){ st->st_dev, st->st_ino, strdup(p->path) };
	p->link_count++;
	return link->name ? 0 : refuse(p, ENOMEM, NULL);
}

/* size bytes, whatever the file has become. */
static int put_content(struct pack *p, int fd, uint64_t size)
{
	uint64_t left = size;

	while (left) {
		size_t part = OUT_BYTES - p->out_length;

		if (part > left)
			part = (size_t)left;
		ssize_t got = read(fd, p->out + p->out_length, part);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return refuse(p, errno, "cannot read the file");
		if (got == 0) {
			if (put(p, NULL, left) < 0)
				return -1;
			break;
		}
		p->out_length += (size_t)got;
		left -= (uint64_t)got;
		if (p->out_length == OUT_BYTES && flush(p) < 0)
			return -1;
	}
	return put_padding(p, size);
}

static bool vanished(int error)
{
	return error == ENOENT || error == ELOOP || error == ENXIO; /* gone, or replaced by a link or socket */
}

/* The entry that hides `name` of the lower layers. Its own owner and time mean nothing: overlay has all whiteouts share an inode. */
static int put_whiteout(struct pack *p, const char *name)
{
	static const struct stat plain = { .st_mode = 0600 };
	char path[PATH_MAX + 8];

	p->pax.length = 0;
	snprintf(path, sizeof(path), "%.*s.wh.%s", (int)(p->path_length - strlen(name)), p->path, name);
	return put_entry(p, '0', path, "", &plain, 0);
}

static int put_opaque(struct pack *p)
{
	static const struct stat plain = { .st_mode = 0600 };
	char path[PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s.wh..wh..opq", p->path);
	return put_entry(p, '0', path, "", &plain, 0);
}

static int put_file(struct pack *p, int dir_fd, const char *name)
{
	struct marks marks = { 0 };
	struct stat st;
	/* O_NONBLOCK: a fifo put there a moment ago must not hold us up. */
	int result, fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return vanished(errno) ? 0 : refuse(p, errno, "cannot open the file");
	if (fstat(fd, &st) < 0)
		result = refuse(p, errno, NULL);
	else if (!S_ISREG(st.st_mode))
		result = 0;
	else if ((result = pax_xattrs(p, fd, &marks)) == 0 && marks.whiteout && !st.st_size)
		result = put_whiteout(p, name);
	else if (result == 0 && (result = put_hard_link(p, &st)) == 0 &&
			(result = put_entry(p, '0', p->path, "", &st, (uint64_t)st.st_size)) == 0)
		result = put_content(p, fd, (uint64_t)st.st_size);
	close(fd);
	return result < 0 ? -1 : 0;
}

static int put_symlink(struct pack *p, int dir_fd, const char *name, const struct stat *st)
{
	char target[PATH_MAX];
	ssize_t length = readlinkat(dir_fd, name, target, sizeof(target) - 1);

	if (length < 0)
		return errno == EINVAL || vanished(errno) ? 0 : refuse(p, errno, "cannot read the symbolic link");
	target[length] = '\0';
	return put_entry(p, '2', p->path, target, st, 0);
}

/* A directory's names, sorted. */
struct listing { char **names; size_t count; };

static void free_listing(struct listing *l)
{
	for (size_t i = 0; i < l->count; i++)
		free(l->names[i]);
	free(l->names);
}

static int list(struct pack *p, int fd, struct listing *l)
{
	size_t capacity = 0;
	int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = own >= 0 ? fdopendir(own) : NULL;
	struct dirent *entry;

	if (!directory) {
		int error = errno;

		if (own >= 0)
			close(own);
		return refuse(p, error, "cannot list the directory");
	}
	while ((errno = 0, entry = readdir(directory))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		char **longer = grow(l->names, &capacity, l->count + 1, sizeof(*longer));

		if (!longer)
			break;
		l->names = longer;
		if (!(l->names[l->count] = strdup(entry->d_name)))
			break;
		l->count++;
	}
	int error = errno;

	closedir(directory);
	if (error)
		return refuse(p, error, "cannot list the directory");
	if (l->count)
		qsort(l->names, l->count, sizeof(*l->names), compare_names);
	return 0;
}

/* The kernel's own file systems have no content to keep; a volume or tmpfs has. */
static bool is_kernel_file_system(int fd)
{
	static const long magics[] = {
		0x9fa0 /* proc */, 0x62656572 /* sysfs */, 0x27e0eb /* cgroup */, 0x63677270 /* cgroup2 */, 0x1cd1 /* devpts */,
		0x19800202 /* mqueue */, 0x64626720 /* debugfs */, 0x74726163 /* tracefs */, 0x73636673 /* securityfs */,
		0xcafe4a11 /* bpf */, 0x6e736673 /* nsfs */,
	};
	struct statfs fs;

	if (fstatfs(fd, &fs) == 0)
		for (size_t i = 0; i < sizeof(magics) / sizeof(*magics); i++)
			if ((long)fs.f_type == magics[i])
				return true;
	return false;
}

static int put_directory(struct pack *p, int fd, int level);

/* Appends a name to the current path; false if it does not fit. */
static bool push(struct pack *p, const char *name, size_t *length)
{
	size_t more = strlen(name);

	*length = p->path_length;
	if (p->path_length + more + 2 > sizeof(p->path))
		return false;
	memcpy(p->path + p->path_length, name, more + 1);
	p->path_length += more;
	return true;
}

static void pop(struct pack *p, size_t length)
{
	p->path_length = length;
	p->path[length] = '\0';
}

/* One name of the directory *fd, which may be closed and opened anew meanwhile. */
static int put_child(struct pack *p, int *fd, const char *name, int level)
{
	struct stat st;

	if (fstatat(*fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return vanished(errno) ? 0 : refuse(p, errno, NULL);
	if (p->layer && S_ISCHR(st.st_mode) && st.st_rdev == 0)
		return put_whiteout(p, name);
	if (p->layer && !strncmp(name, ".wh.", 4))
		return refuse(p, EINVAL, "a layer cannot have a name that begins with .wh.: it would hide something of the layers below");
	if (S_ISREG(st.st_mode))
		return put_file(p, *fd, name);
	if (S_ISDIR(st.st_mode)) {
		int child = openat(*fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		if (child < 0)
			return errno == ENOTDIR || vanished(errno) ? 0 : refuse(p, errno, "cannot open the directory");
		char own[PATH_MAX];
		bool deep = level > LEVELS;

		if (deep) {
			size_t length = p->path_length - strlen(name) - p->top_length;

			memcpy(own, p->path + p->top_length, length);
			own[length] = '\0';
			close(*fd);
			*fd = -1;
		}
		int result = put_directory(p, child, level + 1); /* closes child */

		if (result == 0 && deep) {
			*fd = resolve_open(p->top_fd, own, O_RDONLY | O_DIRECTORY, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
			if (*fd < 0)
				result = refuse(p, errno, "the directory was moved while it was read");
		}
		return result;
	}
	if (S_ISSOCK(st.st_mode) || (S_ISCHR(st.st_mode) && st.st_rdev == 0)) /* 0:0 is overlay's whiteout */
		return 0;
	int linked = put_hard_link(p, &st);

	if (linked)
		return linked < 0 ? -1 : 0;
	if (S_ISLNK(st.st_mode))
		return put_symlink(p, *fd, name, &st);
	return put_entry(p, S_ISFIFO(st.st_mode) ? '6' : S_ISCHR(st.st_mode) ? '3' : '4', p->path, "", &st, 0);
}

/* A layer's top has an entry only if it is not what every layer's is. */
static int put_top(struct pack *p, const struct stat *st)
{
	bool is_plain = (st->st_mode & 07777) == 0755 && st->st_uid == 0 && st->st_gid == 0 && !p->pax.length;

	return is_plain ? 0 : put_entry(p, '5', "./", "", st, 0);
}

/* The directory itself, then what is in it. Closes fd. */
static int put_directory(struct pack *p, int fd, int level)
{
	struct listing listing = { 0 };
	struct stat st;
	size_t own_length, length;
	int result = -1;

	struct marks marks = { 0 };
	bool is_top = p->layer && !p->path_length;

	if (fstat(fd, &st) < 0)
		refuse(p, errno, NULL);
	else if (!push(p, is_top ? "" : "/", &own_length))
		refuse(p, ENAMETOOLONG, "a path is too long");
	else if (pax_xattrs(p, fd, &marks) == 0 && (is_top ? put_top(p, &st) : put_entry(p, '5', p->path, "", &st, 0)) == 0 &&
			(!marks.opaque || put_opaque(p) == 0))
		result = is_kernel_file_system(fd) ? 0 : list(p, fd, &listing);
	for (size_t i = 0; result == 0 && i < listing.count; i++) {
		if (!push(p, listing.names[i], &length)) {
			result = refuse(p, ENAMETOOLONG, "a path is too long");
			break;
		}
		result = put_child(p, &fd, listing.names[i], level);
		if (result == 0)
			pop(p, length);
	}
	if (result == 0)
		pop(p, own_length);
	free_listing(&listing);
	if (fd >= 0)
		close(fd);
	return result;
}

/* Splits path into where its last component lies and that component: "/a/b/" → "/a", "b". "/" and "…/." are ".". A trailing
 * slash asks for what a link leads to. */
static int split(struct pack *p, const char *path, char directory[static PATH_MAX], bool *follow)
{
	size_t length = strlen(path), end = length, start;

	if (length >= PATH_MAX - 1)
		return fault(p->fault, STEP, path, ENAMETOOLONG, NULL);
	while (end && path[end - 1] == '/')
		end--;
	for (start = end; start && path[start - 1] != '/'; start--)
		;
	memcpy(directory, path, start);
	directory[start] = '\0';
	*follow = end < length || end == start;
	if (end == start) {
		strcpy(p->path, ".");
	} else {
		memcpy(p->path, path + start, end - start);
		p->path[end - start] = '\0';
	}
	p->path_length = strlen(p->path);
	/* The archive's names may not climb out of where it is unpacked. */
	return strcmp(p->path, "..") ? 0 : fault(p->fault, STEP, path, EINVAL, "the path's last part may not be \"..\"");
}

static int pack_path(struct pack *p, int root_fd, const char *path)
{
	char directory[PATH_MAX];
	const char *name = p->path;
	bool follow = false;

	if (split(p, path, directory, &follow) < 0)
		return -1;
	follow |= !strcmp(name, ".");
	if (follow) {
		p->top_fd = resolve_in_root(root_fd, path, O_RDONLY | O_DIRECTORY, p->fault, STEP);
	} else {
		p->top_fd = resolve_open(root_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
		if (p->top_fd < 0 && errno != ENOTDIR && errno != ELOOP)
			return fault(p->fault, STEP, path, errno, NULL);
	}
	if (p->top_fd < 0 && follow)
		return -1;
	p->top_length = p->path_length + 1;
	if (p->top_fd >= 0) {
		int fd = openat(p->top_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		return fd < 0 ? refuse(p, errno, "cannot open the directory") : put_directory(p, fd, 1);
	}
	int parent = resolve_in_root(root_fd, directory, O_PATH | O_DIRECTORY, p->fault, STEP);
	char last[NAME_MAX + 1];
	struct stat st;

	if (parent < 0)
		return -1;
	snprintf(last, sizeof(last), "%.255s", name);
	/* Asked for by name, so its absence is an error, not a race to pass over. */
	int result = fstatat(parent, last, &st, AT_SYMLINK_NOFOLLOW) < 0 ? fault(p->fault, STEP, path, errno, NULL) : 0;

	if (result == 0 && S_ISSOCK(st.st_mode))
		result = fault(p->fault, STEP, path, ENOTSUP, "a socket cannot be archived");
	if (result == 0)
		result = put_child(p, &parent, last, 1);
	if (parent >= 0)
		close(parent);
	return result;
}

static struct pack *pack_new(const struct tar_sink *sink, const char *path, struct fault *f)
{
	struct pack *p = calloc(1, sizeof(*p));

	if (p) {
		p->sink = sink;
		p->top_fd = -1;
		p->fault = f;
		p->out = malloc(OUT_BYTES);
		p->xattr_names = malloc(XATTR_NAMES);
		p->xattr_value = malloc(XATTR_VALUE);
	}
	if (p && p->out && p->xattr_names && p->xattr_value)
		return p;
	if (p) {
		free(p->out);
		free(p->xattr_names);
		free(p->xattr_value);
	}
	free(p);
	fault(f, STEP, path, ENOMEM, NULL);
	return NULL;
}

/* Writes the end of the archive, if all went well, and frees. */
static int pack_end(struct pack *p, int result)
{
	if (result == 0)
		result = put(p, NULL, 2 * BLOCK) == 0 ? flush(p) : -1;
	int error = errno;

	for (size_t i = 0; i < p->link_capacity; i++)
		free(p->links[i].name);
	free(p->links);
	free(p->pax.bytes);
	free(p->xattr_names);
	free(p->xattr_value);
	free(p->out);
	if (p->top_fd >= 0)
		close(p->top_fd);
	free(p);
	errno = error;
	return result;
}

int tar_pack(const struct tar_sink *sink, int root_fd, const char *path, struct fault *f)
{
	struct pack *p = pack_new(sink, path, f);

	return p ? pack_end(p, pack_path(p, root_fd, path)) : -1;
}

int tar_pack_layer(const struct tar_sink *sink, int tree_fd, bool userxattr, struct fault *f)
{
	struct pack *p = pack_new(sink, "", f);

	if (!p)
		return -1;
	p->layer = true;
	p->marks = userxattr ? "user.overlay." : "trusted.overlay.";
	p->marks_length = strlen(p->marks);
	p->top_fd = openat(tree_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = openat(tree_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (p->top_fd < 0 || fd < 0) {
		int error = errno;

		if (fd >= 0)
			close(fd);
		return pack_end(p, refuse(p, error, "cannot open the tree"));
	}
	return pack_end(p, put_directory(p, fd, 1));
}
