#define _GNU_SOURCE
#include "xattrs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "grow.h"

enum { FIRST_CAPACITY = 1024, TRIES = 8 /* somebody may be changing them */ };

bool xattr_is_overlay(const char *name)
{
	return !strncmp(name, "trusted.overlay.", 16) || !strncmp(name, "user.overlay.", 13);
}

static bool make_room(char **bytes, size_t *capacity, size_t needed)
{
	char *longer = grow(*bytes, capacity, needed, 1);
	if (longer)
		*bytes = longer;
	return longer;
}

/* Where the entry is: a name, which is not followed, or a descriptor; behind a number of /proc where that is an O_PATH one, of which
 * the f… calls want nothing to know. The link of /proc leads to just that inode, a symbolic link included. */
struct place { int fd; const char *name; char by_number[40]; };

static ssize_t list_call(const struct place *p, char *to, size_t size)
{
	return p->name ? llistxattr(p->name, to, size) : *p->by_number ? listxattr(p->by_number, to, size) : flistxattr(p->fd, to, size);
}

static ssize_t get_call(const struct place *p, const char *name, void *to, size_t size)
{
	return p->name ? lgetxattr(p->name, name, to, size)
		: *p->by_number ? getxattr(p->by_number, name, to, size) : fgetxattr(p->fd, name, to, size);
}

static ssize_t list(struct xattrs *x, struct place *p)
{
	if (!make_room(&x->names, &x->names_capacity, FIRST_CAPACITY))
		return -1;
	for (int tries = 0;; tries++) {
		ssize_t length = list_call(p, x->names, x->names_capacity);
		if (length >= 0)
			return length;
		if (errno == ENOTSUP || (p->name && errno == ENOENT)) /* gone meanwhile: stat has told what there was */
			return 0;
		if (errno == EBADF && !p->name && !*p->by_number) {
			snprintf(p->by_number, sizeof(p->by_number), "/proc/self/fd/%d", p->fd);
			continue;
		}
		if (errno != ERANGE || tries == TRIES)
			return -1;
		length = list_call(p, NULL, 0);
		if (length < 0 || !make_room(&x->names, &x->names_capacity, (size_t)length))
			return -1;
	}
}

/* The value goes behind `used` bytes of values. Returns its length; -1; -2 = the attribute is gone. */
static ssize_t value_of(struct xattrs *x, size_t used, const struct place *p, const char *name)
{
	for (int tries = 0;; tries++) {
		size_t room = x->values_capacity - used;
		ssize_t length = room == 0 ? (errno = ERANGE, -1) : get_call(p, name, x->values + used, room);
		if (length >= 0)
			return length;
		if (errno == ENODATA)
			return -2;
		if (errno != ERANGE || tries == TRIES)
			return -1;
		length = get_call(p, name, NULL, 0);
		if (length < 0 || !make_room(&x->values, &x->values_capacity, used + (size_t)length + 64))
			return errno == ENODATA ? -2 : -1;
	}
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct xattr *)a)->name, ((const struct xattr *)b)->name);
}

int xattrs_read(struct xattrs *x, int fd, const char *file)
{
	size_t used = 0;
	struct place place = {.fd = fd, .name = file};
	x->count = 0;
	ssize_t length = list(x, &place);
	if (length <= 0)
		return (int)length;
	for (const char *name = x->names; name < x->names + length; name += strlen(name) + 1) {
		if (xattr_is_overlay(name))
			continue;
		ssize_t got = value_of(x, used, &place, name);
		if (got == -2)
			continue;
		if (got < 0)
			return -1;
		struct xattr *longer = grow(x->at, &x->capacity, x->count + 1, sizeof(*longer));
		if (!longer)
			return -1;
		x->at = longer;
		x->at[x->count++] = (struct xattr){name, NULL, (size_t)got};
		used += (size_t)got;
	}
	/* Only now: values may have moved. */
	for (size_t i = 0, at = 0; i < x->count; at += x->at[i++].length)
		x->at[i].value = x->values + at;
	if (x->count > 1)
		qsort(x->at, x->count, sizeof(*x->at), by_name);
	return 0;
}

bool xattrs_equal(const struct xattrs *a, const struct xattrs *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (strcmp(a->at[i].name, b->at[i].name) || a->at[i].length != b->at[i].length ||
		    (a->at[i].length && memcmp(a->at[i].value, b->at[i].value, a->at[i].length)))
			return false;
	return true;
}

void xattrs_free(struct xattrs *x)
{
	free(x->at);
	free(x->names);
	free(x->values);
	*x = (struct xattrs){0};
}

bool xattr_is_opaque(int fd)
{
	char value;
	return fgetxattr(fd, "trusted.overlay.opaque", &value, 1) == 1 || fgetxattr(fd, "user.overlay.opaque", &value, 1) == 1;
}
