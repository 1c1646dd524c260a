/* From words to a plan: one list of keys; one pass counts and allocates, one fills. */
#define _GNU_SOURCE
#include "plan.h"

#include <linux/mount.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#ifndef MS_REC
#define MS_REC 16384
#define MS_PRIVATE (1 << 18)
#define MS_SLAVE (1 << 19)
#define MS_SHARED (1 << 20)
#endif

static int bad(struct fault *f, const char *key, const char *value, const char *why)
{
	char subject[200];
	size_t n = strlen(key) > 60 ? 60 : strlen(key);
	memcpy(subject, key, n);
	subject[n] = 0;
	if (value) {
		strcat(subject, "=");
		strncat(subject, value, 100);
	}
	return fault(f, "request", subject, EINVAL, why);
}

static int read_bool(const char *value, bool *to)
{
	*to = value[0] == '1';
	return (value[0] == '0' || value[0] == '1') && !value[1] ? 0 : -1;
}

static int read_number(const char *value, int base, int64_t low, int64_t high, int64_t *to)
{
	char *end;
	errno = 0;
	*to = strtoll(value, &end, base);
	return errno || end == value || *end || *to < low || *to > high ? -1 : 0;
}

static void push(struct words *w, const char *value)
{
	w->at[w->count++] = value;
	w->at[w->count] = NULL;
}

static const struct { const char *name; int resource; } RLIMITS[] = {
	{"as", RLIMIT_AS}, {"core", RLIMIT_CORE}, {"cpu", RLIMIT_CPU}, {"data", RLIMIT_DATA}, {"fsize", RLIMIT_FSIZE},
	{"locks", RLIMIT_LOCKS}, {"memlock", RLIMIT_MEMLOCK}, {"msgqueue", RLIMIT_MSGQUEUE}, {"nice", RLIMIT_NICE},
	{"nofile", RLIMIT_NOFILE}, {"nproc", RLIMIT_NPROC}, {"rss", RLIMIT_RSS}, {"rtprio", RLIMIT_RTPRIO},
	{"rttime", RLIMIT_RTTIME}, {"sigpending", RLIMIT_SIGPENDING}, {"stack", RLIMIT_STACK},
};

static int read_rlimit(struct process *p, const char *value)
{
	char name[16];
	long long soft, hard;
	if (p->rlimit_count == sizeof(p->rlimits) / sizeof(*p->rlimits))
		return -1;
	const char *colon = strchr(value, ':');
	if (!colon || (size_t)(colon - value) >= sizeof(name))
		return -1;
	memcpy(name, value, (size_t)(colon - value));
	name[colon - value] = 0;
	char *end;
	soft = strtoll(colon + 1, &end, 10);
	if (*end != ':')
		return -1;
	hard = strtoll(end + 1, &end, 10);
	if (*end)
		return -1;
	for (size_t i = 0; i < sizeof(RLIMITS) / sizeof(*RLIMITS); i++)
		if (!strcmp(RLIMITS[i].name, name)) {
			p->rlimits[p->rlimit_count++] = (struct rlimit_step){
				.resource = RLIMITS[i].resource,
				.limit = {soft < 0 ? RLIM_INFINITY : (rlim_t)soft, hard < 0 ? RLIM_INFINITY : (rlim_t)hard},
				.text = value};
			return 0;
		}
	return -1;
}

/* Keys of both a container and an exec. Returns 1 = not one of them. */
static int read_process(struct process *p, const char *key, const char *value)
{
	int64_t number;
	if (!strcmp(key, "arg"))
		push(&p->argv, value);
	else if (!strcmp(key, "env"))
		push(&p->env, value);
	else if (!strcmp(key, "default-env"))
		push(&p->default_env, value);
	else if (!strcmp(key, "group-add"))
		push(&p->groups, value);
	else if (!strcmp(key, "user"))
		p->user = value;
	else if (!strcmp(key, "workdir"))
		return (p->workdir = value)[0] == '/' ? 0 : -1;
	else if (!strcmp(key, "workdir-create"))
		return read_bool(value, &p->workdir_create);
	else if (!strcmp(key, "seccomp"))
		p->seccomp = value;
	else if (!strcmp(key, "caps")) {
		char *end;
		p->caps = strtoull(value, &end, 16);
		return *end || end == value ? -1 : 0;
	} else if (!strcmp(key, "no-new-privileges"))
		return read_bool(value, &p->no_new_privileges);
	else if (!strcmp(key, "tty"))
		return read_bool(value, &p->tty);
	else if (!strcmp(key, "stdin"))
		return read_bool(value, &p->stdin_open);
	else if (!strcmp(key, "cols") || !strcmp(key, "rows")) {
		if (read_number(value, 10, 0, 65535, &number) < 0)
			return -1;
		*(key[0] == 'c' ? &p->columns : &p->rows) = (unsigned short)number;
	} else if (!strcmp(key, "umask")) {
		if (read_number(value, 8, 0, 0777, &number) < 0)
			return -1;
		p->umask = (unsigned)number;
	} else if (!strcmp(key, "rlimit"))
		return read_rlimit(p, value);
	else
		return 1;
	return 0;
}

static int read_mount_kind(struct plan *plan, const char *value)
{
	static const char *const KINDS[] = {"proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "bind", "volume", "image"};
	for (size_t i = 0; i < sizeof(KINDS) / sizeof(*KINDS); i++)
		if (!strcmp(KINDS[i], value)) {
			plan->mounts[plan->mount_count++] = (struct mount_step){
				.kind = (enum mount_kind)i, .tree = -1, .fill_fd = -1, .seed_fd = -1, .source_pidfd = -1, .layers = plan->image_layers.count};
			return 0;
		}
	return -1;
}

static int read_mount_options(struct mount_step *m, const char *value)
{
	static const struct { const char *name; uint64_t attribute, propagation; } OPTIONS[] = {
		{"ro", MOUNT_ATTR_RDONLY, 0}, {"nosuid", MOUNT_ATTR_NOSUID, 0}, {"nodev", MOUNT_ATTR_NODEV, 0},
		{"noexec", MOUNT_ATTR_NOEXEC, 0}, {"noatime", MOUNT_ATTR_NOATIME, 0}, {"strictatime", MOUNT_ATTR_STRICTATIME, 0},
		{"relatime", 0, 0}, {"rw", 0, 0}, {"suid", 0, 0}, {"dev", 0, 0}, {"exec", 0, 0}, {"create-dir", 0, 0}, {"create-file", 0, 0},
		{"private", 0, MS_PRIVATE}, {"slave", 0, MS_SLAVE}, {"shared", 0, MS_SHARED},
		{"rprivate", 0, MS_PRIVATE}, {"rslave", 0, MS_SLAVE}, {"rshared", 0, MS_SHARED},
	};
	while (*value) {
		size_t n = strcspn(value, ",");
		if (n == 3 && !strncmp(value, "rec", 3))
			m->recursive = true;
		else {
			size_t i = 0, count = sizeof(OPTIONS) / sizeof(*OPTIONS);
			while (i < count && (strlen(OPTIONS[i].name) != n || strncmp(OPTIONS[i].name, value, n)))
				i++;
			if (i == count)
				return -1;
			m->attributes |= OPTIONS[i].attribute;
			if (OPTIONS[i].propagation) {
				m->propagation = OPTIONS[i].propagation;
				m->private_recursive = value[0] == 'r';
			}
		}
		value += n + (value[n] == ',');
	}
	return 0;
}

static int read_ns(const char *value, enum ns_mode *mode, const char **of)
{
	if (!strcmp(value, "private"))
		*mode = NS_PRIVATE;
	else if (!strcmp(value, "host"))
		*mode = NS_HOST;
	else if (of && !strncmp(value, "container:", 10)) {
		*mode = NS_CONTAINER;
		*of = value + 10;
	} else
		return -1;
	return 0;
}

/* `tcp:<ip or *>:<host port>:<container port>`; the address may hold colons (IPv6), the ports may not. The copy is ours, so the
 * colons are cut in place. */
static int read_publish(struct plan *plan, char *value)
{
	struct publish_step *p = &plan->publish[plan->publish_count];
	char *ip = strchr(value, ':'), *last = strrchr(value, ':');
	if (!ip || last == ip)
		return -1;
	*ip++ = 0;
	*last = 0;
	char *host = strrchr(ip, ':');
	int64_t container_port, host_port;
	if (!host || read_number(last + 1, 10, 1, 65535, &container_port) < 0)
		return -1;
	*host++ = 0;
	if (read_number(host, 10, 0, 65535, &host_port) < 0 || (strcmp(value, "tcp") && strcmp(value, "udp")))
		return -1;
	*p = (struct publish_step){!strcmp(value, "udp"), ip, (uint16_t)host_port, (uint16_t)container_port};
	plan->publish_count++;
	return 0;
}

static int read_pair_into(struct key_value *to, char *value, char separator)
{
	char *cut = strchr(value, separator);
	if (!cut)
		return -1;
	*cut = 0;
	*to = (struct key_value){value, cut + 1};
	return 0;
}

static int read_container(struct plan *plan, const char *key, char *value)
{
	int64_t number;
	struct mount_step *mount = plan->mount_count ? &plan->mounts[plan->mount_count - 1] : NULL;
	struct network_step *network = plan->network_count ? &plan->networks[plan->network_count - 1] : NULL;
	struct file_step *file = plan->file_count ? &plan->files[plan->file_count - 1] : NULL;
	if (!strcmp(key, "id"))
		plan->id = value;
	else if (!strcmp(key, "name"))
		plan->name = value;
	else if (!strcmp(key, "hostname"))
		plan->hostname = value;
	else if (!strcmp(key, "domainname"))
		plan->domainname = value;
	else if (!strcmp(key, "rm"))
		return read_bool(value, &plan->remove);
	else if (!strcmp(key, "layer"))
		push(&plan->layers, value);
	else if (!strcmp(key, "upper")) {
		plan->upper_in_memory = !strcmp(value, "memory");
		return plan->upper_in_memory || !strcmp(value, "disk") ? 0 : -1;
	} else if (!strcmp(key, "upper-bytes")) {
		if (read_number(value, 10, 65536, (int64_t)1 << 50, &number) < 0)
			return -1;
		plan->upper_bytes = (uint64_t)number;
	} else if (!strcmp(key, "clock-offset"))
		return read_number(value, 10, -INT64_MAX / 4, INT64_MAX / 4, &plan->clock_offset_ns);
	else if (!strcmp(key, "readonly"))
		return read_bool(value, &plan->readonly_root);
	else if (!strcmp(key, "mount"))
		return read_mount_kind(plan, value);
	else if (!strcmp(key, "source") && mount)
		mount->source = value;
	else if (!strcmp(key, "source-root") && mount && mount->kind == MOUNT_BIND) {
		mount->source_root = value;
		return value[0] == '/' || !strncmp(value, "container:", 10) ? 0 : -1;
	} else if (!strcmp(key, "image-layer") && mount && mount->kind == MOUNT_IMAGE) {
		push(&plan->image_layers, value);
		mount->layer_count++;
	} else if (!strcmp(key, "fill") && mount && mount->kind == MOUNT_BIND)
		mount->fill = value;
	else if (!strcmp(key, "hold"))
		push(&plan->holds, value);
	else if (!strcmp(key, "target") && mount)
		mount->target = value;
	else if (!strcmp(key, "data") && mount)
		mount->data = value;
	else if (!strcmp(key, "options") && mount)
		return read_mount_options(mount, value);
	else if (!strcmp(key, "device"))
		push(&plan->devices, value);
	else if (!strcmp(key, "link"))
		return read_pair_into(&plan->links[plan->link_count++], value, ':');
	else if (!strcmp(key, "mask"))
		push(&plan->masks, value);
	else if (!strcmp(key, "readonly-path"))
		push(&plan->readonly_paths, value);
	else if (!strcmp(key, "device-rules"))
		plan->device_rules = value;
	else if (!strcmp(key, "file"))
		plan->files[plan->file_count++] = (struct file_step){.path = value, .content = "", .mode = 0644, .tree = -1};
	else if ((!strcmp(key, "content") || !strcmp(key, "literal")) && file) {
		file->content = value;
		file->literal = key[0] == 'l';
	} else if (!strcmp(key, "mode") && file) {
		if (read_number(value, 8, 0, 07777, &number) < 0)
			return -1;
		file->mode = (unsigned)number;
	} else if (!strcmp(key, "owner") && file) {
		struct key_value ids;
		return read_pair_into(&ids, value, ':') < 0 || read_number(ids.key, 10, 0, UINT32_MAX - 1, &file->uid) < 0 ||
			read_number(ids.value, 10, 0, UINT32_MAX - 1, &file->gid) < 0 ? -1 : 0;
	} else if (!strcmp(key, "oom-score-adj")) {
		if (read_number(value, 10, -1000, 1000, &number) < 0)
			return -1;
		plan->has_oom_score_adj = true;
		plan->oom_score_adj = (int)number;
	} else if (!strcmp(key, "sysctl"))
		return read_pair_into(&plan->sysctls[plan->sysctl_count++], value, '=');
	else if (!strcmp(key, "pid"))
		return read_ns(value, &plan->pid, &plan->pid_of);
	else if (!strcmp(key, "ipc"))
		return read_ns(value, &plan->ipc, &plan->ipc_of);
	else if (!strcmp(key, "uts"))
		return read_ns(value, &plan->uts, NULL);
	else if (!strcmp(key, "cgroupns")) {
		plan->cgroup_host = !strcmp(value, "host");
		return plan->cgroup_host || !strcmp(value, "private") ? 0 : -1;
	} else if (!strcmp(key, "net")) {
		if (!strcmp(value, "bridge"))
			plan->net = NET_BRIDGE;
		else if (!strcmp(value, "none"))
			plan->net = NET_NONE;
		else if (!strcmp(value, "host"))
			plan->net = NET_HOST;
		else if (!strncmp(value, "container:", 10)) {
			plan->net = NET_CONTAINER;
			plan->net_of = value + 10;
		} else
			return -1;
	} else if (!strcmp(key, "dns-name"))
		push(&plan->dns_names, value);
	else if (!strcmp(key, "network"))
		plan->networks[plan->network_count++] = (struct network_step){.id = value, .aliases = plan->aliases.count};
	else if (!strcmp(key, "alias") && network) {
		push(&plan->aliases, value);
		network->alias_count++;
	} else if (!strcmp(key, "address") && network)
		network->address = value;
	else if (!strcmp(key, "address-v6") && network)
		network->address_v6 = value;
	else if (!strcmp(key, "host-port"))
		push(&plan->host_ports, value);
	else if (!strcmp(key, "publish"))
		return read_publish(plan, value);
	else if (!strcmp(key, "limit")) {
		struct key_value kv;
		if (read_pair_into(&kv, value, '=') < 0)
			return -1;
		plan->limits[plan->limit_count++] = (struct cgroup_limit){kv.key, kv.value};
	} else if (!strcmp(key, "init"))
		return read_bool(value, &plan->init);
	else if (!strcmp(key, "log-bytes")) {
		if (read_number(value, 10, 4096, (int64_t)1 << 40, &number) < 0)
			return -1;
		plan->log_bytes = (uint64_t)number;
	} else if (!strcmp(key, "listen"))
		return read_bool(value, &plan->report_listen);
	else
		return 1;
	return 0;
}

static int read_exec(struct plan *plan, const char *key, const char *value)
{
	if (!strcmp(key, "id"))
		plan->container = value;
	else if (!strcmp(key, "exec"))
		plan->exec_id = value;
	else
		return 1;
	return 0;
}

/* Every list gets room for as many entries as the request has pairs of its key. */
static int allocate(struct plan *plan)
{
	struct process *p = &plan->process;
	struct { const char *key; void **at; size_t size; } lists[] = {
		{"arg", (void **)&p->argv.at, sizeof(char *)}, {"env", (void **)&p->env.at, sizeof(char *)},
		{"default-env", (void **)&p->default_env.at, sizeof(char *)}, {"group-add", (void **)&p->groups.at, sizeof(char *)},
		{"layer", (void **)&plan->layers.at, sizeof(char *)}, {"mask", (void **)&plan->masks.at, sizeof(char *)},
		{"image-layer", (void **)&plan->image_layers.at, sizeof(char *)}, {"readonly-path", (void **)&plan->readonly_paths.at, sizeof(char *)},
		{"device", (void **)&plan->devices.at, sizeof(char *)}, {"dns-name", (void **)&plan->dns_names.at, sizeof(char *)},
		{"alias", (void **)&plan->aliases.at, sizeof(char *)}, {"host-port", (void **)&plan->host_ports.at, sizeof(char *)},
		{"hold", (void **)&plan->holds.at, sizeof(char *)}, {"network", (void **)&plan->networks, sizeof(*plan->networks)},
		{"mount", (void **)&plan->mounts, sizeof(*plan->mounts)}, {"file", (void **)&plan->files, sizeof(*plan->files)},
		{"link", (void **)&plan->links, sizeof(*plan->links)}, {"sysctl", (void **)&plan->sysctls, sizeof(*plan->sysctls)},
		{"publish", (void **)&plan->publish, sizeof(*plan->publish)}, {"limit", (void **)&plan->limits, sizeof(*plan->limits)},
	};
	for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++) {
		size_t count = 1;
		for (size_t n = 0; n < plan->request.count; n++)
			count += !strcmp(plan->request.pairs[n].key, lists[i].key);
		*lists[i].at = calloc(count, lists[i].size);
		if (!*lists[i].at)
			return -1;
	}
	return 0;
}

int plan_read(struct plan *plan, const struct request *from, bool exec, struct fault *f)
{
	*plan = (struct plan){.exec = exec, .report_listen = true, .log_bytes = 32 << 20, .process.umask = 022};
	size_t length = 0;
	for (size_t i = 0; i < from->count; i++)
		length += strlen(from->pairs[i].key) + strlen(from->pairs[i].value) + 2;
	plan->copy = malloc(length + 1);
	plan->request.pairs = calloc(from->count + 1, sizeof(*plan->request.pairs));
	if (!plan->copy || !plan->request.pairs)
		return fault(f, "request", "memory", ENOMEM, NULL);
	char *to = plan->copy;
	for (size_t i = 0; i < from->count; i++) {
		plan->request.pairs[i].key = to;
		to = stpcpy(to, from->pairs[i].key) + 1;
		plan->request.pairs[i].value = to;
		to = stpcpy(to, from->pairs[i].value) + 1;
	}
	plan->request.count = from->count;
	plan->original_length = length;
	plan->original = malloc(length + 1);
	if (!plan->original)
		return fault(f, "request", "memory", ENOMEM, NULL);
	memcpy(plan->original, plan->copy, length);
	if (allocate(plan) < 0)
		return fault(f, "request", "memory", ENOMEM, NULL);
	for (size_t i = 0; i < plan->request.count; i++) {
		const char *key = plan->request.pairs[i].key, *value = plan->request.pairs[i].value;
		int done = read_process(&plan->process, key, value);
		if (done > 0)
			done = exec ? read_exec(plan, key, value) : read_container(plan, key, (char *)value);
		if (done)
			return bad(f, key, value, done > 0 ? "unknown key" : "malformed value");
	}
	if (!exec && plan->pid != NS_HOST) {
		free(plan->original);
		plan->original = NULL;
	}
	if (!plan->process.argv.count)
		return bad(f, "arg", NULL, "no program given");
	const char *id = exec ? plan->exec_id : plan->id;
	if (!id || strlen(id) != 64 || strspn(id, "0123456789abcdef") != 64)
		return bad(f, exec ? "exec" : "id", id, "64 hexadecimal digits expected");
	if (exec ? !plan->container : !plan->layers.count)
		return bad(f, exec ? "id" : "layer", NULL, "missing");
	for (size_t i = 0; i < plan->mount_count; i++)
		if (!plan->mounts[i].target || plan->mounts[i].target[0] != '/' || (plan->mounts[i].kind == MOUNT_BIND && !plan->mounts[i].source) ||
			(plan->mounts[i].kind == MOUNT_IMAGE && !plan->mounts[i].layer_count))
			return bad(f, "mount", plan->mounts[i].target, "a step needs an absolute target, bind a source, and image layers");
	return 0;
}

void plan_free(struct plan *plan)
{
	struct process *p = &plan->process;
	void *lists[] = {p->argv.at, p->env.at, p->default_env.at, p->groups.at, plan->layers.at, plan->image_layers.at, plan->masks.at,
		plan->readonly_paths.at, plan->devices.at, plan->dns_names.at, plan->aliases.at, plan->host_ports.at, plan->holds.at, plan->networks, plan->mounts, plan->files, plan->links, plan->sysctls,
		plan->publish, plan->limits, plan->copy, plan->original};
	for (size_t i = 0; i < plan->file_count; i++)
		free(plan->files[i].host_path);
	for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++)
		free(lists[i]);
	request_free(&plan->request);
	*plan = (struct plan){0};
}
