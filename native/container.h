#pragma once
/* One container, from create to forget. */
#include <stdbool.h>
#include <stdint.h>

#include "cgroup.h"
#include "json.h"
#include "log.h"
#include "loop.h"
#include "net.h"
#include "plan.h"
#include "request.h"
#include "stream.h"

enum container_state { CONTAINER_CREATED, CONTAINER_STARTING, CONTAINER_RUNNING, CONTAINER_EXITED, CONTAINER_REMOVED };

struct container;
struct container *container_find(const char *id);

/* The verbs of PROTOCOL.md. Each replies to seq, at once or when it is done. */
void container_create(const struct request *, bool start);
void container_verb(const struct request *);
/* network-create, network-remove */
void network_verb(const struct request *);
/* Kills every container; the session is over. */
void container_kill_all(void);

/* For the other verbs on a container. */
const char *container_id(const struct container *);
bool container_running(const struct container *);
bool container_has_root(const struct container *);         /* it is neither removed nor about to be kept */
int container_pidfd(const struct container *);
/* The same directory as an O_PATH descriptor, for what overlay cannot do. Only of a container that was never started (EBUSY): what is put
 * in is sure to be seen after `keep` only. */
int container_open_upper(struct container *, struct fault *);
const char *container_upper(const struct container *);     /* path of the directory with what it has written */
struct log *container_log(struct container *);
struct feed *container_stdin(struct container *);          /* NULL where there is none */
struct cgroup *container_cgroup(struct container *);
const struct plan *container_plan(const struct container *);
/* Runs in a child process of the warden: makes the container's file system its root, running or not. Returns a descriptor of it. */
int container_enter_root(struct container *, struct fault *);
/* The same as a descriptor only (O_PATH): for a process that works on two roots at once, and resolves every path inside one of them. */
int container_open_root(struct container *, struct fault *);
void container_copy_ended(struct container *, pid_t);      /* the process that entered the root is gone */
void container_hold(struct container *, int by);           /* +1/-1: an exec or copy uses it; removal waits */
