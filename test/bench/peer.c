/* The programs of the benchmark, in one static file: what runs in the containers, and what measures from outside them.
 *
 *   peer true, or called as true    ends
 *   peer wait                       waits for SIGTERM, then ends at once
 *   peer serve PORT                 serves pull and echo, one connection after another
 *   peer listen PORT DELAY_MS       after the delay listens, and prints the CLOCK_MONOTONIC time right after listen(2) returned
 *   peer pull ADDRESS PORT MS       reads from a server for so long; prints bytes a second
 *   peer echo ADDRESS PORT MS       sends one byte and awaits it, again and again; prints round trips a second
 *   peer lookup SERVER NAME MS      asks a name server for a name, again and again; prints look-ups a second
 *   peer stopwatch PROGRAM [ARG…]   runs the program once for every byte it reads; prints the nanoseconds of each run
 *
 * C, so that neither node's event loop nor an interpreter is what is measured. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PIECE (256 * 1024)

#define must(call) ({ long must_result_ = (long)(call); if (must_result_ < 0) { perror("peer: " #call); exit(1); } must_result_; })

static char piece[PIECE];

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static struct sockaddr_in at(const char *address, const char *port)
{
	struct sockaddr_in result = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };
	inet_pton(AF_INET, address, &result.sin_addr);
	return result;
}

static int bound(const char *port)
{
	struct sockaddr_in address = at("0.0.0.0", port);
	int fd = (int)must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)));
	must(bind(fd, (struct sockaddr *)&address, sizeof address));
	return fd;
}

/* The first byte of a connection says what is wanted: p to be sent bytes without end, e to have every byte sent back. */
static void serve(const char *port)
{
	int server = bound(port);
	signal(SIGPIPE, SIG_IGN);
	must(listen(server, 16));
	for (;;) {
		char wish = 0;
		int peer = (int)must(accept4(server, NULL, NULL, SOCK_CLOEXEC));
		must(setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)));
		if (recv(peer, &wish, 1, 0) == 1) {
			if (wish == 'p')
				while (send(peer, piece, sizeof piece, 0) > 0)
					;
			else
				for (ssize_t got; (got = recv(peer, piece, sizeof piece, 0)) > 0;)
					if (send(peer, piece, (size_t)got, 0) != got)
						break;
		}
		close(peer);
	}
}

static int connected(const char *address, const char *port, char wish)
{
	struct sockaddr_in to = at(address, port);
	int fd = (int)must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	must(connect(fd, (struct sockaddr *)&to, sizeof to));
	must(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)));
	must(send(fd, &wish, 1, 0));
	return fd;
}

static void pull(const char *address, const char *port, uint64_t for_ns)
{
	int fd = connected(address, port, 'p');
	must(recv(fd, piece, 1, 0)); /* the connection stands, all the way */
	uint64_t start = now_ns(), bytes = 0, now;
	while ((now = now_ns()) - start < for_ns) {
		ssize_t got = must(recv(fd, piece, sizeof piece, 0));
		if (got == 0) {
			fprintf(stderr, "peer: the server closed the connection\n");
			exit(1);
		}
		bytes += (uint64_t)got;
	}
	printf("%.0f\n", (double)bytes * 1e9 / (double)(now - start));
}

static void echo(const char *address, const char *port, uint64_t for_ns)
{
	int fd = connected(address, port, 'e');
	uint64_t start = 0, trips = 0, now = 0;
	do {
		must(send(fd, "x", 1, 0));
		if (must(recv(fd, piece, 1, 0)) != 1) {
			fprintf(stderr, "peer: the server closed the connection\n");
			exit(1);
		}
		now = now_ns();
		if (start)
			trips++;
		else
			start = now; /* the first trip warms the path up */
	} while (now - start < for_ns);
	printf("%.0f\n", (double)trips * 1e9 / (double)(now - start));
}

/* One query for the name's IPv4 addresses, RFC 1035. */
static size_t question(const char *name, unsigned char *to)
{
	static const unsigned char head[12] = { 0x4d, 0x46, 1, 0, 0, 1 }, tail[5] = { 0, 0, 1, 0, 1 };
	size_t at = sizeof head;
	memcpy(to, head, sizeof head);
	while (*name) {
		size_t label = strcspn(name, ".");
		to[at++] = (unsigned char)label;
		memcpy(to + at, name, label);
		at += label;
		name += label + (name[label] == '.');
	}
	memcpy(to + at, tail, sizeof tail);
	return at + sizeof tail;
}

static void lookup(const char *server, const char *name, uint64_t for_ns)
{
	unsigned char query[300];
	size_t size = strlen(name) < 250 ? question(name, query) : 0;
	struct sockaddr_in to = at(server, "53");
	int fd = (int)must(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	must(connect(fd, (struct sockaddr *)&to, sizeof to));
	uint64_t start = 0, trips = 0, now = 0;
	do {
		must(send(fd, query, size, 0));
		if (must(recv(fd, piece, sizeof piece, 0)) < 12 || piece[3] & 15 || !piece[7]) {
			fprintf(stderr, "peer: %s does not know %s\n", server, name);
			exit(1);
		}
		now = now_ns();
		if (start)
			trips++;
		else
			start = now;
	} while (now - start < for_ns);
	printf("%.0f\n", (double)trips * 1e9 / (double)(now - start));
}

static void stopwatch(char **argv)
{
	extern char **environ;
	posix_spawn_file_actions_t files;
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
	for (char order; read(0, &order, 1) == 1;) {
		int status;
		pid_t child;
		uint64_t start = now_ns();
		errno = posix_spawnp(&child, argv[0], &files, NULL, argv, environ);
		must(errno ? -1 : 0);
		must(waitpid(child, &status, 0));
		uint64_t end = now_ns();
		if (status) {
			fprintf(stderr, "peer: %s ended with status %#x\n", argv[0], (unsigned)status);
			exit(1);
		}
		must(dprintf(1, "%llu\n", (unsigned long long)(end - start)));
	}
}

static void end(int signal_number)
{
	(void)signal_number;
	_exit(0);
}

int main(int argc, char **argv)
{
	const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];
	const char *mode = !strcmp(name, "true") ? name : argc > 1 ? argv[1] : "";
	if (!strcmp(mode, "true"))
		return 0;
	if (!strcmp(mode, "wait")) {
		signal(SIGTERM, end);
		must(write(1, "ready\n", 6));
		for (;;)
			pause();
	}
	if (!strcmp(mode, "serve") && argc == 3)
		serve(argv[2]);
	if (!strcmp(mode, "listen") && argc == 4) {
		int server = bound(argv[2]);
		usleep((useconds_t)atoi(argv[3]) * 1000);
		must(listen(server, 16));
		uint64_t now = now_ns();
		printf("%llu\n", (unsigned long long)now);
		fflush(stdout);
		for (;;)
			pause();
	}
	if ((!strcmp(mode, "pull") || !strcmp(mode, "echo")) && argc == 5) {
		(*mode == 'p' ? pull : echo)(argv[2], argv[3], strtoull(argv[4], NULL, 10) * 1000000);
		return 0;
	}
	if (!strcmp(mode, "lookup") && argc == 5) {
		lookup(argv[2], argv[3], strtoull(argv[4], NULL, 10) * 1000000);
		return 0;
	}
	if (!strcmp(mode, "stopwatch") && argc > 2) {
		stopwatch(argv + 2);
		return 0;
	}
	fprintf(stderr, "peer: see the top of peer.c\n");
	return 2;
}
