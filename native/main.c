/* One binary, four lives: launcher (and, in its child, warden), probe for the doctor, and PID 1 of containers that ask for one. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launcher.h"
#include "probe.h"
#include "process.h"
#include "warden.h"

#ifndef MAYFLY_VERSION
#define MAYFLY_VERSION "0.0.0"
#endif

#ifdef __SANITIZE_ADDRESS__
void __asan_set_error_report_callback(void (*)(const char *));
void __ubsan_get_current_report_data(const char **kind, const char **message, const char **file, unsigned *line, unsigned *column, char **address);
void __ubsan_on_report(void);

static void report(const char *text)
{
	if (child_report_fd >= 0)
		dprintf(child_report_fd, "process %d: %s\n", getpid(), text);
}

/* Called by the sanitizer, with no text of its own. */
void __ubsan_on_report(void)
{
	const char *kind, *message, *file;
	char text[1024], *address;
	unsigned line, column;
	__ubsan_get_current_report_data(&kind, &message, &file, &line, &column, &address);
	snprintf(text, sizeof(text), "%s:%u:%u: %s: %s", file, line, column, kind, message);
	report(text);
}

/* Reports of a sanitized build go to a file opened now: whatever root and stderr the process that finds a bug has by then. Children
 * inherit it until they become the container's program. The sanitizers' own log would be opened anew after each fork. */
static void report_to_file(void)
{
	const char *path = getenv("MAYFLY_SANITIZER_REPORT");
	child_report_fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
	__asan_set_error_report_callback(report);
}
#else
static void report_to_file(void) {}
#endif

int main(int argc, char **argv)
{
	report_to_file();
	if (argc > 0 && !strcmp(argv[0], "mayfly-init"))
		return init_main(argc, argv);
	if (argc > 1 && (!strcmp(argv[1], "launch") || !strcmp(argv[1], "launch-protected")))
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
