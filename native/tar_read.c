#define _GNU_SOURCE
#include "tar_read.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "grow.h"

enum { BLOCK = 512 };

/* Offsets in a header block (POSIX ustar; GNU keeps its sparse map where ustar has the name's prefix). */
enum {
	AT_NAME = 0, AT_MODE = 100, AT_UID = 108, AT_GID = 116, AT_SIZE = 124, AT_MTIME = 136, AT_CHECKSUM = 148, AT_TYPE = 156,
	AT_LINK = 157, AT_MAGIC = 257, AT_MAJOR = 329, AT_MINOR = 337, AT_PREFIX = 345, AT_STAR_TRAILER = 508,
	AT_GNU_SPARSE = 386, AT_GNU_EXTENDED = 482, AT_GNU_REAL_SIZE = 483, AT_MORE_EXTENDED = 504
};

/* What a PAX header said. Texts point into pax_text; NULL = not said. */
struct pax {
	const char *path, *link, *size, *uid, *gid, *mtime, *major, *minor;
	const char *sparse_name, *sparse_size, *sparse_real_size, *sparse_map, *sparse_major, *sparse_minor;
};

struct tar_reader {
	int fd;
	struct fault *fault;
	unsigned char *buffer;               /* TAR_BUFFER bytes, of which start..end are read and not yet used */
	size_t start, end;
	bool ended;                          /* end of file seen on fd */
	uint64_t received, max_bytes;        /* read from fd so far, and at most (0 = no limit) */
	struct sha256 *hash;                 /* of all that is read, NULL = not wanted */
	uint64_t position;                   /* of buffer[start] in the archive, for messages */
	uint64_t left;                       /* content of the current entry not handed out yet */
	unsigned padding;                    /* zeros that follow it */
	char *pax_text, *long_name, *long_link;
	struct pax pax;
	struct tar_xattr *xattrs;
	size_t xattr_count, xattr_capacity;
	struct tar_segment *segments;
	size_t segment_count, segment_capacity;
	uint64_t half_segment;               /* PAX 0.0: an offset that waits for its length */
	bool has_half_segment, has_segments;
	char name[256 + 2], link[100 + 1];   /* from the header block: prefix/name */
};

static int refuse(struct tar_reader *r, int error, const char *why)
{
	char subject[64];

	snprintf(subject, sizeof(subject), "byte %llu", (unsigned long long)r->position);
	return fault(r->fault, "archive", subject, error, why);
}

struct tar_reader *tar_reader_new(int fd, struct fault *f)
{
	struct tar_reader *r = calloc(1, sizeof(*r));

	if (r) {
		r->fd = fd;
		r->fault = f;
		r->buffer = malloc(TAR_BUFFER);
	}
	if (r && r->buffer)
		return r;
	free(r);
	fault(f, "archive", "", ENOMEM, NULL);
	return NULL;
}

void tar_reader_watch(struct tar_reader *r, uint64_t max_bytes, struct sha256 *hash)
{
	r->max_bytes = max_bytes;
	r->hash = hash;
}

static void forget_entry(struct tar_reader *r)
{
	free(r->pax_text);
	free(r->long_name);
	free(r->long_link);
	r->pax_text = r->long_name = r->long_link = NULL;
	r->pax = (struct pax){ 0 };
	r->xattr_count = r->segment_count = 0;
	r->has_half_segment = r->has_segments = false;
}

void tar_reader_free(struct tar_reader *r)
{
	if (!r)
		return;
	forget_entry(r);
	free(r->xattrs);
	free(r->segments);
	free(r->buffer);
	free(r);
}

/* Makes at least want (<= TAR_BUFFER) bytes available at buffer + start, fewer only at the end of the file. */
static int fill(struct tar_reader *r, size_t want)
{
	if (r->start == r->end)
		r->start = r->end = 0;
	while (r->end - r->start < want && !r->ended) {
		if (r->start + want > TAR_BUFFER) {
			memmove(r->buffer, r->buffer + r->start, r->end - r->start);
			r->end -= r->start;
			r->start = 0;
		}
		size_t room = TAR_BUFFER - r->end;
		ssize_t got = read(r->fd, r->buffer + r->end, room > TAR_READ ? TAR_READ : room);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return refuse(r, errno, "cannot read the archive");
		r->ended = got == 0;
		r->received += (uint64_t)got;
		if (r->max_bytes && r->received > r->max_bytes) {
			char why[80];

			snprintf(why, sizeof(why), "the archive is longer than the %llu bytes allowed", (unsigned long long)r->max_bytes);
			return refuse(r, EFBIG, why);
		}
		if (r->hash)
			sha256_update(r->hash, r->buffer + r->end, (size_t)got);
		r->end += (size_t)got;
	}
	return 0;
}

static void use(struct tar_reader *r, size_t count)
{
	r->start += count;
	r->position += count;
}

static int skip(struct tar_reader *r, uint64_t count)
{
	while (count) {
		if (fill(r, 1) < 0)
			return -1;
		size_t here = r->end - r->start;

		if (!here)
			return refuse(r, EBADMSG, "the archive ends in the middle of an entry");
		if (here > count)
			here = (size_t)count;
		use(r, here);
		count -= here;
	}
	return 0;
}

/* A whole block, NULL on a fault. Valid until the next fill. */
static const unsigned char *block(struct tar_reader *r)
{
	if (fill(r, BLOCK) < 0)
		return NULL;
	if (r->end - r->start < BLOCK) {
		refuse(r, EBADMSG, "the archive ends in the middle of a block");
		return NULL;
	}
	const unsigned char *bytes = r->buffer + r->start;

	use(r, BLOCK);
	return bytes;
}

/* A header's number: octal text, or base 256 when the first bit is set. */
static int header_number(struct tar_reader *r, const unsigned char *field, size_t width, int64_t *number)
{
	size_t i = 0;
	uint64_t value = 0;

	if (field[0] & 0x80) {
		unsigned char flip = field[0] & 0x40 ? 0xff : 0;

		for (i = 0; i < width; i++) {
			unsigned char digit = field[i] ^ flip;

			if (i == 0)
				digit &= 0x7f;
			if (value >> 55)
				return refuse(r, EBADMSG, "a number in the header is too large");
			value = value << 8 | digit;
		}
		*number = flip ? -(int64_t)value - 1 : (int64_t)value;
		return 0;
	}
	while (i < width && (field[i] == ' ' || field[i] == '\0'))
		i++;
	for (; i < width && field[i] >= '0' && field[i] <= '7'; i++)
		value = value << 3 | (unsigned)(field[i] - '0');
	if (i < width && field[i] != ' ' && field[i] != '\0')
		return refuse(r, EBADMSG, "a number in the header is not octal");
	*number = (int64_t)value;
	return 0;
}

/* Decimal digits only, at most INT64_MAX; *end is the first other character. */
static bool digits(const char *text, const char **end, uint64_t *number)
{
	uint64_t value = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9'; p++) {
		if (value > (INT64_MAX - 9) / 10)
			return false;
		value = value * 10 + (unsigned)(*p - '0');
	}
	*end = p;
	*number = value;
	return p != text;
}

static int pax_number(struct tar_reader *r, const char *text, uint64_t most, uint64_t *number)
{
	const char *end;

	if (!digits(text, &end, number) || *end || *number > most)
		return refuse(r, EBADMSG, "a number in a PAX header is malformed or too large");
	return 0;
}

static int pax_time(struct tar_reader *r, const char *text, struct timespec *time)
{
	bool negative = *text == '-';
	const char *p;
	uint64_t seconds;
	long nanoseconds = 0;

	if (!digits(text + negative, &p, &seconds) || (*p && *p != '.'))
		return refuse(r, EBADMSG, "a time in a PAX header is malformed");
	if (*p == '.') {
		long unit = 100000000;

		for (p++; *p >= '0' && *p <= '9'; p++, unit /= 10)
			nanoseconds += (*p - '0') * unit;
		if (*p)
			return refuse(r, EBADMSG, "a time in a PAX header is malformed");
	}
	time->tv_sec = negative ? -(time_t)seconds : (time_t)seconds;
	time->tv_nsec = nanoseconds;
	if (negative && nanoseconds) {
		time->tv_sec--;
		time->tv_nsec = 1000000000 - nanoseconds;
	}
	return 0;
}

/* Segments must rise and not overlap; that they fit the file is checked when its size is known. */
static int add_segment(struct tar_reader *r, uint64_t offset, uint64_t length)
{
	const struct tar_segment *last = r->segment_count ? &r->segments[r->segment_count - 1] : NULL;

	if (offset > INT64_MAX || length > INT64_MAX - offset || (last && offset < last->offset + last->length))
		return refuse(r, EBADMSG, "the map of a sparse file is out of order");
	if (r->segment_count == TAR_SEGMENTS_MAX)
		return refuse(r, E2BIG, "a sparse file has too many pieces");
	struct tar_segment *longer = grow(r->segments, &r->segment_capacity, r->segment_count + 1, sizeof(*longer));

	if (!longer)
		return refuse(r, ENOMEM, NULL);
	r->segments = longer;
	r->segments[r->segment_count++] = (struct tar_segment){ offset, length };
	return 0;
}

static int add_xattr(struct tar_reader *r, const char *name, const char *value, size_t size)
{
	size_t i = 0;

	while (i < r->xattr_count && strcmp(r->xattrs[i].name, name))
		i++;
	if (i == 1024)
		return refuse(r, E2BIG, "an entry has too many extended attributes");
	struct tar_xattr *longer = grow(r->xattrs, &r->xattr_capacity, i + 1, sizeof(*longer));

	if (!longer)
		return refuse(r, ENOMEM, NULL);
	r->xattrs = longer;
	r->xattrs[i] = (struct tar_xattr){ name, value, size };
	r->xattr_count += i == r->xattr_count;
	return 0;
}

/* One record; value is ended by a NUL, which size does not count. */
static int pax_record(struct tar_reader *r, char *key, char *value, size_t size)
{
	static const char xattr[] = "SCHILY.xattr.";
	const struct { const char *key; const char **text; } known[] = {
		{ "path", &r->pax.path }, { "linkpath", &r->pax.link }, { "size", &r->pax.size },
		{ "uid", &r->pax.uid }, { "gid", &r->pax.gid }, { "mtime", &r->pax.mtime },
		{ "SCHILY.devmajor", &r->pax.major }, { "SCHILY.devminor", &r->pax.minor },
		{ "GNU.sparse.name", &r->pax.sparse_name }, { "GNU.sparse.size", &r->pax.sparse_size },
		{ "GNU.sparse.realsize", &r->pax.sparse_real_size }, { "GNU.sparse.map", &r->pax.sparse_map },
		{ "GNU.sparse.major", &r->pax.sparse_major }, { "GNU.sparse.minor", &r->pax.sparse_minor },
	};
	uint64_t number;

	if (!strncmp(key, xattr, sizeof(xattr) - 1) && key[sizeof(xattr) - 1])
		return add_xattr(r, key + sizeof(xattr) - 1, value, size);
	if (memchr(value, '\0', size))
		return refuse(r, EBADMSG, "a PAX header has a NUL in a value");
	if (!strcmp(key, "GNU.sparse.offset") || !strcmp(key, "GNU.sparse.numbytes")) {
		bool is_offset = key[11] == 'o';

		if (is_offset == r->has_half_segment)
			return refuse(r, EBADMSG, "the map of a sparse file is malformed");
		if (pax_number(r, value, INT64_MAX, &number) < 0)
			return -1;
		if (!is_offset && add_segment(r, r->half_segment, number) < 0)
			return -1;
		r->half_segment = number;
		r->has_half_segment = is_offset;
		r->has_segments = true;
		return 0;
	}
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (!strcmp(key, known[i].key))
			*known[i].text = size ? value : NULL; /* an empty value takes the record back */
	return 0;
}

/* Records are "<length> <key>=<value>\n", the length counting itself. Splits text in place. */
static int pax_records(struct tar_reader *r, char *text, size_t size)
{
	while (size && *text) {
		const char *end;
		uint64_t length;

		if (!digits(text, &end, &length) || *end != ' ' || length > size || text + length <= end + 1 ||
				text[length - 1] != '\n')
			return refuse(r, EBADMSG, "a PAX header has a malformed record");
		char *key = text + (end - text) + 1, *stop = text + length - 1, *equals = memchr(key, '=', (size_t)(stop - key));

		if (!equals || equals == key || memchr(key, '\0', (size_t)(equals - key)))
			return refuse(r, EBADMSG, "a PAX header has a record without a key");
		*equals = *stop = '\0';
		if (pax_record(r, key, equals + 1, (size_t)(stop - equals - 1)) < 0)
			return -1;
		text += length;
		size -= (size_t)length;
	}
	return 0;
}

/* Takes the content of a special entry out of the stream, with a NUL behind. */
static char *meta(struct tar_reader *r, uint64_t size)
{
	if (size > TAR_META_MAX - BLOCK) {
		refuse(r, E2BIG, "an extended header is longer than 1 MiB");
		return NULL;
	}
	size_t padded = (size_t)(size + BLOCK - 1) / BLOCK * BLOCK;

	if (fill(r, padded) < 0)
		return NULL;
	if (r->end - r->start < padded) {
		refuse(r, EBADMSG, "the archive ends in the middle of an extended header");
		return NULL;
	}
	char *text = malloc((size_t)size + 1);

	if (!text) {
		refuse(r, ENOMEM, NULL);
		return NULL;
	}
	memcpy(text, r->buffer + r->start, (size_t)size);
	text[size] = '\0';
	use(r, padded);
	return text;
}

/* GNU's old format: four pieces in the header, then blocks of 21. */
static int old_sparse_map(struct tar_reader *r, const unsigned char *header)
{
	const unsigned char *at = header + AT_GNU_SPARSE;
	bool more = header[AT_GNU_EXTENDED];

	for (int room = 4;; room = 21) {
		for (; room > 0 && at[0]; room--, at += 24) {
			int64_t offset, length;

			if (header_number(r, at, 12, &offset) < 0 || header_number(r, at + 12, 12, &length) < 0)
				return -1;
			if (offset < 0 || length < 0)
				return refuse(r, EBADMSG, "the map of a sparse file is malformed");
			if (add_segment(r, (uint64_t)offset, (uint64_t)length) < 0)
				return -1;
		}
		if (!more)
			return 0;
		at = block(r);
		if (!at)
			return -1;
		more = at[AT_MORE_EXTENDED];
	}
}

/* PAX 0.1: "offset,length,offset,length…". */
static int text_sparse_map(struct tar_reader *r, const char *text)
{
	for (;; text++) {
		uint64_t offset, length;

		if (!digits(text, &text, &offset) || *text != ',' || !digits(text + 1, &text, &length) || (*text && *text != ','))
			return refuse(r, EBADMSG, "the map of a sparse file is malformed");
		if (add_segment(r, offset, length) < 0)
			return -1;
		if (!*text)
			return 0;
	}
}

/* The next line of a PAX 1.0 map, which lies before the content, padded to blocks. */
static int map_line(struct tar_reader *r, const unsigned char **at, size_t *room, uint64_t *stored, uint64_t *number)
{
	*number = 0;
	for (int length = 0;; length++) {
		if (!*room) {
			if (*stored < BLOCK)
				return refuse(r, EBADMSG, "the map of a sparse file is longer than its content");
			*at = block(r);
			if (!*at)
				return -1;
			*stored -= BLOCK;
			*room = BLOCK;
		}
		unsigned char c = *(*at)++;

		--*room;
		if (c == '\n' && length)
			return 0;
		if (c < '0' || c > '9' || length == 18)
			return refuse(r, EBADMSG, "the map of a sparse file is malformed");
		*number = *number * 10 + (c - '0');
	}
}

static int inline_sparse_map(struct tar_reader *r, uint64_t *stored)
{
	const unsigned char *at = NULL;
	size_t room = 0;
	uint64_t count, offset, length;

	if (map_line(r, &at, &room, stored, &count) < 0)
		return -1;
	for (; count; count--)
		if (map_line(r, &at, &room, stored, &offset) < 0 || map_line(r, &at, &room, stored, &length) < 0 ||
				add_segment(r, offset, length) < 0)
			return -1;
	return 0;
}

/* Finds the map in whichever of the four formats, and holds it against the sizes. */
static int sparse(struct tar_reader *r, struct tar_entry *entry)
{
	const struct pax *pax = &r->pax;
	const char *size = pax->sparse_real_size ? pax->sparse_real_size : pax->sparse_size;

	if (pax->sparse_major && !strcmp(pax->sparse_major, "1") && pax->sparse_minor && !strcmp(pax->sparse_minor, "0")) {
		if (inline_sparse_map(r, &entry->stored) < 0)
			return -1;
	} else if (pax->sparse_map) {
		r->segment_count = 0; /* 0.1 may repeat 0.0's records */
		if (text_sparse_map(r, pax->sparse_map) < 0)
			return -1;
	} else if (!r->has_segments) {
		return 0;
	}
	if (r->has_half_segment || (size && pax_number(r, size, INT64_MAX, &entry->size) < 0))
		return refuse(r, EBADMSG, "the map of a sparse file is malformed");

	uint64_t end = 0, sum = 0;

	for (size_t i = 0; i < r->segment_count; i++) {
		end = r->segments[i].offset + r->segments[i].length;
		sum += r->segments[i].length;
	}
	if (end > entry->size || sum != entry->stored)
		return refuse(r, EBADMSG, "the map of a sparse file does not fit its size");
	entry->sparse = true;
	entry->segments = r->segments;
	entry->segment_count = r->segment_count;
	return 0;
}

static bool is_zero(const unsigned char *bytes)
{
	return bytes[0] == 0 && !memcmp(bytes, bytes + 1, BLOCK - 1);
}

/* The sum over the header with blanks in place of the sum; some old writers took the bytes as signed. */
static int check_sum(struct tar_reader *r, const unsigned char *header)
{
	int64_t expected, sum = 8 * ' ', signed_sum = 8 * ' ';

	if (header_number(r, header + AT_CHECKSUM, 8, &expected) < 0)
		return -1;
	for (int i = 0; i < BLOCK; i++) {
		if (i >= AT_CHECKSUM && i < AT_CHECKSUM + 8)
			continue;
		sum += header[i];
		signed_sum += (signed char)header[i];
	}
	return sum == expected || signed_sum == expected ? 0 : refuse(r, EBADMSG, "a header's checksum is wrong");
}

/* Name and link as the header block has them. */
static void short_names(struct tar_reader *r, const unsigned char *header)
{
	bool ustar = !memcmp(header + AT_MAGIC, "ustar\0", 6);
	size_t most = !memcmp(header + AT_STAR_TRAILER, "tar\0", 4) ? 131 : 155;
	int prefix = ustar ? (int)strnlen((const char *)header + AT_PREFIX, most) : 0;

	snprintf(r->name, sizeof(r->name), "%.*s%s%.100s", prefix, header + AT_PREFIX, prefix ? "/" : "", header + AT_NAME);
	snprintf(r->link, sizeof(r->link), "%.100s", header + AT_LINK);
}

/* Fills the entry from a header block; what PAX said goes over it. */
static int decode(struct tar_reader *r, const unsigned char *header, uint64_t size, struct tar_entry *entry)
{
	int64_t mode, uid, gid, mtime, major = 0, minor = 0, real_size = 0;
	bool has_devices = header[AT_TYPE] == '3' || header[AT_TYPE] == '4', old_sparse = header[AT_TYPE] == 'S';
	const struct pax *pax = &r->pax;

	if (header_number(r, header + AT_MODE, 8, &mode) < 0 || header_number(r, header + AT_UID, 8, &uid) < 0 ||
			header_number(r, header + AT_GID, 8, &gid) < 0 || header_number(r, header + AT_MTIME, 12, &mtime) < 0)
		return -1;
	if (has_devices && (header_number(r, header + AT_MAJOR, 8, &major) < 0 ||
			header_number(r, header + AT_MINOR, 8, &minor) < 0))
		return -1;
	if (old_sparse && header_number(r, header + AT_GNU_REAL_SIZE, 12, &real_size) < 0)
		return -1;

	uint64_t number;

	if (pax->uid)
		uid = pax_number(r, pax->uid, UINT32_MAX - 1, &number) < 0 ? -1 : (int64_t)number;
	if (pax->gid)
		gid = pax_number(r, pax->gid, UINT32_MAX - 1, &number) < 0 ? -1 : (int64_t)number;
	if (pax->major)
		major = pax_number(r, pax->major, UINT32_MAX, &number) < 0 ? -1 : (int64_t)number;
	if (pax->minor)
		minor = pax_number(r, pax->minor, UINT32_MAX, &number) < 0 ? -1 : (int64_t)number;
	/* 4294967295 is not an id: chown takes it as "leave alone". */
	if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX || major < 0 || major > UINT32_MAX || minor < 0 ||
			minor > UINT32_MAX || real_size < 0)
		return refuse(r, EBADMSG, "a user, group, device or size in a header is out of range");

	*entry = (struct tar_entry){
		.type = (char)header[AT_TYPE], .name = r->name, .link = r->link, .mode = (mode_t)mode & 07777,
		.uid = (uint32_t)uid, .gid = (uint32_t)gid, .mtime = { .tv_sec = mtime },
		.major = (uint32_t)major, .minor = (uint32_t)minor, .size = size, .stored = size,
	};
	if (pax->mtime && pax_time(r, pax->mtime, &entry->mtime) < 0)
		return -1;
	short_names(r, header);
	if (r->long_name)
		entry->name = r->long_name;
	if (r->long_link)
		entry->link = r->long_link;
	if (pax->path)
		entry->name = pax->path;
	if (pax->sparse_name)
		entry->name = pax->sparse_name;
	if (pax->link)
		entry->link = pax->link;
	entry->xattrs = r->xattrs;
	entry->xattr_count = r->xattr_count;

	switch (entry->type) {
	case '\0': case '0': case '7':
		entry->type = '0';
		/* Before ustar a directory was a file whose name ends in a slash. */
		if (!size && *entry->name && entry->name[strlen(entry->name) - 1] == '/')
			entry->type = '5';
		return sparse(r, entry);
	case 'S':
		entry->type = '0';
		entry->size = (uint64_t)real_size;
		r->has_segments = true;
		return old_sparse_map(r, header) < 0 ? -1 : sparse(r, entry);
	case 'D': /* GNU incremental: a directory with a list of names, which is skipped */
		entry->type = '5';
		entry->size = 0;
		return 0;
	case '1': case '2': case '3': case '4': case '5': case '6':
		entry->size = entry->stored = 0;
		return 0;
	default:
		return refuse(r, ENOTSUP, "an entry has an unknown type");
	}
}

int tar_next(struct tar_reader *r, struct tar_entry *entry)
{
	if (skip(r, r->left) < 0 || skip(r, r->padding) < 0)
		return -1;
	r->left = r->padding = 0;
	forget_entry(r);
	for (;;) {
		unsigned char header[BLOCK];
		int64_t size;
		char **text = NULL;

		if (fill(r, BLOCK) < 0)
			return -1;
		if (r->start == r->end && !r->pax_text && !r->long_name && !r->long_link)
			return 0;
		const unsigned char *bytes = block(r);

		if (!bytes)
			return -1;
		if (is_zero(bytes)) {
			if (fill(r, BLOCK) < 0)
				return -1;
			return r->end - r->start >= BLOCK && !is_zero(r->buffer + r->start)
				? refuse(r, EBADMSG, "an entry follows a block of zeros") : 0;
		}
		memcpy(header, bytes, BLOCK); /* reading on may move the buffer */
		if (check_sum(r, header) < 0 || header_number(r, header + AT_SIZE, 12, &size) < 0)
			return -1;
		if (size < 0)
			return refuse(r, EBADMSG, "an entry has a negative size");
		switch (header[AT_TYPE]) {
		case 'g': case 'V': /* global PAX header; volume label */
			if (skip(r, ((uint64_t)size + BLOCK - 1) / BLOCK * BLOCK) < 0)
				return -1;
			continue;
		case 'x': case 'X': text = &r->pax_text; break;
		case 'L': text = &r->long_name; break;
		case 'K': text = &r->long_link; break;
		default: break;
		}
		if (text) {
			if (*text)
				return refuse(r, EBADMSG, "an entry has two extended headers of one kind");
			*text = meta(r, (uint64_t)size);
			if (!*text || (text == &r->pax_text && pax_records(r, *text, (size_t)size) < 0))
				return -1;
			continue;
		}
		uint64_t stored = (uint64_t)size;

		if (r->pax.size && pax_number(r, r->pax.size, INT64_MAX - BLOCK, &stored) < 0)
			return -1;
		if (decode(r, header, stored, entry) < 0)
			return -1;
		r->left = entry->stored;
		r->padding = (unsigned)(-r->left & (BLOCK - 1));
		return 1;
	}
}

ssize_t tar_content(struct tar_reader *r, const void **bytes)
{
	if (!r->left)
		return 0;
	if (fill(r, 1) < 0)
		return -1;
	size_t here = r->end - r->start;

	if (!here)
		return refuse(r, EBADMSG, "the archive ends in the middle of an entry");
	if (here > r->left)
		here = (size_t)r->left;
	*bytes = r->buffer + r->start;
	use(r, here);
	r->left -= here;
	return (ssize_t)here;
}

int tar_drain(struct tar_reader *r)
{
	do {
		use(r, r->end - r->start);
		if (fill(r, 1) < 0)
			return -1;
	} while (r->end > r->start);
	return 0;
}
