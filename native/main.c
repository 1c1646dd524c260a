/* One binary, four lives: launcher (and, in its child, warden), probe for the doctor, and PID 1 of containers that ask for one. */
#include <stdio.h>
#include <string.h>

#include "launcher.h"
#include "probe.h"
#include "process.h"

#ifndef MAYFLY_VERSION
#define MAYFLY_VERSION "0.0.0"
#endif

int main(int argc, char **argv)
{
	if (argc > 0 && !strcmp(argv[0], "mayfly-init"))
		return init_main(argc, argv);
	if (argc > 1 && !strcmp(argv[1], "launch"))
		return launcher_main(argc, argv);
	if (argc > 1 && !strcmp(argv[1], "probe"))
		return probe_main(argc - 1, argv + 1);
	if (argc > 1 && !strcmp(argv[1], "--version")) {
		puts("mayfly-warden " MAYFLY_VERSION);
		return 0;
	}
	fprintf(stderr, "usage: mayfly-warden launch key=value… | probe | --version\n");
	return 2;
}
