#pragma once
/* SHA-256 (FIPS 180-4), with the processor's own instructions where it has them: 1.9 GB/s instead of 0.3 on x64. */
#include <stddef.h>
#include <stdint.h>

enum { SHA256_BYTES = 32, SHA256_HEX = 2 * SHA256_BYTES + 1 };

struct sha256 {
	uint32_t state[8];
	uint64_t length;              /* bytes so far */
	unsigned char block[64];      /* of which length % 64 are waiting */
};

void sha256_init(struct sha256 *);
void sha256_update(struct sha256 *, const void *bytes, size_t length);
/* Ends it; update may not be called any more. */
void sha256_final(struct sha256 *, unsigned char digest[SHA256_BYTES]);
/* The same as lower case hexadecimal digits and a NUL. */
void sha256_hex(struct sha256 *, char text[SHA256_HEX]);

/* For tests: the portable way from now on, whatever the processor has. */
void sha256_only_portable(void);
