#pragma once
/* The parts of unpacking an archive. tar_unpack.c says what becomes of each entry. All that return an int return -1 with the fault, unless said otherwise. */
#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "tar.h"
#include "tar_read.h"

#define STEP "archive"

/* A directory that was opened lately. */
struct parent {
	int fd;                  /* O_PATH, -1 = none */
	char path[PATH_MAX];     /* below base, cleaned */
	bool direct;             /* reached without a symbolic link below base */
	bool setgid;             /* what is made in it gets its group */
};

/* A directory whose time is set at the end: making its entries changes it. */
struct late { size_t path; struct timespec mtime; };

/* A directory that was made because an entry lies in it. Its own entry may follow; the inode tells that it is the same one,
 * by whatever path that entry calls it. */
struct implied { ino_t inode; size_t path; bool mentioned; };

struct unpack {
	int root_fd, base_fd;
	char base[PATH_MAX];
	const struct tar_options *options;
	struct tar_result *result;
	struct fault *fault;
	struct tar_reader *reader;
	struct tar_entry entry;      /* the current one */
	struct parent parent, link_parent;
	uid_t uid;
	gid_t gid;
	struct late *late;
	size_t late_count, late_capacity;
	struct implied *implied;     /* in the order they were made */
	size_t implied_count;
	size_t *slots;               /* hash table of them by inode: index + 1, 0 = free; a power of two, at most half full */
	size_t slot_count;
	bool any_replaced;           /* a directory was removed: a new one may be where an implied one was, even with its inode */
	char *paths;                 /* of the late and the implied, each with its NUL */
	size_t paths_length, paths_capacity;
	struct sha256 hash;
	int cwd_fd;                  /* where we were, for the calls that know paths only; -1 = not moved yet */
};

static inline int unpack_refuse(struct unpack *u, int error, const char *why)
{
	return fault(u->fault, STEP, u->entry.name, error, why);
}

/* Names, and the directories that they lie in (tar_place.c). */
/* Takes dots and slashes out of a name, as if "/" were above it: "../a/./b/" is "a/b". */
int unpack_clean(struct unpack *, const char *name, char path[static PATH_MAX]);
/* Splits a cleaned path at its last slash, in place: name gets the last part, path becomes the directory. */
void unpack_split(char *path, char name[static NAME_MAX + 1]);
/* A path below base, as the root sees it. */
int unpack_below_root(struct unpack *, const char *path, char full[static PATH_MAX]);
/* Opens a directory below base; making says whether what is missing is made. The slot owns the descriptor. */
int unpack_open_parent(struct unpack *, struct parent *slot, const char *path, bool making);
void unpack_forget_parents(struct unpack *);
/* Takes away what is in an entry's way; it was there before, or came earlier in the archive. Gone already is fine. */
int unpack_clear(struct unpack *, int dir_fd, const char *name);

/* The entry itself, in its directory (tar_make.c). */
int unpack_file(struct unpack *, int dir_fd, const char *name);
int unpack_directory(struct unpack *, int dir_fd, const char *name);
int unpack_symlink(struct unpack *, int dir_fd, const char *name);
int unpack_hard_link(struct unpack *, int dir_fd, const char *name);
int unpack_node(struct unpack *, int dir_fd, const char *name);

/* Owner, mode and extended attributes (tar_dress.c). */
/* What is made now belongs to somebody else than the entry says. */
bool unpack_needs_chown(const struct unpack *);
/* Of an open new file. */
int unpack_dress(struct unpack *, int fd, bool force_mode);
/* Of what is not opened: links, devices, fifos. Their mode is what they were made with; their time is set, too. */
int unpack_dress_by_name(struct unpack *, int dir_fd, const char *name);
/* Of a directory that exists. */
int unpack_dress_directory(struct unpack *, int dir_fd, const char *name, bool opaque);
/* Of base itself, "./". */
int unpack_dress_base(struct unpack *);

/* A layer's whiteouts (tar_whiteout.c). */
/* Hides what lower layers have in this directory. */
int unpack_make_opaque(struct unpack *, int fd);
/* Makes a directory of a whiteout on the way to path. 1 if there was one, 0 if not. */
int unpack_open_whiteout(struct unpack *, const char *path);
/* A name that begins with ".wh.". */
int unpack_whiteout(struct unpack *, const char *directory, const char *name);
/* 1: AUFS's bookkeeping at the top of the layer, to be dropped. Refuses a directory with a name kept for whiteouts. */
int unpack_reserved_directory(struct unpack *, const char *directory);

/* What can be said or done at the end only: times of directories, and which were made without an entry (tar_later.c). */
int unpack_remember_time(struct unpack *, const char *path);
void unpack_set_late_times(struct unpack *);
/* For resolve_make_told. */
int unpack_remember_implied(void *unpack, int parent_fd, const char *name, const char *path);
/* Such a directory has an entry after all. */
void unpack_mention_implied(struct unpack *, ino_t inode);
/* Fills the result with those that are still there and never got an entry. */
int unpack_tell_implied(struct unpack *);
