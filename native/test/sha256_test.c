#define _GNU_SOURCE
/* SHA-256: the vectors of FIPS 180-4 and NIST's example file, and the processor's instructions against the portable way. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "sha256.h"

static int failures;

static void check(const char *what, struct sha256 *s, const char *expected)
{
	char text[SHA256_HEX];

	sha256_hex(s, text);
	if (strcmp(text, expected)) {
		failures++;
		printf("sha256_test.c: %s: %s, not %s\n", what, text, expected);
	}
}

static void vectors(void)
{
	static const struct { const char *text, *digest; } known[] = {
		{ "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
		{ "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
		{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
			"248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
		{ "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
			"cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1" },
	};
	struct sha256 s;

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		sha256_init(&s);
		sha256_update(&s, known[i].text, strlen(known[i].text));
		check(known[i].text, &s, known[i].digest);
	}
	sha256_init(&s);
	for (int i = 0; i < 1000000; i++)
		sha256_update(&s, "a", 1);
	check("a million a", &s, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

/* Every length around the block size, in pieces of every size. */
static void chain(char text[SHA256_HEX])
{
	static unsigned char bytes[1000];
	struct sha256 all, one;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(i * 167 + (i >> 3));
	sha256_init(&all);
	for (size_t length = 0; length < 300; length++)
		for (size_t piece = 1; piece < 140; piece += 7) {
			unsigned char digest[SHA256_BYTES];

			sha256_init(&one);
			for (size_t at = 0; at < length; at += piece)
				sha256_update(&one, bytes + at, at + piece > length ? length - at : piece);
			sha256_final(&one, digest);
			sha256_update(&all, digest, sizeof(digest));
		}
	sha256_update(&all, bytes, sizeof(bytes));
	sha256_hex(&all, text);
}

/* Not a check: a line for whoever compares. */
static void speed(const char *what)
{
	static unsigned char bytes[1 << 20];
	struct timespec a, b;
	struct sha256 s;
	char text[SHA256_HEX];

	if (!getenv("MAYFLY_SHA256_BENCH"))
		return;
	clock_gettime(CLOCK_MONOTONIC, &a);
	sha256_init(&s);
	for (int i = 0; i < 512; i++)
		sha256_update(&s, bytes, sizeof(bytes));
	sha256_hex(&s, text);
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("%s: %.0f MB/s\n", what, 512 * 1.048576 / ((double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec)));
}

int main(void)
{
	char best[SHA256_HEX], portable[SHA256_HEX];

	vectors();
	chain(best);
	speed("best");
	sha256_only_portable();
	vectors();
	chain(portable);
	speed("portable");
	if (strcmp(best, portable)) {
		failures++;
		printf("sha256_test.c: the processor's instructions give %s, the portable way %s\n", best, portable);
	}
	return failures != 0;
}
