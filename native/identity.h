#pragma once
/* Who a process becomes: `docker run --user` strings looked up in the container's own passwd and group files. */
#include <stddef.h>
#include <sys/types.h>

#include "fault.h"
#include "plan.h"

enum { IDENTITY_GROUPS_MAX = 256 };

struct identity {
	uid_t uid;
	gid_t gid;
	gid_t groups[IDENTITY_GROUPS_MAX];
	size_t group_count;
	char home[256];          /* "/" if passwd does not say */
};

/* user: "", NULL, name, uid, name:group, uid:gid. Only a name that must be looked up and is not there fails (steps "user", "group").
 * The files are opened inside root_fd, must be regular and are read up to 1 MiB (a passwd that is /dev/zero or a FIFO must not
 * hold us up: CVE-2024-9676). */
int identity_find(int root_fd, const char *user, const struct words *groups, struct identity *, struct fault *);
