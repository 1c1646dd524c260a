/* getpid through the 32-bit entry, which the filter must refuse: AF_ALG could be had through its socketcall. */
#include <stdio.h>
int main(void)
{
#ifdef __x86_64__
	long result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
	printf("%ld\n", result < 0 ? result : 0);
#else
	printf("-1\n");
#endif
	return 0;
}
