#define _GNU_SOURCE
#include "identity.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "resolve.h"

enum { FILE_MAX = 1 << 20 };

/* The file's text, or NULL where there is none that counts. */
static char *read_file(int root_fd, const char *path)
{
	int fd = resolve_in_root(root_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, NULL, "user");
	if (fd < 0)
		return NULL;
	struct stat st;
	char *text = NULL;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (text = malloc(FILE_MAX + 1))) {
		size_t length = 0;
		ssize_t got;
		while (length < FILE_MAX && (got = read(fd, text + length, FILE_MAX - length)) > 0)
			length += (size_t)got;
		text[length] = 0;
	}
	close(fd);
	return text;
}

/* Cuts the next line of *text into fields at colons. Returns how many there are, -1 at the end. */
static int next_record(char **text, char *fields[], int max)
{
	if (!**text)
		return -1;
	char *line = *text, *end = strchrnul(line, '\n');
	*text = *end ? end + 1 : end;
	*end = 0;
	int count = 0;
	while (line && count < max)
		fields[count++] = strsep(&line, ":");
	return count;
}

/* Decimal digits only, up to 2^31-1 as Docker has it: "0x1", " 1", "+1" and "-1" are names (CVE-2026-30892, CVE-2024-40635). */
static int read_id(const char *text, unsigned *id)
{
	if (!*text || strlen(text) > 10 || text[strspn(text, "0123456789")])
		return -1;
	unsigned long long number = strtoull(text, NULL, 10);
	*id = (unsigned)number;
	return number <= 0x7fffffff ? 0 : -1;
}

static int find_group(int root_fd, const char *name, gid_t *gid, struct fault *f)
{
	unsigned id;
	if (!read_id(name, &id)) {
		*gid = id;
		return 0;
	}
	char *text = read_file(root_fd, "etc/group"), *at = text, *fields[4];
	int count, found = -1;
	while (text && found < 0 && (count = next_record(&at, fields, 4)) >= 0)
		if (count >= 3 && !strcmp(fields[0], name) && !read_id(fields[2], &id)) {
			*gid = id;
			found = 0;
		}
	free(text);
	return found < 0 ? fault(f, "group", name, ENOENT, "no such group in the container's /etc/group") : 0;
}

static void add_group(struct identity *who, gid_t gid)
{
	for (size_t i = 0; i < who->group_count; i++)
		if (who->groups[i] == gid)
			return;
	if (who->group_count < IDENTITY_GROUPS_MAX)
		who->groups[who->group_count++] = gid;
}

/* Groups that list the user as a member. */
static void add_memberships(int root_fd, const char *name, struct identity *who)
{
	char *text = read_file(root_fd, "etc/group"), *at = text, *fields[4];
	unsigned id;
	int count;
	while (text && (count = next_record(&at, fields, 4)) >= 0) {
		if (count < 4 || read_id(fields[2], &id))
			continue;
		char *members = fields[3], *member;
		while ((member = strsep(&members, ",")))
			if (!strcmp(member, name))
				add_group(who, id);
	}
	free(text);
}

int identity_find(int root_fd, const char *user, const struct words *groups, struct identity *who, struct fault *f)
{
	*who = (struct identity){.home = "/"};
	char name[256];
	if (snprintf(name, sizeof(name), "%s", user && *user ? user : "0") >= (int)sizeof(name))
		return fault(f, "user", user, EINVAL, "the user is too long");
	char *group = strchr(name, ':');
	if (group)
		*group++ = 0;
	unsigned uid = 0, gid;
	int numeric = !read_id(name[0] ? name : "0", &uid);
	char *text = read_file(root_fd, "etc/passwd"), *at = text, *fields[7], login[256] = "";
	int count, found = 0;
	unsigned id;
	while (text && !found && (count = next_record(&at, fields, 7)) >= 0) {
		if (count < 4 || read_id(fields[2], &id) || read_id(fields[3], &gid))
			continue;
		if (numeric ? id != uid : strcmp(fields[0], name))
			continue;
		found = 1;
		who->uid = id;
		who->gid = gid;
		snprintf(login, sizeof(login), "%s", fields[0]);
		if (count > 5 && fields[5][0] == '/')
			snprintf(who->home, sizeof(who->home), "%s", fields[5]);
	}
	free(text);
	if (!found && !numeric)
		return fault(f, "user", user, ENOENT, "no such user in the container's /etc/passwd");
	if (!found)
		who->uid = uid;
	if (group && *group) {
		if (find_group(root_fd, group, &who->gid, f) < 0)
			return -1;
	} else if (found)
		add_memberships(root_fd, login, who);
	add_group(who, who->gid);
	for (size_t i = 0; i < groups->count; i++) {
		gid_t extra;
		if (find_group(root_fd, groups->at[i], &extra, f) < 0)
			return -1;
		add_group(who, extra);
	}
	return 0;
}
