#define _GNU_SOURCE
#include "archive.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adopt.h"
#include "container.h"
#include "job.h"
#include "overlay.h"
#include "resolve.h"
#include "scratch.h"
#include "tar.h"
#include "warden.h"

#define STEP "archive"

bool archive_below_home(const char *path)
{
	size_t home = strlen(session.home);
	return path && !strncmp(path, session.home, home) && path[home] == '/' && path[home + 1] && !strstr(path, "/..");
}

/* The directory of the store that the request names. */
static const char *target_of(const struct request *r, struct fault *f)
{
	const char *target = request_get(r, "target");
	if (archive_below_home(target))
		return target;
	fault(f, STEP, target ? target : "target", EINVAL, "the target must be below the store");
	return NULL;
}

/* -- trees of the store --------------------------------------------------------------------------------------------------- */

static int unpack_options(const struct request *r, struct tar_options *options, struct fault *f)
{
	int64_t bytes, entries;
	if (request_number(r, "max-bytes", 0, &bytes) < 0 || request_number(r, "max-entries", 0, &entries) < 0 || bytes < 0 || entries < 0)
		return fault(f, "request", "max-bytes, max-entries", EINVAL, "numbers are needed");
	*options = (struct tar_options){
		.keep_ids = !session.single_id, .userxattr = session.rootless, .strict_times = true, .layer = request_flag(r, "layer", false),
		.digest = request_flag(r, "digest", false), .list_implied = true, .max_bytes = (uint64_t)bytes, .max_entries = (uint64_t)entries,
	};
	return 0;
}

static int unpack(struct job *job, struct fault *f)
{
	const struct request *r = job->request;
	const char *target = target_of(r, f);
	struct tar_options options;
	struct tar_result result;
	if (!target || unpack_options(r, &options, f) < 0)
		return -1;
	if (mkdir(target, 0755) < 0)
		return fault(f, STEP, target, errno, NULL);
	int root = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0 || fchmod(root, 0755) < 0)
		return fault(f, STEP, target, errno, NULL);
	if (tar_unpack(job->fd, root, "", &options, &result, f) < 0)
		return -1;
	if (result.implied && adopt_remember(target, result.implied_paths, result.implied_length, f) < 0)
		return -1;
	/* The layer gets its final name next: that must not reach the disk before what is in it (a torn layer after a power cut). */
	if (request_flag(r, "sync", true) && syncfs(root) < 0)
		return fault(f, STEP, target, errno, "the layer could not be written to disk");
	json_number(&job->reply, "entries", (int64_t)result.entries);
	json_number(&job->reply, "bytes", (int64_t)result.bytes);
	json_number(&job->reply, "omitted", (int64_t)result.omitted);
	json_number(&job->reply, "implied", (int64_t)result.implied);
	if (options.digest) {
		char digest[SHA256_HEX + 8];
		snprintf(digest, sizeof(digest), "sha256:%s", result.digest);
		json_string(&job->reply, "digest", digest);
	}
	return 0;
}

/* Where a pack goes: into the digest, and to node if it wants the bytes. */
struct packing { struct job *job; struct sha256 hash; uint64_t bytes; bool digest_only; };

static int take(void *context, const void *bytes, size_t length)
{
	struct packing *p = context;
	sha256_update(&p->hash, bytes, length);
	p->bytes += length;
	return p->digest_only ? 0 : job_write(p->job, bytes, length);
}

static int pack(struct job *job, struct fault *f)
{
	struct packing p = {.job = job, .digest_only = request_flag(job->request, "digest-only", false)};
	const struct container *c = job->containers[0];
	const char *tree = c ? container_upper(c) : target_of(job->request, f);
	char digest[SHA256_HEX + 8] = "sha256:";
	int fd = tree ? open(tree, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
	if (!tree)
		return -1;
	if (fd < 0)
		return fault(f, STEP, tree, errno, "cannot open the tree");
	if (job_accept(job, f) < 0)
		return -1;
	sha256_init(&p.hash);
	if (tar_pack_layer(&(struct tar_sink){take, &p}, fd, session.rootless, f) < 0)
		return -1;
	sha256_hex(&p.hash, digest + 7);
	json_number(&job->notice, "bytes", (int64_t)p.bytes);
	json_string(&job->notice, "digest", digest);
	return 0;
}

static int adopt(struct job *job, struct fault *f)
{
	const struct request *r = job->request;
	const char *target = target_of(r, f), **lowers = calloc(r->count, sizeof(*lowers));
	size_t count = 0;
	if (!target)
		return -1;
	if (!lowers)
		return fault(f, STEP, target, ENOMEM, NULL);
	for (size_t i = 0; i < r->count; i++)
		if (!strcmp(r->pairs[i].key, "layer"))
			lowers[count++] = r->pairs[i].value;
	return adopt_parents(target, lowers, count, session.rootless, !session.single_id, f);
}

static int delete(struct job *job, struct fault *f)
{
	const char *target = target_of(job->request, f);
	if (!target)
		return -1;
	return remove_tree(AT_FDCWD, target, 0) ? fault(f, STEP, target, errno, NULL) : 0;
}

/* Layers in use are locked (overlay.c), so whoever has the lock alone may take the directory away. Away means into the session's
 * directory at once, by a rename: nobody ever sees half a layer, and if we die the launcher sweeps up. The lock on the tree is
 * kept meanwhile: who opened it just before finds it locked, and who locks it afterwards finds that its name is gone. */
static int reap(struct job *job, struct fault *f)
{
	const char *target = target_of(job->request, f);
	char trash[400];
	if (!target)
		return -1;
	int outer = open(target, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (outer < 0)
		return fault(f, STEP, target, errno, NULL);
	int tree = openat(outer, "tree", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (tree < 0 && errno != ENOENT)
		return fault(f, STEP, target, errno, "cannot open its tree");
	if (flock(tree < 0 ? outer : tree, LOCK_EX | LOCK_NB) < 0)
		return fault(f, STEP, target, errno == EWOULDBLOCK ? EBUSY : errno, errno == EWOULDBLOCK ? "a container uses it" : NULL);
	snprintf(trash, sizeof(trash), "%s/reaped.%d", session.directory, (int)getpid());
	if (rename(target, trash) < 0)
		return fault(f, STEP, target, errno, "cannot move it away");
	return remove_tree(AT_FDCWD, trash, 0) ? fault(f, STEP, target, errno, "cannot remove all of it") : 0;
}

/* -- trees of containers -------------------------------------------------------------------------------------------------- */

static const char *path_of(const struct request *r)
{
	const char *path = request_get(r, "path");
	return path ? path : "/";
}

static int copy_in(struct job *job, struct fault *f)
{
	const char *path = path_of(job->request);
	int root = container_enter_root(job->containers[0], f);
	if (root < 0)
		return -1;
	int dir = resolve_in_root(root, path, O_PATH | O_DIRECTORY, f, STEP);
	if (dir < 0)
		return -1;
	close(dir);
	struct tar_options options = {.keep_ids = request_flag(job->request, "chown", false) && !session.single_id,
		.strict_times = true, .keep_base = true};
	struct tar_result result;
	if (tar_unpack(job->fd, root, path, &options, &result, f) < 0)
		return -1;
	json_number(&job->reply, "entries", (int64_t)result.entries);
	json_number(&job->reply, "bytes", (int64_t)result.bytes);
	json_number(&job->reply, "omitted", (int64_t)result.omitted);
	return 0;
}

static int send_bytes(void *context, const void *bytes, size_t length)
{
	return job_write(context, bytes, length);
}

static int copy_out(struct job *job, struct fault *f)
{
	const char *path = path_of(job->request);
	int root = container_enter_root(job->containers[0], f);
	if (root < 0)
		return -1;
	int there = resolve_in_root(root, path, O_PATH | O_NOFOLLOW, f, STEP);
	if (there < 0)
		return -1;
	close(there);
	/* A copy of the root's mount alone has nothing mounted in it: no /proc, no volume of the host's. */
	if (request_flag(job->request, "alone", false) && (root = open_tree(root, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH)) < 0)
		return fault(f, STEP, path, errno, "cannot look at the root without its mounts");
	return job_accept(job, f) < 0 ? -1 : tar_pack(&(struct tar_sink){send_bytes, job}, root, path, f);
}

static const struct { const char *verb; job_run *run; bool of_container; } VERBS[] = {
	{"unpack", unpack, false}, {"pack", pack, false}, {"adopt", adopt, false}, {"delete", delete, false}, {"reap", reap, false},
	{"copy-in", copy_in, true}, {"copy-out", copy_out, true},
};

void archive_open(struct connection *c, const struct request *r)
{
	struct container *containers[JOB_CONTAINERS] = {0};
	struct fault f = {0};
	size_t i = 0;
	while (strcmp(VERBS[i].verb, r->verb))
		i++;
	if (VERBS[i].of_container || (VERBS[i].run == pack && request_get(r, "id")))
		containers[0] = job_container(r, "id", &f);
	if (VERBS[i].run == reap && archive_below_home(request_get(r, "target")))
		overlay_forget(request_get(r, "target"));
	if (f.error)
		connection_refuse(c, r->seq, &f);
	else
		job_open(c, r, containers, VERBS[i].run);
}

bool archive_has_verb(const char *verb)
{
	for (size_t i = 0; i < sizeof(VERBS) / sizeof(*VERBS); i++)
		if (!strcmp(VERBS[i].verb, verb))
			return true;
	return false;
}
