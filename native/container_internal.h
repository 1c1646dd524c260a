#pragma once
/* What the parts of a container's life share: container.c (create, look-up), container_networks.c, container_start.c, container_end.c, container_verbs.c,
 * container_root.c, container_keep.c and container_renew.c. Everything it owns hangs on struct container and is let go in container_release(), whatever
 * happened before. */
#include <sys/types.h>

#include "container.h"
#include "notify.h"
#include "scratch.h"
#include "warden.h"

/* A request that is answered later: by the exit (stop), or when every trace is gone (remove). */
struct waiter { uint64_t seq; bool for_removal; struct waiter *next; };

struct output { struct watch watch; struct container *container; int fd, stream; };

struct container {
	struct container *next;
	struct plan plan;
	enum container_state state;
	bool paused, removing, started_once, single_request;
	bool never_was;                          /* its run has failed: forgotten without being asked, once it is gone */
	bool keeping;                            /* a process makes a layer of its upper, or will when the last copy has ended: */
	struct keep_request *keep_later;
	int holds;                               /* execs and copies that use it */
	uint64_t start_seq;                      /* 0 = no start is waiting for its reply */
	struct waiter *waiters;

	struct child child;
	int pidfd;
	struct watch status;                     /* the child's reports until the program runs */
	struct fault fault;                      /* why the start failed */
	struct notify notify;                    /* listen() reports */
	struct timer stop_timer;
	uint64_t started_ns, finished_ns;
	int exit_status;
	bool oom;

	struct cgroup *cgroup;
	struct net_slot *slot;
	bool net_tainted;
	bool was_connected;                      /* its networks are not those of the plan any more */
	struct aliases *aliases;
	char *renamed;                           /* its name, if not the plan's */
	struct publish **published;
	int *held; size_t held_count;            /* volumes, locked */
	struct output out, err;
	int terminal;                            /* master, -1 = none */
	struct feed feed;
	struct log *log;
	struct scratch scratch;
	unsigned starts;
	struct container **sources; size_t source_count; /* it has had mounts out of their roots, and may be started again */
	unsigned lent;                           /* how many have this one among their sources */
	bool outlived, forgotten;                /* it is removed, but what it has written is not; nobody asks for it any more */
};

/* Replies with step "state" and returns true, unless ok. */
bool container_bad_state(uint64_t seq, const struct container *, bool ok, const char *why);
/* Address, gateway and ports, into a reply. */
void container_describe(struct json *, const struct container *);
/* Whether one that runs has mounts out of its root. */
bool container_lends(const struct container *);
/* Out of the session's list, and freed. */
void container_drop(struct container *);

/* The small files that are bound over /etc, into its scratch. */
int container_write_files(struct container *, struct fault *);
/* Networks, names and ports, as the plan says; and back. */
int container_open_network(struct container *, struct fault *);
void container_close_network(struct container *);
/* Address and gateway, and where it is not on just the default network all of them, into a reply. */
void container_describe_networks(struct json *, const struct container *);
/* A file's content with what is known only now: @ADDRESS@, @GATEWAY@, @HOSTNAME@. Malloc'd. */
char *container_fill_in(const struct container *, const char *content);
/* Its names are answered while it runs: from just before its program does until it is gone. */
int container_say_names(struct container *, struct fault *);
int container_rename(struct container *, const char *name, struct fault *);
void container_change_network(struct container *, const struct request *);
/* impair, heal */
void container_impair(struct container *, const struct request *);

/* Locks the volumes of the plan, so that nobody removes them (volume.c); and lets go of them. */
int container_hold_volumes(struct container *, struct fault *);
void container_free_volumes(struct container *);

int container_start(struct container *, struct fault *);
void container_read_status(struct watch *, uint32_t events);
void container_output_close(struct output *);

/* Remembers a request that is answered later; container_answer answers all of that kind. */
bool container_await(struct container *, uint64_t seq, bool removal);
void container_answer(struct container *, bool removal);
/* What belongs to a running process only. */
void container_release_process(struct container *);
/* Everything but the log and the plan. May be called on a half-made container, and twice. */
void container_release(struct container *);
/* The container may be freed by it. */
void container_finish_removal(struct container *);
void container_exited(struct child *, int status);

void container_keep(struct container *, const struct request *);
void container_renew(struct container *, const struct request *);
/* What it has written goes; nobody waits for it. It has no root file system afterwards. */
void container_shed_scratch(struct container *);
/* Nothing holds it any more: does what keep_later asks. */
void container_keep_now(struct container *);
