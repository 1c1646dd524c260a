#pragma once
/* A launch plan as data: what create, run and exec ask for. Made from a request before anything is touched; nothing in here is
 * decided by the warden. Strings point into the plan's own copy of the request. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#include "cgroup.h"
#include "fault.h"
#include "request.h"

struct words { const char **at; size_t count; };         /* at[count] is NULL: usable as argv */

struct rlimit_step { int resource; struct rlimit limit; const char *text; };

/* What is common to a container's first process and to exec. */
struct process {
	struct words argv, env, default_env, groups;
	const char *user, *workdir, *seccomp;               /* NULL = root, "/", unconfined */
	uint64_t caps;
	bool no_new_privileges, workdir_create, tty, stdin_open;
	unsigned short columns, rows;
	unsigned umask;
	struct rlimit_step rlimits[16];
	size_t rlimit_count;
};

enum mount_kind { MOUNT_PROC, MOUNT_SYSFS, MOUNT_TMPFS, MOUNT_DEVPTS, MOUNT_MQUEUE, MOUNT_CGROUP, MOUNT_BIND, MOUNT_VOLUME, MOUNT_IMAGE };

struct mount_step {
	enum mount_kind kind;
	const char *source, *target, *data;
	uint64_t attributes;                                /* MOUNT_ATTR_* */
	uint64_t propagation;                               /* MS_PRIVATE… for bind, 0 = private */
	bool recursive, private_recursive;
	int tree;                                           /* bind: detached tree, opened before the root is left; volume: of what will be hidden */
	const char *fill;                                   /* bind: file that guards the filling of an empty source with what the target holds; or NULL */
	int fill_fd;
	bool hidden;                                        /* bind: below another mount; what it is filled with was opened before that: */
	int seed_fd;                                        /* or -1, where the root has no such directory */
	const char *source_root;                            /* bind: directory, or container:<id>, inside which source is resolved; or NULL */
	const char *source_mounted;                         /* where that container's root is mounted, if it does not run; else */
	int source_pidfd;                                   /* a process of it; -1 = none */
	size_t layers, layer_count;                         /* image: first of them in the plan's list */
};

struct file_step {
	const char *path, *content;
	bool literal;                                       /* nothing in content is replaced */
	unsigned mode; int64_t uid, gid;
	char *host_path;                                    /* where the warden wrote it */
	int tree;
};
struct key_value { const char *key, *value; };
/* aliases: first of them in the plan's list */
struct network_step { const char *id, *address, *address_v6; size_t aliases, alias_count; };
struct publish_step { bool udp; const char *host_ip; uint16_t host_port, container_port; };

enum ns_mode { NS_PRIVATE, NS_HOST, NS_CONTAINER };
enum net_mode { NET_BRIDGE, NET_NONE, NET_HOST, NET_CONTAINER };

struct plan {
	char *copy;                                         /* the request's bytes; reading cuts some words in place */
	char *original; size_t original_length;             /* the same untouched, for pid=host (spawn.h) */
	struct request request;                             /* parsed from copy */
	struct process process;
	const char *id, *name, *hostname, *domainname;
	bool remove, upper_in_memory, readonly_root, init, report_listen;
	uint64_t upper_bytes;                               /* most that it may write; 0 = no limit */
	int64_t clock_offset_ns;                            /* of the clocks that tell no time of day */
	struct words layers, image_layers, masks, readonly_paths, devices, dns_names, aliases, host_ports, holds;
	struct mount_step *mounts; size_t mount_count;
	struct file_step *files; size_t file_count;
	struct key_value *links; size_t link_count;
	struct key_value *sysctls; size_t sysctl_count;
	struct network_step *networks; size_t network_count; /* none = the default one */
	struct publish_step *publish; size_t publish_count;
	struct cgroup_limit *limits; size_t limit_count;
	const char *device_rules;
	bool has_oom_score_adj; int oom_score_adj;
	enum ns_mode pid, ipc, uts; bool cgroup_host;
	enum net_mode net;
	const char *pid_of, *ipc_of, *net_of;               /* ids of containers */
	uint64_t log_bytes;
	bool exec;                                          /* keys of exec only */
	const char *container, *exec_id;
};

/* Copies the payload and reads it as a plan (or, with exec, as an exec request). Unknown keys and malformed values fail with step
 * "request". The plan must be freed with plan_free, also after a failure. */
int plan_read(struct plan *, const struct request *, bool exec, struct fault *);
void plan_free(struct plan *);
