#define _GNU_SOURCE
/* Makes the entries of an archive in a tree that is not trusted.
 *
 * Every entry is made relative to a descriptor of its parent directory, by its last name alone and never through a symbolic
 * link of that name. The parent is resolved by openat2 inside the root and kept: archives list directory after directory, so
 * most entries share it with the one before (two slots, the second for hard link targets). Creation is tried first and what
 * is in the way is only looked at when that fails with EEXIST. A new file costs open, write, utimensat, close; owner, mode
 * and xattrs cost a call only where they differ from what creation gave.
 *
 * A minimal Debian (8,743 entries, 164 MB) from a pipe takes 0.3 s on tmpfs, 36 us an entry, of which 0.1 s are its digest; GNU tar
 * takes 0.24 s, without one. On ext4 both take what the disk and its journal take, 1.6 s and more. */
#include "tar_unpack_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "resolve.h"

static int count(struct unpack *u)
{
	const struct tar_options *o = u->options;

	u->result->entries++;
	u->result->bytes += u->entry.stored; /* cannot overflow: it has to be sent */
	if (o->max_entries && u->result->entries > o->max_entries) {
		char why[80];

		snprintf(why, sizeof(why), "the archive has more than the %llu entries allowed", (unsigned long long)o->max_entries);
		return unpack_refuse(u, E2BIG, why);
	}
	/* Said before its first byte: what the archive claims to have is too much already. */
	if (o->max_bytes && (u->entry.stored > o->max_bytes || u->result->bytes > o->max_bytes)) {
		char why[80];

		snprintf(why, sizeof(why), "the archive's files are larger than the %llu bytes allowed", (unsigned long long)o->max_bytes);
		return unpack_refuse(u, EFBIG, why);
	}
	return 0;
}

static int unpack_entry(struct unpack *u)
{
	char path[PATH_MAX], directory[PATH_MAX], name[NAME_MAX + 1];

	if (count(u) < 0 || unpack_clean(u, u->entry.name, path) < 0)
		return -1;
	if (!*path)
		return unpack_dress_base(u);
	memcpy(directory, path, strlen(path) + 1);
	unpack_split(directory, name);
	if (u->options->layer) {
		int reserved = unpack_reserved_directory(u, directory);

		if (reserved)
			return reserved < 0 ? -1 : 0;
		if (!strncmp(name, ".wh.", 4))
			return unpack_whiteout(u, directory, name);
	}
	int dir_fd = unpack_open_parent(u, &u->parent, directory, true);

	if (dir_fd < 0)
		return -1;
	switch (u->entry.type) {
	case '0': return unpack_file(u, dir_fd, name);
	case '1': return unpack_hard_link(u, dir_fd, name);
	case '2': return unpack_symlink(u, dir_fd, name);
	case '5':
		if (unpack_directory(u, dir_fd, name) < 0)
			return -1;
		return u->options->strict_times ? unpack_remember_time(u, path) : 0;
	default: return unpack_node(u, dir_fd, name);
	}
}

static int unpack_all(struct unpack *u)
{
	int more;

	while ((more = tar_next(u->reader, &u->entry)) > 0)
		if (unpack_entry(u) < 0)
			return -1;
	if (more < 0 || tar_drain(u->reader) < 0)
		return -1;
	unpack_set_late_times(u);
	if (u->options->digest)
		sha256_hex(&u->hash, u->result->digest);
	return unpack_tell_implied(u);
}

int tar_unpack(int fd, int root_fd, const char *base, const struct tar_options *options, struct tar_result *result,
	struct fault *f)
{
	struct unpack *u = calloc(1, sizeof(*u));

	*result = (struct tar_result){ 0 };
	if (!u)
		return fault(f, STEP, base, ENOMEM, NULL);
	u->root_fd = root_fd;
	u->options = options;
	u->result = result;
	u->fault = f;
	u->uid = geteuid();
	u->gid = getegid();
	u->cwd_fd = u->parent.fd = u->link_parent.fd = u->base_fd = -1;
	mode_t mask = umask(0); /* modes are the archive's */
	int done = -1;

	if (strlen(base) >= sizeof(u->base))
		fault(f, STEP, base, ENAMETOOLONG, NULL);
	else
		u->base_fd = resolve_in_root(root_fd, strcpy(u->base, base), O_RDONLY | O_DIRECTORY, f, STEP);
	if (u->base_fd >= 0 && (u->reader = tar_reader_new(fd, f))) {
		sha256_init(&u->hash);
		tar_reader_watch(u->reader, options->max_bytes, options->digest ? &u->hash : NULL);
		done = unpack_all(u);
	}
	int error = errno;

	if (u->cwd_fd >= 0 && fchdir(u->cwd_fd) < 0 && done == 0) {
		error = errno;
		done = fault(f, STEP, base, error, "cannot go back to the working directory");
	}
	umask(mask);
	unpack_forget_parents(u);
	tar_reader_free(u->reader);
	if (u->cwd_fd >= 0)
		close(u->cwd_fd);
	if (u->base_fd >= 0)
		close(u->base_fd);
	free(u->late);
	free(u->implied);
	free(u->slots);
	free(u->paths);
	free(u);
	errno = error;
	return done;
}
