#define _GNU_SOURCE
/* libFuzzer: any bytes as a request, read as the plan of a container and as that of an exec. Whatever is accepted must hold what the code
 * behind it relies on without asking again. */
#include <stdlib.h>
#include <string.h>
#include "plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

static size_t length_of(const struct words *words)
{
	size_t length = 0;

	for (size_t i = 0; i < words->count; i++)
		length += strlen(words->at[i]);
	require(!words->at[words->count]);
	return length;
}

static void look_at_container(const struct plan *plan)
{
	volatile size_t seen = length_of(&plan->layers) + length_of(&plan->masks) + length_of(&plan->readonly_paths) +
		length_of(&plan->devices) + length_of(&plan->dns_names);

	require(strlen(plan->id) == 64 && plan->layers.count);
	require(plan->log_bytes >= 4096);
	require((plan->pid != NS_CONTAINER || plan->pid_of) && (plan->net != NET_CONTAINER || plan->net_of));
	for (size_t i = 0; i < plan->mount_count; i++)
		require(plan->mounts[i].target[0] == '/' && (plan->mounts[i].kind != MOUNT_BIND || plan->mounts[i].source));
	for (size_t i = 0; i < plan->file_count; i++)
		seen += strlen(plan->files[i].path) + strlen(plan->files[i].content);
	for (size_t i = 0; i < plan->link_count; i++)
		seen += strlen(plan->links[i].key) + strlen(plan->links[i].value);
	for (size_t i = 0; i < plan->sysctl_count; i++)
		seen += strlen(plan->sysctls[i].key) + strlen(plan->sysctls[i].value);
	for (size_t i = 0; i < plan->limit_count; i++)
		seen += strlen(plan->limits[i].key) + strlen(plan->limits[i].value);
	for (size_t i = 0; i < plan->publish_count; i++) {
		require(plan->publish[i].container_port);
		seen += strlen(plan->publish[i].host_ip);
	}
	(void)seen;
}

static void read_as(const struct request *request, bool exec)
{
	struct plan plan;
	struct fault fault = { 0 };

	if (plan_read(&plan, request, exec, &fault) == 0) {
		const struct process *p = &plan.process;
		volatile size_t seen = length_of(&p->argv) + length_of(&p->env) + length_of(&p->default_env) + length_of(&p->groups);

		(void)seen;
		require(p->argv.count);
		require(!p->workdir || p->workdir[0] == '/');
		if (exec)
			require(plan.container && strlen(plan.exec_id) == 64);
		else
			look_at_container(&plan);
	} else {
		require(fault.error && *fault.step);
	}
	plan_free(&plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct request request;
	char *payload = malloc(size + 1);

	if (!payload)
		return 0;
	memcpy(payload, data, size);
	if (request_parse(payload, size, &request) == 0) {
		read_as(&request, false);
		read_as(&request, true);
		request_free(&request);
	}
	free(payload);
	return 0;
}
