#pragma once
/* What the cgroup*.c files share. Everyone else includes cgroup.h. */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "cgroup.h"
#include "cgroup_find.h"

#define CGROUP_PREFIX "mayfly-"
#define MAX_HIERARCHIES (CGROUP_CONTROLLERS + 1)

struct hierarchy {
	int version;               /* 1 or 2 */
	unsigned controllers;      /* v1: what it carries; v2: what the own group's cgroup.controllers offers */
	unsigned enabled;          /* version 2: handed on to the session's children */
	char label[64];            /* its directory below the container's /sys/fs/cgroup */
	char *path;                /* the own group */
	int own_fd;                /* that directory */
	int session_fd;            /* mayfly-<session> in it, -1 before it is made */
	int refused;               /* errno of why it cannot be used, 0 = can */
	bool namespace_root;       /* the own group is "/" in our cgroup namespace */
	const char *blocked;       /* version 2: why no controller can be handed on, NULL = none found yet */
};

/* One session a process: the warden is one. */
struct cgroup_session {
	bool open;
	char name[80];             /* mayfly-<session> */
	int directory_fd;          /* the session's directory, holds the record */
	struct hierarchy hierarchies[MAX_HIERARCHIES];
	int count;
	struct hierarchy *v2;      /* NULL if there is none that may be used */
	bool clone_into;           /* clone3 is there (seccomp in older Docker answers ENOSYS) */
	bool prefer_device_list;   /* tests: version 1's list although version 2 is there */
};
extern struct cgroup_session cgroup_session;

struct device_set;

struct cgroup {
	char name[16];                       /* directory in each hierarchy */
	unsigned made;                       /* bit i: in hierarchies[i] */
	int v2_fd;                           /* O_PATH, -1 if none */
	bool enter_by_write;                 /* version 2 too: see clones_into */
	struct device_set *devices;          /* NULL: everything allowed */
	int procs[MAX_HIERARCHIES + 1];
	size_t procs_count;
	bool procs_open;
	struct cgroup_view views[MAX_HIERARCHIES + 1];
	size_t view_count;
};

/* cgroup.c: the hierarchy that has this controller: version 1's, or version 2's where it is handed on. NULL: none. */
struct hierarchy *cgroup_hierarchy_of(unsigned controller);
/* The same, only if the group was made there. */
struct hierarchy *cgroup_made_in(const struct cgroup *, unsigned controller);
/* Makes the session's directory in the hierarchy if it is not there yet. 0, or -1 with errno (also kept in refused). */
int cgroup_session_directory(struct hierarchy *);

/* cgroup_delegate.c: hands the controller on to groups below the own one, which is emptied for it where that is allowed.
 * 0 or -1 with the fault. */
int cgroup_enable_below_own(struct hierarchy *, unsigned controller, struct fault *);
/* The same, and on to the containers' groups. session_fd is open. */
int cgroup_hand_on(struct hierarchy *, unsigned controller, struct fault *);

/* cgroup_limit.c: the controllers that the limits need, or -1 with the fault for a key that is unknown. */
int cgroup_limit_controllers(const struct cgroup_limit *, size_t count, struct fault *);
int cgroup_limit_apply(const struct cgroup *, const struct cgroup_limit *, size_t count, struct fault *);

/* cgroup_devices.c: rules in force for a container, shared by equal texts. */
int cgroup_devices_apply(struct cgroup *, const char *rules, struct fault *);
int cgroup_devices_procs(const struct device_set *);     /* descriptor of cgroup.procs, or -1: it is a program */
const char *cgroup_devices_name(const struct device_set *);
void cgroup_devices_release(struct device_set *);
void cgroup_devices_close(void);

/* cgroup_tree.c: whole groups, with whatever a container made below them. */
ssize_t cgroup_read_at(int dir_fd, const char *path, char *text, size_t size);   /* NUL-ended; -1 with errno */
int cgroup_write_at(int dir_fd, const char *path, const char *text);             /* -1 with errno */
/* The name inside the group's directory, relative to session_fd: "<name>/<file>". */
const char *cgroup_file(const struct cgroup *, const char *file);
/* SIGKILL for everything in the tree; does not wait for the deaths. -1 if something could not be killed. */
int cgroup_tree_kill(int dir_fd);
/* Kills, waits for at most timeout_ms and removes the directory with all below it. 0 (also if it was not there), -1
 * with errno. */
int cgroup_tree_remove(int parent_fd, const char *name, int timeout_ms);
