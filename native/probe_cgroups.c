/* Probes: control groups, by the same code that a session uses: a group is made below this process's own, one limit is
 * set, the group is removed. */
#define _GNU_SOURCE
#include "probe.h"
#include "cgroup.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* 64 hexadecimal digits, as every container's id. */
static const char ID[] = "d0c7040000000000000000000000000000000000000000000000000000000000";

/* cgroup_open notes its directories in a file; an anonymous directory is not to be had, so the caller's store takes it. */
static int open_session(char *session, size_t size, struct probe_report *r)
{
	if (!*probe_settings.store)
		return fault(&r->fault, "open", "store", ENOENT, "no store directory was given");
	int dir = open(probe_settings.store, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	if (dir < 0)
		return fault(&r->fault, "open", probe_settings.store, errno, NULL);
	snprintf(session, size, "d0c%09x", (unsigned)getpid() & 0xfffffff);
	return cgroup_open(dir, session, r->detail, sizeof(r->detail), &r->fault);
}

static int with_limit(const struct cgroup_limit *limits, size_t count, const char *rules, struct probe_report *r)
{
	char session[16];
	if (open_session(session, sizeof(session), r) < 0)
		return -1;
	r->detail[0] = '\0';
	struct cgroup *group = cgroup_make(ID, limits, count, rules, &r->fault);
	if (group)
		cgroup_remove(group);
	cgroup_close();
	return group ? 0 : -1;
}

static int one_limit(const char *key, const char *value, struct probe_report *r)
{
	return with_limit(&(struct cgroup_limit){key, value}, 1, NULL, r);
}

static int hierarchies(struct probe_report *r)
{
	char session[16];
	if (open_session(session, sizeof(session), r) < 0)
		return -1;
	cgroup_close();
	return 0;
}

static int memory(struct probe_report *r) { return one_limit("memory", "67108864", r); }
static int cpu(struct probe_report *r) { return one_limit("cpu-shares", "512", r); }
static int cpuset(struct probe_report *r) { return one_limit("cpuset-cpus", "0", r); }
static int pids(struct probe_report *r) { return one_limit("pids", "64", r); }
static int blkio(struct probe_report *r) { return one_limit("blkio-weight", "100", r); }
static int devices(struct probe_report *r) { return with_limit(NULL, 0, "allow c 1:3 rwm\n", r); }

static int swap(struct probe_report *r)
{
	const struct cgroup_limit limits[] = {{"memory", "67108864"}, {"memory-swap", "134217728"}};
	return with_limit(limits, 2, NULL, r);
}

static int freezer(struct probe_report *r)
{
	char session[16];
	if (open_session(session, sizeof(session), r) < 0)
		return -1;
	r->detail[0] = '\0';
	struct cgroup *group = cgroup_make(ID, NULL, 0, NULL, &r->fault);
	int result = group ? cgroup_freeze(group, true, &r->fault) : -1;
	if (result == 0)
		result = cgroup_freeze(group, false, &r->fault);
	if (group)
		cgroup_remove(group);
	cgroup_close();
	return result;
}

static int kill_file(struct probe_report *r)
{
	char session[16], path[4200];
	if (open_session(session, sizeof(session), r) < 0)
		return -1;
	r->detail[0] = '\0';
	struct cgroup *group = cgroup_make(ID, NULL, 0, NULL, &r->fault);
	int result = -1;
	if (group && cgroup_v2_fd(group) < 0)
		fault(&r->fault, "open", "cgroup.kill", ENOENT, "no version 2 hierarchy that this process may use");
	else if (group) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d/cgroup.kill", cgroup_v2_fd(group));
		result = access(path, W_OK) < 0 ? fault(&r->fault, "open", "cgroup.kill", errno, NULL) : 0;
	}
	if (group)
		cgroup_remove(group);
	cgroup_close();
	return result;
}

const struct probe probes_of_cgroups[] = {
	{"cgroups", hierarchies},
	{"cgroup-memory", memory},
	{"cgroup-memory-swap", swap},
	{"cgroup-cpu", cpu},
	{"cgroup-cpuset", cpuset},
	{"cgroup-pids", pids},
	{"cgroup-blkio", blkio},
	{"cgroup-devices", devices},
	{"cgroup-freezer", freezer},
	{"cgroup-kill", kill_file},
	{NULL, NULL},
};
