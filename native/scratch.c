#define _GNU_SOURCE
#include "scratch.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tar.h"
#include "warden.h"

/* So many entries are removed at once (about 15 µs each on ext4); a bigger tree goes to a process of its own. */
enum { REMOVE_AT_ONCE = 64 };

static int disk_fd = -1, memory_fd = -1, files_fd = -1;
static unsigned trash_number;

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

static int open_place(bool in_memory, struct fault *f)
{
	char path[400];
	int fd = in_memory ? tmpfs("m", "mode=700", f) : subdirectory("c", f);
	snprintf(path, sizeof(path), "%s/%s", session.directory, in_memory ? "m" : "c");
	overlay_open(in_memory, fd, path);
	return fd;
}

int scratch_open(struct fault *f)
{
	return (disk_fd = open_place(false, f)) < 0 || (files_fd = tmpfs("f", "mode=700,size=64m", f)) < 0 ? -1 : 0;
}

int scratch_make(struct scratch *s, const struct plan *plan, const struct words *layers, struct fault *f)
{
	bool in_memory = plan->upper_in_memory && !plan->upper_bytes;
	*s = (struct scratch){.in_memory = in_memory};
	if (in_memory && memory_fd < 0 && (memory_fd = open_place(true, f)) < 0)
		return -1;
	if ((plan->upper_bytes ? overlay_take_limited(plan->upper_bytes, layers, &s->overlay, f) : overlay_take(in_memory, layers, &s->overlay, f)) < 0)
		return -1;
	memcpy(s->name, plan->id, 12);
	overlay_path(&s->overlay, 'u', s->upper);
	overlay_path(&s->overlay, 'w', s->work);
	overlay_path(&s->overlay, 'm', s->mounted);
	s->made = true;
	return 0;
}

bool scratch_is_on_disk(const struct scratch *s)
{
	return !s->in_memory && !s->overlay.limited;
}

int scratch_fill(const struct scratch *s, bool full, uint64_t bytes, struct fault *f)
{
	return overlay_limit(&s->overlay, full ? 0 : bytes, f);
}

const char *scratch_mounted(const struct scratch *s)
{
	return s->overlay.layers ? s->mounted : NULL;
}

int scratch_file(struct scratch *s, size_t number, const char *text, const struct file_step *step, char **path, struct fault *f)
{
	char name[48];
	snprintf(name, sizeof(name), "%s.%zu", s->name, number);
	int fd = openat(files_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	size_t length = strlen(text);
	bool owned = (step->uid || step->gid) && !session.single_id;
	if (fd < 0 || write(fd, text, length) != (ssize_t)length || (owned && fchown(fd, (uid_t)step->uid, (gid_t)step->gid) < 0)) {
		int error = errno;
		if (fd >= 0)
			close(fd);
		return fault(f, "file", name, error, NULL);
	}
	fchmod(fd, (mode_t)step->mode);
	close(fd);
	if (s->files <= number)
		s->files = number + 1;
	free(*path);
	return asprintf(path, "%s/f/%s", session.directory, name) < 0 ? fault(f, "file", name, ENOMEM, NULL) : 0;
}

/* A further work directory, beside the upper, for it must be of the same mount. */
static void further_work(const struct scratch *s, char kind, unsigned number, char *path, size_t size)
{
	int directory = (int)(strrchr(s->upper, '/') - s->upper);
	snprintf(path, size, "%.*s/%u.%c%u", directory, s->upper, s->overlay.number, kind, number);
}

int scratch_fresh_work(struct scratch *s, unsigned number, struct fault *f)
{
	if (s->overlay.layers) /* still mounted: the restart uses the same */
		return 0;
	remove_tree(AT_FDCWD, s->work, 0);
	further_work(s, 'w', number, s->work, sizeof(s->work));
	return mkdir(s->work, 0700) < 0 ? fault(f, "upper", s->work, errno, NULL) : 0;
}

void scratch_unmount(struct scratch *s)
{
	overlay_unmount(&s->overlay);
}

int scratch_mount(struct scratch *s, const struct words *layers, struct fault *f)
{
	return scratch_mounted(s) ? 0 : overlay_mount(&s->overlay, layers, s->work, f);
}

int scratch_copy_work(const struct scratch *s, unsigned number, char *path, size_t size, struct fault *f)
{
	further_work(s, 'x', number, path, size);
	return mkdir(path, 0700) < 0 ? fault(f, "upper", path, errno, NULL) : 0;
}

void scratch_copy_ended(const struct scratch *s, unsigned number)
{
	char path[OVERLAY_PATH];
	further_work(s, 'x', number, path, sizeof(path));
	remove_tree(AT_FDCWD, path, 0);
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

struct remover { struct child child; void (*gone)(void *); void *owner; struct scratch *scratch; };

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
	if (overlay_keep(&s->overlay))
		return true;
	int upper = remove_tree(base, names[0], REMOVE_AT_ONCE);
	int work = remove_tree(base, names[1], REMOVE_AT_ONCE);
	return upper <= 0 && work <= 0 ? true : remove_apart(s, base, names, 2, gone, owner);
}
