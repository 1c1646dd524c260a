#pragma once
/* Extended attributes of one entry, all at once. */
#include <stdbool.h>
#include <stddef.h>

struct xattr { const char *name; const char *value; size_t length; };

/* Sorted by name; overlay's own are left out. Buffers grow and are used again; zero-initialised. */
struct xattrs { struct xattr *at; size_t count, capacity; char *names, *values; size_t names_capacity, values_capacity; };

/* Of `name` in the current directory, which is not followed, or where name is NULL of what fd stands for, which may be an O_PATH
 * descriptor. A file system without attributes has none. Returns 0, or -1 with errno. */
int xattrs_read(struct xattrs *, int fd, const char *name);
bool xattrs_equal(const struct xattrs *, const struct xattrs *);
void xattrs_free(struct xattrs *);
/* Marks that belong to overlay, and mean something else in another tree: from an archive they would let it hide, redirect or borrow what is in other layers. */
bool xattr_is_overlay(const char *name);
/* Whether this directory hides those of the layers below it. */
bool xattr_is_opaque(int fd);
