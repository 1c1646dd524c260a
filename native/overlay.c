/* Why: on ext4 each directory made and removed costs about 0.15 ms, and more with every one of the last minute, since it takes no inode
 * that was freed within 60 s and looks at each (recently_deleted() in fs/ext4/ialloc.c: 9 % of the time of many runs in a row). The kernel
 * makes four in the work directory for each volatile mount. A mounted overlay that served a container which wrote nothing
 * into its root is as good as a new one, and its caches are warm.
 *
 * Only layers of the store stay mounted: nobody changes them, while a directory of the user's may change between two runs, and overlay
 * remembers what was not there (negative dentries).
 *
 * As long as an overlay of it may be mounted, a layer of the store is locked, shared, so that nobody removes it (the verb reap). One
 * descriptor a layer, however many overlays have it: a start that finds its overlay mounted locks nothing. */
#define _GNU_SOURCE
#include "overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "archive.h"
#include "grow.h"
#include "launch.h"
#include "mounts.h"
#include "loop.h"
#include "scratch.h"
#include "tar.h"
#include "warden.h"

enum {
	SPARES = 16,
	WORK_ENTRIES = 64,       /* the kernel leaves four */
	PREPARE_AFTER_US = 1000, /* from a start that found nothing mounted: not in the way of that start */
	FILL_ATTEMPTS = 500,     /* each takes some microseconds */
};

static struct place {
	int base;
	char path[400];
	unsigned next;
	struct overlay spares[SPARES];
	size_t count;
} places[2];

static struct timer prepare_timer;
static char *wanted;         /* layers that a start wanted mounted last */
static bool wanted_in_memory;

void overlay_open(bool in_memory, int base, const char *path)
{
	struct place *p = &places[in_memory];
	p->base = base;
	snprintf(p->path, sizeof(p->path), "%s", path);
}

void overlay_path(const struct overlay *overlay, char kind, char path[OVERLAY_PATH])
{
	const char *place = places[overlay->in_memory].path;
	if (overlay->limited && (kind == 'u' || kind == 'w'))
		snprintf(path, OVERLAY_PATH, "%.399s/%u.q/.%c", place, overlay->number, kind);
	else
		snprintf(path, OVERLAY_PATH, "%.399s/%u.%c", place, overlay->number, kind);
}

/* A layer in use. */
struct hold { char *path; int fd; unsigned uses; };

static struct hold **holds;
static size_t hold_count, hold_capacity;

static void let_go(struct hold *hold)
{
	if (--hold->uses)
		return;
	for (size_t i = 0; i < hold_count; i++)
		if (holds[i] == hold)
			holds[i] = holds[--hold_count];
	/* Said, not only closed: a child that was forked a moment ago has copies of all our descriptors until it closes them. */
	flock(hold->fd, LOCK_UN);
	close(hold->fd);
	free(hold->path);
	free(hold);
}

static struct hold *new_hold(const char *path, struct fault *f)
{
	struct stat ours, there;
	struct hold **more = grow(holds, &hold_capacity, hold_count + 1, sizeof(struct hold *));
	if (!more) {
		fault(f, "layer", path, ENOMEM, NULL);
		return NULL;
	}
	holds = more;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		fault(f, "layer", path, errno, NULL);
		return NULL;
	}
	struct hold *hold = calloc(1, sizeof(*hold));
	char *copy = strdup(path);
	if (!hold || !copy)
		fault(f, "layer", path, ENOMEM, NULL);
	else if (flock(fd, LOCK_SH | LOCK_NB) < 0 || fstat(fd, &ours) < 0 || stat(path, &there) < 0 || ours.st_ino != there.st_ino ||
			ours.st_dev != there.st_dev)
		fault(f, "layer", path, ENOENT, "the layer is being removed");
	else {
		*hold = (struct hold){.path = copy, .fd = fd};
		holds[hold_count++] = hold;
		return hold;
	}
	close(fd);
	free(copy);
	free(hold);
	return NULL;
}

static void release_layers(struct overlay *overlay)
{
	for (size_t i = 0; i < overlay->held_count; i++)
		let_go(overlay->held[i]);
	free(overlay->held);
	overlay->held = NULL;
	overlay->held_count = 0;
}

static int hold_layers(struct overlay *overlay, const struct words *layers, struct fault *f)
{
	for (size_t i = 0; i < layers->count; i++) {
		struct hold *hold = NULL;
		if (!archive_below_home(layers->at[i]))
			continue;
		for (size_t j = 0; j < hold_count && !hold; j++)
			hold = strcmp(holds[j]->path, layers->at[i]) ? NULL : holds[j];
		if (!overlay->held && !(overlay->held = calloc(layers->count, sizeof(struct hold *))))
			return fault(f, "layer", layers->at[i], ENOMEM, NULL);
		if (!hold && !(hold = new_hold(layers->at[i], f))) {
			release_layers(overlay);
			return -1;
		}
		hold->uses++;
		overlay->held[overlay->held_count++] = hold;
	}
	return 0;
}

/* The layers as one text, NULL if one of them may change. */
static char *text_of(const struct words *layers)
{
	char *text = NULL;
	size_t length = 0, home = strlen(session.home);
	FILE *to = open_memstream(&text, &length);
	bool lasting = to != NULL;
	for (size_t i = 0; to && i < layers->count; i++) {
		lasting &= !strncmp(layers->at[i], session.home, home) && !strchr(layers->at[i], '\n') &&
			(!strncmp(layers->at[i] + home, "/layers/", 8) || !strncmp(layers->at[i] + home, "/cache/prepared/", 16));
		fprintf(to, "%s\n", layers->at[i]);
	}
	if (to)
		fclose(to);
	if (lasting)
		return text;
	free(text);
	return NULL;
}

static int make(bool in_memory, struct overlay *overlay, struct fault *f)
{
	struct place *p = &places[in_memory];
	char upper[32], work[32];
	*overlay = (struct overlay){.number = p->next++, .in_memory = in_memory};
	snprintf(upper, sizeof(upper), "%u.u", overlay->number);
	snprintf(work, sizeof(work), "%u.w", overlay->number);
	/* The upper's own mode and owner are the container's "/". */
	bool made = mkdirat(p->base, upper, 0755) == 0;
	if (made && mkdirat(p->base, work, 0700) == 0)
		return 0;
	int error = errno;
	if (made)
		unlinkat(p->base, upper, AT_REMOVEDIR);
	return fault(f, "upper", p->path, error, error == ENOSPC ? "no space left for the container's layer" : NULL);
}

static bool take_spare(struct place *p, const char *layers, struct overlay *overlay)
{
	for (size_t i = p->count; i-- > 0;) {
		const char *of = p->spares[i].layers;
		if (of != layers && (!of || !layers || strcmp(of, layers)))
			continue;
		*overlay = p->spares[i];
		memmove(&p->spares[i], &p->spares[i + 1], (--p->count - i) * sizeof(*overlay));
		return true;
	}
	return false;
}

static void split(char *text, struct words *layers)
{
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		layers->at[layers->count++] = line;
}

/* Mounts a overlay where the containers' mount namespaces, copies of ours, have it too. */
static int mount_it(struct overlay *overlay, const char *layers_text)
{
	char upper[OVERLAY_PATH], work[OVERLAY_PATH], point[OVERLAY_PATH], *copy = strdup(layers_text);
	struct words layers = {calloc(strlen(layers_text) + 1, sizeof(char *)), 0};
	overlay_path(overlay, 'u', upper);
	overlay_path(overlay, 'w', work);
	overlay_path(overlay, 'm', point);
	int root = -1, done = -1;
	if (copy && layers.at) {
		split(copy, &layers);
		if (hold_layers(overlay, &layers, NULL) == 0)
			root = mounts_overlay(&layers, upper, work, session.rootless, NULL);
	}
	if (root >= 0 && (mkdir(point, 0700) == 0 || errno == EEXIST))
		done = move_mount(root, "", AT_FDCWD, point, MOVE_MOUNT_F_EMPTY_PATH);
	if (root >= 0)
		close(root);
	if (done == 0)
		overlay->layers = strdup(layers_text);
	free(copy);
	free(layers.at);
	return overlay->layers ? 0 : -1;
}

void overlay_unmount(struct overlay *overlay)
{
	char point[OVERLAY_PATH];
	overlay_path(overlay, 'm', point);
	if (overlay->layers)
		umount2(point, MNT_DETACH);
	rmdir(point);
	free(overlay->layers);
	overlay->layers = NULL;
}

static void unmount_it(struct overlay *overlay)
{
	overlay_unmount(overlay);
	release_layers(overlay);
}

int overlay_mount(struct overlay *overlay, const struct words *layers, const char *work, struct fault *f)
{
	char upper[OVERLAY_PATH], point[OVERLAY_PATH];
	overlay_path(overlay, 'u', upper);
	overlay_path(overlay, 'm', point);
	int root = mounts_overlay(layers, upper, work, session.rootless, f);
	if (root < 0)
		return -1;
	int done = mkdir(point, 0700) < 0 && errno != EEXIST ? -1 : move_mount(root, "", AT_FDCWD, point, MOVE_MOUNT_F_EMPTY_PATH);
	int error = errno;
	close(root);
	if (done == 0 && (overlay->layers = strdup("")))
		return 0;
	return fault(f, "overlay", point, done < 0 ? error : ENOMEM, NULL);
}

static void discard(struct overlay *overlay)
{
	char name[32];
	unmount_it(overlay);
	snprintf(name, sizeof(name), "%u.u", overlay->number);
	remove_tree(places[overlay->in_memory].base, name, 0);
	snprintf(name, sizeof(name), "%u.w", overlay->number);
	remove_tree(places[overlay->in_memory].base, name, 0);
}

static void add_spare(struct place *p, struct overlay overlay)
{
	if (p->count == SPARES) {
		struct overlay oldest = p->spares[0];
		memmove(&p->spares[0], &p->spares[1], --p->count * sizeof(overlay));
		discard(&oldest);
	}
	p->spares[p->count++] = overlay;
}

static void prepare(struct timer *timer)
{
	struct place *p = &places[wanted_in_memory];
	struct overlay overlay;
	(void)timer;
	if (wanted && (take_spare(p, NULL, &overlay) || make(wanted_in_memory, &overlay, NULL) == 0)) {
		if (mount_it(&overlay, wanted) == 0)
			add_spare(p, overlay);
		else
			discard(&overlay);
	}
	free(wanted);
	wanted = NULL;
}

int overlay_take(bool in_memory, const struct words *layers, struct overlay *overlay, struct fault *f)
{
	struct place *p = &places[in_memory];
	char *text = text_of(layers);
	if (text && take_spare(p, text, overlay)) {
		free(text);
		return 0;
	}
	if (text) {
		free(wanted);
		wanted = text;
		wanted_in_memory = in_memory;
		timer_set(&prepare_timer, PREPARE_AFTER_US, prepare);
	}
	if (!take_spare(p, NULL, overlay) && make(in_memory, overlay, f) < 0)
		return -1;
	if (hold_layers(overlay, layers, f) == 0)
		return 0;
	add_spare(p, *overlay);
	return -1;
}

/* Project quotas would keep them on disk, but few file systems have them on, and a loop device needs root and a program that formats it. A
 * tmpfs works everywhere, is full to the page, and goes with one unmount, whatever is in it. A run with one takes no longer than without: 4.1 ms
 * beside 8.7 from a directory (minima of 144 on a busy machine), and writing 48 MiB 54 ms beside 49. */
int overlay_take_limited(uint64_t bytes, const struct words *layers, struct overlay *overlay, struct fault *f)
{
	char path[OVERLAY_PATH], options[64];
	*overlay = (struct overlay){.number = places[0].next++, .limited = true};
	overlay_path(overlay, 'q', path);
	snprintf(options, sizeof(options), "mode=700,size=%llu", (unsigned long long)bytes);
	if (mkdir(path, 0700) < 0)
		return fault(f, "upper", path, errno, NULL);
	if (mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, options) < 0) {
		int error = errno;
		rmdir(path);
		return fault(f, "upper", path, error, "cannot mount a file system of limited size");
	}
	char upper[OVERLAY_PATH], work[OVERLAY_PATH];
	overlay_path(overlay, 'u', upper);
	overlay_path(overlay, 'w', work);
	if (mkdir(upper, 0755) < 0 || mkdir(work, 0700) < 0)
		fault(f, "upper", upper, errno, NULL);
	else if (hold_layers(overlay, layers, f) == 0)
		return 0;
	overlay_keep(overlay);
	return -1;
}

/*
 * As large as what is in it: full. A size of nothing would mean no limit at all, so where nothing was written, a page is taken up, beside the
 * upper, where nobody sees it. Who writes meanwhile makes it larger than it was when we looked: the kernel refuses then, and we look again.
 */
static int make_full(const char *path, struct fault *f)
{
	char taken[OVERLAY_PATH + 8], options[64];
	snprintf(taken, sizeof(taken), "%s/taken", path);
	for (int attempt = 0; attempt < FILL_ATTEMPTS; attempt++) {
		struct statvfs st;
		if (statvfs(path, &st) < 0)
			return fault(f, "upper", path, errno, NULL);
		if (st.f_blocks == st.f_bfree) {
			int fd = open(taken, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
			ssize_t written = fd < 0 ? -1 : write(fd, "", 1);
			int error = errno;
			if (fd >= 0)
				close(fd);
			if (written < 0 && error != ENOSPC)
				return fault(f, "upper", taken, error, NULL);
			continue;
		}
		unsigned long long used = (unsigned long long)(st.f_blocks - st.f_bfree) * st.f_frsize;
		snprintf(options, sizeof(options), "size=%llu", used);
		if (!mount(NULL, path, NULL, MS_REMOUNT | MS_NOSUID | MS_NODEV, options))
			return 0;
		if (errno != EINVAL)
			return fault(f, "upper", path, errno, "cannot change the size");
	}
	return fault(f, "upper", path, EBUSY, "it is written to faster than its size can be changed");
}

int overlay_limit(const struct overlay *overlay, uint64_t bytes, struct fault *f)
{
	char path[OVERLAY_PATH], taken[OVERLAY_PATH + 8], options[64];
	overlay_path(overlay, 'q', path);
	if (!overlay->limited)
		return fault(f, "upper", path, ENOTSUP, "what it writes has no limit of its own");
	if (!bytes)
		return make_full(path, f);
	snprintf(options, sizeof(options), "size=%llu", (unsigned long long)bytes);
	if (mount(NULL, path, NULL, MS_REMOUNT | MS_NOSUID | MS_NODEV, options) < 0)
		return fault(f, "upper", path, errno, "cannot change the size");
	snprintf(taken, sizeof(taken), "%s/taken", path);
	if (unlink(taken) < 0 && errno != ENOENT)
		return fault(f, "upper", taken, errno, NULL);
	return 0;
}

static bool is_of(const struct overlay *overlay, const char *directory)
{
	size_t length = strlen(directory);
	for (size_t i = 0; i < overlay->held_count; i++) {
		const char *path = overlay->held[i]->path;
		if (!strncmp(path, directory, length) && (path[length] == '/' || !path[length]))
			return true;
	}
	return false;
}

void overlay_forget(const char *directory)
{
	for (int in_memory = 0; in_memory < 2; in_memory++) {
		struct place *p = &places[in_memory];
		for (size_t i = p->count; i-- > 0;)
			if (is_of(&p->spares[i], directory)) {
				struct overlay overlay = p->spares[i];
				memmove(&p->spares[i], &p->spares[i + 1], (--p->count - i) * sizeof(overlay));
				discard(&overlay);
			}
	}
}

/* The overlay itself marks its upper's root (trusted.overlay.uuid and such); marks of others are the container's. */
static bool has_foreign_xattr(int fd)
{
	char names[1024];
	ssize_t length = flistxattr(fd, names, sizeof(names));
	if (length < 0)
		return errno != ENOTSUP;
	for (ssize_t i = 0; i < length; i += (ssize_t)strlen(names + i) + 1)
		if (strncmp(names + i, "trusted.overlay.", 16) && strncmp(names + i, "user.overlay.", 13))
			return true;
	return false;
}

/* As good as new: empty, and its own inode, the container's "/", as it was made. */
static bool is_pristine(int base, const char *upper)
{
	int fd = openat(base, upper, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	char entries[1024]; /* "." and ".." take 48 bytes */
	bool pristine = fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & 07777) == 0755 && st.st_uid == geteuid() && st.st_gid == getegid() &&
		!has_foreign_xattr(fd) && syscall(SYS_getdents64, fd, entries, sizeof(entries)) == 48;
	if (fd >= 0)
		close(fd);
	return pristine;
}

bool overlay_keep(struct overlay *overlay)
{
	struct place *p = &places[overlay->in_memory];
	char name[32];
	if (overlay->limited) {
		char path[OVERLAY_PATH];
		unmount_it(overlay);
		overlay_path(overlay, 'q', path);
		umount2(path, MNT_DETACH);
		rmdir(path);
		return true;
	}
	snprintf(name, sizeof(name), "%u.u", overlay->number);
	bool keep = !(overlay->layers && !*overlay->layers) && is_pristine(p->base, name); /* "": overlay_mount's, not to serve again */
	if (keep && !overlay->layers) { /* what the kernel left in the work directory would forbid the next mount */
		snprintf(name, sizeof(name), "%u.w", overlay->number);
		int work = openat(p->base, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		keep = work >= 0 && tree_empty(work, WORK_ENTRIES) == 0;
		if (work >= 0)
			close(work);
		release_layers(overlay);
	}
	if (keep)
		add_spare(p, *overlay);
	else
		unmount_it(overlay);
	return keep;
}
