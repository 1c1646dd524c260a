#include "sha256.h"

#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#include <sys/auxv.h>
#ifndef HWCAP_SHA2
#define HWCAP_SHA2 (1 << 6)
#endif
#endif

_Alignas(16) static const uint32_t K[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

typedef void compress_function(uint32_t state[8], const unsigned char *blocks, size_t count);

static uint32_t rotate(uint32_t word, int by)
{
	return word >> by | word << (32 - by);
}

/* One round. The names of the eight words go round instead of the words: three times as fast as moving them. */
#define ROUND(a, b, c, d, e, f, g, h, i) do { \
	uint32_t sum = (h) + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + (((e) & (f)) ^ (~(e) & (g))) + K[i] + w[i]; \
	(d) += sum; \
	(h) = sum + (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + (((a) & (b)) ^ ((a) & (c)) ^ ((b) & (c))); \
} while (0)

static void compress_portable(uint32_t state[8], const unsigned char *bytes, size_t count)
{
	for (; count; count--, bytes += 64) {
		uint32_t w[64], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];

		for (int i = 0; i < 16; i++)
			w[i] = (uint32_t)bytes[4 * i] << 24 | (uint32_t)bytes[4 * i + 1] << 16 | (uint32_t)bytes[4 * i + 2] << 8 |
				bytes[4 * i + 3];
		for (int i = 16; i < 64; i++) {
			uint32_t x = w[i - 15], y = w[i - 2];

			w[i] = w[i - 16] + w[i - 7] + (rotate(x, 7) ^ rotate(x, 18) ^ x >> 3) + (rotate(y, 17) ^ rotate(y, 19) ^ y >> 10);
		}
		for (int i = 0; i < 64; i += 8) {
			ROUND(a, b, c, d, e, f, g, h, i);
			ROUND(h, a, b, c, d, e, f, g, i + 1);
			ROUND(g, h, a, b, c, d, e, f, i + 2);
			ROUND(f, g, h, a, b, c, d, e, i + 3);
			ROUND(e, f, g, h, a, b, c, d, i + 4);
			ROUND(d, e, f, g, h, a, b, c, i + 5);
			ROUND(c, d, e, f, g, h, a, b, i + 6);
			ROUND(b, c, d, e, f, g, h, a, i + 7);
		}
		state[0] += a;
		state[1] += b;
		state[2] += c;
		state[3] += d;
		state[4] += e;
		state[5] += f;
		state[6] += g;
		state[7] += h;
	}
}

#if defined(__x86_64__)

static bool has_instructions(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && c & bit_SSSE3 && c & bit_SSE4_1 &&
		__get_cpuid_count(7, 0, &a, &b, &c, &d) && b & bit_SHA;
}

/* Intel SDM, SHA256RNDS2: two rounds an instruction, the state as ABEF and CDGH; msg1 and msg2 make four words of the schedule. */
__attribute__((target("sha,ssse3,sse4.1")))
static void compress_native(uint32_t state[8], const unsigned char *bytes, size_t count)
{
	const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
	__m128i dcba = _mm_loadu_si128((const __m128i *)(const void *)state);
	__m128i hgfe = _mm_loadu_si128((const __m128i *)(const void *)(state + 4));
	__m128i cdab = _mm_shuffle_epi32(dcba, 0xb1), efgh = _mm_shuffle_epi32(hgfe, 0x1b);
	__m128i abef = _mm_alignr_epi8(cdab, efgh, 8), cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);

	for (; count; count--, bytes += 64) {
		__m128i w[4], abef_before = abef, cdgh_before = cdgh;

		for (int i = 0; i < 4; i++)
			w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(bytes + 16 * i)), swap);
#pragma GCC unroll 16
		for (int i = 0; i < 16; i++) {
			__m128i *now = &w[i & 3];

			if (i >= 4) {
				__m128i last = w[(i + 3) & 3], sum = _mm_sha256msg1_epu32(*now, w[(i + 1) & 3]);

				sum = _mm_add_epi32(sum, _mm_alignr_epi8(last, w[(i + 2) & 3], 4));
				*now = _mm_sha256msg2_epu32(sum, last);
			}
			__m128i words = _mm_add_epi32(*now, _mm_load_si128((const __m128i *)(const void *)(K + 4 * i)));

			cdgh = _mm_sha256rnds2_epu32(cdgh, abef, words);
			abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(words, 0x0e));
		}
		abef = _mm_add_epi32(abef, abef_before);
		cdgh = _mm_add_epi32(cdgh, cdgh_before);
	}
	__m128i feba = _mm_shuffle_epi32(abef, 0x1b), dchg = _mm_shuffle_epi32(cdgh, 0xb1);

	_mm_storeu_si128((__m128i *)(void *)state, _mm_blend_epi16(feba, dchg, 0xf0));
	_mm_storeu_si128((__m128i *)(void *)(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

#elif defined(__aarch64__)

static bool has_instructions(void)
{
	return getauxval(AT_HWCAP) & HWCAP_SHA2;
}

#ifdef __clang__
__attribute__((target("sha2")))
#else
__attribute__((target("+crypto")))
#endif
static void compress_native(uint32_t state[8], const unsigned char *bytes, size_t count)
{
	uint32x4_t abcd = vld1q_u32(state), efgh = vld1q_u32(state + 4);

	for (; count; count--, bytes += 64) {
		uint32x4_t w[4], abcd_before = abcd, efgh_before = efgh;

		for (int i = 0; i < 4; i++)
			w[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(bytes + 16 * i)));
		for (int i = 0; i < 16; i++) {
			uint32x4_t *now = &w[i & 3];

			if (i >= 4)
				*now = vsha256su1q_u32(vsha256su0q_u32(*now, w[(i + 1) & 3]), w[(i + 2) & 3], w[(i + 3) & 3]);
			uint32x4_t words = vaddq_u32(*now, vld1q_u32(K + 4 * i)), before = abcd;

			abcd = vsha256hq_u32(abcd, efgh, words);
			efgh = vsha256h2q_u32(efgh, before, words);
		}
		abcd = vaddq_u32(abcd, abcd_before);
		efgh = vaddq_u32(efgh, efgh_before);
	}
	vst1q_u32(state, abcd);
	vst1q_u32(state + 4, efgh);
}

#else

static bool has_instructions(void) { return false; }
#define compress_native compress_portable

#endif

static compress_function *compress;

void sha256_only_portable(void)
{
	compress = compress_portable;
}

void sha256_init(struct sha256 *s)
{
	static const uint32_t start[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };

	if (!compress)
		compress = has_instructions() ? compress_native : compress_portable;
	memcpy(s->state, start, sizeof(start));
	s->length = 0;
}

void sha256_update(struct sha256 *s, const void *bytes, size_t length)
{
	const unsigned char *at = bytes;
	size_t waiting = s->length % sizeof(s->block);

	s->length += length;
	if (waiting) {
		size_t part = sizeof(s->block) - waiting;

		if (part > length)
			part = length;
		memcpy(s->block + waiting, at, part);
		if (waiting + part < sizeof(s->block))
			return;
		compress(s->state, s->block, 1);
		at += part;
		length -= part;
	}
	compress(s->state, at, length / sizeof(s->block));
	if (length % sizeof(s->block))
		memcpy(s->block, at + length / sizeof(s->block) * sizeof(s->block), length % sizeof(s->block));
}

void sha256_final(struct sha256 *s, unsigned char digest[SHA256_BYTES])
{
	static const unsigned char padding[64] = { 0x80 };
	uint64_t bits = s->length * 8;
	unsigned char end[8];

	sha256_update(s, padding, 1 + (119 - s->length % 64) % 64);
	for (int i = 0; i < 8; i++)
		end[i] = (unsigned char)(bits >> (56 - 8 * i));
	sha256_update(s, end, sizeof(end));
	for (int i = 0; i < SHA256_BYTES; i++)
		digest[i] = (unsigned char)(s->state[i / 4] >> (24 - 8 * (i % 4)));
}

void sha256_hex(struct sha256 *s, char text[SHA256_HEX])
{
	unsigned char digest[SHA256_BYTES];

	sha256_final(s, digest);
	for (int i = 0; i < SHA256_BYTES; i++) {
		text[2 * i] = "0123456789abcdef"[digest[i] >> 4];
		text[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
	}
	text[SHA256_HEX - 1] = '\0';
}
