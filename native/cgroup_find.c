/* Own control groups from mountinfo(5) and cgroups(7).
 *
 * /proc/self/cgroup tells a path per hierarchy, relative to the root of our cgroup namespace. A mount may show the
 * whole hierarchy or a subtree of it (Docker without a cgroup namespace binds /docker/<id> on
 * /sys/fs/cgroup/memory), and mountinfo's fourth field says which. Both paths are as seen from our namespace, so the
 * group is at mount point + (path - mount root). A root of "/.." is above our namespace: where our group is below it
 * cannot be known, so such a mount is not used. */
#define _GNU_SOURCE
#include "cgroup_find.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

static const char *const names[CGROUP_CONTROLLERS] = {
	"memory", "blkio", "pids", "cpu", "cpuset", "cpuacct", "freezer", "devices",
};

const char *cgroup_controller_name(unsigned controller)
{
	for (int i = 0; i < CGROUP_CONTROLLERS; i++)
		if (controller == 1u << i)
			return names[i];
	return "?";
}

unsigned cgroup_controllers_of(const char *list)
{
	unsigned found = 0;
	while (*list) {
		size_t length = strcspn(list, ", \n");
		for (int i = 0; i < CGROUP_CONTROLLERS; i++)
			if (strlen(names[i]) == length && !memcmp(names[i], list, length))
				found |= 1u << i;
		if (length == 2 && !memcmp(list, "io", 2))
			found |= CGROUP_BLKIO;
		list += length;
		list += strspn(list, ", \n");
	}
	return found;
}

/* Cuts the next word off a line; mountinfo separates by single spaces. NULL at the end. */
static char *next_word(char **line)
{
	char *word = *line;
	if (!word)
		return NULL;
	char *end = strchr(word, ' ');
	if (end)
		*end++ = '\0';
	*line = end;
	return word;
}

/* mountinfo writes space, tab, newline and backslash as \040 and so on. Decodes in place. */
static void decode(char *text)
{
	char *out = text;
	for (char *in = text; *in; ) {
		bool octal = in[0] == '\\' && in[1] >= '0' && in[1] <= '3' && in[2] >= '0' && in[2] <= '7' &&
			in[3] >= '0' && in[3] <= '7';
		if (octal) {
			*out++ = (char)((in[1] - '0') << 6 | (in[2] - '0') << 3 | (in[3] - '0'));
			in += 4;
		} else {
			*out++ = *in++;
		}
	}
	*out = '\0';
}

/* Our path in the hierarchy with these controllers (0: version 2), or NULL. Writes it into path. */
static const char *own_path(const char *self_cgroup, int version, unsigned controllers, char *path, size_t size)
{
	for (const char *line = self_cgroup; line && *line; ) {
		const char *end = strchrnul(line, '\n');
		const char *list = memchr(line, ':', (size_t)(end - line));
		const char *own = list ? memchr(list + 1, ':', (size_t)(end - list - 1)) : NULL;
		char text[256];
		if (own && (size_t)(own - list) < sizeof(text)) {
			snprintf(text, sizeof(text), "%.*s", (int)(own - list - 1), list + 1);
			bool match = version == 2 ? !strncmp(line, "0::", 3) : cgroup_controllers_of(text) == controllers;
			if (match && (size_t)(end - own) <= size) {
				snprintf(path, size, "%.*s", (int)(end - own - 1), own + 1);
				return path;
			}
		}
		line = *end ? end + 1 : end;
	}
	return NULL;
}

/* "" or "/…": what is left of path below root; NULL if path is not below it or either is above our namespace. */
static const char *below(const char *path, const char *root)
{
	if (path[0] != '/' || root[0] != '/' || !strncmp(path, "/..", 3) || !strncmp(root, "/..", 3))
		return NULL;
	size_t length = strcmp(root, "/") ? strlen(root) : 0;
	if (strncmp(path, root, length) || (path[length] && path[length] != '/'))
		return NULL;
	return strcmp(path + length, "/") ? path + length : "";
}

/* One line of mountinfo: id parent major:minor root mount-point options [tags…] - type source super-options */
static bool parse_line(char *line, const char *self_cgroup, struct cgroup_place *place)
{
	char *words[6], *word;
	for (int i = 0; i < 6; i++)
		if (!(words[i] = next_word(&line)))
			return false;
	while ((word = next_word(&line)) && strcmp(word, "-"))
		;
	char *type = next_word(&line);
	next_word(&line);
	char *options = next_word(&line);
	unsigned major, minor;
	if (!type || sscanf(words[2], "%u:%u", &major, &minor) != 2)
		return false;

	if (!strcmp(type, "cgroup2"))
		*place = (struct cgroup_place){.version = 2, .label = "unified"};
	else if (!strcmp(type, "cgroup") && options)
		*place = (struct cgroup_place){.version = 1, .controllers = cgroup_controllers_of(options)};
	else
		return false;
	if (place->version == 1) {
		for (int i = 0; i < CGROUP_CONTROLLERS; i++)       /* in the order that distributions name them: cpu,cpuacct */
			if (place->controllers & 1u << i) {
				size_t used = strlen(place->label);
				snprintf(place->label + used, sizeof(place->label) - used, "%s%s", used ? "," : "", names[i]);
			}
		if (!place->controllers)
			return false;
	}
	place->device = makedev(major, minor);
	decode(words[3]);
	decode(words[4]);
	char own[PATH_MAX];
	const char *rest = NULL;
	if (own_path(self_cgroup, place->version, place->controllers, own, sizeof(own))) {
		char *last = strrchr(own, '/');
		if (place->version == 2 && last && !strcmp(last, "/" CGROUP_CALLERS))
			last[last == own] = '\0';
		rest = below(own, words[3]);
		place->namespace_root = !strcmp(own, "/");
	}
	return rest && snprintf(place->path, sizeof(place->path), "%s%s", words[4], rest) < (int)sizeof(place->path);
}

size_t cgroup_find(const char *mountinfo, const char *self_cgroup, struct cgroup_place *places, size_t max)
{
	size_t count = 0;
	char *copy = strdup(mountinfo), *rest = copy, *line;
	while (copy && count < max && (line = strsep(&rest, "\n")))
		count += parse_line(line, self_cgroup, &places[count]);
	free(copy);
	return count;
}
