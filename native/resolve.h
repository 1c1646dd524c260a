#pragma once
/* Paths inside a tree that is not trusted, resolved so that nothing in the tree can lead outside it.
 *
 * Every function returns a close-on-exec descriptor that the caller closes, or -1 with errno and, where there is one, the
 * fault filled in: `step` as given, subject = the path asked for. Paths may be absolute or relative; both start at root_fd,
 * and "" is the root itself. Safe while somebody else renames things inside the tree. */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "fault.h"

/* openat2(2) with O_CLOEXEC; EAGAIN (a rename somewhere raced with "..") is retried for a while. "" means ".".
 * resolve: RESOLVE_* of linux/openat2.h. Cannot create. No fault: for callers that expect failure. */
int resolve_open(int dir_fd, const char *path, int flags, uint64_t resolve);

/* Opens path as a process chrooted in root_fd would see it: absolute symbolic links and ".." stay inside. Magic links of
 * /proc are refused (ELOOP). flags as open(2) without O_CREAT; O_PATH for a descriptor to mount on or to stat. */
int resolve_in_root(int root_fd, const char *path, int flags, struct fault *, const char *step);

/* For mount targets and files put into a container: opens path, making what is missing. Missing parents become directories
 * (0755), the last component a directory or an empty file of the given mode (no umask). What exists is kept, but must be of
 * the kind asked for (ENOTDIR, EISDIR). Existing symbolic links are followed inside the root; one that climbs above the
 * root or leads to nothing is refused with EXDEV, and the message names it: the user gets an error, not a surprising
 * directory. Returns an O_PATH descriptor. */
int resolve_make(int root_fd, const char *path, bool directory, mode_t mode, struct fault *, const char *step);

/* For a working directory: must exist (ENOENT), be a directory (ENOTDIR), and be reached without climbing above the root
 * (EXDEV) and without /proc's links (ELOOP). Returns an O_PATH descriptor, good for fchdir(2). */
int resolve_workdir(int root_fd, const char *path, struct fault *, const char *step);

/* For archives: as resolve_make for a directory, but forgiving, as container engines are: ".." stops at the root, and what a
 * dangling link points to is made (a layer may hold var/run -> /run while run/ lies in another layer). */
int resolve_make_parents(int root_fd, const char *path, struct fault *, const char *step);
/* The same. tell hears of every directory that was made: its parent's descriptor, its name, and its path below the root, free
 * of links. If it returns -1, with errno, nothing more is made. */
struct resolve_made { int (*tell)(void *context, int parent_fd, const char *name, const char *path); void *context; };
int resolve_make_told(int root_fd, const char *path, const struct resolve_made *, struct fault *, const char *step);
