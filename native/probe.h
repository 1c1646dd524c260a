#pragma once
/* `mayfly-warden probe`: tries, one by one, what the engine needs of this machine, and tells what the kernel answered.
 *
 * Each probe runs in a forked child with namespaces of its own, so it changes nothing and leaves nothing. As an ordinary
 * user the children first become root of a user namespace, which is how a rootless session starts. One JSON object
 * a line on stdout: {"probe":"overlay","ok":true} or {"probe":"overlay","ok":false,"step":"mount","subject":"overlay",
 * "errno":"EPERM","message":"…"}; "detail" where a probe has more to tell. src/engine/doctor.ts puts it into words. */
#include <stdbool.h>
#include <stddef.h>
#include "fault.h"

/* What a probe is given and fills in. It lives in memory shared with the parent, so a grandchild may write it too. */
struct probe_report {
	struct fault fault;
	char detail[4096];      /* JSON value, or empty */
};
/* Returns 0 if it works, else -1 with the fault. Runs in a child of its own and may change that child as it likes. */
struct probe {
	const char *name;
	int (*run)(struct probe_report *);
};
extern const struct probe probes_of_kernel[], probes_of_mounts[], probes_of_network[], probes_of_cgroups[];

/* Words of the command line, "" when not given. */
struct probe_settings {
	const char *store;      /* store=DIR: empty scratch directory on the store's file system; the caller removes it */
	const char *subuid;     /* subuid=START:COUNT, subgid=…: the caller's ranges of /etc/subuid and /etc/subgid */
	const char *subgid;
};
extern struct probe_settings probe_settings;

/* Whether this process needs a user namespace, as an ordinary user does. Asked before entering one. */
bool probe_rootless(void);
/* Enters new namespaces as a session does: by way of a user namespace unless this process may do it as it is.
 * With CLONE_NEWNS mounts are private afterwards. With CLONE_NEWPID only children are inside. */
int probe_enter(int namespaces, struct fault *);
/* As above with CLONE_NEWNS; a tmpfs is mounted and made the working directory. */
int probe_enter_scratch(int namespaces, struct fault *);
/* Runs step in a child and waits for it. Returns what it returned. */
int probe_in_child(int (*step)(struct probe_report *), struct probe_report *);

/* argv[0] is `probe`, the rest its words. Returns the program's exit code: 0, or 2 for a word it does not know. */
int probe_main(int argc, char **argv);
