#pragma once
/* The session: what the warden holds, and how its parts reach each other. */
#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "container.h"
#include "json.h"
#include "loop.h"
#include "request.h"

struct session {
	const char *home, *id, *directory;   /* directory = <home>/sessions/<id> */
	int directory_fd;
	int host_net_ns;                     /* descriptor of the host's network namespace */
	int own_pid_ns;                      /* descriptor of the session's PID namespace */
	int self_exe;                        /* the warden's program, which nobody can write to */
	bool rootless, network;
	bool single_id;                      /* no id but root's is mapped: owners of archives cannot be kept */
	struct container *containers;        /* newest first */
	struct json json;                    /* for the line being written */
};
extern struct session session;

/* Runs the warden until control ends. Called by the launcher's child, PID 1 of the session's namespaces. */
struct warden_start {
	const char *home, *id, *directory, *resolvers, *id_mode;
	int control, bulk, spawn, directory_fd, host_net_ns, self_exe;
	bool rootless, network;
	pid_t pid, launcher_pid;             /* as the host numbers them */
};
int warden_run(const struct warden_start *);

/* Control lines. begin … end: one line at a time, built in session.json. */
struct json *event_begin(const char *name);
struct json *reply_begin(uint64_t seq);
void reply_fault(uint64_t seq, const struct fault *);
void line_end(void);                     /* queues the line for node */
size_t line_backlog(void);               /* bytes that node has not taken yet */

const char *session_gateway(void);       /* the bridge's address, "" without a network */

/* A seccomp program that node has sent, or NULL. */
const struct sock_fprog *seccomp_find(const char *name);

/* Processes the warden has started; ended is called once, from the loop, after the process is reaped. */
struct child {
	pid_t pid;
	void (*ended)(struct child *, int status);
	struct child *next;
};
void child_add(struct child *, pid_t pid, void (*ended)(struct child *, int status));
/* clone3 with these flags, into a v2 group (-1: none); pidfd may be NULL. */
pid_t child_clone(uint64_t flags, int cgroup_fd, int *pidfd);
/* The same in another PID namespace, that of pidfd_of's process: the child is ours to reap all the same. */
pid_t child_clone_in(int pidfd_of, uint64_t flags, int cgroup_fd, int *pidfd);

/* In a child that does not become another program: closes all descriptors above 2 but these (-1 = none). Else the copies in it would
 * keep alive what the warden closes meanwhile: connections that should end, a container's stdin, published ports. */
void child_keep_only(const int *fds, size_t count);
extern int child_report_fd;           /* of a sanitized build; kept always. -1 = none */

int child_open(void);

/* Bulk connections. */
int bulk_open(int listening_fd);
