#define _GNU_SOURCE
#include "scratch.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tar.h"
#include "warden.h"

/* So many entries are removed at once (about 15 µs each on ext4); a bigger tree goes to a process of its own. */
enum { REMOVE_AT_ONCE = 64 };

/* Upper and work directories that nothing was written to are kept for the next container. On ext4 each directory made and removed
 * costs about 0.15 ms, and more with every one of the last minute: it reuses no inode that was freed within 60 s, and looks at each
 * (recently_deleted() in fs/ext4/ialloc.c, 9 % of the time of a thousand runs in a row). */
enum { SPARES = 16 };
struct spares { unsigned numbers[SPARES], next; size_t count; };

static int disk_fd = -1, memory_fd = -1, files_fd = -1;
static unsigned trash_number;
static struct spares disk_spares, memory_spares;

static int subdirectory(const char *name, struct fault *f)
{
	if (mkdirat(session.directory_fd, name, 0700) < 0 && errno != EEXIST)
		return fault(f, "upper", name, errno, NULL);
	int fd = openat(session.directory_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? fault(f, "upper", name, errno, NULL) : fd;
}

/* The mount is in the session's mount namespace only: nobody else sees it, and it goes with the session. */
static int tmpfs(const char *name, const char *data, struct fault *f)
{
	char path[400];
	if (mkdirat(session.directory_fd, name, 0700) < 0 && errno != EEXIST)
		return fault(f, "upper", name, errno, NULL);
	snprintf(path, sizeof(path), "%s/%s", session.directory, name);
	if (mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, data) < 0)
		return fault(f, "upper", path, errno, "cannot mount a tmpfs");
	return openat(session.directory_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int scratch_open(struct fault *f)
{
	return (disk_fd = subdirectory("c", f)) < 0 || (files_fd = tmpfs("f", "mode=700,size=64m", f)) < 0 ? -1 : 0;
}

int scratch_make(struct scratch *s, const char *id, bool in_memory, struct fault *f)
{
	if (in_memory && memory_fd < 0 && (memory_fd = tmpfs("m", "mode=700", f)) < 0)
		return -1;
	int base = in_memory ? memory_fd : disk_fd;
	*s = (struct scratch){.in_memory = in_memory};
	memcpy(s->name, id, 12);
	struct spares *spares = in_memory ? &memory_spares : &disk_spares;
	bool spare = spares->count > 0;
	s->pair = spare ? spares->numbers[--spares->count] : spares->next++;
	char upper[24], work[24];
	snprintf(upper, sizeof(upper), "%u.u", s->pair);
	snprintf(work, sizeof(work), "%u.w", s->pair);
	snprintf(s->upper, sizeof(s->upper), "%s/%s/%s", session.directory, in_memory ? "m" : "c", upper);
	snprintf(s->work, sizeof(s->work), "%s/%s/%s", session.directory, in_memory ? "m" : "c", work);
	/* The upper's own mode and owner are the container's "/". */
	bool made = spare || mkdirat(base, upper, 0755) == 0;
	if (!made || (!spare && mkdirat(base, work, 0700) < 0)) {
		int error = errno;
		if (made)
			unlinkat(base, upper, AT_REMOVEDIR);
		return fault(f, "upper", s->upper, error, error == ENOSPC ? "no space left for the container's layer" : NULL);
	}
	s->made = true;
	return 0;
}

int scratch_file(struct scratch *s, size_t number, const char *text, char **path, struct fault *f)
{
	char name[48];
	snprintf(name, sizeof(name), "%s.%zu", s->name, number);
	int fd = openat(files_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	size_t length = strlen(text);
	if (fd < 0 || write(fd, text, length) != (ssize_t)length) {
		int error = errno;
		if (fd >= 0)
			close(fd);
		return fault(f, "file", name, error, NULL);
	}
	fchmod(fd, 0644);
	close(fd);
	if (s->files <= number)
		s->files = number + 1;
	free(*path);
	return asprintf(path, "%s/f/%s", session.directory, name) < 0 ? fault(f, "file", name, ENOMEM, NULL) : 0;
}

int scratch_fresh_work(struct scratch *s, unsigned number, struct fault *f)
{
	int base = s->in_memory ? memory_fd : disk_fd;
	const char *old = strrchr(s->work, '/') + 1;
	remove_tree(base, old, 0);
	snprintf(s->work, sizeof(s->work), "%s/%s/%u.w%u", session.directory, s->in_memory ? "m" : "c", s->pair, number);
	return mkdir(s->work, 0700) < 0 ? fault(f, "upper", s->work, errno, NULL) : 0;
}

int scratch_copy_work(const struct scratch *s, unsigned number, char *path, size_t size, struct fault *f)
{
	snprintf(path, size, "%s/%s/%u.x%u", session.directory, s->in_memory ? "m" : "c", s->pair, number);
	return mkdir(path, 0700) < 0 ? fault(f, "upper", path, errno, NULL) : 0;
}

void scratch_copy_ended(const struct scratch *s, unsigned number)
{
	char name[32];
	snprintf(name, sizeof(name), "%u.x%u", s->pair, number);
	remove_tree(s->in_memory ? memory_fd : disk_fd, name, 0);
}

int remove_tree(int dir_fd, const char *name, unsigned long budget)
{
	if (unlinkat(dir_fd, name, AT_REMOVEDIR) == 0)
		return 0;
	if (errno == ENOENT)
		return 0;
	if (errno == ENOTDIR)
		return unlinkat(dir_fd, name, 0);
	int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int left = tree_empty(fd, budget);
	close(fd);
	return left ? left : unlinkat(dir_fd, name, AT_REMOVEDIR);
}

struct remover { struct child child; char trash[32]; void (*gone)(void *); void *owner; struct scratch *scratch; };

static void removed(struct child *child, int status)
{
	struct remover *r = container_of(child, struct remover, child);
	(void)status;
	r->scratch->being_removed = false;
	if (r->gone)
		r->gone(r->owner);
	free(r);
}

/* Out of the way at once by a rename, then emptied by a process of its own (2 s for 24,000 files). */
static bool remove_apart(struct scratch *s, int base, const char *const *names, size_t count, void (*gone)(void *), void *owner)
{
	struct remover *r = calloc(1, sizeof(*r));
	if (!r)
		return true;
	*r = (struct remover){.gone = gone, .owner = owner, .scratch = s};
	char trash[4][48];
	for (size_t i = 0; i < count; i++) {
		snprintf(trash[i], sizeof(trash[i]), "trash.%u", trash_number++);
		if (renameat(base, names[i], base, trash[i]) < 0)
			trash[i][0] = 0;
	}
	pid_t pid = fork();
	if (pid == 0) {
		int failed = 0;
		child_keep_only(&base, 1);
		for (size_t i = 0; i < count; i++)
			failed |= trash[i][0] && remove_tree(base, trash[i], 0) != 0;
		_exit(failed);
	}
	if (pid < 0) {
		for (size_t i = 0; i < count; i++)
			remove_tree(base, trash[i], 0);
		free(r);
		return true;
	}
	s->being_removed = true;
	child_add(&r->child, pid, removed);
	return false;
}

/* As good as new: empty, and its own inode, the container's "/", as it was made. */
static bool is_pristine(int base, const char *upper)
{
	int fd = openat(base, upper, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	char entries[1024]; /* "." and ".." take 48 bytes */
	bool pristine = fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & 07777) == 0755 && st.st_uid == geteuid() && st.st_gid == getegid() &&
		flistxattr(fd, NULL, 0) == 0 && syscall(SYS_getdents64, fd, entries, sizeof(entries)) == 48;
	if (fd >= 0)
		close(fd);
	return pristine;
}

/* Keeps the pair if it is as good as new; what the kernel left in the work directory goes. */
static bool keep_spare(struct scratch *s, int base, const char *const names[2])
{
	struct spares *spares = s->in_memory ? &memory_spares : &disk_spares;
	int work = spares->count < SPARES && !strchr(names[1], 'w')[1] && is_pristine(base, names[0])
		? openat(base, names[1], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
	bool kept = work >= 0 && tree_empty(work, REMOVE_AT_ONCE) == 0;
	if (work >= 0)
		close(work);
	if (kept)
		spares->numbers[spares->count++] = s->pair;
	return kept;
}

bool scratch_remove(struct scratch *s, void (*gone)(void *), void *owner)
{
	if (!s->made)
		return true;
	s->made = false;
	int base = s->in_memory ? memory_fd : disk_fd;
	for (size_t i = 0; i < s->files; i++) {
		char name[48];
		snprintf(name, sizeof(name), "%s.%zu", s->name, i);
		unlinkat(files_fd, name, 0);
	}
	const char *names[2] = {strrchr(s->upper, '/') + 1, strrchr(s->work, '/') + 1};
	if (keep_spare(s, base, names))
		return true;
	int upper = remove_tree(base, names[0], REMOVE_AT_ONCE);
	int work = remove_tree(base, names[1], REMOVE_AT_ONCE);
	return upper <= 0 && work <= 0 ? true : remove_apart(s, base, names, 2, gone, owner);
}
