#pragma once
/* Reads tar archives, entry by entry: ustar, V7, star, PAX, GNU long names, GNU sparse (old, PAX 0.0, 0.1 and 1.0).
 *
 * Nothing here touches a file system. Numbers, lengths and checksums are all checked; every error is EBADMSG (malformed or
 * truncated), ENAMETOOLONG, E2BIG (more than we are ready to hold), ENOTSUP (unknown kind), ENOMEM or that of read(2).
 *
 * Choices where readers differ: global PAX headers are skipped, as Docker and containerd do, so that a layer means the same
 * here as there. Links, devices and directories have no content, whatever their size field says (as Go's archive/tar).
 * An archive may end without its two zero blocks, between two entries only. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>
#include "fault.h"
#include "sha256.h"

enum {
	TAR_BUFFER = 1 << 20,      /* held at most */
	TAR_READ = 1 << 18,        /* read at a time: what stays in the cache until it is written; 10 % faster than 1 MiB */
	TAR_META_MAX = 1 << 20,    /* longest PAX header or long name, as in Go */
	TAR_SEGMENTS_MAX = 1 << 20 /* most pieces of a sparse file */
};

struct tar_xattr { const char *name; const void *value; size_t size; };
struct tar_segment { uint64_t offset, length; };   /* where the next length bytes of content belong */

/* All pointers are valid until the next tar_next. */
struct tar_entry {
	char type;                         /* '0' file, '1' hard link, '2' symbolic link, '3' char, '4' block, '5' directory, '6' fifo */
	const char *name, *link;           /* as in the archive: may be absolute, contain "..", be empty */
	mode_t mode;                       /* 07777 */
	uint32_t uid, gid;
	struct timespec mtime;
	uint32_t major, minor;
	uint64_t size;                     /* of the file when unpacked */
	uint64_t stored;                   /* bytes of content in the archive */
	bool sparse;
	const struct tar_segment *segments;
	size_t segment_count;
	const struct tar_xattr *xattrs;
	size_t xattr_count;
};

struct tar_reader;
/* Does not take fd over. NULL with errno ENOMEM. */
struct tar_reader *tar_reader_new(int fd, struct fault *);
/* For all that is read from fd: most bytes (0 = no limit; beyond it EFBIG), and what computes their digest (NULL = nobody). */
void tar_reader_watch(struct tar_reader *, uint64_t max_bytes, struct sha256 *);
void tar_reader_free(struct tar_reader *);
/* Skips what is left of the last entry's content and reads the next header. 1 = an entry, 0 = the end, -1 = fault. */
int tar_next(struct tar_reader *, struct tar_entry *);
/* The next bytes of the entry's content, without a copy: valid until the next call. Length, 0 = no more, -1 = fault. */
ssize_t tar_content(struct tar_reader *, const void **bytes);
/* After the end: reads and drops what follows, so that the writer is not cut off. */
int tar_drain(struct tar_reader *);
