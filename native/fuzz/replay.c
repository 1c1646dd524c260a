#define _GNU_SOURCE
/* Runs a fuzzer's entry once for each file named: its corpus on a machine for which there is no libFuzzer, as in an emulator. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);

/* For custom mutators, which nobody calls here. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most)
{
	(void)data, (void)most;
	return size;
}

int main(int argc, char **argv)
{
	static uint8_t bytes[1 << 20];

	for (int i = 1; i < argc; i++) {
		FILE *file = fopen(argv[i], "re");

		if (!file) {
			perror(argv[i]);
			return 1;
		}
		size_t size = fread(bytes, 1, sizeof(bytes), file);

		fclose(file);
		LLVMFuzzerTestOneInput(bytes, size);
	}
	return argc > 1 ? 0 : 2;
}
