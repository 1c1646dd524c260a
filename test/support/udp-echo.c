/* udp-echo PORT: sends back every datagram. Busybox has no server for UDP. */
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argc > 1 ? argv[1] : "0"))}, from;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&own, sizeof(own)) < 0)
		return 1;
	for (;;) {
		char bytes[65536];
		socklen_t size = sizeof(from);
		ssize_t got = recvfrom(fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&from, &size);
		if (got < 0 || sendto(fd, bytes, (size_t)got, 0, (struct sockaddr *)&from, size) != got)
			return 1;
	}
}
