#pragma once
/* What the tests of archives share: a world with a canary outside the root, and a writer for archives no honest program would write. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>
#include "resolve.h"
#include "tar.h"

#pragma GCC diagnostic ignored "-Wunused-function" /* each test uses some */

static int failures, checks;
static const char *test_name = "";
static char world[] = "/tmp/mayfly-tar-XXXXXX"; /* canary, outside/…, root/: only root/ may change */
static int root_fd = -1;

#define check(condition) check_at(__LINE__, (condition), #condition)
static bool check_at(int line, bool good, const char *text)
{
	checks++;
	if (!good) {
		failures++;
		printf("line %d: %s: %s\n", line, test_name, text);
	}
	return good;
}

static const char *at(const char *path)
{
	static char full[4][PATH_MAX];
	static int turn;
	char *text = full[turn++ & 3];

	snprintf(text, PATH_MAX, "%s/%s", world, path);
	return text;
}

static void put_text(const char *path, const char *content)
{
	int fd = open(at(path), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, content, strlen(content)) != (ssize_t)strlen(content))
		abort();
	close(fd);
}

static bool has_text(const char *path, const char *content)
{
	char text[256] = "";
	int fd = open(at(path), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	return got == (ssize_t)strlen(content) && !memcmp(text, content, (size_t)got);
}

static struct stat status(const char *path)
{
	struct stat st = { 0 };

	if (lstat(at(path), &st) < 0)
		st = (struct stat){ 0 };
	return st;
}

static bool exists(const char *path) { return status(path).st_mode != 0; }
static bool is_directory(const char *path) { return S_ISDIR(status(path).st_mode); }
static bool is_whiteout(const char *path) { struct stat st = status(path); return S_ISCHR(st.st_mode) && st.st_rdev == 0; }
static bool is_opaque(const char *path)
{
	char value[4];

	return lgetxattr(at(path), "trusted.overlay.opaque", value, sizeof(value)) == 1 && value[0] == 'y';
}

static int run(const char *format, ...)
{
	char command[4 * PATH_MAX];
	va_list list;

	va_start(list, format);
	vsnprintf(command, sizeof(command), format, list);
	va_end(list);
	return system(command);
}

static void remove_tree(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0) {
		check(tree_empty(fd, 0) == 0);
		close(fd);
		rmdir(path);
	}
}

/* A new root/ and an untouched outside for the next case. */
static void begin(const char *name)
{
	test_name = name;
	if (root_fd >= 0)
		close(root_fd);
	remove_tree(at("root"));
	remove_tree(at("outside"));
	mkdir(at("root"), 0755);
	mkdir(at("outside"), 0755);
	put_text("canary", "canary");
	put_text("outside/passwd", "canary");
	chmod(at("outside/passwd"), 0600);
	root_fd = open(at("root"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void check_canary(int line)
{
	DIR *outside = opendir(at("outside"));
	int count = 0;

	while (outside && readdir(outside))
		count++;
	if (outside)
		closedir(outside);
	check_at(line, has_text("canary", "canary") && has_text("outside/passwd", "canary"), "the canary is as it was");
	check_at(line, count == 3, "nothing was made or removed outside");
	check_at(line, (status("outside/passwd").st_mode & 07777) == 0600 && status("outside/passwd").st_nlink == 1,
		"the canary's mode and links are as they were");
	check_at(line, (status("outside").st_mode & 07777) == 0755, "the outside directory's mode is as it was");
}

/* --- a writer for archives no honest program would write --- */

static char *archive;
static size_t archive_length, archive_capacity;

static void raw(const void *bytes, size_t length)
{
	if (archive_length + length > archive_capacity) {
		archive_capacity = 2 * (archive_length + length);
		archive = realloc(archive, archive_capacity);
		if (!archive)
			abort();
	}
	if (bytes)
		memcpy(archive + archive_length, bytes, length);
	else
		memset(archive + archive_length, 0, length);
	archive_length += length;
}

static void sum(char *header)
{
	unsigned total = 0;

	memset(header + 148, ' ', 8);
	for (int i = 0; i < 512; i++)
		total += (unsigned char)header[i];
	snprintf(header + 148, 8, "%06o", total);
}

static char *header(char type, const char *name, const char *link, unsigned mode, size_t size)
{
	raw(NULL, 512);
	char *h = archive + archive_length - 512;

	memcpy(h, name, strnlen(name, 100));
	snprintf(h + 100, 8, "%07o", mode);
	snprintf(h + 108, 8, "%07o", 0);
	snprintf(h + 116, 8, "%07o", 0);
	snprintf(h + 124, 12, "%011zo", size);
	snprintf(h + 136, 12, "%011o", 1700000000);
	h[156] = type;
	memcpy(h + 157, link, strnlen(link, 100));
	memcpy(h + 257, "ustar\0" "00", 8);
	sum(h);
	return h;
}

static void content(const void *bytes, size_t length)
{
	raw(bytes, length);
	raw(NULL, -length & 511);
}

static void file(const char *name, const char *text) { header('0', name, "", 0644, strlen(text)); content(text, strlen(text)); }
static void dir(const char *name) { header('5', name, "", 0755, 0); }
static void symlink_entry(const char *name, const char *to) { header('2', name, to, 0777, 0); }
static void hard_link(const char *name, const char *to) { header('1', name, to, 0644, 0); }
static void node(char type, const char *name, unsigned major_number, unsigned minor_number)
{
	char *h = header(type, name, "", 0666, 0);

	snprintf(h + 329, 8, "%07o", major_number);
	snprintf(h + 337, 8, "%07o", minor_number);
	sum(h);
}

static void pax_raw(char type, const char *text, size_t length) { header(type, "pax", "", 0644, length); content(text, length); }
/* key, value, …, NULL */
static void pax(const char *key, ...)
{
	static char text[300000];
	size_t length = 0;
	va_list list;

	va_start(list, key);
	for (; key; key = va_arg(list, const char *)) {
		const char *value = va_arg(list, const char *);
		size_t rest = strlen(key) + strlen(value) + 3, total = rest, before;

		do {
			before = total;
			total = rest + (size_t)snprintf(NULL, 0, "%zu", before);
		} while (total != before);
		length += (size_t)snprintf(text + length, sizeof(text) - length, "%zu %s=%s\n", total, key, value);
	}
	va_end(list);
	pax_raw('x', text, length);
}

static struct fault last;
static struct tar_result result;
static const struct tar_options as_layer = { .keep_ids = true, .layer = true, .strict_times = true };
static const struct tar_options as_tree = { .keep_ids = true, .strict_times = true };

/* Unpacks what was written, through a file without a name, and starts the next archive. */
static int unpack_raw(const char *base, const struct tar_options *options)
{
	int fd = memfd_create("archive", MFD_CLOEXEC);

	if (fd < 0 || write(fd, archive, archive_length) != (ssize_t)archive_length || lseek(fd, 0, SEEK_SET) != 0)
		abort();
	last = (struct fault){ 0 };
	int done = tar_unpack(fd, root_fd, base, options, &result, &last);

	check(lseek(fd, 0, SEEK_CUR) == (off_t)archive_length || done < 0);
	check((done == 0) == (last.error == 0));
	close(fd);
	archive_length = 0;
	return done;
}

static int unpack(const struct tar_options *options)
{
	raw(NULL, 1024);
	return unpack_raw("", options);
}

/* --- packing --- */

static int write_all(void *to, const void *bytes, size_t length)
{
	for (const char *from = bytes; length;) {
		ssize_t written = write(*(int *)to, from, length);

		if (written <= 0)
			return -1;
		from += written;
		length -= (size_t)written;
	}
	return 0;
}

static int pack_fd(int fd, const char *path)
{
	last = (struct fault){ 0 };
	return tar_pack(&(struct tar_sink){ write_all, &fd }, root_fd, path, &last);
}
