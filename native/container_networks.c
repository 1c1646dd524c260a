/* The networks of a container: its links, the names by which it is found on each, the ports that lead to it, and the small files that name
 * its addresses. At create as the plan says, later by the verbs `connect` and `disconnect`, running or not. */
#define _GNU_SOURCE
#include "container_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_MOST = 1 << 20 };

/* Names on one network beside those that it has on each. */
struct aliases { struct aliases *next; const struct network *network; size_t count; char names[]; /* each with its NUL */ };

/* -- names ---------------------------------------------------------------------------------------------------------------- */

static int remember_aliases(struct container *c, const struct network *network, const char *const *names, size_t count)
{
	size_t length = 0;
	for (size_t i = 0; i < count; i++)
		length += strlen(names[i]) + 1;
	struct aliases *a = count ? malloc(sizeof(*a) + length) : NULL;
	if (!a)
		return count ? -1 : 0;
	*a = (struct aliases){c->aliases, network, count};
	char *to = a->names;
	for (size_t i = 0; i < count; i++)
		to = stpcpy(to, names[i]) + 1;
	c->aliases = a;
	return 0;
}

static void forget_aliases(struct container *c, const struct network *network)
{
	for (struct aliases **at = &c->aliases; *at;) {
		struct aliases *a = *at;
		if (network && a->network != network) {
			at = &a->next;
			continue;
		}
		*at = a->next;
		free(a);
	}
}

static int add_name(struct container *c, const char *name, const struct net_link *link, struct fault *f)
{
	return name && names_add(c, name, link->address, &link->v6) < 0 ? fault(f, "network", name, errno, NULL) : 0;
}

static int add_names(struct container *c, const char *name, struct fault *f)
{
	const struct plan *plan = &c->plan;
	for (const struct net_link *link = net_slot_links(c->slot); link; link = link->next) {
		if (add_name(c, name, link, f) < 0 || add_name(c, plan->hostname, link, f) < 0)
			return -1;
		for (size_t i = 0; i < plan->dns_names.count; i++)
			if (add_name(c, plan->dns_names.at[i], link, f) < 0)
				return -1;
		for (const struct aliases *a = c->aliases; a; a = a->next) {
			const char *alias = a->names;
			for (size_t i = 0; a->network == link->network && i < a->count; i++, alias += strlen(alias) + 1)
				if (add_name(c, alias, link, f) < 0)
					return -1;
		}
	}
	return 0;
}

static const char *name_now(const struct container *c)
{
	return c->renamed ? c->renamed : c->plan.name;
}

int container_say_names(struct container *c, struct fault *f)
{
	bool runs = c->state == CONTAINER_STARTING || c->state == CONTAINER_RUNNING;
	return c->slot && runs ? add_names(c, name_now(c), f) : 0;
}

int container_rename(struct container *c, const char *name, struct fault *f)
{
	char *copy = strdup(name);
	if (!copy)
		return fault(f, "network", name, ENOMEM, NULL);
	free(c->renamed);
	c->renamed = copy;
	names_remove(c);
	return container_say_names(c, f);
}

/* -- files ---------------------------------------------------------------------------------------------------------------- */

static const char *primary_gateway(const struct container *c, char text[INET_ADDRSTRLEN])
{
	const struct net_link *link = c->slot ? net_slot_primary(c->slot) : NULL;
	struct in_addr gateway = link ? network_gateway(link->network) : (struct in_addr){0};
	/* Without a link of its own, whatever leads somewhere else: the session's. */
	return link ? inet_ntop(AF_INET, &gateway, text, INET_ADDRSTRLEN) : c->plan.net == NET_BRIDGE ? "" : session_gateway();
}

/* Writes length bytes with @ADDRESS@, @GATEWAY@ and @HOSTNAME@ replaced. What is filled in is not looked at again: a host may be named
 * @HOSTNAME@. */
static void fill_line(const struct container *c, FILE *to, const char *line, size_t length, const char *address)
{
	char gateway[INET_ADDRSTRLEN];
	const struct { const char *name, *value; } NAMES[] = {
		{"@ADDRESS@", address}, {"@GATEWAY@", primary_gateway(c, gateway)}, {"@HOSTNAME@", c->plan.hostname ? c->plan.hostname : ""}};
	for (const char *end = line + length; line < end;) {
		const char *mark = memchr(line, '@', (size_t)(end - line));
		size_t i = 0, plain = mark ? (size_t)(mark - line) : (size_t)(end - line);
		fwrite(line, 1, plain, to);
		line += plain;
		while (mark && i < 3 && strncmp(line, NAMES[i].name, strlen(NAMES[i].name)))
			i++;
		if (mark && i < 3) {
			fputs(NAMES[i].value, to);
			line += strlen(NAMES[i].name);
		} else if (mark)
			fputc(*line++, to);
	}
}

static bool names(const char *line, size_t length, const char *what)
{
	return memmem(line, length, what, strlen(what)) != NULL;
}

static bool has_v6(const struct net_link *link)
{
	return !IN6_IS_ADDR_UNSPECIFIED(&link->v6);
}

/* A line with @ADDRESS@ comes once for each address; on no network, what would name an address or a gateway is left out. */
static void render_line(const struct container *c, FILE *to, const char *line, size_t length)
{
	char address[INET6_ADDRSTRLEN];
	const struct net_link *link = c->slot ? net_slot_links(c->slot) : NULL;
	bool of_bridge = c->plan.net == NET_BRIDGE;
	if (names(line, length, "@ADDRESS@") && of_bridge) {
		for (; link; link = link->next)
			for (int v6 = 0; v6 <= has_v6(link); v6++)
				fill_line(c, to, line, length, v6 ? inet_ntop(AF_INET6, &link->v6, address, sizeof(address))
					: inet_ntop(AF_INET, &link->address, address, sizeof(address)));
	} else if (link || !of_bridge || !names(line, length, "@GATEWAY@"))
		fill_line(c, to, line, length, "");
}

static size_t line_length(const char *line)
{
	size_t length = strcspn(line, "\n");
	return length + (line[length] == '\n');
}

static char *render(const struct container *c, const char *content, size_t length)
{
	char *text = NULL;
	size_t size;
	FILE *to = open_memstream(&text, &size);
	if (!to)
		return NULL;
	for (const char *end = content + length; content < end; content += line_length(content))
		render_line(c, to, content, line_length(content));
	if (fclose(to) == 0)
		return text;
	free(text);
	return NULL;
}

char *container_fill_in(const struct container *c, const char *content)
{
	return strchr(content, '@') ? render(c, content, strlen(content)) : strdup(content);
}

/* How the lines of its files that depend on its networks read now. */
struct rendering { struct rendering *next; const struct file_step *file; const char *line; size_t length; char *text; };

static struct rendering *render_files(const struct container *c)
{
	struct rendering *first = NULL;
	for (size_t i = 0; i < c->plan.file_count; i++) {
		const struct file_step *file = &c->plan.files[i];
		for (const char *line = file->literal ? "" : file->content; *line; line += line_length(line)) {
			size_t length = line_length(line);
			if (!names(line, length, "@ADDRESS@") && !names(line, length, "@GATEWAY@"))
				continue;
			struct rendering *r = malloc(sizeof(*r));
			if (!r)
				break;
			*r = (struct rendering){first, file, line, length, render(c, line, length)};
			first = r;
		}
	}
	return first;
}

static char *read_text(int fd)
{
	char *text = malloc(FILE_MOST + 1);
	ssize_t got = text ? pread(fd, text, FILE_MOST, 0) : -1;
	if (got < 0) {
		free(text);
		return NULL;
	}
	text[got] = 0;
	return text;
}

/* Replaces a text in a file that the container sees, and may have changed: what it has put there itself stays. In place, for it is
 * mounted. */
static void replace_text(const char *path, const char *before, const char *after)
{
	int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	char *text = fd < 0 ? NULL : read_text(fd), *at = text && *before ? strstr(text, before) : NULL, *changed = NULL;
	if (text) {
		size_t length = strlen(text);
		int size = at ? asprintf(&changed, "%.*s%s%s", (int)(at - text), text, after, at + strlen(before))
			: asprintf(&changed, "%s%s%s", text, length && text[length - 1] != '\n' ? "\n" : "", after);
		if (size >= 0 && pwrite(fd, changed, (size_t)size, 0) == size && ftruncate(fd, size) < 0)
			size = -1;
	}
	free(changed);
	free(text);
	if (fd >= 0)
		close(fd);
}

/* Brings the files up to date, and frees the list. */
static void refill_files(const struct container *c, struct rendering *r)
{
	while (r) {
		struct rendering *next = r->next;
		char *now = render(c, r->line, r->length);
		if (now && r->text && r->file->host_path && strcmp(now, r->text))
			replace_text(r->file->host_path, r->text, now);
		free(now);
		free(r->text);
		free(r);
		r = next;
	}
}

/* -- facts ---------------------------------------------------------------------------------------------------------------- */

void container_describe_networks(struct json *j, const struct container *c)
{
	char address[INET6_ADDRSTRLEN], gateway[INET6_ADDRSTRLEN], subnet[64], *text = NULL;
	size_t length;
	struct in_addr primary = c->slot ? net_slot_address(c->slot) : (struct in_addr){0};
	json_string(j, "address", primary.s_addr ? inet_ntop(AF_INET, &primary, address, sizeof(address)) : "");
	json_string(j, "gateway", c->slot ? primary_gateway(c, gateway) : "");
	if (!c->plan.network_count && !c->was_connected) /* the default network, or none */
		return;
	FILE *to = open_memstream(&text, &length);
	if (!to) {
		j->failed = true;
		return;
	}
	fputc('[', to);
	for (const struct net_link *link = net_slot_links(c->slot); link; link = link->next) {
		struct in_addr its_gateway = network_gateway(link->network);
		fprintf(to, "%s{\"network\":\"%s\",\"address\":\"%s\",\"gateway\":\"%s\"", link == net_slot_links(c->slot) ? "" : ",",
			network_id(link->network), inet_ntop(AF_INET, &link->address, address, sizeof(address)),
			inet_ntop(AF_INET, &its_gateway, gateway, sizeof(gateway)));
		if (has_v6(link)) {
			struct in6_addr its_gateway_v6 = network_gateway_v6(link->network);
			inet_ntop(AF_INET6, &link->v6, address, sizeof(address));
			inet_ntop(AF_INET6, &its_gateway_v6, gateway, sizeof(gateway));
			network_subnet_v6(link->network, subnet);
			fprintf(to, ",\"ipv6\":{\"address\":\"%s\",\"gateway\":\"%s\",\"prefixLength\":%s}", address, gateway, strchr(subnet, '/') + 1);
		}
		fputc('}', to);
	}
	fputc(']', to);
	fclose(to);
	json_raw(j, "networks", text);
	free(text);
}

/* -- create and end ------------------------------------------------------------------------------------------------------- */

static struct network *find_network(const char *id, struct fault *f)
{
	struct network *network = network_find(id);
	if (!network)
		fault(f, "network", id, ENOENT, "there is no such network");
	return network;
}

static int link_all(struct container *c, struct fault *f)
{
	const struct plan *plan = &c->plan;
	if (!plan->network_count) {
		c->slot = net_take(f);
		return c->slot ? 0 : -1;
	}
	for (size_t i = 0; i < plan->network_count; i++) {
		const struct network_step *step = &plan->networks[i];
		struct network *network = find_network(step->id, f);
		if (!network)
			return -1;
		if (!i && !(c->slot = net_take_on(network, step->address, step->address_v6, f)))
			return -1;
		if (i && net_connect(c->slot, network, step->address, step->address_v6, f) < 0)
			return -1;
		if (remember_aliases(c, network, plan->aliases.at + step->aliases, step->alias_count) < 0)
			return fault(f, "network", step->id, ENOMEM, NULL);
	}
	return 0;
}

int container_open_network(struct container *c, struct fault *f)
{
	struct plan *plan = &c->plan;
	if (plan->pid == NS_HOST && session.rootless)
		return fault(f, "namespace", "pid=host", ENOTSUP, "the host's processes cannot be shared without root");
	if (plan->net == NET_HOST && session.rootless)
		return fault(f, "network", "host", ENOTSUP, "the host's network cannot be shared without root; publish ports instead");
	if (plan->net == NET_BRIDGE && !session.network)
		return fault(f, "network", "bridge", ENOTSUP, "this engine was opened without a network");
	if (plan->net != NET_BRIDGE) {
		if (plan->net == NET_NONE && !(c->slot = net_take_lonely(f)))
			return -1;
		if (plan->network_count || plan->host_ports.count)
			return fault(f, "network", "network", EINVAL, "only a container on a bridge network can be on several, or reach ports of the host");
		return plan->publish_count ? fault(f, "publish", "network", EINVAL, "only a container on the bridge network can publish ports") : 0;
	}
	if (link_all(c, f) < 0 || net_slot_host_ports(c->slot, plan->host_ports.at, plan->host_ports.count, f) < 0)
		return -1;
	struct in_addr address = net_slot_address(c->slot);
	/* CAP_NET_ADMIN (12), CAP_SYS_ADMIN (21) and sysctls can leave traces in the namespace. */
	c->net_tainted = plan->sysctl_count || (plan->process.caps & (1ull << 12 | 1ull << 21));
	c->published = calloc(plan->publish_count + 1, sizeof(*c->published));
	if (!c->published)
		return fault(f, "publish", "memory", ENOMEM, NULL);
	for (size_t i = 0; i < plan->publish_count; i++) {
		const struct publish_step *p = &plan->publish[i];
		c->published[i] = publish_open(p->udp, p->host_ip, p->host_port, address, p->container_port, f);
		if (!c->published[i])
			return -1;
	}
	return 0;
}

void container_close_network(struct container *c)
{
	for (size_t i = 0; c->published && i < c->plan.publish_count; i++)
		if (c->published[i])
			publish_close(c->published[i]);
	free(c->published);
	c->published = NULL;
	names_remove(c);
	forget_aliases(c, NULL);
	free(c->renamed);
	c->renamed = NULL;
	if (c->slot)
		net_give_back(c->slot, c->net_tainted);
	c->slot = NULL;
}

/* -- connect and disconnect ----------------------------------------------------------------------------------------------- */

/* What hangs on its addresses follows them. */
static int follow(struct container *c, struct rendering *before, struct fault *f)
{
	struct in_addr address = net_slot_address(c->slot);
	for (size_t i = 0; c->published && i < c->plan.publish_count; i++)
		publish_lead_to(c->published[i], address);
	c->was_connected = true;
	refill_files(c, before);
	names_remove(c);
	return container_say_names(c, f);
}

static int connect_it(struct container *c, struct network *network, const struct request *r, struct fault *f)
{
	const char **aliases = calloc(r->count, sizeof(*aliases));
	size_t count = 0;
	for (size_t i = 0; aliases && i < r->count; i++)
		if (!strcmp(r->pairs[i].key, "alias"))
			aliases[count++] = r->pairs[i].value;
	struct rendering *before = render_files(c);
	int done = !aliases ? fault(f, "network", "memory", ENOMEM, NULL)
		: net_connect(c->slot, network, request_get(r, "address"), request_get(r, "address-v6"), f) < 0 ? -1
		: remember_aliases(c, network, aliases, count) < 0 ? fault(f, "network", "memory", ENOMEM, NULL) : 0;
	free(aliases);
	return follow(c, before, done < 0 ? NULL : f) < 0 ? -1 : done;
}

static int disconnect_it(struct container *c, struct network *network, struct fault *f)
{
	struct rendering *before = render_files(c);
	int done = net_disconnect(c->slot, network, f);
	if (done == 0)
		forget_aliases(c, network);
	return follow(c, before, done < 0 ? NULL : f) < 0 ? -1 : done;
}

void container_change_network(struct container *c, const struct request *r)
{
	struct fault f = {0};
	const char *id = request_get(r, "network");
	if (container_bad_state(r->seq, c, c->state != CONTAINER_REMOVED && !c->removing, "the container is removed"))
		return;
	struct network *network = NULL;
	if (c->plan.net != NET_BRIDGE || !c->slot)
		fault(&f, "network", id ? id : "network", ENOTSUP, "its network is not its own, or none");
	else
		network = find_network(id ? id : "", &f);
	if (!network || (!strcmp(r->verb, "connect") ? connect_it(c, network, r, &f) : disconnect_it(c, network, &f)) < 0) {
		reply_fault(r->seq, &f);
		return;
	}
	container_describe_networks(reply_begin(r->seq), c);
	line_end();
}

/* -- faults --------------------------------------------------------------------------------------------------------------- */

static int read_impairment(const struct request *r, struct net_impairment *is, struct fault *f)
{
	static const struct { const char *key; int64_t most; } KEYS[] = {
		{"loss", 1000000}, {"delay", 3600000000}, {"jitter", 3600000000}, {"rate", INT64_MAX / 8}};
	int64_t values[4];
	for (size_t i = 0; i < 4; i++)
		if (request_number(r, KEYS[i].key, 0, &values[i]) < 0 || values[i] < 0 || values[i] > KEYS[i].most)
			return fault(f, "request", KEYS[i].key, EINVAL, "the number is out of range");
	*is = (struct net_impairment){(uint32_t)values[0], (uint64_t)values[1], (uint64_t)values[2], (uint64_t)values[3]};
	return 0;
}

static int impair(struct container *c, const struct request *r, struct fault *f)
{
	struct net_impairment is;
	const char *peer = request_get(r, "peer");
	struct container *other = peer ? container_find(peer) : NULL;
	if (c->plan.net != NET_BRIDGE || !c->slot)
		return fault(f, "network", c->plan.id, ENOTSUP, "its network is not its own, or none");
	if (!strcmp(r->verb, "heal")) {
		net_heal(c->slot);
		return 0;
	}
	if (peer && (!other || !other->slot || other->plan.net != NET_BRIDGE || other == c))
		return fault(f, "network", peer, ENOTSUP, "there is no such other container with a network of its own");
	return read_impairment(r, &is, f) < 0 ? -1 : net_impair(c->slot, other ? other->slot : NULL, &is, f);
}

void container_impair(struct container *c, const struct request *r)
{
	struct fault f = {0};
	if (container_bad_state(r->seq, c, c->state != CONTAINER_REMOVED && !c->removing, "the container is removed"))
		return;
	if (impair(c, r, &f) < 0)
		reply_fault(r->seq, &f);
	else {
		reply_begin(r->seq);
		line_end();
	}
}

/* -- networks ------------------------------------------------------------------------------------------------------------- */

void network_verb(const struct request *r)
{
	struct fault f = {0};
	const char *id = request_get(r, "network");
	struct network *network = NULL;
	bool ipv6 = request_flag(r, "ipv6", false), removes = !strcmp(r->verb, "network-remove");
	if (!id || !*id || strspn(id, "0123456789abcdef") != strlen(id))
		fault(&f, "request", "network", EINVAL, "hexadecimal digits expected");
	else if (!removes)
		network = network_create(id, &(struct network_wish){.subnet = request_get(r, "subnet"), .gateway = request_get(r, "gateway"),
			.range = request_get(r, "range"), .internal = request_flag(r, "internal", false), .ipv6 = ipv6,
			.subnet_v6 = request_get(r, "subnet-v6"), .gateway_v6 = request_get(r, "gateway-v6"),
			.range_v6 = request_get(r, "range-v6")}, &f);
	else if ((network = find_network(id, &f)) && network_remove(network, &f) < 0)
		network = NULL;
	if (!network) {
		reply_fault(r->seq, &f);
		return;
	}
	struct json *j = reply_begin(r->seq);
	if (!removes) {
		char text[32];
		struct in_addr gateway = network_gateway(network);
		network_subnet(network, text);
		json_string(j, "subnet", text);
		json_string(j, "gateway", inet_ntop(AF_INET, &gateway, text, sizeof(text)));
	}
	if (!removes && ipv6) {
		char subnet[64], text[INET6_ADDRSTRLEN], both[160];
		struct in6_addr gateway = network_gateway_v6(network);
		network_subnet_v6(network, subnet);
		snprintf(both, sizeof(both), "{\"subnet\":\"%s\",\"gateway\":\"%s\"}", subnet,
			inet_ntop(AF_INET6, &gateway, text, sizeof(text)));
		json_raw(j, "ipv6", both);
	}
	line_end();
}
