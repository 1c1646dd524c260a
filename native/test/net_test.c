/* The session's network, tried in namespaces of our own:
 *
 *     outside 198.51.100.1 ── 192.0.2.1 ═ 192.0.2.2 ── "host" ── router ── containers
 *
 * The host does not forward, and an nftables chain of it drops whatever would be forwarded, as Docker's, ufw's and firewalld's
 * do. Clients and servers are child processes in the right namespace; this process is the warden and runs the loop.
 * Needs root or an unprivileged user namespace. `net_test bench` also prints figures, and `net_test bench PATH` those
 * of the docker-proxy at PATH beside them. */
#define _GNU_SOURCE
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "launcher.h"
#include "loop.h"
#include "netlink.h"
#include "router.h"

static unsigned failures, checks;
static int host_ns, outside_ns, router_ns;
static bool bench;
static const char *docker_proxy;

static void expect_at(int line, bool holds, const char *claim, long seen)
{
	checks++;
	if (holds)
		return;
	failures++;
	printf("net_test.c:%d: failed: %s (seen: %ld)\n", line, claim, seen);
}
#define expect(claim) expect_at(__LINE__, (claim), #claim, errno)
#define expect_equal(a, b) do { long x_ = (long)(a), y_ = (long)(b); expect_at(__LINE__, x_ == y_, #a " == " #b, x_); } while (0)

static void must(bool holds, const char *what)
{
	if (holds)
		return;
	perror(what);
	exit(1);
}

/* ---- children ---- */

/* What children report, and how they are told things. */
struct board { long result; double seconds; volatile int ready; volatile long counter; char text[256]; };
static struct board *board;

static void enter(int ns)
{
	must(setns(ns, CLONE_NEWNET) == 0, "setns");
}

static pid_t spawn(int ns, long (*work)(const void *), const void *argument)
{
	fflush(stdout);
	pid_t pid = fork();
	must(pid >= 0, "fork");
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	enter(ns);
	long result = work(argument);
	board->result = result;
	_exit(0);
}

static void child_gone(struct watch *w, uint32_t events)
{
	(void)w, (void)events;
	loop_stop();
}

static bool timed_out;
static void too_late(struct timer *timer)
{
	(void)timer;
	timed_out = true;
	loop_stop();
}

/* Runs the loop until the child has ended; its result, or -1000 if it takes more than a while or crashes. */
static long await(pid_t pid, unsigned seconds)
{
	struct watch watch = {.fd = -1};
	struct timer timer = {0};
	int status = 0;
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	must(fd >= 0 && loop_watch(&watch, fd, EPOLLIN, child_gone) == 0, "pidfd_open");
	timed_out = false;
	timer_set(&timer, seconds * 1000000ull, too_late);
	loop_run();
	timer_clear(&timer);
	loop_forget(&watch);
	close(fd);
	if (timed_out)
		kill(pid, SIGKILL);
	must(waitpid(pid, &status, 0) == pid, "waitpid");
	return timed_out || status ? -1000 : board->result;
}

static long run(int ns, long (*work)(const void *), const void *argument)
{
	board->result = -1;
	return await(spawn(ns, work, argument), 20);
}

/* Runs the loop for a while. */
static void let_pass(unsigned ms)
{
	struct timer timer = {0};
	timer_set(&timer, ms * 1000ull, too_late);
	loop_run();
	timer_clear(&timer);
}

static void wait_ready(int count)
{
	for (int i = 0; i < 2000 && board->ready < count; i++)
		let_pass(1);
	must(board->ready >= count, "a server did not start");
}

static void is_ready(void)
{
	__sync_fetch_and_add(&board->ready, 1);
}

/* ---- servers and clients ---- */

struct target { int family; char ip[48]; int port; long amount; };

static socklen_t address_of(const struct target *t, struct sockaddr_storage *to)
{
	memset(to, 0, sizeof(*to));
	to->ss_family = (sa_family_t)t->family;
	if (t->family == AF_INET6) {
		struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)to;
		v6->sin6_port = htons((uint16_t)t->port);
		inet_pton(AF_INET6, t->ip, &v6->sin6_addr);
		return sizeof(*v6);
	}
	struct sockaddr_in *v4 = (struct sockaddr_in *)to;
	v4->sin_port = htons((uint16_t)t->port);
	inet_pton(AF_INET, t->ip, &v4->sin_addr);
	return sizeof(*v4);
}

static int bound(const struct target *t, int type)
{
	struct sockaddr_storage at;
	int on = 1, fd = socket(t->family, type | SOCK_CLOEXEC, 0);
	socklen_t size = address_of(t, &at);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	must(bind(fd, (struct sockaddr *)&at, size) == 0, "bind");
	must(type != SOCK_STREAM || listen(fd, 128) == 0, "listen");
	return fd;
}

/* Echoes each connection until its end, then sends "end" and closes: what comes after the client's half-close. */
static long echo_server(const void *argument)
{
	static char buffer[1 << 18];
	int listener = bound(argument, SOCK_STREAM);
	is_ready();
	for (;;) {
		int on = 1, fd = accept(listener, NULL, NULL);
		if (fd < 0 || fork()) {
			close(fd);
			while (waitpid(-1, NULL, WNOHANG) > 0)
				;
			continue;
		}
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		for (ssize_t got; (got = recv(fd, buffer, sizeof(buffer), 0)) > 0;)
			for (ssize_t at = 0; at < got;) {
				ssize_t sent = send(fd, buffer + at, (size_t)(got - at), 0);
				if (sent < 0)
					_exit(0);
				at += sent;
			}
		send(fd, "end", 3, 0);
		_exit(0);
	}
	return 0;
}

static long sink_server(const void *argument)
{
	static char buffer[1 << 18];
	int listener = bound(argument, SOCK_STREAM);
	is_ready();
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		while (recv(fd, buffer, sizeof(buffer), 0) > 0)
			;
		send(fd, "end", 3, 0);
		close(fd);
	}
	return 0;
}

static long udp_echo_server(const void *argument)
{
	static char buffer[65536];
	int fd = bound(argument, SOCK_DGRAM);
	is_ready();
	for (;;) {
		struct sockaddr_storage from;
		socklen_t size = sizeof(from);
		ssize_t got = recvfrom(fd, buffer, sizeof(buffer), 0, (struct sockaddr *)&from, &size);
		if (got >= 0)
			sendto(fd, buffer, (size_t)got, 0, (struct sockaddr *)&from, size);
	}
	return 0;
}

static int connected(const struct target *t, int type)
{
	struct sockaddr_storage to;
	int on = 1, fd = socket(t->family, type | SOCK_CLOEXEC, 0);
	socklen_t size = address_of(t, &to);
	struct timeval patience = {.tv_sec = 8};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (type == SOCK_STREAM)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(fd, (struct sockaddr *)&to, size) == 0)
		return fd;
	int error = errno;
	close(fd);
	return -error;
}

static void sort_out(ssize_t got, int *result)
{
	*result = got < 0 ? errno : EPROTO;
}

/* 0, or the errno of what went wrong. */
static long echo_client(const void *argument)
{
	char buffer[64];
	int result, fd = connected(argument, SOCK_STREAM);
	if (fd < 0)
		return -fd;
	/* A reset may have come already: send() tells it then, and recv() no more. */
	ssize_t got = send(fd, "hello", 5, 0);
	if (got == 5)
		got = recv(fd, buffer, 5, MSG_WAITALL);
	if (got != 5 || memcmp(buffer, "hello", 5) != 0) {
		sort_out(got, &result);
		return result;
	}
	shutdown(fd, SHUT_WR);
	got = recv(fd, buffer, sizeof(buffer), MSG_WAITALL);
	if (got == 3 && memcmp(buffer, "end", 3) == 0)
		return 0;
	sort_out(got, &result);
	return result;
}

static long udp_client(const void *argument)
{
	char buffer[64];
	int result, fd = connected(argument, SOCK_DGRAM);
	send(fd, "ping", 4, 0);
	ssize_t got = recv(fd, buffer, sizeof(buffer), 0);
	if (got == 4 && memcmp(buffer, "ping", 4) == 0)
		return 0;
	sort_out(got, &result);
	return result;
}

/* A connect() that must neither succeed nor fail within a second: 0 then. */
static long pending_client(const void *argument)
{
	struct sockaddr_storage to;
	const struct target *t = argument;
	int fd = socket(t->family, SOCK_STREAM | SOCK_NONBLOCK, 0);
	socklen_t size = address_of(t, &to);
	connect(fd, (struct sockaddr *)&to, size);
	struct pollfd wait = {.fd = fd, .events = POLLOUT};
	return poll(&wait, 1, 1500) == 0 ? 0 : 1;
}

/* Sends amount bytes of a pattern and checks that they come back, while reading slowly at first. */
static long integrity_client(const void *argument)
{
	static unsigned char out[65536], in[65536];
	const struct target *t = argument;
	int fd = connected(t, SOCK_STREAM);
	if (fd < 0)
		return -fd;
	pid_t writer = fork();
	if (writer == 0) {
		for (long at = 0; at < t->amount;) {
			long size = t->amount - at < (long)sizeof(out) ? t->amount - at : (long)sizeof(out);
			for (long i = 0; i < size; i++)
				out[i] = (unsigned char)((at + i) * 2654435761u >> 13);
			for (long done = 0; done < size;) {
				ssize_t sent = send(fd, out + done, (size_t)(size - done), 0);
				if (sent < 0)
					_exit(1);
				done += sent;
			}
			at += size;
		}
		shutdown(fd, SHUT_WR);
		_exit(0);
	}
	usleep(300000);
	long at = 0;
	ssize_t got;
	while ((got = recv(fd, in, sizeof(in), 0)) > 0)
		for (ssize_t i = 0; i < got; i++, at++)
			if (at < t->amount && in[i] != (unsigned char)(at * 2654435761u >> 13))
				return EBADMSG;
	return got == 0 && at == t->amount + 3 ? 0 : EPIPE;
}

static double seconds(void)
{
	return (double)now_ns() / 1e9;
}

/* Sends for a while and waits for the receiver's last word. Megabytes a second. */
static long throughput_client(const void *argument)
{
	static char buffer[1 << 17];
	int fd = connected(argument, SOCK_STREAM);
	if (fd < 0)
		return -1;
	double start = seconds(), bytes = 0;
	while (seconds() - start < 0.3) {
		ssize_t sent = send(fd, buffer, sizeof(buffer), 0);
		if (sent < 0)
			return -2;
		bytes += (double)sent;
	}
	shutdown(fd, SHUT_WR);
	recv(fd, buffer, 3, MSG_WAITALL);
	return (long)(bytes / (seconds() - start) / 1e6);
}

/* Round trips of one byte, a second. */
static long trips_client(const void *argument)
{
	char byte = 0;
	int fd = connected(argument, SOCK_STREAM);
	if (fd < 0)
		return -1;
	long count = 0;
	double start = seconds();
	for (; seconds() - start < 0.3; count++)
		if (send(fd, &byte, 1, 0) != 1 || recv(fd, &byte, 1, 0) != 1)
			return -2;
	return (long)((double)count / (seconds() - start));
}

/* Waits on a connection that works; the errno of its end, 0 for an orderly one. */
static long held_client(const void *argument)
{
	char byte = 0;
	int fd = connected(argument, SOCK_STREAM);
	if (fd < 0 || send(fd, &byte, 1, 0) != 1 || recv(fd, &byte, 1, 0) != 1)
		return -1;
	is_ready();
	return recv(fd, &byte, 1, 0) < 0 ? errno : 0;
}

/* Connections a second: connect, one round trip, close. */
static long connections_client(const void *argument)
{
	char byte = 0;
	long count = 0;
	double start = seconds();
	for (; seconds() - start < 0.3; count++) {
		int fd = connected(argument, SOCK_STREAM);
		if (fd < 0 || send(fd, &byte, 1, 0) != 1 || recv(fd, &byte, 1, 0) != 1)
			return -2;
		close(fd);
	}
	return (long)((double)count / (seconds() - start));
}

static long udp_trips_client(const void *argument)
{
	char byte = 0;
	int fd = connected(argument, SOCK_DGRAM);
	long count = 0;
	double start = seconds();
	for (; seconds() - start < 0.3; count++)
		if (send(fd, &byte, 1, 0) != 1 || recv(fd, &byte, 1, 0) != 1)
			return -2;
	return (long)((double)count / (seconds() - start));
}

static long ping_client(const void *argument)
{
	const struct target *t = argument;
	struct sockaddr_storage to;
	socklen_t size = address_of(t, &to);
	bool v6 = t->family == AF_INET6;
	((struct sockaddr_in *)&to)->sin_port = 0;    /* in the same place in both families */
	int fd = socket(t->family, SOCK_DGRAM, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
	if (fd < 0)
		return errno;
	struct timeval patience = {.tv_sec = 3};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	struct { struct icmphdr header; char data[16]; } echo = {{.type = ICMP_ECHO, .un.echo.sequence = htons(7)}, "0123456789abcde"}, reply;
	if (v6)
		echo.header.type = ICMP6_ECHO_REQUEST;
	if (sendto(fd, &echo, sizeof(echo), 0, (struct sockaddr *)&to, size) < 0)
		return errno;
	ssize_t got = recv(fd, &reply, sizeof(reply), 0);
	if (got < 0)
		return errno;
	return got == sizeof(reply) && reply.header.type == (v6 ? ICMP6_ECHO_REPLY : ICMP_ECHOREPLY) && reply.header.un.echo.sequence == htons(7) &&
		memcmp(reply.data, echo.data, sizeof(echo.data)) == 0 ? 0 : EBADMSG;
}

/* ---- DNS ---- */

/* A name server on the host's loopback: every A is 203.0.113.5; the name "slow" is never answered over UDP. */
static long resolver_answer(unsigned char *message, long size)
{
	static const unsigned char record[] = {0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 5};
	message[2] |= 0x80;
	message[3] = 0x80;
	message[7] = 1;
	memcpy(message + size, record, sizeof(record));
	return size + (long)sizeof(record);
}

static long resolver_udp(const void *argument)
{
	unsigned char message[600];
	int fd = bound(argument, SOCK_DGRAM);
	is_ready();
	for (;;) {
		struct sockaddr_storage from;
		socklen_t size = sizeof(from);
		ssize_t got = recvfrom(fd, message, 512, 0, (struct sockaddr *)&from, &size);
		if (got > 16 && memcmp(message + 12, "\4slow", 5) != 0)
			sendto(fd, message, (size_t)resolver_answer(message, got), 0, (struct sockaddr *)&from, size);
	}
	return 0;
}

static long resolver_tcp(const void *argument)
{
	unsigned char message[600];
	int listener = bound(argument, SOCK_STREAM);
	is_ready();
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		ssize_t got;
		while ((got = recv(fd, message, 512, 0)) > 2) {
			long size = resolver_answer(message + 2, got - 2);
			message[0] = (unsigned char)(size >> 8);
			message[1] = (unsigned char)size;
			send(fd, message, (size_t)size + 2, 0);
		}
		close(fd);
	}
	return 0;
}

struct question { struct in_addr server; const char *name; int type; bool tcp; };

/* The error code times 1000 plus the number of answers; the last four bytes of the answer go to board->counter. */
static long ask(const void *argument)
{
	const struct question *q = argument;
	unsigned char message[600] = {0x12, 0x34, 1, 0, 0, 1};
	size_t at = 12;
	for (const char *label = q->name; *label;) {
		size_t length = strcspn(label, ".");
		message[at++] = (unsigned char)length;
		memcpy(message + at, label, length);
		at += length;
		label += length + (label[length] == '.');
	}
	at++;
	message[at + 1] = (unsigned char)q->type;
	message[at + 3] = 1;
	at += 4;
	struct target server = {.family = AF_INET, .port = 53};
	inet_ntop(AF_INET, &q->server, server.ip, sizeof(server.ip));
	int fd = connected(&server, q->tcp ? SOCK_STREAM : SOCK_DGRAM);
	unsigned char length[2] = {(unsigned char)(at >> 8), (unsigned char)at};
	if (q->tcp)
		send(fd, length, 2, 0);
	send(fd, message, at, 0);
	if (q->tcp && recv(fd, length, 2, MSG_WAITALL) != 2)
		return -2;
	ssize_t got = recv(fd, message, sizeof(message), 0);
	if (got < 12 || message[0] != 0x12 || message[1] != 0x34 || !(message[2] & 0x80))
		return -3;
	board->counter = (long)message[got - 4] << 24 | message[got - 3] << 16 | message[got - 2] << 8 | message[got - 1];
	return (message[3] & 15) * 1000 + (message[6] << 8 | message[7]);
}

/* ---- the world ---- */

static int new_namespace(void)
{
	must(unshare(CLONE_NEWNET) == 0, "unshare");
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int ns = ioctl(fd, SIOCGSKNS);
	must(ns >= 0, "SIOCGSKNS");
	close(fd);
	return ns;
}

static void up(struct batch *b, int index)
{
	struct ifinfomsg link = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	message_begin(b, RTM_NEWLINK, NLM_F_ACK, &link, sizeof(link));
}

/* Of either family; its size. */
static size_t read_ip(const char *text, int *family, struct in6_addr *ip)
{
	*family = strchr(text, ':') ? AF_INET6 : AF_INET;
	must(inet_pton(*family, text, ip) == 1, text);
	return *family == AF_INET6 ? 16 : 4;
}

static void address(struct batch *b, int index, const char *text, uint8_t bits)
{
	struct in6_addr ip;
	int family;
	size_t size = read_ip(text, &family, &ip);
	struct ifaddrmsg header = {.ifa_family = (uint8_t)family, .ifa_prefixlen = bits, .ifa_index = (unsigned)index};
	header.ifa_flags = family == AF_INET6 ? IFA_F_NODAD : 0;
	message_begin(b, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE, &header, sizeof(header));
	put(b, IFA_LOCAL, &ip, size);
	put(b, IFA_ADDRESS, &ip, size);
}

static void route(struct batch *b, const char *to, uint8_t bits, const char *via, uint8_t type)
{
	struct in6_addr ip;
	int family;
	size_t size = read_ip(to, &family, &ip);
	struct rtmsg header = {.rtm_family = (uint8_t)family, .rtm_dst_len = bits, .rtm_table = RT_TABLE_MAIN, .rtm_type = type};
	message_begin(b, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE, &header, sizeof(header));
	if (bits)
		put(b, RTA_DST, &ip, size);
	if (via) {
		read_ip(via, &family, &ip);
		put(b, RTA_GATEWAY, &ip, size);
	}
}

/* nft 'table ip drop { chain forward { type filter hook forward priority -10; policy drop; } }' */
static int drop_forwarded(void)
{
	struct netlink nl;
	struct batch b;
	must(netlink_open(&nl, NETLINK_NETFILTER) == 0, "nfnetlink");
	batch_clear(&b);
	struct nfgenmsg bracket = {.res_id = htons(NFNL_SUBSYS_NFTABLES)}, ip = {.nfgen_family = NFPROTO_IPV4};
	message_begin(&b, NFNL_MSG_BATCH_BEGIN, 0, &bracket, sizeof(bracket));
	message_begin(&b, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_ACK, &ip, sizeof(ip));
	put_string(&b, NFTA_TABLE_NAME, "drop");
	message_begin(&b, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_ACK, &ip, sizeof(ip));
	put_string(&b, NFTA_CHAIN_TABLE, "drop");
	put_string(&b, NFTA_CHAIN_NAME, "forward");
	put_string(&b, NFTA_CHAIN_TYPE, "filter");
	size_t hook = nest_begin(&b, NFTA_CHAIN_HOOK);
	put_u32(&b, NFTA_HOOK_HOOKNUM, htonl(NF_INET_FORWARD));
	put_u32(&b, NFTA_HOOK_PRIORITY, htonl((uint32_t)-10));
	nest_end(&b, hook);
	put_u32(&b, NFTA_CHAIN_POLICY, htonl(NF_DROP));
	message_begin(&b, NFNL_MSG_BATCH_END, 0, &bracket, sizeof(bracket));
	int sent = netlink_send(&nl, &b);
	netlink_close(&nl);
	return sent;
}

static void make_world(void)
{
	struct netlink nl;
	struct batch b;
	outside_ns = new_namespace();
	must(netlink_open(&nl, NETLINK_ROUTE) == 0, "rtnetlink");
	batch_clear(&b);
	up(&b, 1);
	address(&b, 1, "198.51.100.1", 32);
	address(&b, 1, "2001:db8:1::1", 128);
	must(netlink_send(&nl, &b) == 0, "outside");
	struct netlink outside = nl;

	host_ns = new_namespace();
	must(netlink_open(&nl, NETLINK_ROUTE) == 0, "rtnetlink");
	batch_clear(&b);
	up(&b, 1);
	struct ifinfomsg link = {.ifi_index = 20}, peer = {.ifi_index = 21};
	message_begin(&b, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE, &link, sizeof(link));
	put_string(&b, IFLA_IFNAME, "wan");
	struct veth veth = veth_begin(&b, &peer);
	put_string(&b, IFLA_IFNAME, "isp");
	put_u32(&b, IFLA_NET_NS_FD, (uint32_t)outside_ns);
	veth_end(&b, veth);
	must(netlink_send(&nl, &b) == 0, "wan");
	batch_clear(&b);
	up(&b, 21);
	address(&b, 21, "192.0.2.1", 24);
	address(&b, 21, "2001:db8:2::1", 64);
	must(netlink_send(&outside, &b) == 0, "isp");
	up(&b, 20);
	address(&b, 20, "192.0.2.2", 24);
	address(&b, 20, "2001:db8:2::2", 64);
	route(&b, "::", 0, "2001:db8:2::1", RTN_UNICAST);
	route(&b, "2001:db8:dead::", 48, NULL, RTN_UNREACHABLE);
	route(&b, "0.0.0.0", 0, "192.0.2.1", RTN_UNICAST);
	route(&b, "203.0.113.0", 24, NULL, RTN_UNREACHABLE);
	must(netlink_send(&nl, &b) == 0, "host");
	net_sysctl("ipv4/ip_forward", "0");
	must(drop_forwarded() == 0, "nftables");
	/* What a packet to 198.51.100.9 meets: nothing that answers. */
	enter(outside_ns);
	batch_clear(&b);
	route(&b, "198.51.100.9", 32, NULL, RTN_BLACKHOLE);
	route(&b, "2001:db8:1::9", 128, NULL, RTN_BLACKHOLE);
	must(netlink_send(&outside, &b) == 0, "blackhole");
	netlink_close(&outside);
	netlink_close(&nl);
	router_ns = new_namespace();
}

/* The launcher's part: sockets of the host. */
static void serve_host_sockets(void)
{
	int pair[2];
	enter(host_ns);    /* a socket keeps the namespace alive that it was made in */
	must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0, "socketpair");
	enter(router_ns);
	pid_t pid = fork();
	must(pid >= 0, "fork");
	if (pid) {
		close(pair[1]);
		host_open(pair[0]);
		return;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(pair[0]);
	close(router_ns);
	enter(host_ns);
	struct host_request request;
	while (recv(pair[1], &request, sizeof(request), 0) == sizeof(request)) {
		int fd = socket(request.family, request.type, request.protocol);
		struct host_answer answer = {fd < 0 ? errno : 0, request.number};
		struct iovec iov = {&answer, sizeof(answer)};
		union { struct cmsghdr align; char bytes[CMSG_SPACE(sizeof(int))]; } control = {0};
		struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
		if (fd >= 0) {
			message.msg_control = &control;
			message.msg_controllen = sizeof(control);
			struct cmsghdr *c = CMSG_FIRSTHDR(&message);
			c->cmsg_level = SOL_SOCKET;
			c->cmsg_type = SCM_RIGHTS;
			c->cmsg_len = CMSG_LEN(sizeof(int));
			memcpy(CMSG_DATA(c), &fd, sizeof(fd));
		}
		sendmsg(pair[1], &message, 0);
		if (fd >= 0)
			close(fd);
	}
	_exit(0);
}

/* ---- the tests ---- */

static struct target at(const char *ip, int port)
{
	struct target t = {.family = strchr(ip, ':') ? AF_INET6 : AF_INET, .port = port};
	snprintf(t.ip, sizeof(t.ip), "%s", ip);
	return t;
}

static struct target at_address(struct in_addr ip, int port)
{
	char text[INET_ADDRSTRLEN];
	return at(inet_ntop(AF_INET, &ip, text, sizeof(text)), port);
}

static pid_t serve(int ns, long (*work)(const void *), struct target t)
{
	int before = board->ready;
	pid_t pid = spawn(ns, work, &t);
	wait_ready(before + 1);
	return pid;
}

static void stop(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static long read_number(const char *path)
{
	char text[64] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		return -1;
	close(fd);
	return strtol(text, NULL, 10);
}

/* Looks around inside a container's namespace: 0, or the number of the first thing that is not as it should be. */
static long look_around(const void *argument)
{
	const struct in_addr *address = argument;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq link = {.ifr_name = "eth0"};
	uint8_t mac[MAC_SIZE];
	mac_of(*address, mac);
	if (ioctl(fd, SIOCGIFADDR, &link) < 0 ||
		((struct sockaddr_in *)&link.ifr_addr)->sin_addr.s_addr != address->s_addr)
		return 1;
	if (ioctl(fd, SIOCGIFHWADDR, &link) < 0 || memcmp(link.ifr_hwaddr.sa_data, mac, MAC_SIZE) != 0)
		return 2;
	if (read_number("/proc/sys/net/ipv6/conf/eth0/disable_ipv6") != 1)
		return 3;
	if (read_number("/proc/sys/net/ipv6/conf/lo/disable_ipv6") != 0)
		return 4;
	if (read_number("/proc/sys/net/ipv4/ip_unprivileged_port_start") != 0)
		return 5;
	struct target loopback = at("::1", 80);
	struct sockaddr_storage to;
	socklen_t size = address_of(&loopback, &to);
	int v6 = socket(AF_INET6, SOCK_STREAM, 0);
	if (bind(v6, (struct sockaddr *)&to, size) < 0)
		return 6;
	struct target gateway = at_address(router.gateway, 0);
	return ping_client(&gateway) ? 7 : 0;
}

static long look_lonely(const void *argument)
{
	(void)argument;
	struct if_nameindex *links = if_nameindex();
	return links && links[0].if_index == 1 && links[1].if_index == 0 ? 0 : 1;
}

static void test_pool(void)
{
	struct fault f = {0};
	let_pass(50);
	struct net_slot *slot = net_take(&f);
	must(slot, f.message);
	struct in_addr first = net_slot_address(slot);
	expect_equal(run(net_slot_ns(slot), look_around, &first), 0);
	struct net_counters counters;
	expect(net_slot_counters(slot, &counters) == 0);
	expect(counters.tx_packets >= 1 && counters.rx_packets >= 1 && counters.tx_bytes > 40);
	net_give_back(slot, false);

	/* Clean ones come back, with their address and with counters that start at nothing. */
	struct net_slot *taken[8];
	for (int i = 0; i < 8; i++)
		taken[i] = net_take(&f);
	bool found = false;
	for (int i = 0; i < 8; i++)
		if (taken[i] == slot) {
			found = net_slot_address(slot).s_addr == first.s_addr;
			expect(net_slot_counters(slot, &counters) == 0);
			expect_equal(counters.tx_packets, 0);
		}
	expect(found);

	/* One with a socket left in it, and a tainted one, do not. */
	enter(net_slot_ns(taken[0]));
	int left = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	enter(router_ns);
	uint32_t gone[2] = {net_slot_address(taken[0]).s_addr, net_slot_address(taken[1]).s_addr};
	for (int i = 0; i < 8; i++)
		net_give_back(taken[i], i == 1);
	close(left);
	for (int i = 0; i < 6; i++) {
		taken[i] = net_take(&f);
		expect(net_slot_address(taken[i]).s_addr != gone[0] && net_slot_address(taken[i]).s_addr != gone[1]);
	}
	for (int i = 0; i < 6; i++)
		net_give_back(taken[i], false);

	slot = net_take_lonely(&f);
	must(slot, f.message);
	expect_equal(run(net_slot_ns(slot), look_lonely, NULL), 0);
	expect_equal(net_slot_address(slot).s_addr, 0);
	expect(net_slot_counters(slot, &counters) == 0);
	net_give_back(slot, false);
}

/* docker-proxy on port 39500 (to the container's 80), 39501 (to its 90) or, UDP, 39502 (to its 53). */
static long proxy(const void *argument)
{
	const struct target *to = argument;
	char host_port[8], container_port[8];
	snprintf(host_port, sizeof(host_port), "%d", to->port == 80 ? 39500 : to->port == 90 ? 39501 : 39502);
	snprintf(container_port, sizeof(container_port), "%d", to->port);
	int fd = open("/dev/null", O_WRONLY);
	dup2(fd, 3);    /* where it reports that it listens */
	execl(docker_proxy, docker_proxy, "-proto", to->port == 53 ? "udp" : "tcp", "-host-ip", "127.0.0.1", "-host-port",
		host_port, "-container-ip", to->ip, "-container-port", container_port, NULL);
	return -1;
}

static void compare(const char *what, struct target ours, int theirs, long (*client)(const void *))
{
	/* Alternating, so that both meet the same neighbours on this machine; the best of each counts. */
	struct target other = at("127.0.0.1", theirs);
	long best = 0, best_other = 0;
	for (int i = 0; i < 20; i++) {
		long seen = run(host_ns, client, &ours), seen_other = docker_proxy ? run(host_ns, client, &other) : 0;
		best = seen > best ? seen : best;
		best_other = seen_other > best_other ? seen_other : best_other;
	}
	printf("published %s: %ld", what, best);
	if (docker_proxy)
		printf(", docker-proxy %ld: %.2f x", best_other, (double)best / (double)best_other);
	printf("\n");
}

static void test_publish(struct net_slot *slot)
{
	struct fault f = {0};
	struct in_addr to = net_slot_address(slot);
	pid_t server = serve(net_slot_ns(slot), echo_server, at("0.0.0.0", 80));
	pid_t udp_server = serve(net_slot_ns(slot), udp_echo_server, at("0.0.0.0", 53));
	struct publish *p = publish_open(false, "*", 0, to, 80, &f), *u = publish_open(true, "*", 0, to, 53, &f);
	must(p && u, f.subject);
	struct target v4 = at("127.0.0.1", publish_host_port(p)), v6 = at("::1", publish_host_port(p));
	expect_equal(run(host_ns, echo_client, &v4), 0);
	expect_equal(run(host_ns, echo_client, &v6), 0);
	v4.amount = 32 << 20;
	expect_equal(run(host_ns, integrity_client, &v4), 0);
	struct target udp4 = at("127.0.0.1", publish_host_port(u)), udp6 = at("::1", publish_host_port(u));
	expect_equal(run(host_ns, udp_client, &udp4), 0);
	expect_equal(run(host_ns, udp_client, &udp6), 0);
	/* From outside, a port on the loopback is not there. */
	struct target foreign = at("192.0.2.2", publish_host_port(p));
	expect_equal(run(outside_ns, echo_client, &foreign), ECONNREFUSED);

	/* The same number again is an error that names it; on another protocol it is free. */
	char subject[64];
	snprintf(subject, sizeof(subject), "127.0.0.1:%u/tcp", publish_host_port(p));
	expect(!publish_open(false, "*", publish_host_port(p), to, 80, &f));
	expect_equal(f.error, EADDRINUSE);
	expect(strcmp(f.step, "publish") == 0 && strcmp(f.subject, subject) == 0);
	memset(&f, 0, sizeof(f));
	/* Somebody has only the ::1 twin. */
	enter(host_ns);
	int twin = bound(&(struct target){.family = AF_INET6, .ip = "::1", .port = 39123}, SOCK_STREAM);
	enter(router_ns);
	expect(!publish_open(false, "*", 39123, to, 80, &f));
	expect(f.error == EADDRINUSE && strcmp(f.subject, "[::1]:39123/tcp") == 0);
	close(twin);
	memset(&f, 0, sizeof(f));
	expect(!publish_open(false, "300.1.1.1", 0, to, 80, &f));
	expect_equal(f.error, EINVAL);
	memset(&f, 0, sizeof(f));

	/* One address of the host, reached from the outside; UDP answers come from the address that was asked. */
	struct publish *wide = publish_open(false, "192.0.2.2", 8080, to, 80, &f), *wide_udp = publish_open(true, "0.0.0.0", 5353, to, 53, &f);
	must(wide && wide_udp, f.subject);
	struct target from_outside = at("192.0.2.2", 8080), udp_outside = at("192.0.2.2", 5353);
	expect_equal(run(outside_ns, echo_client, &from_outside), 0);
	expect_equal(run(outside_ns, udp_client, &udp_outside), 0);
	publish_close(wide);
	publish_close(wide_udp);
	expect_equal(run(outside_ns, echo_client, &from_outside), ECONNREFUSED);

	/* Nobody listens in the container: reset, soon. */
	struct publish *closed = publish_open(false, "*", 0, to, 81, &f);
	struct target refused = at("127.0.0.1", publish_host_port(closed));
	double start = seconds();
	expect_equal(run(host_ns, echo_client, &refused), ECONNRESET);
	expect(seconds() - start < 0.5);
	publish_close(closed);

	if (router.host.s_addr) {
		struct target direct = at_address(to, 80);
		expect_equal(run(host_ns, echo_client, &direct), 0);
		if (bench)
			printf("container's own address: %ld round trips/s\n", run(host_ns, trips_client, &direct));
	}
	if (bench) {
		pid_t sink = serve(net_slot_ns(slot), sink_server, at("0.0.0.0", 90));
		struct publish *s = publish_open(false, "*", 0, to, 90, &f);
		struct target sunk = at("127.0.0.1", publish_host_port(s)), direct = at_address(to, 90);
		pid_t proxies[3] = {0};
		int ports[] = {80, 90, 53};
		for (int i = 0; i < 3 && docker_proxy && router.host.s_addr; i++) {
			struct target t = at_address(to, ports[i]);
			proxies[i] = spawn(host_ns, proxy, &t);
		}
		let_pass(300);
		compare("tcp, MB/s", sunk, 39501, throughput_client);
		compare("tcp, round trips/s", v4, 39500, trips_client);
		compare("tcp, connections/s", v4, 39500, connections_client);
		compare("udp, round trips/s", udp4, 39502, udp_trips_client);
		for (int i = 0; i < 3; i++)
			if (proxies[i])
				stop(proxies[i]);
		if (router.host.s_addr)
			printf("container's own address: %ld MB/s\n", run(host_ns, throughput_client, &direct));
		publish_close(s);
		stop(sink);
	}
	/* Closing ends its connections. */
	int ready = board->ready;
	pid_t client = spawn(host_ns, held_client, &v4);
	wait_ready(ready + 1);
	publish_close(p);
	expect_equal(await(client, 5), ECONNRESET);
	publish_close(u);
	stop(server);
	stop(udp_server);
}

static void test_names(struct net_slot *slot)
{
	struct in_addr mine = net_slot_address(slot);
	int ns = net_slot_ns(slot);
	char reverse[64];
	uint32_t ip = ntohl(mine.s_addr);
	snprintf(reverse, sizeof(reverse), "%u.%u.%u.%u.in-addr.arpa", ip & 255, ip >> 8 & 255, ip >> 16 & 255, ip >> 24);
	expect(names_add(slot, "db", mine, NULL) == 0 && names_add(slot, "db.example", mine, NULL) == 0);
	for (int tcp = 0; tcp < 2; tcp++) {
		struct question q = {router.gateway, "dB", 1, tcp};
		expect_equal(run(ns, ask, &q), 1);
		expect_equal(board->counter, ip);
		q.type = 28;
		expect_equal(run(ns, ask, &q), 0);
		q = (struct question){router.gateway, "DB.Example", 1, tcp};
		expect_equal(run(ns, ask, &q), 1);
		q = (struct question){router.gateway, "www.example.org", 1, tcp};
		expect_equal(run(ns, ask, &q), 1);
		expect_equal(board->counter, 0xcb007105);
		q = (struct question){router.gateway, reverse, 12, tcp};
		expect_equal(run(ns, ask, &q), 1);
		q = (struct question){router.gateway, "9.9", 1, tcp};
		expect_equal(run(ns, ask, &q), 1);
	}
	/* The first server never answers this over UDP, the second is not there: SERVFAIL after a while, not never. */
	struct question slow = {router.gateway, "slow", 1, false};
	double start = seconds();
	expect_equal(run(ns, ask, &slow), 2000);
	expect(seconds() - start < 6);
	names_remove(slot);
	struct question q = {router.gateway, "db", 1, false};
	expect_equal(run(ns, ask, &q), 1);
	expect_equal(board->counter, 0xcb007105);

	/* Of more than fit into a datagram the client is told that there are more, and gets them over TCP. */
	static uint8_t long_answer[DNS_STREAM];
	static const uint8_t pool[] = {0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4, 'p', 'o', 'o', 'l', 0, 0, 1, 0, 1};
	size_t size;
	for (uint32_t i = 0; i < 60; i++)
		expect(names_add(slot, "pool", (struct in_addr){htonl((ip & 0xffffff00) + i)}, NULL) == 0);
	expect_equal(names_answer(pool, sizeof(pool), mine, long_answer, DNS_DATAGRAM, &size), DNS_ANSWERED);
	expect_equal(long_answer[2] & 2, 2);
	expect_equal(long_answer[7], (DNS_DATAGRAM - sizeof(pool)) / 16);
	expect_equal(names_answer(pool, sizeof(pool), mine, long_answer, DNS_STREAM, &size), DNS_ANSWERED);
	expect_equal(long_answer[2] & 2, 0);
	expect_equal(long_answer[7], 60);
	expect_equal(size, sizeof(pool) + 60 * 16);
	names_remove(slot);

	/* Any bytes at all. */
	uint8_t query[300], answer[DNS_ANSWER_SIZE];
	bool sound = true;
	srandom(7);
	for (int i = 0; i < 200000; i++) {
		size_t length = (size_t)random() % sizeof(query);
		for (size_t k = 0; k < length; k++)
			query[k] = (uint8_t)(random() & (k < 6 ? 1 : 7));
		size = 0;
		sound = sound && (names_answer(query, length, (struct in_addr){0}, answer, DNS_DATAGRAM, &size) != DNS_ANSWERED || (size >= 12 && size <= DNS_ANSWER_SIZE));
	}
	expect(sound);
	static const uint8_t endless[] = {0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 0x0c, 0, 1, 0, 1};
	expect_equal(names_answer(endless, sizeof(endless), (struct in_addr){0}, answer, DNS_DATAGRAM, &size), DNS_ANSWERED);
	expect_equal(answer[3] & 15, 1);
}

/* A container reaches a server outside, and of what does not answer it hears what the host itself would. */
static void expect_egress(int ns, struct target *server, struct target *refused, struct target *nowhere, struct target *silent)
{
	expect_equal(run(ns, echo_client, server), 0);
	server->amount = 16 << 20;
	expect_equal(run(ns, integrity_client, server), 0);
	expect_equal(run(ns, echo_client, refused), ECONNREFUSED);
	expect_equal(run(ns, echo_client, nowhere), run(host_ns, echo_client, nowhere));
	expect_equal(run(ns, pending_client, silent), 0);
	expect_equal(run(ns, udp_client, server), 0);
	expect_equal(run(ns, udp_client, refused), ECONNREFUSED);
	expect_equal(run(ns, ping_client, server), 0);
}

static void test_egress(struct net_slot *slot)
{
	int ns = net_slot_ns(slot);
	pid_t server = serve(outside_ns, echo_server, at("198.51.100.1", 7000));
	pid_t udp_server = serve(outside_ns, udp_echo_server, at("198.51.100.1", 7000));
	struct target tcp = at("198.51.100.1", 7000), refused = at("198.51.100.1", 7001), nowhere = at("203.0.113.7", 80),
		silent = at("198.51.100.9", 80), loopback = at("127.0.0.53", 53), zero = at("0.0.0.1", 53);
	expect_egress(ns, &tcp, &refused, &nowhere, &silent);
	expect(run(ns, echo_client, &loopback) != 0);
	expect(run(ns, echo_client, &zero) != 0);
	/* The host's own services on its outer address. */
	pid_t local = serve(host_ns, echo_server, at("192.0.2.2", 7002));
	struct target hosts = at("192.0.2.2", 7002);
	expect_equal(run(ns, echo_client, &hosts), 0);
	stop(local);
	/* The listener of the transparent connections is none of the containers' business. */
	struct target gateway = at_address(router.gateway, 22);
	expect_equal(run(ns, echo_client, &gateway), ECONNREFUSED);
	if (bench) {
		pid_t sink = serve(outside_ns, sink_server, at("198.51.100.1", 9000));
		struct target sunk = at("198.51.100.1", 9000);
		printf("egress tcp: %ld MB/s, %ld round trips/s, %ld connections/s; from the host itself: %ld MB/s, %ld round trips/s\n",
			run(ns, throughput_client, &sunk), run(ns, trips_client, &tcp), run(ns, connections_client, &tcp),
			run(host_ns, throughput_client, &sunk), run(host_ns, trips_client, &tcp));
		printf("egress udp: %ld round trips/s\n", run(ns, udp_trips_client, &tcp));
		stop(sink);
	}
	stop(server);
	stop(udp_server);
}

/* Calls on what does not answer, more than there may be on their way at once, and does not wait. */
static long busy_client(const void *argument)
{
	struct target t = *(const struct target *)argument;
	for (int i = 0; i < 1100; i++) {
		struct sockaddr_storage to;
		t.port = 1 + i;
		socklen_t size = address_of(&t, &to);
		int fd = socket(t.family, SOCK_STREAM | SOCK_NONBLOCK, 0);
		if (connect(fd, (struct sockaddr *)&to, size) == 0 || errno != EINPROGRESS)
			return errno;
		close(fd);
		usleep(200);
	}
	return 0;
}

static void test_shares(struct net_slot *busy, struct net_slot *other)
{
	pid_t server = serve(outside_ns, echo_server, at("198.51.100.1", 7000));
	struct target tcp = at("198.51.100.1", 7000), silent = at("198.51.100.9", 80);
	expect_equal(run(net_slot_ns(busy), busy_client, &silent), 0);
	expect_equal(run(net_slot_ns(other), echo_client, &tcp), 0);
	egress_forget(net_slot_address(busy));
	expect_equal(run(net_slot_ns(busy), echo_client, &tcp), 0);
	stop(server);
}

static void test_between(struct net_slot *one, struct net_slot *other)
{
	pid_t server = serve(net_slot_ns(one), echo_server, at("0.0.0.0", 5432));
	struct target t = at_address(net_slot_address(one), 5432);
	expect_equal(run(net_slot_ns(other), echo_client, &t), 0);
	stop(server);
}

static struct net_slot *on(struct network *network, const char *address)
{
	struct fault f = {0};
	struct net_slot *slot = net_take_on(network, address, NULL, &f);
	must(slot, f.message);
	return slot;
}

static struct in_addr address_on(const struct net_slot *slot, const struct network *network)
{
	for (const struct net_link *link = net_slot_links(slot); link; link = link->next)
		if (link->network == network)
			return link->address;
	return (struct in_addr){0};
}

/* 0: it echoes; else why not. */
static long between(const struct net_slot *from, struct in_addr to)
{
	struct target t = at_address(to, 5432);
	return run(net_slot_ns(from), echo_client, &t);
}

static bool is_cut_off(long result)
{
	return result == ENETUNREACH || result == EHOSTUNREACH;
}

static void refuse_subnet(const char *subnet, int error)
{
	struct fault f = {0};
	expect(!network_create("ff", &(struct network_wish){.subnet = subnet}, &f));
	expect_equal(f.error, error);
	expect(!strcmp(f.step, "subnet") && !strcmp(f.subject, subnet));
}

static const struct net_impairment whole = {0}, cut = {.loss = 1000000};

/* A container's frames go by the warden while it has faults, all kinds of them, and by themselves when it has none. */
static void test_faults(struct network *a, struct network *b)
{
	struct fault f = {0};
	struct net_slot *server = on(a, NULL), *near = on(a, NULL), *other = on(a, NULL);
	struct in_addr address = net_slot_address(server);
	pid_t pid = serve(net_slot_ns(server), echo_server, at("0.0.0.0", 5432));
	expect_equal(between(near, address), 0);
	must(net_impair(server, near, &cut, &f) == 0, f.message);
	struct target to_server = at_address(address, 5432);
	expect_equal(run(net_slot_ns(near), pending_client, &to_server), 0);
	expect_equal(between(other, address), 0);
	must(net_impair(server, near, &whole, &f) == 0, f.message);
	expect_equal(between(near, address), 0);
	/* Late; and both rules at once. */
	must(net_impair(server, NULL, &(struct net_impairment){.delay_us = 20000, .jitter_us = 5000}, &f) == 0, f.message);
	must(net_impair(server, other, &(struct net_impairment){.bytes_per_second = 2000000}, &f) == 0, f.message);
	double start = seconds();
	expect_equal(between(near, address), 0);
	expect(seconds() - start > 0.08);
	expect_equal(between(other, address), 0);
	to_server.amount = 1000000;
	expect_equal(run(net_slot_ns(other), integrity_client, &to_server), 0);
	/* Some get lost, and are sent again. */
	must(net_impair(server, NULL, &(struct net_impairment){.loss = 100000}, &f) == 0, f.message);
	expect_equal(between(near, address), 0);
	/* The rules hold on a network that it joins later; the peer of one goes, and frames that wait go with their link. */
	must(net_connect(server, b, NULL, NULL, &f) == 0, f.message);
	must(net_impair(server, near, &(struct net_impairment){.delay_us = 2000000}, &f) == 0, f.message);
	pid_t late = fork();
	if (late == 0) {
		enter(net_slot_ns(near));
		_exit(echo_client(&to_server) != 0);
	}
	let_pass(100);
	stop(late);
	net_give_back(near, false);
	must(net_disconnect(server, a, &f) == 0 && net_connect(server, a, NULL, NULL, &f) == 0, f.message);
	expect_equal(between(other, address_on(server, a)), 0);
	net_heal(server);
	expect_equal(between(other, address_on(server, a)), 0);
	must(net_impair(server, NULL, &cut, &f) == 0, f.message);
	stop(pid);
	net_give_back(server, false);
	net_give_back(other, false);
	let_pass(100);
}

static void refuse_wish(const char *gateway, const char *range, const char *step)
{
	struct fault f = {0};
	expect(!network_create("ff", &(struct network_wish){.subnet = "10.78.0.0/28", .gateway = gateway, .range = range}, &f));
	expect_equal(f.error, EINVAL);
	expect(!strcmp(f.step, step));
}

/* Gateway and range are as they are wanted, and what is taken from the range comes back. */
static void test_wishes(void)
{
	struct fault f = {0};
	struct network_wish wish = {.subnet = "10.78.0.0/28", .gateway = "10.78.0.14", .range = "10.78.0.4/30"};
	refuse_wish("10.78.0.0", NULL, "gateway");
	refuse_wish("10.78.0.15", NULL, "gateway");
	refuse_wish("10.79.0.1", NULL, "gateway");
	refuse_wish(NULL, "10.78.0.0/27", "range");
	refuse_wish(NULL, "10.78.0.16/29", "range");
	refuse_wish(NULL, "10.78.0.5/30", "range");
	expect(!network_create("ff", &(struct network_wish){.gateway = "10.78.0.1"}, &f) && f.error == EINVAL);
	f = (struct fault){0};
	struct network *n = network_create("d4", &wish, &f);
	must(n, f.message);
	expect(network_gateway(n).s_addr == inet_addr("10.78.0.14"));
	struct net_slot *slots[4];
	for (int i = 0; i < 4; i++) {
		must((slots[i] = net_take_on(n, NULL, NULL, &f)), f.message);
		expect((ntohl(net_slot_address(slots[i]).s_addr) & ~3u) == 0x0a4e0004);
	}
	expect(!net_take_on(n, NULL, NULL, &f) && f.error == EADDRINUSE);
	f = (struct fault){0};
	expect(!net_take_on(n, "10.78.0.14", NULL, &f) && f.error == EADDRNOTAVAIL);
	f = (struct fault){0};
	struct net_slot *outside = net_take_on(n, "10.78.0.1", NULL, &f);
	must(outside, f.message);
	net_give_back(outside, false);
	/* One that waits to be used again holds an address, which goes to who needs it. */
	net_give_back(slots[0], false);
	slots[0] = net_take_lonely(&f);
	must(slots[0] && net_connect(slots[0], n, NULL, NULL, &f) == 0, f.message);
	for (int i = 0; i < 4; i++)
		net_give_back(slots[i], false);
	expect(network_remove(n, &f) == 0);
}

/* Containers on one network reach each other, on two none. */
static void test_isolation(struct network *a, struct network *b, struct network *inner, bool has_egress)
{
	struct fault f = {0};
	struct net_slot *one = on(a, NULL), *other = on(b, "10.77.0.9"), *both = net_take(&f), *inside = on(inner, NULL), *plain = net_take(&f);
	must(net_connect(both, a, NULL, NULL, &f) == 0, f.message);
	expect_equal(ntohl(net_slot_address(other).s_addr), 0x0a4d0009);
	struct net_slot *all[] = {one, other, both, inside, plain};
	pid_t servers[5];
	for (int i = 0; i < 5; i++)
		servers[i] = serve(net_slot_ns(all[i]), echo_server, at("0.0.0.0", 5432));
	expect_equal(between(one, address_on(both, a)), 0);
	expect_equal(between(both, address_on(one, a)), 0);
	expect_equal(between(plain, net_slot_address(both)), 0);
	for (int i = 0; i < 5; i++)
		for (int k = 0; k < 5; k++)
			for (const struct net_link *link = net_slot_links(all[k]); i != k && link; link = link->next)
				if (!address_on(all[i], link->network).s_addr)
					expect(is_cut_off(between(all[i], link->address)));
	expect_equal(net_slot_address(both).s_addr, address_on(both, router.networks).s_addr);

	/* Raw frames lead no further: the gateway is asked for what is not on the link, and so it is for one's own. */
	struct target foreign = at_address(network_gateway(b), 5432), inner_gateway = at_address(network_gateway(inner), 5432);
	expect(run(net_slot_ns(one), echo_client, &foreign) != 0);
	expect(run(net_slot_ns(inside), echo_client, &inner_gateway) != 0);
	struct fault publishing = {0};
	struct publish *p = publish_open(false, "*", 0, net_slot_address(inside), 5432, &publishing);
	must(p, publishing.subject);
	struct target published = at("127.0.0.1", publish_host_port(p));
	expect_equal(run(host_ns, echo_client, &published), 0);
	publish_lead_to(p, net_slot_address(one));
	expect_equal(run(host_ns, echo_client, &published), 0);
	publish_lead_to(p, (struct in_addr){0});
	expect_equal(run(host_ns, echo_client, &published), ECONNRESET);
	publish_close(p);
	if (router.host.s_addr) {
		struct target direct = at_address(net_slot_address(one), 5432), hidden = at_address(net_slot_address(inside), 5432);
		expect_equal(run(host_ns, echo_client, &direct), 0);
		expect(run(host_ns, echo_client, &hidden) != 0);
		struct target host = at_address(router.host, 7003);
		pid_t server = serve(host_ns, echo_server, at("0.0.0.0", 7003));
		expect_equal(run(net_slot_ns(one), echo_client, &host), 0);
		expect(run(net_slot_ns(inside), echo_client, &host) != 0);
		stop(server);
	}
	if (has_egress) {
		pid_t server = serve(outside_ns, echo_server, at("198.51.100.1", 7000)), udp = serve(outside_ns, udp_echo_server, at("198.51.100.1", 7000));
		struct target outside = at("198.51.100.1", 7000);
		expect_equal(run(net_slot_ns(one), echo_client, &outside), 0);
		expect_equal(run(net_slot_ns(one), udp_client, &outside), 0);
		expect_equal(run(net_slot_ns(one), ping_client, &outside), 0);
		expect(is_cut_off(run(net_slot_ns(inside), echo_client, &outside)));
		expect(run(net_slot_ns(inside), udp_client, &outside) != 0);
		/* A default route of its own making is no way out. */
		enter(net_slot_ns(inside));
		struct netlink nl;
		struct batch b;
		must(netlink_open(&nl, NETLINK_ROUTE) == 0, "rtnetlink");
		char gateway[INET_ADDRSTRLEN];
		struct in_addr ip = network_gateway(inner);
		batch_clear(&b);
		route(&b, "0.0.0.0", 0, inet_ntop(AF_INET, &ip, gateway, sizeof(gateway)), RTN_UNICAST);
		must(netlink_send(&nl, &b) == 0, "route");
		netlink_close(&nl);
		enter(router_ns);
		expect(is_cut_off(run(net_slot_ns(inside), echo_client, &outside)));
		expect(run(net_slot_ns(inside), udp_client, &outside) != 0);
		expect(run(net_slot_ns(inside), ping_client, &outside) != 0);
		expect(is_cut_off(between(inside, net_slot_address(one))));
		stop(server);
		stop(udp);
	}

	/* The same link twice, an address twice, one that is none; a link less. */
	expect(net_connect(one, a, NULL, NULL, &f) < 0 && f.error == EEXIST);
	f = (struct fault){0};
	expect(net_connect(one, b, "10.77.0.9", NULL, &f) < 0 && f.error == EADDRINUSE);
	f = (struct fault){0};
	expect(net_connect(one, b, "10.77.0.1", NULL, &f) < 0 && f.error == EADDRNOTAVAIL);
	f = (struct fault){0};
	expect(net_connect(one, b, "10.78.0.9", NULL, &f) < 0 && f.error == EADDRNOTAVAIL);
	f = (struct fault){0};
	expect(network_remove(a, &f) < 0 && f.error == EBUSY);
	f = (struct fault){0};
	must(net_connect(one, b, NULL, NULL, &f) == 0, f.message);
	expect_equal(between(one, net_slot_address(other)), 0);
	expect_equal(between(other, address_on(one, b)), 0);
	/* The way out moves to the link that is left. */
	must(net_disconnect(one, a, &f) == 0, f.message);
	expect_equal(net_slot_address(one).s_addr, address_on(one, b).s_addr);
	expect(is_cut_off(between(both, address_on(one, b))));
	expect(net_disconnect(one, a, &f) < 0 && f.error == ENOTCONN);
	for (int i = 0; i < 5; i++) {
		stop(servers[i]);
		net_give_back(all[i], i == 3);
	}
}

static void test_names_on_networks(struct network *a, struct network *b, struct network *inner)
{
	struct fault f = {0};
	struct net_slot *one = on(a, NULL), *two = on(a, NULL), *other = on(b, NULL), *inside = on(inner, NULL), *plain = net_take(&f);
	must(net_connect(plain, a, NULL, NULL, &f) == 0, f.message);
	names_add(one, "db", address_on(one, a), NULL);
	names_add(two, "db", address_on(two, a), NULL);
	names_add(other, "db", address_on(other, b), NULL);
	names_add(inside, "self", address_on(inside, inner), NULL);
	names_add(plain, "plain", address_on(plain, router.networks), NULL);
	names_add(plain, "plain", address_on(plain, a), NULL);
	struct question q = {network_gateway(a), "db", 1, false};
	expect_equal(run(net_slot_ns(one), ask, &q), 2);
	long last = board->counter;
	expect(last == ntohl(address_on(one, a).s_addr) || last == ntohl(address_on(two, a).s_addr));
	expect_equal(run(net_slot_ns(one), ask, &q), 2);
	expect(board->counter != last);
	q = (struct question){network_gateway(b), "db", 1, true};
	expect_equal(run(net_slot_ns(other), ask, &q), 1);
	expect_equal(board->counter, ntohl(address_on(other, b).s_addr));
	/* On two networks: the names of both, asked of either; and the address on the network that the two share. */
	q = (struct question){router.gateway, "db", 1, false};
	expect_equal(run(net_slot_ns(plain), ask, &q), 2);
	q = (struct question){network_gateway(a), "plain", 1, false};
	expect_equal(run(net_slot_ns(one), ask, &q), 1);
	expect_equal(board->counter, ntohl(address_on(plain, a).s_addr));
	/* What is not on a common network is not known: the host's servers are asked. */
	q = (struct question){network_gateway(b), "plain", 1, false};
	expect_equal(run(net_slot_ns(other), ask, &q), 1);
	expect_equal(board->counter, 0xcb007105);
	/* An internal network knows its own names and no others. */
	for (int tcp = 0; tcp < 2; tcp++) {
		q = (struct question){network_gateway(inner), "self", 1, tcp};
		expect_equal(run(net_slot_ns(inside), ask, &q), 1);
		q.name = "www.example.org";
		expect_equal(run(net_slot_ns(inside), ask, &q), 3000);
		q.name = "plain";
		expect_equal(run(net_slot_ns(inside), ask, &q), 3000);
	}
	char reverse[64];
	uint32_t ip = ntohl(address_on(one, a).s_addr);
	snprintf(reverse, sizeof(reverse), "%u.%u.%u.%u.in-addr.arpa", ip & 255, ip >> 8 & 255, ip >> 16 & 255, ip >> 24);
	q = (struct question){network_gateway(a), reverse, 12, false};
	expect_equal(run(net_slot_ns(two), ask, &q), 1);
	q.server = network_gateway(b);
	expect_equal(run(net_slot_ns(other), ask, &q), 3000);
	struct net_slot *all[] = {one, two, other, inside, plain};
	for (int i = 0; i < 5; i++) {
		names_remove(all[i]);
		net_give_back(all[i], false);
	}
}

/* Ports on the host's loopback, at the gateway: only those that are allowed. */
static void test_host_ports(struct network *a, struct network *inner)
{
	struct fault f = {0};
	struct net_slot *plain = net_take(&f), *one = on(a, NULL), *inside = on(inner, NULL);
	pid_t server = serve(host_ns, echo_server, at("127.0.0.1", 7100)), only6 = serve(host_ns, echo_server, at("::1", 7101)),
		other = serve(host_ns, echo_server, at("127.0.0.1", 7102));
	struct target t = at_address(router.gateway, 7100), of_a = at_address(network_gateway(a), 7100),
		of_inner = at_address(network_gateway(inner), 7100);
	expect_equal(run(net_slot_ns(plain), echo_client, &t), ECONNREFUSED);
	const char *own[] = {"7100", "7101", "7103"}, *any[] = {"*"}, *bad[] = {"0"}, *query[] = {"53"};
	must(net_slot_host_ports(plain, own, 3, &f) == 0, f.message);
	expect_equal(run(net_slot_ns(plain), echo_client, &t), 0);
	t.amount = 4 << 20;
	expect_equal(run(net_slot_ns(plain), integrity_client, &t), 0);
	t.port = 7101;
	expect_equal(run(net_slot_ns(plain), echo_client, &t), 0);
	t.port = 7102;    /* not allowed */
	expect_equal(run(net_slot_ns(plain), echo_client, &t), ECONNREFUSED);
	t.port = 7103;    /* allowed, and nobody listens */
	expect_equal(run(net_slot_ns(plain), echo_client, &t), ECONNREFUSED);
	expect_equal(run(net_slot_ns(one), echo_client, &of_a), ECONNREFUSED);
	/* Not at the gateway of a network that the container is not on. */
	expect(run(net_slot_ns(plain), echo_client, &of_a) != 0);
	must(net_host_ports(own, 1, &f) == 0, f.message);
	expect_equal(run(net_slot_ns(one), echo_client, &of_a), 0);
	expect(run(net_slot_ns(inside), echo_client, &of_inner) != 0);
	struct question q = {network_gateway(a), "host.mayfly.internal", 1, false};
	expect_equal(run(net_slot_ns(one), ask, &q), 1);
	expect_equal(board->counter, ntohl(network_gateway(a).s_addr));
	must(net_slot_host_ports(one, any, 1, &f) == 0, f.message);
	of_a.port = 7102;
	expect_equal(run(net_slot_ns(one), echo_client, &of_a), 0);
	q = (struct question){network_gateway(a), "db", 1, true};    /* still the name server */
	expect_equal(run(net_slot_ns(one), ask, &q), 1);
	expect(net_host_ports(bad, 1, &f) < 0 && f.error == EINVAL);
	f = (struct fault){0};
	expect(net_host_ports(query, 1, &f) < 0 && f.error == EINVAL);
	/* From outside nobody gets there. */
	if (router.host.s_addr) {
		struct target gateway = at_address(router.gateway, 7100);
		expect(run(host_ns, echo_client, &gateway) != 0);
	}
	/* What one container was allowed, the next one with its namespace is not. */
	let_pass(50);
	net_give_back(one, false);
	one = on(a, NULL);
	expect_equal(run(net_slot_ns(one), echo_client, &of_a), ECONNREFUSED);
	net_give_back(one, false);
	net_give_back(plain, false);
	net_give_back(inside, false);
	stop(server);
	stop(only6);
	stop(other);
}

/* ---- IPv6 ---- */

static const struct net_link *link_on(const struct net_slot *slot, const struct network *network)
{
	const struct net_link *link = net_slot_links(slot);
	while (link && link->network != network)
		link = link->next;
	must(link, "a link");
	return link;
}

static struct target at_v6(struct in6_addr ip, int port)
{
	struct target t = {.family = AF_INET6, .port = port};
	inet_ntop(AF_INET6, &ip, t.ip, sizeof(t.ip));
	return t;
}

static struct target at_link(const struct net_slot *slot, const struct network *network, int port)
{
	return at_v6(link_on(slot, network)->v6, port);
}

static void refuse_v6(const struct network_wish *wish, const char *step, int error)
{
	struct fault f = {0};
	expect(!network_create("ff", wish, &f));
	expect(!strcmp(f.step, step));
	expect_equal(f.error, error);
}

static void test_wishes_v6(const struct network *a)
{
	char taken[64];
	struct fault f = {0};
	network_subnet_v6(a, taken);
	refuse_v6(&(struct network_wish){.ipv6 = true, .subnet_v6 = taken}, "subnet", EADDRINUSE);
	refuse_v6(&(struct network_wish){.ipv6 = true, .subnet_v6 = "2001:db8:2::/64"}, "subnet", EADDRINUSE);    /* the host's */
	const char *bad[] = {"fd00:5::1/64", "fd00:5::", "fd00:5::/129", "fd00:5::/12", "fd00:5::/127", "fe80::/64", "ff05::/64", "::/64",
		"::ffff:10.5.0.0/120", "10.5.0.0/24", "x/64", "fd00:5::/64x"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		refuse_v6(&(struct network_wish){.ipv6 = true, .subnet_v6 = bad[i]}, "subnet", EINVAL);
	struct network_wish wish = {.ipv6 = true, .subnet_v6 = "fd00:5::/125", .gateway_v6 = "fd00:6::1"};
	refuse_v6(&wish, "gateway", EINVAL);
	wish.gateway_v6 = "fd00:5::";
	refuse_v6(&wish, "gateway", EINVAL);
	wish.gateway_v6 = "fd00:5::3";
	wish.range_v6 = "fd00:5::/124";
	refuse_v6(&wish, "range", EINVAL);
	wish.range_v6 = "fd00:5::8/126";
	refuse_v6(&wish, "range", EINVAL);
	refuse_v6(&(struct network_wish){.ipv6 = true, .gateway_v6 = "fd00:5::1"}, "gateway", EINVAL);
	/* What was refused has left nothing: it can be had. The range has two beside the first one and the gateway. */
	wish.range_v6 = "fd00:5::/126";
	struct network *n = network_create("d4", &wish, &f);
	must(n, f.message);
	struct net_slot *one = on(n, NULL), *two = on(n, NULL);
	expect(!net_take_on(n, NULL, NULL, &f) && f.error == EADDRINUSE);
	const char *none[] = {"fd00:5::", "fd00:5::3", "fd00:5::8", "fd00:6::1"};
	for (int i = 0; i < 4; i++) {
		f = (struct fault){0};
		expect(!net_take_on(n, NULL, none[i], &f) && f.error == EADDRNOTAVAIL && !strcmp(f.step, "address"));
	}
	f = (struct fault){0};
	expect(!net_take_on(n, NULL, "fd00:5::2", &f) && f.error == EADDRINUSE);
	f = (struct fault){0};
	struct net_slot *three = net_take_on(n, NULL, "fd00:5::6", &f);
	must(three, f.message);
	f = (struct fault){0};
	expect(!net_take_on(router.networks, NULL, "fd00:5::5", &f) && f.error == EADDRNOTAVAIL);
	/* One that waits to be used again gives its address to who asks for it. */
	net_give_back(one, false);
	net_give_back(two, false);
	f = (struct fault){0};
	must((one = net_take_on(n, NULL, "fd00:5::2", &f)), f.message);
	expect(network_remove(n, &f) < 0 && f.error == EBUSY);
	net_give_back(one, false);
	net_give_back(three, false);
	let_pass(100);
	f = (struct fault){0};
	must(network_remove(n, &f) == 0, f.message);
}

/* Nothing arrives here for a while. */
static long quiet_server(const void *argument)
{
	char byte;
	int fd = bound(argument, SOCK_DGRAM);
	struct timeval patience = {.tv_sec = 1};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	is_ready();
	ssize_t got = recv(fd, &byte, 1, 0);
	return got < 0 && errno == EAGAIN ? 0 : 1;
}

/* Sends a datagram to the first one, as if from the second. */
static long spoofing_client(const void *argument)
{
	const struct target *t = argument;
	struct sockaddr_storage to, from;
	int on = 1, fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t size = address_of(&t[0], &to);
	address_of(&t[1], &from);
	if (setsockopt(fd, SOL_IPV6, 78 /* IPV6_FREEBIND */, &on, sizeof(on)) < 0 || bind(fd, (struct sockaddr *)&from, size) < 0 ||
		sendto(fd, "ping", 4, 0, (struct sockaddr *)&to, size) != 4)
		return errno;
	return 0;
}

static void spoof(const struct net_slot *from, const struct net_slot *other, struct target to, struct target as, long sent)
{
	struct target pair[] = {to, as};
	board->ready = 0;
	pid_t quiet = spawn(net_slot_ns(other), quiet_server, &as);
	wait_ready(1);
	expect_equal(run(net_slot_ns(from), spoofing_client, pair), sent);
	expect_equal(await(quiet, 5), 0);
}

static void test_egress_v6(const struct net_slot *one, const struct net_slot *other, const struct net_slot *inside, const struct network *a,
	const struct network *b)
{
	pid_t servers[] = {serve(outside_ns, echo_server, at("2001:db8:1::1", 7000)), serve(outside_ns, udp_echo_server, at("2001:db8:1::1", 7000)),
		serve(host_ns, echo_server, at("::1", 7104)), serve(host_ns, udp_echo_server, at("::1", 7104))};
	struct target tcp = at("2001:db8:1::1", 7000), refused = at("2001:db8:1::1", 7001), nowhere = at("2001:db8:dead::1", 80),
		silent = at("2001:db8:1::9", 80), gateway = at_v6(network_gateway_v6(a), 7104), link_local = at("fe80::1", 7000);
	int ns = net_slot_ns(one);
	expect_egress(ns, &tcp, &refused, &nowhere, &silent);
	expect(run(ns, echo_client, &link_local) != 0);
	expect(is_cut_off(run(net_slot_ns(inside), echo_client, &tcp)));
	expect(run(net_slot_ns(inside), udp_client, &tcp) != 0);
	/* The host's loopback, by the gateway: only a port that is allowed. */
	struct fault f = {0};
	const char *port[] = {"7104"};
	struct net_slot *allowed = on(link_on(one, a)->network, NULL);
	expect_equal(run(ns, echo_client, &gateway), ECONNREFUSED);
	expect_equal(run(ns, udp_client, &gateway), ECONNREFUSED);
	must(net_slot_host_ports(allowed, port, 1, &f) == 0, f.message);
	expect_equal(run(net_slot_ns(allowed), echo_client, &gateway), 0);
	expect_equal(run(ns, echo_client, &gateway), ECONNREFUSED);
	net_give_back(allowed, false);
	/* Nobody speaks for another one: neither of another network nor of its own. The route back would be the other's. */
	spoof(one, other, tcp, at_link(other, b, 5999), 0);
	for (int i = 0; i < 4; i++)
		stop(servers[i]);
}

static void test_faults_v6(struct network *a)
{
	struct fault f = {0};
	struct net_slot *server = on(a, NULL), *near = on(a, NULL), *other = on(a, NULL);
	pid_t pid = serve(net_slot_ns(server), echo_server, at("::", 5432));
	struct target t = at_link(server, a, 5432);
	expect_equal(run(net_slot_ns(near), echo_client, &t), 0);
	must(net_impair(server, near, &cut, &f) == 0, f.message);
	expect_equal(run(net_slot_ns(near), pending_client, &t), 0);
	expect_equal(run(net_slot_ns(other), echo_client, &t), 0);
	must(net_impair(server, near, &whole, &f) == 0, f.message);
	expect_equal(run(net_slot_ns(near), echo_client, &t), 0);
	must(net_impair(server, NULL, &(struct net_impairment){.delay_us = 20000}, &f) == 0, f.message);
	double start = seconds();
	expect_equal(run(net_slot_ns(near), echo_client, &t), 0);
	expect(seconds() - start > 0.08);
	must(net_impair(server, NULL, &cut, &f) == 0, f.message);
	expect_equal(run(net_slot_ns(near), pending_client, &t), 0);
	net_heal(server);
	expect_equal(run(net_slot_ns(near), echo_client, &t), 0);
	stop(pid);
	net_give_back(server, false);
	net_give_back(near, false);
	net_give_back(other, false);
}

/* An address goes from one container to the next, whose hardware address is another one: who knew the first finds the second at once. */
static void test_heirs_v6(struct network *a)
{
	struct fault f = {0};
	char text[INET6_ADDRSTRLEN];
	struct in6_addr ip = a->v6.first;
	ip.s6_addr[15] = 0xaa;
	inet_ntop(AF_INET6, &ip, text, sizeof(text));
	struct net_slot *client = on(a, NULL), *heir = NULL;
	struct target t = at(text, 5432);
	for (int i = 0; i < 3; i++) {
		struct net_slot *before = heir;
		if (before)
			net_give_back(before, true);
		must((heir = net_take_on(a, NULL, text, &f)), f.message);
		pid_t server = serve(net_slot_ns(heir), echo_server, at("::", 5432));
		double start = seconds();
		expect_equal(run(net_slot_ns(client), echo_client, &t), 0);
		expect(seconds() - start < 4);    /* who is not told asks again after 5 s at the soonest */
		stop(server);
	}
	net_give_back(client, false);
	net_give_back(heir, true);
}

static void test_names_v6(struct network *a, const struct network *b)
{
	struct net_slot *one = on(a, NULL), *two = on(a, NULL);
	const struct net_link *first = link_on(one, a), *second = link_on(two, a);
	char reverse[80] = "";
	names_add(one, "db", first->address, &first->v6);
	names_add(two, "db", second->address, &second->v6);
	names_add(two, "old", second->address, NULL);
	for (int tcp = 0; tcp < 2; tcp++) {
		struct question q = {network_gateway(a), "db", 28, tcp};
		expect_equal(run(net_slot_ns(one), ask, &q), 2);
		long last = board->counter;
		expect_equal(run(net_slot_ns(one), ask, &q), 2);
		expect(board->counter != last);
		q.type = 1;
		expect_equal(run(net_slot_ns(one), ask, &q), 2);
		q = (struct question){network_gateway(a), "old", 28, tcp};
		expect_equal(run(net_slot_ns(one), ask, &q), 0);    /* it exists, without such an address */
	}
	for (int i = 15; i >= 0; i--)
		sprintf(reverse + strlen(reverse), "%x.%x.", first->v6.s6_addr[i] & 15, first->v6.s6_addr[i] >> 4);
	strcat(reverse, "ip6.arpa");
	struct question q = {network_gateway(a), reverse, 12, false};
	expect_equal(run(net_slot_ns(two), ask, &q), 1);
	q.server = network_gateway(b);
	names_remove(one);
	q.server = network_gateway(a);
	expect_equal(run(net_slot_ns(two), ask, &q), 3000);
	names_remove(two);
	net_give_back(one, false);
	net_give_back(two, false);
}

static void test_v6(bool has_egress)
{
	struct fault f = {0};
	struct network *a = network_create("a6", &(struct network_wish){.ipv6 = true}, &f),
		*b = network_create("b6", &(struct network_wish){.ipv6 = true, .subnet_v6 = "fd00:77::/64"}, &f),
		*inner = network_create("c6", &(struct network_wish){.ipv6 = true, .internal = true}, &f), *old = network_create("d6", &(struct network_wish){0}, &f);
	must(a && b && inner && old, f.message);
	expect(a->v6.first.s6_addr[0] == 0xfd && a->v6.bits == 64);
	test_wishes_v6(a);
	must(net_connect(on(old, NULL), a, NULL, NULL, &f) == 0, f.message);    /* a network without it is left alone */
	struct net_slot *one = on(a, NULL), *near = on(a, NULL), *other = on(b, NULL), *inside = on(inner, NULL), *plain = slots_in_use();
	while (!plain->links->next || plain->links->network != old)
		plain = plain->next;
	expect(IN6_IS_ADDR_UNSPECIFIED(&link_on(plain, old)->v6) && !IN6_IS_ADDR_UNSPECIFIED(&link_on(plain, a)->v6));
	struct { struct net_slot *slot; struct network *network; } all[] = {{one, a}, {near, a}, {other, b}, {inside, inner}, {plain, a}};
	pid_t servers[5];
	for (int i = 0; i < 5; i++)
		servers[i] = serve(net_slot_ns(all[i].slot), echo_server, at("::", 5432));
	for (int i = 0; i < 5; i++)
		for (int k = 0; k < 5; k++) {
			struct target t = at_link(all[k].slot, all[k].network, 5432);
			long result = i == k ? 0 : run(net_slot_ns(all[i].slot), echo_client, &t);
			if (all[i].network == all[k].network)
				expect_equal(result, 0);
			else
				expect(is_cut_off(result));
		}
	/* By the address of the link alone, too: it leads no further than the network. */
	struct in6_addr everywhere = link_local(link_on(one, a));
	struct target by_link = at_v6(everywhere, 5432), foreign_gateway = at_v6(network_gateway_v6(b), 5432);
	expect(run(net_slot_ns(other), echo_client, &by_link) != 0);
	expect(run(net_slot_ns(one), echo_client, &foreign_gateway) != 0);
	/* A route of its own making leads nowhere. */
	enter(net_slot_ns(inside));
	struct netlink nl;
	struct batch batch;
	struct target to_one = at_link(one, a, 5432), to_host = {0};
	must(netlink_open(&nl, NETLINK_ROUTE) == 0, "rtnetlink");
	char gateway[INET6_ADDRSTRLEN];
	batch_clear(&batch);
	route(&batch, "::", 0, inet_ntop(AF_INET6, &inner->v6.gateway, gateway, sizeof(gateway)), RTN_UNICAST);
	must(netlink_send(&nl, &batch) == 0, "route");
	netlink_close(&nl);
	enter(router_ns);
	expect(is_cut_off(run(net_slot_ns(inside), echo_client, &to_one)));
	if (router.host.s_addr) {
		struct target hidden = at_link(inside, inner, 5432);
		expect_equal(run(host_ns, echo_client, &to_one), 0);
		expect(run(host_ns, echo_client, &hidden) != 0);
		to_host = at_v6(router.host_v6, 7003);
		pid_t server = serve(host_ns, echo_server, at("::", 7003));
		expect_equal(run(net_slot_ns(one), echo_client, &to_host), 0);
		expect(run(net_slot_ns(inside), echo_client, &to_host) != 0);
		stop(server);
	}
	if (has_egress)
		test_egress_v6(one, other, inside, a, b);
	test_faults_v6(a);
	test_heirs_v6(a);
	test_names_v6(a, b);
	/* The way out moves to the other network that has one. */
	must(net_connect(one, b, NULL, NULL, &f) == 0, f.message);
	struct target to_other = at_link(other, b, 5432), outside = at("2001:db8:1::1", 7001);
	expect_equal(run(net_slot_ns(one), echo_client, &to_other), 0);
	must(net_disconnect(one, a, &f) == 0, f.message);
	expect_equal(run(net_slot_ns(one), echo_client, &to_other), 0);
	if (has_egress)
		expect_equal(run(net_slot_ns(one), echo_client, &outside), ECONNREFUSED);
	for (int i = 0; i < 5; i++) {
		stop(servers[i]);
		net_give_back(all[i].slot, true);
	}
	expect(network_remove(a, &f) == 0 && network_remove(b, &f) == 0 && network_remove(inner, &f) == 0 && network_remove(old, &f) == 0);
	/* Its subnet is free again, on the host too. */
	b = network_create("b6", &(struct network_wish){.ipv6 = true, .subnet_v6 = "fd00:77::/64"}, &f);
	must(b && network_remove(b, &f) == 0, f.message);
}

static void test_networks(bool has_egress)
{
	struct fault f = {0};
	struct network *a = network_create("a1", &(struct network_wish){0}, &f), *b = network_create("b2", &(struct network_wish){.subnet = "10.77.0.0/24"}, &f),
		*inner = network_create("c3", &(struct network_wish){.internal = true}, &f);
	must(a && b && inner, f.message);
	char text[32];
	network_subnet(b, text);
	expect(!strcmp(text, "10.77.0.0/24") && network_find("b2") == b && !network_find("ff"));
	refuse_subnet("10.77.0.128/25", EADDRINUSE);
	refuse_subnet("192.0.2.0/24", EADDRINUSE);
	refuse_subnet("10.5.0.1/24", EINVAL);
	refuse_subnet("10.5.0.0/8", EINVAL);
	refuse_subnet("10.5.0.0", EINVAL);
	expect(!network_create("a1", &(struct network_wish){0}, &f) && f.error == EEXIST);
	test_wishes();
	test_faults(a, b);
	test_isolation(a, b, inner, has_egress);
	test_names_on_networks(a, b, inner);
	if (has_egress)
		test_host_ports(a, inner);
	f = (struct fault){0};
	expect(network_remove(router.networks, &f) < 0 && f.error == EPERM);
	f = (struct fault){0};
	expect(network_remove(a, &f) == 0 && network_remove(b, &f) == 0 && network_remove(inner, &f) == 0);
	/* Its subnet is free again, on the host too. */
	b = network_create("b2", &(struct network_wish){.subnet = "10.77.0.0/24"}, &f);
	must(b && network_remove(b, &f) == 0, f.message);
	if (bench) {
		double start = seconds();
		for (int i = 0; i < 50; i++)
			must((b = network_create("b2", &(struct network_wish){0}, &f)) && network_remove(b, &f) == 0, f.message);
		printf("network: %.2f ms made and removed\n", (seconds() - start) / 50 * 1e3);
		b = network_create("b2", &(struct network_wish){0}, &f);
		let_pass(4000);    /* until the kernel has removed all those */
		start = seconds();
		for (int i = 0; i < 50; i++)
			net_give_back(on(b, NULL), false);
		let_pass(200);
		net_give_back(on(b, NULL), false);
		double again = seconds();
		net_give_back(on(b, NULL), false);
		printf("the same again: %.3f ms\n", (seconds() - again) * 1e3);
		start += 0.2;
		printf("container on a network: %.3f ms taken and given back\n", (seconds() - start) / 50 * 1e3);
		struct net_slot *slot = on(b, NULL);
		start = seconds();
		for (int i = 0; i < 50; i++)
			must(net_connect(slot, router.networks, NULL, NULL, &f) == 0 && net_disconnect(slot, router.networks, &f) == 0, f.message);
		printf("link to one more network: %.2f ms made and removed\n", (seconds() - start) / 50 * 1e3);
		net_give_back(slot, false);
		must(network_remove(b, &f) == 0, f.message);
	}
}

/* Another session on the same host, in another process, at the same time. */
static long other_session(const void *argument)
{
	(void)argument;
	struct net_facts facts;
	struct fault f = {0};
	router = (struct router){.ns = -1, .rtnl = {.fd = -1}};
	must(unshare(CLONE_NEWNET) == 0, "unshare");
	if (net_open(true, host_ns, "", &facts, &f) < 0)
		return -1;
	snprintf(board->text, sizeof(board->text), "%s", facts.subnet);
	return facts.host_reachable;
}

static int count_links(int ns, const char *prefix)
{
	enter(ns);
	int count = 0;
	struct if_nameindex *links = if_nameindex();
	for (struct if_nameindex *l = links; l && l->if_index; l++)
		count += strncmp(l->if_name, prefix, strlen(prefix)) == 0;
	if_freenameindex(links);
	enter(router_ns);
	return count;
}

/* How many uplinks the host has, once there are no more than wanted; the kernel removes them a little later. */
static int links_left(int wanted)
{
	int left = -1;
	for (int i = 0; i < 300 && (left = count_links(host_ns, "mf-")) > wanted; i++)
		usleep(10000);
	return left;
}

static long forwards(const void *argument)
{
	(void)argument;
	return read_number("/proc/sys/net/ipv4/ip_forward");
}

static void figures(void)
{
	struct fault f = {0};
	struct net_slot *slots[64];
	double start = seconds();
	for (int i = 0; i < 64; i++)
		slots[i] = net_take(&f);
	double made = seconds() - start;
	for (int i = 0; i < 64; i++)
		net_give_back(slots[i], true);
	let_pass(300);
	int cycles = 20000;
	start = seconds();
	for (int i = 0; i < cycles; i++)
		net_give_back(net_take(&f), false);
	double reused = seconds() - start;
	printf("pool: %.0f us a new namespace, %.2f us a take and give back of a clean one (%.0f/s)\n", made / 64 * 1e6,
		reused / cycles * 1e6, cycles / reused);
}

static void test_session(bool rooted)
{
	struct net_facts facts;
	struct fault f = {0};
	pid_t udp = serve(host_ns, resolver_udp, at("127.0.0.53", 53)), tcp = serve(host_ns, resolver_tcp, at("127.0.0.53", 53));
	double start = seconds();
	if (net_open(rooted, host_ns, "127.0.0.53,127.0.0.54", &facts, &f) < 0) {
		printf("net_open: %s %s %s %s\n", f.step, f.subject, strerror(f.error), f.message);
		exit(1);
	}
	if (bench)
		printf("%s: net_open %.1f ms, %s, gateway %s\n", rooted ? "root" : "rootless", (seconds() - start) * 1e3, facts.subnet, facts.gateway);
	if (*facts.warning)
		printf("warning: %s\n", facts.warning);
	expect_equal(facts.host_reachable, rooted);
	expect_equal(count_links(host_ns, "mf-"), rooted);
	test_pool();
	struct net_slot *one = net_take(&f), *other = net_take(&f);
	test_between(one, other);
	test_publish(one);
	test_names(one);
	if (facts.egress) {
		test_egress(other);
		test_shares(other, one);
	} else
		printf("skipped: egress, see the warning\n");
	test_networks(facts.egress);
	test_v6(facts.egress);
	if (rooted) {
		expect_equal(run(host_ns, other_session, NULL), 1);
		expect(strcmp(board->text, facts.subnet) != 0);
		/* That one has just ended without a word, as one that is killed. */
		expect_equal(links_left(1), 1);
		expect_equal(run(host_ns, forwards, NULL), 0);
	}
	net_give_back(one, false);
	net_give_back(other, false);
	if (bench)
		figures();
	net_close();
	stop(udp);
	stop(tcp);
}

static bool write_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return written;
}

/* A user namespace in which we are root, as a session without root has it at the least. */
static bool own_user_namespace(void)
{
	char map[64];
	unsigned uid = geteuid(), gid = getegid();
	if (unshare(CLONE_NEWUSER) < 0)
		return false;
	write_to("/proc/self/setgroups", "deny");
	snprintf(map, sizeof(map), "0 %u 1", gid);
	bool mapped = write_to("/proc/self/gid_map", map);
	snprintf(map, sizeof(map), "0 %u 1", uid);
	return write_to("/proc/self/uid_map", map) && mapped;
}

int main(int argc, char **argv)
{
	bench = argc > 1 && strcmp(argv[1], "bench") == 0;
	docker_proxy = argc > 2 ? argv[2] : NULL;
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(board != MAP_FAILED, "mmap");
	if (geteuid() != 0 && !own_user_namespace()) {
		printf("skipped: needs root or a user namespace (%s)\n", strerror(errno));
		return 0;
	}
	for (int rooted = 1; rooted >= 0; rooted--) {
		pid_t pid = fork();
		must(pid >= 0, "fork");
		if (!pid) {
			must(rooted || own_user_namespace(), "user namespace");
			make_world();
			serve_host_sockets();
			test_session(rooted);
			if (rooted) {
				/* The router's namespace dies with its last descriptor; the kernel cleans up a little later. */
				close(router_ns);
				router_ns = new_namespace();
				expect_equal(links_left(0), 0);
			}
			printf("%s: %u checks, %u failed\n", rooted ? "root" : "rootless", checks, failures);
			_exit(failures ? 1 : 0);
		}
		int status;
		must(waitpid(pid, &status, 0) == pid, "waitpid");
		if (status)
			return 1;
	}
	return 0;
}
