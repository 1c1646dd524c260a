/* A session's control groups and its containers'.
 *
 * Everything that needs a path walk is done once, in cgroup_open: mountinfo is read, the own group and the session's
 * directory in each hierarchy are opened. A container then costs one mkdirat a hierarchy, one open of tasks and,
 * at the end, one unlinkat. Which hierarchies: version 2 if it is mounted (freeze, kill, CPU time, device
 * program, and the place that clone3 can start a process in), version 1 memory and blkio for their accounting,
 * others only where a limit needs them; on pure version 1 also cpuacct and freezer, which version 2 would make up
 * for.
 *
 * Measured (`cgroup_test bench`, 2-core VM, Linux 6.18, hybrid: version 2, memory and blkio; medians in µs):
 *   nothing asked for: make 80, procs_fds 13, oom_killed 8, remove 59; with device rules make is 92 and remove 66,
 *   and the child's two writes to tasks take 14 to 20; with memory, cpu and pids limits too: make 167, procs_fds 21,
 *   writes 28 to 40, remove 95.
 * Nearly all of it is the kernel's: 26 a mkdir, 20 a rmdir, 6 an open. cgroup_open is 500 and more, once a session. */
#define _GNU_SOURCE
#include "cgroup_internal.h"
#include "json.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

struct cgroup_session cgroup_session = {.directory_fd = -1};

#define EACH_HIERARCHY(h) \
	(struct hierarchy *h = cgroup_session.hierarchies; h < cgroup_session.hierarchies + cgroup_session.count; h++)

/* The hierarchies that every container gets a group in, where possible. */
static unsigned default_controllers(void)
{
	return CGROUP_MEMORY | CGROUP_BLKIO | (cgroup_session.v2 ? 0 : CGROUP_CPUACCT | CGROUP_FREEZER);
}

struct hierarchy *cgroup_hierarchy_of(unsigned controller)
{
	for EACH_HIERARCHY(h)
		if ((h->version == 1 ? h->controllers : h->enabled) & controller)
			return h;
	return NULL;
}

struct hierarchy *cgroup_made_in(const struct cgroup *group, unsigned controller)
{
	struct hierarchy *h = cgroup_hierarchy_of(controller);
	return h && group->made & 1u << (h - cgroup_session.hierarchies) ? h : NULL;
}

/* A version 1 cpuset is born without processors and memory nodes, and takes no process before it has some. */
static int copy_cpuset(int from_fd, int to_fd, const char *to)
{
	static const char *const files[2][2] = {
		{"cpuset.effective_cpus", "cpuset.cpus"}, {"cpuset.effective_mems", "cpuset.mems"},
	};
	for (int i = 0; i < 2; i++) {
		char text[4096], path[128];
		snprintf(path, sizeof(path), "%s/%s", to, files[i][1]);
		if (cgroup_read_at(from_fd, files[i][0], text, sizeof(text)) < 0 || cgroup_write_at(to_fd, path, text) < 0)
			return -1;
	}
	return 0;
}

int cgroup_session_directory(struct hierarchy *h)
{
	if (h->session_fd >= 0)
		return 0;
	if (!h->refused) {
		const char *name = cgroup_session.name;
		bool cpuset = h->version == 1 && h->controllers & CGROUP_CPUSET;
		if ((mkdirat(h->own_fd, name, 0755) < 0 && errno != EEXIST) ||
		    (cpuset && copy_cpuset(h->own_fd, h->own_fd, name) < 0) ||
		    (h->session_fd = openat(h->own_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
			h->refused = errno;
	}
	errno = h->refused;
	return h->refused ? -1 : 0;
}

/* The whole of a file of unknown size, or NULL with errno. */
static char *slurp(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t size = 1 << 14, length = 0;
	char *text = fd < 0 ? NULL : malloc(size);
	ssize_t got = 1;
	while (text && (got = read(fd, text + length, size - 1 - length)) > 0) {
		length += (size_t)got;
		if (length < size - 1)
			continue;
		char *more = realloc(text, size *= 2);
		if (!more)
			free(text);
		text = more;
	}
	int error = errno;
	if (fd >= 0)
		close(fd);
	if (text && got < 0) {
		free(text);
		text = NULL;
	}
	if (text)
		text[length] = '\0';
	errno = error;
	return text;
}

/* Opens one place as a hierarchy, unless one with the same controllers is open or something else is mounted over it. */
static void take(const struct cgroup_place *place)
{
	for EACH_HIERARCHY(h)
		if (h->version == place->version && (place->version == 2 || h->controllers == place->controllers))
			return;
	if (cgroup_session.count == MAX_HIERARCHIES)
		return;
	int fd = open(place->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	struct statfs fs;
	if (fd < 0)
		return;
	char *path = strdup(place->path);
	if (!path || fstat(fd, &st) < 0 || st.st_dev != place->device || fstatfs(fd, &fs) < 0 ||
	    fs.f_type != (place->version == 2 ? CGROUP2_SUPER_MAGIC : CGROUP_SUPER_MAGIC)) {
		free(path);
		close(fd);
		return;
	}
	struct hierarchy *h = &cgroup_session.hierarchies[cgroup_session.count++];
	*h = (struct hierarchy){.version = place->version, .controllers = place->controllers, .path = path, .own_fd = fd,
		.session_fd = -1, .namespace_root = place->namespace_root};
	memcpy(h->label, place->label, sizeof(h->label));
	if (faccessat(fd, ".", W_OK, AT_EACCESS) < 0)
		h->refused = errno;
	if (h->version == 2) {
		char text[512];
		if (cgroup_read_at(fd, "cgroup.controllers", text, sizeof(text)) >= 0)
			h->controllers = cgroup_controllers_of(text);
	}
}

static int find_hierarchies(struct fault *f)
{
	enum { PLACES = 64 };
	char *mountinfo = slurp("/proc/self/mountinfo"), *groups = slurp("/proc/self/cgroup");
	struct cgroup_place *places = calloc(PLACES, sizeof(*places));
	int result = 0;
	if (!places)
		result = fault(f, "cgroup", "", ENOMEM, NULL);
	else if (!mountinfo)
		result = fault(f, "cgroup", "/proc/self/mountinfo", errno, "the mounts cannot be read");
	else if (groups) {                                    /* a kernel without control groups has no such file */
		size_t count = cgroup_find(mountinfo, groups, places, PLACES);
		for (size_t i = 0; i < count; i++)
			take(&places[i]);
	}
	free(places);
	free(mountinfo);
	free(groups);
	return result;
}

/* Notes where the session's groups are before they are made, for cgroup_sweep after a crash. */
static int note_directories(struct fault *f)
{
	const int flags = O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(cgroup_session.directory_fd, CGROUP_RECORD, flags, 0600);
	if (fd < 0)
		return fault(f, "cgroup", CGROUP_RECORD, errno, "the list of the session's control groups cannot be written");
	int result = 0;
	for EACH_HIERARCHY(h)
		if (dprintf(fd, "%s/%s\n", h->path, cgroup_session.name) < 0)
			result = fault(f, "cgroup", CGROUP_RECORD, errno, "the list of the session's control groups cannot be written");
	close(fd);
	return result;
}

static bool has_clone3(void)
{
	/* EINVAL for the size 0 says that the kernel looked; ENOSYS that it, or a seccomp filter, does not know the
	 * call. */
	return syscall(SYS_clone3, NULL, (size_t)0) < 0 && errno == EINVAL;
}

/* {"mode":…,"controllers":{…}}; "{}" where the paths are too long for the caller's buffer: no reason not to start. */
static void write_facts(char *facts, size_t size)
{
	bool v1 = false, v2 = false;
	struct json list = {0}, all = {0};
	json_begin(&list);
	for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
		char text[PATH_MAX + 64] = "";
		struct fault why = {0};
		for EACH_HIERARCHY(h) {
			if (h->version == 1 && h->controllers & 1u << i)
				snprintf(text, sizeof(text), h->refused ? "not delegated: v1 %s: %s" : "v1 %s", h->path,
					strerror(h->refused));
			else if (h->version == 2 && h->controllers & 1u << i && !*text) {
				/* Where one could be handed on, the others can: not tried before a limit asks (see cgroup_open). */
				bool works = !h->refused && (h->enabled || cgroup_hand_on(h, 1u << i, &why) == 0);
				snprintf(text, sizeof(text), works ? "v2 %s" : "not delegated: v2 %s: %s", h->path,
					h->refused ? strerror(h->refused) : why.message);
			}
		}
		/* What version 2 does without a controller, and does also where version 1 has one. */
		if (cgroup_session.v2 && 1u << i & (CGROUP_FREEZER | CGROUP_CPUACCT | CGROUP_DEVICES))
			snprintf(text, sizeof(text), "v2 %s", cgroup_session.v2->path);
		if (!*text)
			strcpy(text, "missing: the kernel does not offer it to this process");
		json_string(&list, cgroup_controller_name(1u << i), text);
	}
	json_end(&list);
	for EACH_HIERARCHY(h)
		*(h->version == 1 ? &v1 : &v2) = true;
	json_begin(&all);
	json_string(&all, "mode", v1 && v2 ? "hybrid" : v1 ? "v1" : v2 ? "v2" : "none");
	if (!list.failed) {
		list.text[list.length - 1] = '\0';
		json_raw(&all, "controllers", list.text);
	}
	json_end(&all);
	bool fits = !list.failed && !all.failed && all.length <= size;
	if (fits) {
		memcpy(facts, all.text, all.length);
		facts[all.length - 1] = '\0';
	} else {
		snprintf(facts, size, "{}");
	}
	json_free(&list);
	json_free(&all);
}

/* Version 2's controllers that each container wants for its accounting. cpu and cpuset wait for a limit: they cost every
 * process something. */
static unsigned next_default(const struct hierarchy *v2, unsigned bit)
{
	for (bit = bit ? bit << 1 : CGROUP_MEMORY; bit <= CGROUP_PIDS; bit <<= 1)
		if (v2->controllers & bit && !cgroup_hierarchy_of(bit))
			return bit;
	return 0;
}

void cgroup_make_room(void)
{
	cgroup_close();
	cgroup_session.open = true;
	if (find_hierarchies(NULL) == 0)
		for EACH_HIERARCHY(h)
			for (unsigned bit = 0; h->version == 2 && !h->refused && (bit = next_default(h, bit)); )
				cgroup_enable_below_own(h, bit, NULL);
	cgroup_close();
}

int cgroup_open(int session_dir_fd, const char *session_id, char *facts, size_t facts_size, struct fault *f)
{
	cgroup_close();
	struct cgroup_session *s = &cgroup_session;
	s->open = true;
	s->clone_into = has_clone3();
	snprintf(s->name, sizeof(s->name), CGROUP_PREFIX "%s", session_id);
	if ((s->directory_fd = fcntl(session_dir_fd, F_DUPFD_CLOEXEC, 3)) < 0) {
		fault(f, "cgroup", "session directory", errno, NULL);
		cgroup_close();
		return -1;
	}
	if (find_hierarchies(f) < 0 || note_directories(f) < 0) {
		cgroup_close();
		return -1;
	}
	for EACH_HIERARCHY(h)
		if (h->version == 2 && cgroup_session_directory(h) == 0)
			s->v2 = h;
	for EACH_HIERARCHY(h)
		if (h->version == 1 && h->controllers & default_controllers())
			cgroup_session_directory(h);
	for (unsigned bit = 0; s->v2 && (bit = next_default(s->v2, bit)); )
		cgroup_hand_on(s->v2, bit, NULL);
	write_facts(facts, facts_size);
	return 0;
}

void cgroup_close(void)
{
	struct cgroup_session *s = &cgroup_session;
	if (!s->open)
		return;
	cgroup_devices_close();
	bool clean = true;
	for EACH_HIERARCHY(h) {
		if (h->session_fd >= 0) {
			clean &= cgroup_tree_remove(h->own_fd, s->name, 1000) == 0;
			close(h->session_fd);
		}
		close(h->own_fd);
		free(h->path);
	}
	if (clean && s->directory_fd >= 0) {                       /* else a sweep wants the record */
		int record = openat(s->directory_fd, CGROUP_RECORD, O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC);
		if (record >= 0)
			close(record);                             /* empty for the launcher, who has it open */
		unlinkat(s->directory_fd, CGROUP_RECORD, 0);
	}
	if (s->directory_fd >= 0)
		close(s->directory_fd);
	*s = (struct cgroup_session){.directory_fd = -1};
}

static int missing(unsigned controller, struct fault *f)
{
	char why[sizeof(f->message)];
	snprintf(why, sizeof(why), "the %s controller is missing: no hierarchy that this process sees carries it",
		cgroup_controller_name(controller));
	return fault(f, "cgroup", cgroup_controller_name(controller), ENODEV, why);
}

static int not_delegated(unsigned controller, const struct hierarchy *h, int error, struct fault *f)
{
	char why[sizeof(f->message)];
	bool scope = h->version == 2 && geteuid() != 0;
	const char *mend = scope ? "; start with `systemd-run --user --scope -p Delegate=yes …`" : "";
	snprintf(why, sizeof(why), "the %s controller is not delegated: no group can be made below %.100s (version %d)%s",
		cgroup_controller_name(controller), h->path, h->version, mend);
	return fault(f, "cgroup", cgroup_controller_name(controller), error, why);
}

/* Every controller a limit needs has a hierarchy that may be used, after this. */
static int require(unsigned needed, struct fault *f)
{
	for (unsigned bit = 1; bit < 1u << CGROUP_CONTROLLERS; bit <<= 1) {
		if (!(needed & bit))
			continue;
		struct hierarchy *h = cgroup_hierarchy_of(bit);
		if (!h) {
			for EACH_HIERARCHY(candidate)
				if (candidate->version == 2)
					h = candidate;
			/* On a hybrid the other hierarchies are the place to look, so version 2 is not to blame for what it
			 * lacks. */
			if (!h || (!(h->controllers & bit) && cgroup_session.count > 1))
				return missing(bit, f);
			if (cgroup_session_directory(h) == 0 && cgroup_hand_on(h, bit, f) < 0)
				return -1;
		}
		if (cgroup_session_directory(h) < 0)
			return not_delegated(bit, h, errno, f);
	}
	return 0;
}

static int make_in(struct cgroup *group, struct hierarchy *h)
{
	if (cgroup_session_directory(h) < 0 || mkdirat(h->session_fd, group->name, 0755) < 0)
		return -1;
	group->made |= 1u << (h - cgroup_session.hierarchies);
	if (h->version == 1 && h->controllers & CGROUP_CPUSET)
		return copy_cpuset(h->session_fd, h->session_fd, group->name);
	if (h->version == 2)
		group->v2_fd = openat(h->session_fd, group->name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return h->version == 2 && group->v2_fd < 0 ? -1 : 0;
}

struct cgroup *cgroup_make(const char *id, const struct cgroup_limit *limits, size_t count, const char *device_rules,
	struct fault *f)
{
	int needed = cgroup_limit_controllers(limits, count, f);
	if (needed < 0 || require((unsigned)needed, f) < 0)
		return NULL;
	struct cgroup *group = calloc(1, sizeof(*group));
	if (!group) {
		fault(f, "cgroup", id, ENOMEM, NULL);
		return NULL;
	}
	group->v2_fd = -1;
	group->enter_by_write = needed & CGROUP_CPUSET;
	snprintf(group->name, sizeof(group->name), "%.12s", id);
	for EACH_HIERARCHY(h) {
		unsigned wanted = h->version == 1 ? h->controllers & (default_controllers() | (unsigned)needed) : 1;
		if (!wanted || (h->refused && !(h->controllers & (unsigned)needed)))
			continue;
		if (make_in(group, h) < 0) {
			fault(f, "cgroup", h->label, errno, "the container's group cannot be made");
			goto failed;
		}
	}
	if (cgroup_limit_apply(group, limits, count, f) < 0)
		goto failed;
	if (device_rules && cgroup_devices_apply(group, device_rules, f) < 0)
		goto failed;
	return group;
failed:
	cgroup_remove(group);
	return NULL;
}

void cgroup_procs_close(struct cgroup *group)
{
	for (size_t i = 0; i < group->procs_count; i++)
		if (!group->devices || group->procs[i] != cgroup_devices_procs(group->devices)) /* that one is shared */
			close(group->procs[i]);
	group->procs_count = 0;
	group->procs_open = false;
}

void cgroup_remove(struct cgroup *group)
{
	if (!group)
		return;
	cgroup_procs_close(group);
	if (group->v2_fd >= 0)
		close(group->v2_fd);
	for EACH_HIERARCHY(h)
		if (group->made & 1u << (h - cgroup_session.hierarchies))
			cgroup_tree_remove(h->session_fd, group->name, 200);    /* what stays, cgroup_close tries again */
	if (group->devices)
		cgroup_devices_release(group->devices);
	for (size_t i = 0; i < group->view_count; i++)
		free((char *)group->views[i].path);
	free(group);
}

/* A process cloned into a group keeps its parent's processors (kernels before 6.3): only a process that moves gets the group's. */
static bool clones_into(const struct cgroup *group)
{
	return cgroup_session.clone_into && !group->enter_by_write;
}

int cgroup_v2_fd(const struct cgroup *group)
{
	return clones_into(group) ? group->v2_fd : -1;
}

int cgroup_procs_open(struct cgroup *group, const int **fds, size_t *count, struct fault *f)
{
	*fds = group->procs;
	*count = group->procs_count;
	if (group->procs_open)
		return 0;
	group->procs_open = true;
	for EACH_HIERARCHY(h) {
		if (!(group->made & 1u << (h - cgroup_session.hierarchies)) || (h->version == 2 && clones_into(group)))
			continue;
		/* "0" to v1's tasks moves the one thread that writes. cgroup.procs would take cgroup_threadgroup_rwsem and
		 * wait for an RCU grace period: a start that joins three groups took 14.2 ms to exec that way, 2.7 ms this
		 * way. */
		const char *file = h->version == 2 ? "cgroup.procs" : "tasks";
		int fd = openat(h->session_fd, cgroup_file(group, file), O_WRONLY | O_CLOEXEC);
		if (fd < 0) {
			fault(f, "cgroup", h->label, errno, "the container's group cannot be joined");
			cgroup_procs_close(group);
			return -1;
		}
		group->procs[group->procs_count++] = fd;
	}
	if (group->devices && cgroup_devices_procs(group->devices) >= 0)
		group->procs[group->procs_count++] = cgroup_devices_procs(group->devices);
	*count = group->procs_count;
	return 0;
}

static void add_view(struct cgroup *group, const struct hierarchy *h, const char *directory, bool pure_v2)
{
	char *path;
	if (asprintf(&path, "%s/%s/%s", h->path, cgroup_session.name, directory) < 0)
		return;
	group->views[group->view_count++] = (struct cgroup_view){pure_v2 ? "" : h->label, path};
}

size_t cgroup_views(struct cgroup *group, const struct cgroup_view **views)
{
	*views = group->views;
	if (group->view_count)
		return group->view_count;
	for EACH_HIERARCHY(h) {
		if (group->made & 1u << (h - cgroup_session.hierarchies))
			add_view(group, h, group->name, h->version == 2 && cgroup_session.count == 1);
		else if (h->controllers == CGROUP_DEVICES && group->devices && *cgroup_devices_name(group->devices))
			add_view(group, h, cgroup_devices_name(group->devices), false);
	}
	return group->view_count;
}

static long elapsed_ms(const struct timespec *since)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - since->tv_sec) * 1000 + (now.tv_nsec - since->tv_nsec) / 1000000;
}

/* Waits for "frozen 0|1" in cgroup.events, which wakes pollers when it changes. -1 with errno; ETIMEDOUT after a
 * second. */
static int wait_frozen(int v2_fd, bool frozen)
{
	int fd = openat(v2_fd, "cgroup.events", O_RDONLY | O_CLOEXEC), result = -1, error = ETIMEDOUT;
	if (fd < 0)
		return -1;
	struct timespec begin;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (long left = 1000; left > 0; left = 1000 - elapsed_ms(&begin)) {
		char text[128];
		ssize_t length = pread(fd, text, sizeof(text) - 1, 0);
		if (length < 0) {
			error = errno;
			break;
		}
		text[length] = '\0';
		if (strstr(text, frozen ? "frozen 1" : "frozen 0")) {
			result = 0;
			break;
		}
		if (poll(&(struct pollfd){.fd = fd, .events = POLLPRI}, 1, (int)left) < 0 && errno != EINTR) {
			error = errno;
			break;
		}
	}
	close(fd);
	errno = error;
	return result;
}

/* Version 1 freezes task by task, and goes on with those that forked meanwhile only when asked again: writing is
 * asking. */
static int freeze_v1(struct cgroup *group, struct hierarchy *h, bool frozen)
{
	const char *wanted = frozen ? "FROZEN" : "THAWED";
	struct timespec begin;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		char text[32];
		if (cgroup_write_at(h->session_fd, cgroup_file(group, "freezer.state"), wanted) < 0 ||
		    cgroup_read_at(h->session_fd, cgroup_file(group, "freezer.state"), text, sizeof(text)) < 0)
			return -1;
		if (!strncmp(text, wanted, strlen(wanted)))
			return 0;
		nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
	} while (elapsed_ms(&begin) < 1000);
	errno = ETIMEDOUT;
	return -1;
}

int cgroup_freeze(struct cgroup *group, bool frozen, struct fault *f)
{
	int error;
	if (group->v2_fd >= 0) {
		if (cgroup_write_at(group->v2_fd, "cgroup.freeze", frozen ? "1" : "0") == 0 &&
		    wait_frozen(group->v2_fd, frozen) == 0)
			return 0;
		error = errno;
		if (frozen)
			cgroup_write_at(group->v2_fd, "cgroup.freeze", "0");
	} else {
		struct hierarchy *h = cgroup_made_in(group, CGROUP_FREEZER);
		if (!h)
			return fault(f, "cgroup", "freezer", ENODEV,
				"pausing needs cgroup version 2 or the freezer controller; neither is delegated to this process");
		if (freeze_v1(group, h, frozen) == 0)
			return 0;
		error = errno;
		if (frozen)
			cgroup_write_at(h->session_fd, cgroup_file(group, "freezer.state"), "THAWED");
	}
	const char *why = error == ETIMEDOUT ? "a task did not stop within a second; it is running on" : NULL;
	return fault(f, "cgroup", "freezer", error, why);
}

int cgroup_kill(struct cgroup *group)
{
	if (group->v2_fd >= 0)
		return cgroup_tree_kill(group->v2_fd);
	/* Any version 1 hierarchy lists the processes; the freezer's first, whose frozen tasks would not die. */
	struct hierarchy *list = cgroup_made_in(group, CGROUP_FREEZER);
	for EACH_HIERARCHY(h)
		if (!list && group->made & 1u << (h - cgroup_session.hierarchies))
			list = h;
	if (!list) {
		errno = ENODEV;
		return -1;
	}
	int dir = openat(list->session_fd, group->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return -1;
	int result = cgroup_tree_kill(dir), error = errno;
	close(dir);
	errno = error;
	return result;
}
