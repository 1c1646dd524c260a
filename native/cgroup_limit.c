/* Limits: the keys of PROTOCOL.md in the words of version 1 and version 2.
 *
 * A limit is made of one or more writes; the kernel judges the values. Only where the two versions count differently
 * is anything computed here: swap (version 1 limits memory + swap, version 2 swap alone), shares and weights. */
#define _GNU_SOURCE
#include "cgroup_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Keys that are one write to one file. */
struct plain { const char *key; unsigned controller; const char *v1, *v2; };
static const struct plain plain_limits[] = {
	{"memory-reservation", CGROUP_MEMORY, "memory.soft_limit_in_bytes", "memory.low"},
	{"cpuset-cpus", CGROUP_CPUSET, "cpuset.cpus", "cpuset.cpus"},
	{"cpuset-mems", CGROUP_CPUSET, "cpuset.mems", "cpuset.mems"},
	{"pids", CGROUP_PIDS, "pids.max", "pids.max"},
};
/* Throttles: "<major>:<minor> <number>"; version 2 has one file and names the quantity. */
static const struct plain throttles[] = {
	{"read-bps", CGROUP_BLKIO, "blkio.throttle.read_bps_device", "rbps"},
	{"write-bps", CGROUP_BLKIO, "blkio.throttle.write_bps_device", "wbps"},
	{"read-iops", CGROUP_BLKIO, "blkio.throttle.read_iops_device", "riops"},
	{"write-iops", CGROUP_BLKIO, "blkio.throttle.write_iops_device", "wiops"},
};
/* Keys that need a look at more than their own value. */
static const struct plain computed[] = {
	{"memory", CGROUP_MEMORY, NULL, NULL},
	{"memory-swap", CGROUP_MEMORY, NULL, NULL},
	{"cpu-quota-us", CGROUP_CPU, NULL, NULL},
	{"cpu-period-us", CGROUP_CPU, NULL, NULL},
	{"cpu-shares", CGROUP_CPU, NULL, NULL},
	{"blkio-weight", CGROUP_BLKIO, NULL, NULL},
};
#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static const struct plain *look_up(const struct plain *table, size_t length, const char *key)
{
	for (size_t i = 0; i < length; i++)
		if (!strcmp(table[i].key, key))
			return &table[i];
	return NULL;
}

int cgroup_limit_controllers(const struct cgroup_limit *limits, size_t count, struct fault *f)
{
	unsigned needed = 0;
	for (size_t i = 0; i < count; i++) {
		const struct plain *found = look_up(computed, LENGTH(computed), limits[i].key);
		if (!found)
			found = look_up(plain_limits, LENGTH(plain_limits), limits[i].key);
		if (!found)
			found = look_up(throttles, LENGTH(throttles), limits[i].key);
		if (!found)
			return fault(f, "request", limits[i].key, EINVAL, "there is no such limit");
		needed |= found->controller;
	}
	return (int)needed;
}

/* The last one wins, as with docker's flags. */
static const char *value_of(const struct cgroup_limit *limits, size_t count, const char *key)
{
	while (count--)
		if (!strcmp(limits[count].key, key))
			return limits[count].value;
	return NULL;
}

static int refuse(const char *key, const char *value, int error, const char *why, struct fault *f)
{
	char subject[sizeof(f->subject)];
	snprintf(subject, sizeof(subject), "%s=%s", key, value);
	return fault(f, "limit", subject, error, why);
}

/* A decimal number or -1 (unlimited). */
static int number_of(const char *key, const char *value, long long *number, struct fault *f)
{
	char *end;
	errno = 0;
	*number = strtoll(value, &end, 10);
	if (errno || end == value || *end || *number < -1)
		return refuse(key, value, EINVAL, "a whole number, or -1 for no limit, is expected", f);
	return 0;
}

/* One write for one key. */
static int set(const struct cgroup *group, const struct hierarchy *h, const char *file, const char *text,
	const char *key, const char *value, struct fault *f)
{
	if (cgroup_write_at(h->session_fd, cgroup_file(group, file), text) == 0)
		return 0;
	char why[sizeof(f->message)];
	if (errno == ENOENT)
		snprintf(why, sizeof(why), "this kernel has no %s", file);
	else
		snprintf(why, sizeof(why), "the kernel refused \"%s\" for %s", text, file);
	return refuse(key, value, errno, why, f);
}

/* Docker's meaning: memory-swap is memory and swap together, twice the memory by default, -1 for no limit on swap.
 * Kernels without swap accounting lack the file; that is an error only for who named memory-swap. */
static int apply_memory(const struct cgroup *group, const struct hierarchy *h, const char *memory, const char *swap,
	struct fault *f)
{
	long long bytes = -1, total = -1;
	char text[32];
	if (memory && number_of("memory", memory, &bytes, f) < 0)
		return -1;
	if (swap && number_of("memory-swap", swap, &total, f) < 0)
		return -1;
	if (total >= 0 && bytes < 0)
		return refuse("memory-swap", swap, EINVAL, "memory-swap needs memory", f);
	if (total >= 0 && total < bytes)
		return refuse("memory-swap", swap, EINVAL,
			"memory-swap is memory and swap together, so it cannot be below memory", f);
	if (bytes < 0)
		return 0;
	if (!swap && __builtin_mul_overflow(bytes, 2LL, &total))
		total = -1;
	snprintf(text, sizeof(text), "%lld", bytes);
	if (set(group, h, h->version == 2 ? "memory.max" : "memory.limit_in_bytes", text, "memory", memory, f) < 0)
		return -1;

	const char *file = h->version == 2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes";
	if (total < 0)
		return 0;                                /* a new group's swap is unlimited */
	snprintf(text, sizeof(text), "%lld", h->version == 2 ? total - bytes : total);
	struct fault why = {0};
	if (set(group, h, file, text, swap ? "memory-swap" : "memory", swap ? swap : memory, &why) == 0)
		return 0;
	if (why.error == ENOENT && !swap)
		return 0;
	return fault(f, why.step, why.subject, why.error,
		why.error == ENOENT ? "this kernel does not account for swap" : why.message);
}

static int apply_cpu(const struct cgroup *group, const struct hierarchy *h, const struct cgroup_limit *limits,
	size_t count, struct fault *f)
{
	const char *quota = value_of(limits, count, "cpu-quota-us");
	const char *period = value_of(limits, count, "cpu-period-us");
	const char *shares = value_of(limits, count, "cpu-shares");
	char text[64];
	if (h->version == 1) {
		if (period && set(group, h, "cpu.cfs_period_us", period, "cpu-period-us", period, f) < 0)
			return -1;
		if (quota && set(group, h, "cpu.cfs_quota_us", quota, "cpu-quota-us", quota, f) < 0)
			return -1;
		return shares ? set(group, h, "cpu.shares", shares, "cpu-shares", shares, f) : 0;
	}
	if (quota || period) {
		long long number = -1;
		if (quota && number_of("cpu-quota-us", quota, &number, f) < 0)
			return -1;
		snprintf(text, sizeof(text), "%s %s", number < 0 ? "max" : quota, period ? period : "100000");
		if (set(group, h, "cpu.max", text, quota ? "cpu-quota-us" : "cpu-period-us", quota ? quota : period, f) < 0)
			return -1;
	}
	if (!shares)
		return 0;
	/* In proportion to the defaults, 1024 shares and weight 100, so that the ratio between a container with shares
	 * and one without is as on version 1. (runc maps the ranges' ends linearly, which makes 1024 shares a weight of
	 * 39.) */
	long long number;
	if (number_of("cpu-shares", shares, &number, f) < 0)
		return -1;
	if (number < 2 || number > 262144)
		return refuse("cpu-shares", shares, ERANGE, "cpu-shares are from 2 to 262144", f);
	long long weight = (number * 100 + 512) / 1024;
	snprintf(text, sizeof(text), "%lld", weight < 1 ? 1 : weight > 10000 ? 10000 : weight);
	return set(group, h, "cpu.weight", text, "cpu-shares", shares, f);
}

/* Which file there is depends on the I/O scheduler: BFQ's own (1 to 1000, default 100, as Docker's range is 10 to
 * 1000, default 500), or, version 2, io.weight of the cost model (1 to 10000, default 100). */
static int apply_weight(const struct cgroup *group, const struct hierarchy *h, const char *weight, struct fault *f)
{
	static const char *const files[2][2] = {{"blkio.bfq.weight", "blkio.weight"}, {"io.bfq.weight", "io.weight"}};
	for (int i = 0; i < 2; i++) {
		const char *file = files[h->version == 2][i];
		struct fault why = {0};
		if (set(group, h, file, weight, "blkio-weight", weight, &why) == 0)
			return 0;
		if (why.error != ENOENT)
			return fault(f, why.step, why.subject, why.error, why.message);
	}
	return refuse("blkio-weight", weight, ENOENT,
		"this kernel has no I/O scheduler with weights (BFQ, or version 2's io.cost)", f);
}

static int apply_throttle(const struct cgroup *group, const struct hierarchy *h, const struct plain *limit,
	const char *value, struct fault *f)
{
	unsigned major, minor;
	unsigned long long number;
	char text[96], rest;
	if (sscanf(value, "%u:%u %llu%c", &major, &minor, &number, &rest) != 3)
		return refuse(limit->key, value, EINVAL, "a throttle is `<major>:<minor> <number a second>`", f);
	if (h->version == 1)
		return set(group, h, limit->v1, value, limit->key, value, f);
	if (number)
		snprintf(text, sizeof(text), "%u:%u %s=%llu", major, minor, limit->v2, number);
	else
		snprintf(text, sizeof(text), "%u:%u %s=max", major, minor, limit->v2);   /* version 1: 0 is no limit */
	return set(group, h, "io.max", text, limit->key, value, f);
}

int cgroup_limit_apply(const struct cgroup *group, const struct cgroup_limit *limits, size_t count, struct fault *f)
{
	struct hierarchy *memory = cgroup_made_in(group, CGROUP_MEMORY), *cpu = cgroup_made_in(group, CGROUP_CPU);
	const char *bytes = value_of(limits, count, "memory"), *swap = value_of(limits, count, "memory-swap");
	if (memory && apply_memory(group, memory, bytes, swap, f) < 0)
		return -1;
	if (cpu && apply_cpu(group, cpu, limits, count, f) < 0)
		return -1;
	for (size_t i = 0; i < count; i++) {
		const struct plain *limit;
		if ((limit = look_up(plain_limits, LENGTH(plain_limits), limits[i].key))) {
			struct hierarchy *h = cgroup_made_in(group, limit->controller);
			/* -1 as docker has it; version 1's memory takes it as it is. */
			const char *text = !strcmp(limits[i].value, "-1") && (h->version == 2 || limit->controller == CGROUP_PIDS)
				? (limit->controller == CGROUP_MEMORY ? "0" : "max") : limits[i].value;
			if (set(group, h, h->version == 2 ? limit->v2 : limit->v1, text, limit->key, limits[i].value, f) < 0)
				return -1;
		} else if ((limit = look_up(throttles, LENGTH(throttles), limits[i].key))) {
			if (apply_throttle(group, cgroup_made_in(group, CGROUP_BLKIO), limit, limits[i].value, f) < 0)
				return -1;
		} else if (!strcmp(limits[i].key, "blkio-weight")) {
			if (apply_weight(group, cgroup_made_in(group, CGROUP_BLKIO), limits[i].value, f) < 0)
				return -1;
		}
	}
	return 0;
}
