/* The other end of a test's connections, inside a container.
 *
 *   peer serve PORT          TCP and UDP echo; TCP keeps writing after the client's half-close, then closes
 *   peer serve6 PORT         the same for both families
 *   peer reset PORT          reads one byte and resets; then prints how a second connection ended
 *   peer source PORT BYTES  sends so many bytes as fast as they are taken, prints "sent" and stays
 *   peer connect HOST PORT   prints what comes, or the error; HOST may be IPv6
 *   peer udp HOST PORT TEXT  sends it and prints the answer, or the error; HOST may be IPv6
 *   peer dns udp|tcp NAME TYPE  asks the name server of resolv.conf; prints code, whether cut, answers and length
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static int die(const char *what)
{
	printf("%s: %s\n", what, strerrorname_np(errno));
	fflush(stdout);
	_exit(1);
}

static struct sockaddr_in address(const char *host, const char *port)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
	inet_pton(AF_INET, host, &at.sin_addr);
	return at;
}

static int family = AF_INET;

static int open_socket(int type, const char *port)
{
	struct sockaddr_in v4 = address("0.0.0.0", port);
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = v4.sin_port};
	int fd = socket(family, type, 0), yes = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(fd, family == AF_INET6 ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4, family == AF_INET6 ? sizeof(v6) : sizeof(v4)) < 0)
		die("bind");
	if (type == SOCK_STREAM && listen(fd, 1024) < 0)
		die("listen");
	return fd;
}

static void write_all(int fd, const char *bytes, ssize_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, bytes, (size_t)size);
		if (n < 0)
			die("write");
		bytes += n;
		size -= n;
	}
}

static void echo_tcp(int fd)
{
	char buffer[65536];
	ssize_t n;

	while ((n = read(fd, buffer, sizeof(buffer))) > 0)
		write_all(fd, buffer, n);
	if (n < 0)
		die("read");
	write_all(fd, "", 0);
	_exit(0);
}

static void serve(const char *port)
{
	int tcp = open_socket(SOCK_STREAM, port), udp = open_socket(SOCK_DGRAM, port);

	if (fork() == 0) {
		static char buffer[70000];
		for (;;) {
			struct sockaddr_storage from;
			socklen_t size = sizeof(from);
			ssize_t n = recvfrom(udp, buffer, sizeof(buffer), 0, (struct sockaddr *)&from, &size);
			if (n >= 0)
				sendto(udp, buffer, (size_t)n, 0, (struct sockaddr *)&from, size);
		}
	}
	for (;;) {
		int fd = accept(tcp, NULL, NULL);
		if (fd < 0)
			die("accept");
		if (fork() == 0)
			echo_tcp(fd);
		close(fd);
	}
}

static void reset(const char *port)
{
	int tcp = open_socket(SOCK_STREAM, port), fd = accept(tcp, NULL, NULL);
	struct linger now = {.l_onoff = 1};
	char byte;

	if (read(fd, &byte, 1) != 1)
		die("read");
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
	fd = accept(tcp, NULL, NULL);
	write_all(fd, "x", 1);
	while (read(fd, &byte, 1) == 1)
		;
	printf("ended: %s\n", errno ? strerrorname_np(errno) : "0");
}

static void source(const char *port, const char *bytes)
{
	static char buffer[65536];
	int tcp = open_socket(SOCK_STREAM, port), fd = accept(tcp, NULL, NULL);

	for (long left = atol(bytes); left > 0; left -= (long)sizeof(buffer))
		write_all(fd, buffer, left < (long)sizeof(buffer) ? left : (long)sizeof(buffer));
	puts("sent");
	shutdown(fd, SHUT_WR);
	pause(); /* what is under way would die with the container */
}

static int dial(int type, const char *host, const char *port)
{
	struct sockaddr_in v4 = address(host, port);
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = v4.sin_port};
	int is_v6 = inet_pton(AF_INET6, host, &v6.sin6_addr) == 1, fd = socket(is_v6 ? AF_INET6 : AF_INET, type, 0);
	struct timeval limit = {.tv_sec = 8};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, is_v6 ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4, is_v6 ? sizeof(v6) : sizeof(v4)) < 0)
		die("connect");
	return fd;
}

static void ask(const char *protocol, const char *name, const char *type)
{
	static unsigned char answer[70000];
	unsigned char query[512] = {0x12, 0x34, 1, 0, 0, 1}, *at = query + 12;
	char line[256], host[64] = "";
	FILE *file = fopen("/etc/resolv.conf", "r");
	int is_tcp = !strcmp(protocol, "tcp");
	ssize_t size = 0, n;

	while (file && fgets(line, sizeof(line), file))
		if (!*host)
			sscanf(line, "nameserver %63s", host);
	for (const char *label = name; *label;) {
		size_t length = strcspn(label, ".");
		*at++ = (unsigned char)length;
		memcpy(at, label, length);
		at += length;
		label += length + (label[length] == '.');
	}
	at += 1;
	*at++ = 0;
	*at++ = (unsigned char)atoi(type);
	*at++ = 0;
	*at++ = 1;

	int fd = dial(is_tcp ? SOCK_STREAM : SOCK_DGRAM, host, "53");
	if (is_tcp) {
		unsigned char length[2] = {0, (unsigned char)(at - query)};
		write_all(fd, (char *)length, 2);
	}
	write_all(fd, (char *)query, at - query);
	do {
		n = read(fd, answer + size, sizeof(answer) - (size_t)size);
		if (n < 0)
			die("answer");
		size += n;
	} while (is_tcp && n > 0 && (size < 2 || size < 2 + (answer[0] << 8 | answer[1])));
	unsigned char *reply = answer + (is_tcp ? 2 : 0);
	size -= is_tcp ? 2 : 0;
	printf("code=%d cut=%d answers=%d bytes=%zd\n", reply[3] & 15, reply[2] >> 1 & 1, reply[6] << 8 | reply[7], size);
}

int main(int argc, char **argv)
{
	signal(SIGCHLD, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 3)
		return 2;
	if (!strcmp(argv[1], "serve6"))
		family = AF_INET6;
	if (!strncmp(argv[1], "serve", 5))
		serve(argv[2]);
	else if (!strcmp(argv[1], "reset"))
		reset(argv[2]);
	else if (!strcmp(argv[1], "source") && argc > 3)
		source(argv[2], argv[3]);
	else if (!strcmp(argv[1], "dns") && argc > 4)
		ask(argv[2], argv[3], argv[4]);
	else if (argc > 3) {
		char buffer[65536];
		int is_udp = !strcmp(argv[1], "udp");
		int fd = dial(is_udp ? SOCK_DGRAM : SOCK_STREAM, argv[2], argv[3]);
		if (is_udp && argc > 4)
			write_all(fd, argv[4], (ssize_t)strlen(argv[4]));
		for (ssize_t n; (n = read(fd, buffer, sizeof(buffer))) != 0;) {
			if (n < 0)
				die("read");
			write_all(1, buffer, n);
			if (is_udp)
				break;
		}
	}
	return 0;
}
