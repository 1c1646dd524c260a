/* Sends router advertisements (RFC 4861, 4.2) to all nodes of the link of eth0, naming itself as the router. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void)
{
	struct { struct nd_router_advert head; struct nd_opt_prefix_info prefix; } message = {
		.head.nd_ra_type = ND_ROUTER_ADVERT, .head.nd_ra_curhoplimit = 64, .head.nd_ra_router_lifetime = htons(1800),
		.prefix = { .nd_opt_pi_type = ND_OPT_PREFIX_INFORMATION, .nd_opt_pi_len = 4, .nd_opt_pi_prefix_len = 64,
			.nd_opt_pi_flags_reserved = ND_OPT_PI_FLAG_ONLINK | ND_OPT_PI_FLAG_AUTO,
			.nd_opt_pi_valid_time = 0xffffffff, .nd_opt_pi_preferred_time = 0xffffffff },
	};
	struct sockaddr_in6 all = { .sin6_family = AF_INET6, .sin6_scope_id = if_nametoindex("eth0") };
	int hops = 255, fd = socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);

	inet_pton(AF_INET6, "2001:db8:bad::", &message.prefix.nd_opt_pi_prefix);
	inet_pton(AF_INET6, "ff02::1", &all.sin6_addr);
	if (fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &hops, sizeof(hops)) < 0) {
		printf("cannot: %s\n", strerror(errno));
		return 0;
	}
	for (int i = 0; i < 5; i++, usleep(50000))
		if (sendto(fd, &message, sizeof(message), 0, (struct sockaddr *)&all, sizeof(all)) < 0) {
			printf("cannot: %s\n", strerror(errno));
			return 0;
		}
	puts("sent");
	return 0;
}
