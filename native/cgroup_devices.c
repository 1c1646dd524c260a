/* Device rules in force for containers: one program (version 2) or one group (version 1) for all containers with the
 * same text.
 *
 * Where both are there (hybrid) the program is used, and the list only where bpf(2) is not to be had. They cost a
 * container the same within 5 µs (measured: 206 against 201 µs for a whole make, attach and remove), but a list is
 * refused when the group above lacks a device that it names, and moving a process into one more version 1 group can
 * wait for RCU. The kernel checks both, so a list that the caller's own group has stays in force.
 *
 * Without privilege there is no program and no list. In a user namespace of our own that is no loss: the kernel
 * makes no device nodes there and honours none on file systems mounted there, so rules have nothing to deny that
 * file permissions leave open. With the real root's privileges the rules are what keeps a container with CAP_MKNOD
 * off the disks, so there a failure is one. */
#define _GNU_SOURCE
#include "cgroup_internal.h"
#include "devices.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define IDLE_KEPT 8        /* sets without a container that are kept for the next one */

struct device_set {
	struct device_set *next;
	char *rules;
	int program;           /* version 2, else -1 */
	int procs;             /* version 1: tasks of the shared group, else -1 */
	char name[24];         /* version 1: its directory in the session's */
	unsigned users;        /* containers */
};

static struct device_set *sets;    /* most recently used first */
static unsigned made;              /* numbers the directories */

static void free_set(struct device_set *set)
{
	struct hierarchy *h = cgroup_hierarchy_of(CGROUP_DEVICES);
	if (set->program >= 0)
		close(set->program);
	if (set->procs >= 0)
		close(set->procs);
	if (set->name[0] && h && h->session_fd >= 0)
		cgroup_tree_remove(h->session_fd, set->name, 100);
	free(set->rules);
	free(set);
}

static int make_list(struct device_set *set, const char *rules, struct fault *f)
{
	struct hierarchy *h = cgroup_hierarchy_of(CGROUP_DEVICES);
	if (!h)
		return fault(f, "cgroup", "devices", ENODEV,
			"device rules need cgroup version 2 or the devices controller; neither is here");
	if (cgroup_session_directory(h) < 0)
		return fault(f, "cgroup", "devices", errno, "the devices controller is not delegated to this process");
	char name[sizeof(set->name)];
	snprintf(name, sizeof(name), "devices-%u", ++made);
	if (mkdirat(h->session_fd, name, 0755) < 0)
		return fault(f, "cgroup", "devices", errno, "the group for the device rules cannot be made");
	strcpy(set->name, name);
	int dir = openat(h->session_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return fault(f, "cgroup", "devices", errno, NULL);
	int result = devices_write_list(dir, rules, f);
	if (result == 0 && (set->procs = openat(dir, "tasks", O_WRONLY | O_CLOEXEC)) < 0)
		result = fault(f, "cgroup", "devices", errno, NULL);
	close(dir);
	return result;
}

/* The initial user namespace maps all ids to themselves; anything else is one where device nodes have no power. */
static bool in_initial_user_namespace(void)
{
	char map[256];
	unsigned inside, outside, length;
	return cgroup_read_at(AT_FDCWD, "/proc/self/uid_map", map, sizeof(map)) < 0 ||
		(sscanf(map, "%u %u %u", &inside, &outside, &length) == 3 && !inside && !outside && length == UINT32_MAX);
}

static bool is_privilege(int error)
{
	return error == EPERM || error == EACCES || error == EROFS;
}

/* The set for this text, made if there is none. NULL with the fault. */
static struct device_set *find_set(const struct cgroup *group, const char *rules, struct fault *f)
{
	for (struct device_set **at = &sets; *at; at = &(*at)->next)
		if (!strcmp((*at)->rules, rules)) {
			struct device_set *set = *at;
			*at = set->next;
			set->next = sets;
			return sets = set;
		}
	struct device_set *set = calloc(1, sizeof(*set));
	if (!set || !(set->rules = strdup(rules))) {
		free(set);
		fault(f, "cgroup", "devices", ENOMEM, NULL);
		return NULL;
	}
	set->program = set->procs = -1;
	struct fault first = {0};
	bool list_first = group->v2_fd < 0 || cgroup_session.prefer_device_list;
	int result = list_first ? make_list(set, rules, &first) : (set->program = devices_load_program(rules, &first));
	/* A kernel or a sandbox without bpf(2), with version 1 beside. */
	if (result < 0 && !list_first && strcmp(first.step, "device") && cgroup_hierarchy_of(CGROUP_DEVICES)) {
		first = (struct fault){0};
		result = make_list(set, rules, &first);
	}
	if (result < 0) {
		free_set(set);
		fault(f, first.step, first.subject, first.error, first.message);
		return NULL;
	}
	set->next = sets;
	return sets = set;
}

int cgroup_devices_apply(struct cgroup *group, const char *rules, struct fault *f)
{
	struct fault why = {0};
	struct device_set *set = find_set(group, rules, &why);
	if (set && set->program >= 0 && devices_attach_program(set->program, group->v2_fd) < 0) {
		fault(&why, "cgroup", "devices", errno,
			"the device rules' program cannot be attached to the container's group");
		set = NULL;
	}
	if (set) {
		set->users++;
		group->devices = set;
		return 0;
	}
	/* No group at all, so no place for a program; or no right to one. */
	bool nowhere = is_privilege(why.error) || why.error == ENODEV;
	if (!strcmp(why.step, "cgroup") && nowhere && (geteuid() != 0 || !in_initial_user_namespace()))
		return 0;
	return fault(f, why.step, why.subject, why.error, why.message);
}

int cgroup_devices_procs(const struct device_set *set)
{
	return set->procs;
}

const char *cgroup_devices_name(const struct device_set *set)
{
	return set->name;
}

void cgroup_devices_release(struct device_set *set)
{
	set->users--;
	unsigned idle = 0;
	for (struct device_set **at = &sets, *here; (here = *at); ) {
		if (here->users == 0 && ++idle > IDLE_KEPT) {
			*at = here->next;
			free_set(here);
		} else {
			at = &here->next;
		}
	}
}

void cgroup_devices_close(void)
{
	while (sets) {
		struct device_set *set = sets;
		sets = set->next;
		free_set(set);
	}
	made = 0;
}
