/* Numbers that the kernel keeps for a group. Files are opened when asked for: a `run` asks for one at most. */
#define _GNU_SOURCE
#include "cgroup_internal.h"
#include "json.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define UNKNOWN INT64_MIN

static bool read_file(const struct cgroup *group, const struct hierarchy *h, const char *file, char *text, size_t size)
{
	return h && cgroup_read_at(h->session_fd, cgroup_file(group, file), text, size) >= 0;
}

/* The number after "name " at the start of a line; UNKNOWN if there is none. Saturates at INT64_MAX. */
static int64_t field(const char *text, const char *name)
{
	size_t length = strlen(name);
	for (const char *line = text; line; line = (line = strchr(line, '\n')) ? line + 1 : NULL)
		if (!strncmp(line, name, length) && line[length] == ' ')
			return strtoll(line + length + 1, NULL, 10);
	return UNKNOWN;
}

/* A file of one number. "max" and version 1's "no limit" (the largest multiple of the page size) are UNKNOWN. */
static int64_t number(const struct cgroup *group, const struct hierarchy *h, const char *file)
{
	char text[64];
	if (!read_file(group, h, file, text, sizeof(text)) || text[0] < '0' || text[0] > '9')
		return UNKNOWN;
	int64_t value = strtoll(text, NULL, 10);
	return value >= INT64_MAX - 0xffff ? UNKNOWN : value;
}

static int64_t times(int64_t value, int64_t factor)
{
	return value == UNKNOWN ? UNKNOWN : value * factor;
}

static void put(struct json *j, const char *key, int64_t value)
{
	if (value == UNKNOWN)
		json_raw(j, key, "null");
	else
		json_number(j, key, value);
}

static void put_object(struct json *j, const char *key, struct json *object)
{
	json_end(object);
	if (object->failed) {
		j->failed = true;
		return;
	}
	object->text[--object->length] = '\0';             /* the line end */
	json_raw(j, key, object->text);
	json_begin(object);
}

static void put_cpu(struct json *j, const struct cgroup *group)
{
	char text[2048];
	int64_t usage = UNKNOWN, user = UNKNOWN, system = UNKNOWN;
	int64_t periods = UNKNOWN, throttled = UNKNOWN, throttled_ns = UNKNOWN;
	struct hierarchy *cpuacct = cgroup_made_in(group, CGROUP_CPUACCT), *cpu = cgroup_made_in(group, CGROUP_CPU);
	if (group->v2_fd >= 0 && cgroup_read_at(group->v2_fd, "cpu.stat", text, sizeof(text)) >= 0) {
		usage = times(field(text, "usage_usec"), 1000);
		user = times(field(text, "user_usec"), 1000);
		system = times(field(text, "system_usec"), 1000);
	} else if (cpuacct) {
		usage = number(group, cpuacct, "cpuacct.usage");
		user = number(group, cpuacct, "cpuacct.usage_user");
		system = number(group, cpuacct, "cpuacct.usage_sys");
	}
	if (read_file(group, cpu, "cpu.stat", text, sizeof(text))) {
		periods = field(text, "nr_periods");
		throttled = field(text, "nr_throttled");
		throttled_ns = cpu->version == 2 ? times(field(text, "throttled_usec"), 1000) : field(text, "throttled_time");
	}
	put(j, "usageNs", usage);
	put(j, "userNs", user);
	put(j, "systemNs", system);
	put(j, "periods", periods);
	put(j, "throttledPeriods", throttled);
	put(j, "throttledNs", throttled_ns);
}

static int64_t oom_kills(const struct cgroup *group)
{
	char text[512];
	struct hierarchy *h = cgroup_made_in(group, CGROUP_MEMORY);
	if (!h || !read_file(group, h, h->version == 2 ? "memory.events" : "memory.oom_control", text, sizeof(text)))
		return UNKNOWN;
	return field(text, "oom_kill");
}

bool cgroup_oom_killed(struct cgroup *group)
{
	return oom_kills(group) > 0;
}

static void put_memory(struct json *j, const struct cgroup *group)
{
	char text[8192] = "";
	struct hierarchy *h = cgroup_made_in(group, CGROUP_MEMORY);
	bool v2 = h && h->version == 2;
	read_file(group, h, "memory.stat", text, sizeof(text));
	put(j, "usageBytes", number(group, h, v2 ? "memory.current" : "memory.usage_in_bytes"));
	put(j, "limitBytes", number(group, h, v2 ? "memory.max" : "memory.limit_in_bytes"));
	/* memory.peak: Linux 5.19 */
	put(j, "peakBytes", number(group, h, v2 ? "memory.peak" : "memory.max_usage_in_bytes"));
	put(j, "cacheBytes", field(text, v2 ? "file" : "total_cache"));
	put(j, "oomKills", oom_kills(group));
}

/* Without the pids controller the threads of the version 2 group are counted; those of groups that the container
 * made below are not among them. */
static int64_t count_threads(const struct cgroup *group)
{
	int fd = group->v2_fd < 0 ? -1 : openat(group->v2_fd, "cgroup.threads", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return UNKNOWN;
	char text[4096];
	int64_t count = 0;
	ssize_t got;
	while ((got = read(fd, text, sizeof(text))) > 0)
		for (ssize_t i = 0; i < got; i++)
			count += text[i] == '\n';
	close(fd);
	return got < 0 ? UNKNOWN : count;
}

static void put_pids(struct json *j, const struct cgroup *group)
{
	struct hierarchy *h = cgroup_made_in(group, CGROUP_PIDS);
	put(j, "current", h ? number(group, h, "pids.current") : count_threads(group));
	put(j, "limit", number(group, h, "pids.max"));
}

/* Version 1: "8:0 Read 4096", one line a device and direction. */
static void sum_v1(const char *text, int64_t *reads, int64_t *writes)
{
	*reads = *writes = 0;
	for (const char *line = text; line && *line; line = (line = strchr(line, '\n')) ? line + 1 : NULL) {
		char direction[16];
		long long value;
		if (sscanf(line, "%*u:%*u %15s %lld", direction, &value) != 2)
			continue;
		*reads += strcmp(direction, "Read") ? 0 : value;
		*writes += strcmp(direction, "Write") ? 0 : value;
	}
}

/* Version 2: "8:0 rbytes=4096 wbytes=0 rios=1 wios=0 …", one line a device. */
static int64_t sum_v2(const char *text, const char *name)
{
	int64_t sum = 0;
	for (const char *at = text; (at = strstr(at, name)); at += strlen(name))
		sum += strtoll(at + strlen(name), NULL, 10);
	return sum;
}

static void put_blkio(struct json *j, const struct cgroup *group)
{
	char text[8192];
	int64_t read_bytes = UNKNOWN, write_bytes = UNKNOWN, reads = UNKNOWN, writes = UNKNOWN;
	struct hierarchy *h = cgroup_made_in(group, CGROUP_BLKIO);
	if (h && h->version == 2 && read_file(group, h, "io.stat", text, sizeof(text))) {
		read_bytes = sum_v2(text, " rbytes=");
		write_bytes = sum_v2(text, " wbytes=");
		reads = sum_v2(text, " rios=");
		writes = sum_v2(text, " wios=");
	} else if (h && h->version == 1) {
		if (read_file(group, h, "blkio.throttle.io_service_bytes_recursive", text, sizeof(text)))
			sum_v1(text, &read_bytes, &write_bytes);
		if (read_file(group, h, "blkio.throttle.io_serviced_recursive", text, sizeof(text)))
			sum_v1(text, &reads, &writes);
	}
	put(j, "readBytes", read_bytes);
	put(j, "writeBytes", write_bytes);
	put(j, "readOps", reads);
	put(j, "writeOps", writes);
}

int cgroup_stats(struct cgroup *group, char *json, size_t size)
{
	static const struct { const char *name; void (*put)(struct json *, const struct cgroup *); } parts[] = {
		{"cpu", put_cpu}, {"memory", put_memory}, {"pids", put_pids}, {"blkio", put_blkio},
	};
	struct json all = {0}, part = {0};
	json_begin(&all);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		json_begin(&part);
		parts[i].put(&part, group);
		put_object(&all, parts[i].name, &part);
	}
	json_end(&all);
	bool fits = !all.failed && all.length <= size;     /* the line end makes room for the NUL */
	if (fits) {
		memcpy(json, all.text, all.length);
		json[all.length - 1] = '\0';
	}
	json_free(&all);
	json_free(&part);
	errno = fits ? 0 : ENOSPC;
	return fits ? 0 : -1;
}
