/* The verb `digest`: SHA-256 of regular files. Nothing else is opened: reading a device or a pipe would do something. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "container.h"
#include "job.h"
#include "reopen.h"
#include "resolve.h"
#include "sha256.h"
#include "tree_verbs.h"

static int digest(int root, const char *path, char text[SHA256_HEX], struct fault *f)
{
	static char buffer[262144];
	struct sha256 sum;
	struct stat st;
	ssize_t got;
	int found = resolve_in_root(root, path, O_PATH | O_NOFOLLOW, f, "digest");
	if (found < 0)
		return -1;
	int fd = fstat(found, &st) < 0 ? -1 : !S_ISREG(st.st_mode) ? (errno = EINVAL, -1) : reopen(found, O_RDONLY);
	int error = errno;
	close(found);
	if (fd < 0)
		return fault(f, "digest", path, error, error == EINVAL ? "not a regular file" : NULL);
	sha256_init(&sum);
	while ((got = read(fd, buffer, sizeof(buffer))) > 0 || (got < 0 && errno == EINTR))
		if (got > 0)
			sha256_update(&sum, buffer, (size_t)got);
	error = errno;
	close(fd);
	if (got < 0)
		return fault(f, "digest", path, error, NULL);
	sha256_hex(&sum, text);
	return 0;
}

static int run(struct job *job, struct fault *f)
{
	struct job_words words = {.fd = job->fd};
	char text[SHA256_HEX + 1], *path;
	int got, root = job_root(job->request, job->containers[0], "digest", f);
	if (root < 0 || job_accept(job, f) < 0)
		return -1;
	while ((got = job_word(&words, &path)) > 0) {
		if (digest(root, path, text, f) < 0)
			return -1;
		text[SHA256_HEX - 1] = '\n';
		if (job_write(job, text, SHA256_HEX) < 0)
			return fault(f, "digest", path, errno, NULL);
	}
	return got < 0 ? fault(f, "request", "paths", errno, "malformed") : 0;
}

void digest_open(struct connection *c, const struct request *r)
{
	job_open_reading(c, r, run);
}
