#pragma once
/* Control groups v1, v2 and hybrid, always below the caller's own group in each hierarchy.
 *
 * Layout: <own group>/mayfly-<session>/<container id, 12 digits>. The session's groups are removed by cgroup_close
 * and, after a crash, by cgroup_sweep, which takes the names from the session's record (one directory a line). */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "fault.h"

#define CGROUP_RECORD "cgroups" /* in the session's directory */

/* Pure version 2: where the caller's group holds processes and may be emptied (cgroup_delegate.c says when), moves
 * them to a group below, so that controllers can be handed on. To be called by the launcher, before it makes the
 * warden's PID namespace: from inside, the caller's processes can be neither seen nor moved, and limits would fail.
 * Does nothing on other machines, never fails; what could not be done is told when a limit asks for it. May be
 * called again. */
void cgroup_make_room(void);

/* Finds the hierarchies (mountinfo, /proc/self/cgroup) and makes the session's groups where that is allowed. Never
 * fails for want of permission: what is missing is only told when a limit asks for it. Writes the record.
 * facts: JSON object text for the ready event, {"mode":"v1|v2|hybrid|none","controllers":{"memory":
 * "v1 /sys/fs/cgroup/memory/…"|"not delegated: …",…}}; {} where that does not fit. */
int cgroup_open(int session_dir_fd, const char *session_id, char *facts, size_t facts_size, struct fault *);
/* Removes every group of the session; kills what is left inside. Every struct cgroup is removed before, or never used
 * again. */
void cgroup_close(void);
/* Kills and removes what a dead session left, by its record; nothing for -1. Must not touch anything not named mayfly-*. False if something
 * is there still, or if that cannot be told: the record must stay, so that it can be tried again. */
bool cgroup_sweep(int record_fd);

struct cgroup_limit { const char *key, *value; };     /* the `limit` pairs of PROTOCOL.md */
struct cgroup;
/* Makes the container's groups: v2 if mounted (pause, kill, cpu), v1 memory and blkio for accounting, others only if
 * a limit needs them; applies limits; device_rules as in PROTOCOL.md or NULL (v1: a group shared by equal texts; v2:
 * a BPF program loaded once per text, attached to the container's group). Fails with step "cgroup" (subject:
 * controller; message says missing or not delegated) only for limits and device rules asked for; step "limit" for a
 * value the kernel refuses. Device rules that cannot be enforced for want of privilege (rootless) are not an error. */
struct cgroup *cgroup_make(const char *id, const struct cgroup_limit *, size_t count, const char *device_rules,
	struct fault *);
/* v2 directory descriptor for CLONE_INTO_CGROUP, -1 if there is none, no clone3, or a cpuset. With CLONE_NEWCGROUP in the same
 * call the new namespace's root would be the parent's group: the child unshares it after it has written to
 * what cgroup_procs_open gives. */
int cgroup_v2_fd(const struct cgroup *);
/* For the v1 hierarchies: descriptors of `tasks`, opened O_WRONLY|O_CLOEXEC when first asked; the child writes "0"
 * to each before anything else. Not of cgroup.procs: that takes cgroup_threadgroup_rwsem for writing, which waits
 * for an RCU grace period each time (three hierarchies, starts 20 ms apart: 14.2 ms to exec instead of 2.7 ms); a
 * thread that moves itself alone does not need the lock. fds stay owned by the group. Where there is v2 but
 * cgroup_v2_fd has none to clone into, includes v2's cgroup.procs. Fails rather than leave one out: its limit would
 * not hold. */
int cgroup_procs_open(struct cgroup *, const int **fds, size_t *count, struct fault *);
/* Closes those descriptors until they are asked for again: every fork of the warden copies what is open. */
void cgroup_procs_close(struct cgroup *);
/* For the container's /sys/fs/cgroup: for each hierarchy the name of its directory there ("memory", "unified"…; ""
 * for pure v2) and the host path of the container's group. Returns the count. */
struct cgroup_view { const char *name; const char *path; };
size_t cgroup_views(struct cgroup *, const struct cgroup_view **views);
/* Ends when all tasks are frozen (or run again): cgroup.events / freezer.state, bounded wait 1 s. */
int cgroup_freeze(struct cgroup *, bool frozen, struct fault *);
/* SIGKILL to all inside, frozen or not: cgroup.kill, else rounds over cgroup.procs (at most 1 s). -1 with errno. */
int cgroup_kill(struct cgroup *);
/* The kernel's OOM killer took something in it since it was made. To be asked before cgroup_remove. */
bool cgroup_oom_killed(struct cgroup *);
/* JSON object: cpu (usageNs, userNs, systemNs, throttledPeriods, throttledNs, periods), memory (usageBytes,
 * limitBytes or null, peakBytes, cacheBytes, oomKills), pids (current, limit or null), blkio (readBytes, writeBytes,
 * readOps, writeOps). null where unknown. */
int cgroup_stats(struct cgroup *, char *json, size_t size);
void cgroup_remove(struct cgroup *);                  /* all dead; rmdir with bounded retries on EBUSY; frees */
