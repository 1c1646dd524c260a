#define _GNU_SOURCE
/* libFuzzer: any bytes as an archive. Reads every entry, its maps, attributes and content, as tar_unpack would. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "tar_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);

/* A change anywhere makes a header's checksum wrong, and the fuzzer would never get past it: so most changes are signed anew. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
	size = LLVMFuzzerMutate(data, size, most);
	for (uint8_t *header = data; seed % 16 && header + 512 <= data + size; header += 512) {
		unsigned sum = 0;

		if (memcmp(header + 257, "ustar", 5))
			continue;
		memset(header + 148, ' ', 8);
		for (int i = 0; i < 512; i++)
			sum += header[i];
		snprintf((char *)header + 148, 8, "%06o", sum);
	}
	return size;
}

/* Touches all that the entry points to, so that the sanitizers see a length that lies. */
static void look_at(const struct tar_entry *entry)
{
	volatile size_t seen = strlen(entry->name) + strlen(entry->link);
	uint64_t sum = 0, end = 0;

	for (size_t i = 0; i < entry->xattr_count; i++) {
		seen += strlen(entry->xattrs[i].name);
		for (size_t j = 0; j < entry->xattrs[i].size; j++)
			seen += ((const unsigned char *)entry->xattrs[i].value)[j];
	}
	(void)seen;
	for (size_t i = 0; i < entry->segment_count; i++) {
		if (entry->segments[i].offset < end)
			abort();
		end = entry->segments[i].offset + entry->segments[i].length;
		sum += entry->segments[i].length;
	}
	if (entry->sparse && (end > entry->size || sum != entry->stored))
		abort();
	if (!memchr("0123456", entry->type, 7) || entry->mode & ~07777u || entry->uid == UINT32_MAX || entry->gid == UINT32_MAX ||
			entry->mtime.tv_nsec < 0 || entry->mtime.tv_nsec > 999999999)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;
	struct fault fault = { 0 };
	struct tar_entry entry;
	const void *bytes;
	uint64_t got = 0;
	ssize_t part;
	int more;

	if (fd < 0)
		fd = memfd_create("archive", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size || lseek(fd, 0, SEEK_SET) != 0)
		abort();
	struct tar_reader *reader = tar_reader_new(fd, &fault);

	while ((more = tar_next(reader, &entry)) > 0) {
		look_at(&entry);
		for (got = 0; (part = tar_content(reader, &bytes)) > 0; got += (uint64_t)part)
			if (((const char *)bytes)[0] == ((const char *)bytes)[part - 1] && got > size)
				abort(); /* more content than was put in */
		if (part < 0)
			break;
	}
	if ((more < 0 || (more > 0 && part < 0)) != (fault.error != 0))
		abort();
	if (more == 0 && tar_drain(reader) < 0)
		abort();
	tar_reader_free(reader);
	return 0;
}
