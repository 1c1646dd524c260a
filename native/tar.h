#pragma once
/* Tar streams in and out of a directory tree that is not trusted, for layers, rootfs tars and container copies.
 *
 * Both run in a process of their own that has already entered the tree (chroot, or cwd of a root made for it), with no other
 * descriptor of the host open than the ones given, so a blocking read is fine. All paths go through openat2(RESOLVE_IN_ROOT)
 * relative to root_fd; nothing follows a symlink out of it, also while somebody else is renaming things inside. */
#include <stdbool.h>
#include <stdint.h>
#include "fault.h"
#include "sha256.h"

struct tar_options {
	bool keep_ids;          /* chown to the archive's uid/gid; else everything belongs to the caller */
	bool layer;             /* OCI layer rules: .wh. whiteouts become overlay whiteouts/opaque markers; overlay xattrs are stripped */
	bool userxattr;         /* overlay markers as user.overlay.* (rootless) */
	bool strict_times;      /* restore directory mtimes at the end */
	uint64_t max_bytes;     /* of the whole archive, 0 = no limit: EFBIG */
	uint64_t max_entries;   /* 0 = no limit: E2BIG */
	bool digest;            /* SHA-256 of all that is read, trailing bytes included */
	bool list_implied;      /* keep the names of directories that were made without an entry of their own */
	bool keep_base;         /* an entry for base itself, "./", changes nothing: base is not the archive's (docker's rule for ADD and cp) */
	bool keep_kind;         /* refuse to replace a directory by something else and the reverse (EISDIR, ENOTDIR) */
};
struct tar_result {
	uint64_t entries, bytes;
	uint64_t omitted;       /* device nodes made as empty files, extended attributes not set: for want of privilege or support */
	char digest[SHA256_HEX]; /* if wanted, else "" */
	uint64_t implied;       /* directories that entries lie in but that have no entry; if wanted */
	char *implied_paths;    /* their paths below the root, parents first, each with its NUL; malloc'd, NULL when there is none */
	size_t implied_length;  /* bytes of that */
};

/* Names are taken as if "/" were base: ".." stops there, and so do absolute names and hard link targets. Symbolic links among
 * the parents are followed inside root_fd, the last component never. Missing parents are made (0755, the caller's).
 * An entry replaces what is there, except that a directory entry keeps an existing directory and what is in it.
 * Overlay xattrs (trusted.overlay.*, user.overlay.*) are always dropped, and devices 0:0, overlay's whiteouts, always
 * refused. A device that mknod may not make (rootless) becomes an empty file and is counted, so that hard links
 * to it and mounts over it still work. With `layer`, a whiteout hides what lower layers have, never what this layer
 * brings; it never follows a symbolic link (ELOOP); names reserved by AUFS are dropped. Hard links into a lower layer
 * fail (ENOENT).
 * Reads a tar from fd (ustar, PAX, GNU long names, GNU and PAX sparse, hardlinks, devices, fifos, xattrs incl. security.capability) and
 * makes it below base (a path inside root_fd, "" = root). Trailing bytes after the end are read and dropped. step "archive". */
int tar_unpack(int fd, int root_fd, const char *base, const struct tar_options *, struct tar_result *, struct fault *);
/* Takes the bytes of an archive, all of them: 0, or -1 with errno. */
struct tar_sink { int (*write)(void *context, const void *bytes, size_t length); void *context; };
/* Writes the file or tree at path (inside root_fd) as PAX tar, entries named from path's last component, as `docker cp` does. */
int tar_pack(const struct tar_sink *, int root_fd, const char *path, struct fault *);
/* Writes a tree of the store, or an overlay's upper directory, as an OCI layer: names relative to it, overlay's whiteouts and
 * opaque marks as .wh. entries. Equal trees give equal bytes. The top has an entry only if it differs from a plain directory
 * (0755 of root): an upper's top has the time of the container. userxattr: which marks are overlay's, as for tar_unpack. */
int tar_pack_layer(const struct tar_sink *, int tree_fd, bool userxattr, struct fault *);
/* Removes what is in the directory (and below), never following symlinks nor crossing mounts; at most `budget` entries (0 = all).
 * Returns 0 when it is empty, 1 when the budget ended, -1 with errno. */
int tree_empty(int dir_fd, uint64_t budget);
