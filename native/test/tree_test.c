/* What of the verbs on trees needs no container: records from a peer, extended attributes, stubs taken out of an upper directory. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "job.h"
#include "stubs.h"
#include "xattrs.h"

static int failures;

#define CHECK(claim) ((claim) ? (void)0 : (void)(failures++, printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #claim)))

static char top[64];

static const char *at(const char *path)
{
	static char whole[4][512];
	static unsigned turn;
	char *to = whole[turn++ % 4];
	snprintf(to, sizeof(whole[0]), "%s/%s", top, path);
	return to;
}

static void make_file(const char *path, const char *text)
{
	int fd = open(at(path), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static bool is_there(const char *path)
{
	struct stat st;
	return lstat(at(path), &st) == 0;
}

/* -- records -------------------------------------------------------------------------------------------------------------- */

static void test_records(void)
{
	int ends[2];
	char *words[3];
	CHECK(pipe2(ends, O_CLOEXEC) == 0);
	static const char BYTES[] = "a\0b\0c\0dd\0\0f"; /* the last record has no end */
	CHECK(write(ends[1], BYTES, sizeof(BYTES) - 1) == (ssize_t)sizeof(BYTES) - 1);
	close(ends[1]);
	struct job_words in = {.fd = ends[0]};
	CHECK(job_record(&in, words, 3) == 1 && !strcmp(words[0], "a") && !strcmp(words[1], "b") && !strcmp(words[2], "c"));
	CHECK(job_record(&in, words, 3) == -1 && errno == EPROTO);
	free(in.bytes);
	close(ends[0]);

	CHECK(pipe2(ends, O_CLOEXEC) == 0);
	pid_t pid = fork();
	if (pid == 0) { /* a word without end, more than is ever kept */
		static char many[1 << 16];
		memset(many, 'x', sizeof(many));
		close(ends[0]);
		for (int i = 0; i < 64 && write(ends[1], many, sizeof(many)) > 0; i++)
			;
		_exit(0);
	}
	close(ends[1]);
	in = (struct job_words){.fd = ends[0]};
	CHECK(job_word(&in, words) == -1 && errno == EMSGSIZE);
	free(in.bytes);
	close(ends[0]);
}

/* -- extended attributes --------------------------------------------------------------------------------------------------- */

static void test_xattrs(void)
{
	struct xattrs a = {0}, b = {0};
	char large[3000];
	memset(large, 'v', sizeof(large));
	make_file("marked", "x");
	make_file("other", "x");
	int fd = open(at("marked"), O_PATH | O_CLOEXEC);
	if (setxattr(at("marked"), "user.b", large, sizeof(large), 0) < 0) {
		CHECK(errno == ENOTSUP || errno == ENOSPC || errno == E2BIG); /* a file system without them */
		close(fd);
		return;
	}
	CHECK(setxattr(at("marked"), "user.a", "", 0, 0) == 0);
	CHECK(setxattr(at("marked"), "user.overlay.opaque", "y", 1, 0) == 0);
	CHECK(xattrs_read(&a, fd, NULL) == 0 && a.count == 2);
	CHECK(a.count == 2 && !strcmp(a.at[0].name, "user.a") && a.at[0].length == 0);
	CHECK(a.count == 2 && a.at[1].length == sizeof(large) && !memcmp(a.at[1].value, large, sizeof(large)));
	CHECK(xattrs_read(&b, -1, at("other")) == 0 && b.count == 0 && !xattrs_equal(&a, &b));
	CHECK(xattrs_read(&b, -1, at("marked")) == 0 && xattrs_equal(&a, &b));
	close(fd);
	fd = open(at("marked"), O_RDONLY | O_CLOEXEC);
	CHECK(xattr_is_opaque(fd));
	close(fd);
	xattrs_free(&a);
	xattrs_free(&b);
}

/* -- stubs ---------------------------------------------------------------------------------------------------------------- */

static void test_stubs(void)
{
	static const char *const DIRECTORIES[] = {"lower", "lower/etc", "lower/var", "lower/keep", "upper", "upper/etc", "upper/proc", "upper/run",
		"upper/run/lock", "upper/filled", "upper/filled/mnt", "upper/changed", "upper/keep", "outside", "outside/mnt"};
	for (size_t i = 0; i < sizeof(DIRECTORIES) / sizeof(*DIRECTORIES); i++)
		CHECK(mkdir(at(DIRECTORIES[i]), 0755) == 0);
	CHECK(symlink("/run", at("lower/var/run")) == 0);
	CHECK(symlink(at("outside"), at("upper/linked")) == 0);
	make_file("lower/etc/passwd", "root");
	make_file("upper/etc/hosts", "");
	make_file("upper/etc/resolv.conf", "written by the program");
	make_file("upper/filled/file", "x");
	CHECK(chmod(at("upper/changed"), 0700) == 0);
	struct mount_step mounts[] = {
		{.kind = MOUNT_PROC, .target = "/proc"}, {.kind = MOUNT_TMPFS, .target = "/var/run/lock"}, {.kind = MOUNT_TMPFS, .target = "/filled/mnt"},
		{.kind = MOUNT_TMPFS, .target = "/changed/mnt"}, {.kind = MOUNT_TMPFS, .target = "/linked/mnt"}, {.kind = MOUNT_TMPFS, .target = "/keep"},
		{.kind = MOUNT_TMPFS, .target = "/../../outside/mnt"},
	};
	struct file_step files[] = {{.path = "/etc/hosts"}, {.path = "/etc/resolv.conf"}, {.path = "/etc/passwd"}};
	char lower[512];
	snprintf(lower, sizeof(lower), "%s", at("lower"));
	struct plan plan = {.layers = {(const char *[]){lower, NULL}, 1}, .mounts = mounts, .mount_count = sizeof(mounts) / sizeof(*mounts),
		.files = files, .file_count = 3};
	struct fault f = {0};
	int upper = open(at("upper"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(stubs_remove(&plan, upper, 0, false, &f) == 0);
	CHECK(!is_there("upper/proc") && !is_there("upper/run") && !is_there("upper/etc/hosts") && !is_there("upper/filled/mnt"));
	CHECK(!is_there("upper/keep")); /* a copy of the layer's, unchanged */
	CHECK(is_there("upper/etc/resolv.conf") && is_there("upper/filled/file") && is_there("upper/changed"));
	CHECK(is_there("upper/linked") && is_there("outside/mnt"));
	CHECK(unlink(at("upper/etc/resolv.conf")) == 0 && stubs_remove(&plan, upper, 0, false, &f) == 0);
	CHECK(!is_there("upper/etc"));
	close(upper);
}

static void test_times(void)
{
	struct timespec old[2] = {{1000, 5}, {1000, 5}}, own[2] = {{2000, 7}, {2000, 7}};
	struct file_step files[] = {{.path = "/d/stub"}};
	struct fault f = {0};
	struct stat st;
	char lower[512];
	CHECK(mkdir(at("l"), 0755) == 0 && mkdir(at("l/d"), 0755) == 0 && mkdir(at("u"), 0755) == 0 && mkdir(at("u/d"), 0755) == 0);
	make_file("u/d/other", "x");
	snprintf(lower, sizeof(lower), "%s", at("l"));
	struct plan plan = {.layers = {(const char *[]){lower, NULL}, 1}, .files = files, .file_count = 1};
	int upper = open(at("u"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int started = 1500; started <= 2500; started += 1000) {
		make_file("u/d/stub", "");
		CHECK(utimensat(AT_FDCWD, at("l/d"), old, 0) == 0 && utimensat(AT_FDCWD, at("u/d"), own, 0) == 0);
		CHECK(stubs_remove(&plan, upper, (uint64_t)started * 1000000000, false, &f) == 0 && !is_there("u/d/stub"));
		CHECK(stat(at("u/d"), &st) == 0 && st.st_mtim.tv_sec == (started < 2000 ? 2000 : 1000));
	}
	close(upper);
}

int main(void)
{
	char command[128];
	snprintf(top, sizeof(top), "/tmp/mayfly-tree-XXXXXX");
	umask(022);
	if (!mkdtemp(top)) {
		perror(top);
		return 1;
	}
	test_records();
	test_xattrs();
	test_stubs();
	test_times();
	snprintf(command, sizeof(command), "rm -rf %s", top);
	CHECK(system(command) == 0);
	return failures ? 1 : 0;
}
