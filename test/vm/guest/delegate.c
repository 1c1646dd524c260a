/* Marks control groups as delegated, as systemd does. Older ones mark for root only. */
#include <stdio.h>
#include <sys/xattr.h>

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (setxattr(argv[i], "user.delegate", "1", 1, 0) < 0 && setxattr(argv[i], "trusted.delegate", "1", 1, 0) < 0)
			return perror(argv[i]), 1;
	return 0;
}
