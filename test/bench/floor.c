/* The least that a Docker-shaped container costs on this kernel: one round makes the namespaces, the overlay root, the mounts,
 * the link and the control groups that mayfly's container has, execs a static program, reaps it and removes everything. There
 * is no manager: no requests, no log, no events, no names, no published ports. It is the yardstick of `npm run bench`.
 *
 *   floor ROOTFS SCRATCH PROGRAM [--rounds N] [--confine FILTER]
 *
 * ROOTFS is a directory used as the lower layer, SCRATCH one for upper and work directories, PROGRAM a path inside ROOTFS.
 * Without --rounds it makes one round for every byte that it reads, so that a caller can alternate with something else.
 * --confine adds Docker's 14 capabilities and a seccomp program (a file of struct sock_filter) to each container.
 * A round prints one line: nanoseconds from its start to the program's first instruction, and to everything being removed.
 *
 * How it is fast, as far as we know how:
 * - Everything that outlives one container is made once: the router's network namespace with its bridge, one netlink socket,
 *   the parent control groups, the group with the device rules, and a mount namespace with three mounts in it (CLONE_NEWNS
 *   copies them all).
 * - The parent makes the link while the child makes the mounts; the two meet once.
 * - The v2 group is entered by CLONE_INTO_CGROUP, the v1 groups by a "0" in `tasks`: a thread that moves itself alone needs no
 *   cgroup_threadgroup_rwsem, whose writers wait for an RCU grace period. With cgroup.procs and rounds 20 ms apart the program
 *   starts after 14.2 ms instead of 2.7 ms.
 * - A classic mount(2) is one system call where fsopen to move_mount are four or more. Paths here are trusted.
 * The network namespace is left to the kernel, which takes it down asynchronously, as it does for every container engine. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/veth.h>
#include <net/if.h>
#include <arpa/inet.h>
#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

#define ROUTER_ADDRESS "10.99.0.1"
#define PREFIX 16

static void close_groups(void);
static pid_t container;               /* the running one; 0 if there is none, and in the container itself */

static void die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	if (container) {
		kill(container, SIGKILL);
		waitpid(container, NULL, 0);
	}
	close_groups();
	_exit(1);
}

/* For calls whose failure ends the measurement: there is nothing to measure any more. */
#define must(call) ({ long must_result_ = (long)(call); if (must_result_ < 0) die(#call); must_result_; })

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- netlink: a batch of messages, sent at once, acknowledged by the last ---- */

struct batch {
	_Alignas(NLMSG_ALIGNTO) char bytes[1024];
	size_t length;
	struct nlmsghdr *last;
};

static void *batch_message(struct batch *b, uint16_t type, uint16_t flags, const void *header, size_t size)
{
	b->last = (struct nlmsghdr *)(b->bytes + b->length);
	*b->last = (struct nlmsghdr){ .nlmsg_len = NLMSG_LENGTH(size), .nlmsg_type = type };
	b->last->nlmsg_flags = flags | NLM_F_REQUEST;
	memcpy(NLMSG_DATA(b->last), header, size);
	b->length += NLMSG_SPACE(size);
	return NLMSG_DATA(b->last);
}

static struct rtattr *batch_attribute(struct batch *b, uint16_t type, const void *value, size_t size)
{
	struct rtattr *attribute = (struct rtattr *)(b->bytes + b->length);
	*attribute = (struct rtattr){ .rta_type = type, .rta_len = RTA_LENGTH(size) };
	if (size)
		memcpy(RTA_DATA(attribute), value, size);
	b->length += RTA_SPACE(size);
	b->last->nlmsg_len += RTA_SPACE(size);
	return attribute;
}

static void batch_close(struct batch *b, struct rtattr *nest)
{
	nest->rta_len = (uint16_t)(b->bytes + b->length - (char *)nest);
}

static void batch_send(struct batch *b, int netlink)
{
	char answer[4096];
	b->last->nlmsg_flags |= NLM_F_ACK;
	must(send(netlink, b->bytes, b->length, 0));
	/* The kernel has done the work when send returns; an earlier message that failed has answered first. */
	must(recv(netlink, answer, sizeof answer, 0));
	struct nlmsgerr *error = NLMSG_DATA((struct nlmsghdr *)answer);
	if (error->error) {
		errno = -error->error;
		die("netlink");
	}
}

static int netlink_open(void)
{
	return (int)must(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
}

static void batch_up(struct batch *b, int index)
{
	struct ifinfomsg link = { .ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	batch_message(b, RTM_NEWLINK, 0, &link, sizeof link);
}

static void batch_address(struct batch *b, int index, struct in_addr address)
{
	struct ifaddrmsg message = { .ifa_family = AF_INET, .ifa_prefixlen = PREFIX, .ifa_index = (unsigned)index };
	batch_message(b, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &message, sizeof message);
	batch_attribute(b, IFA_LOCAL, &address, sizeof address);
	batch_attribute(b, IFA_ADDRESS, &address, sizeof address);
}

static int interface_index(int socket_fd, const char *name)
{
	struct ifreq request = { 0 };
	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	must(ioctl(socket_fd, SIOCGIFINDEX, &request));
	return request.ifr_ifindex;
}

/* ---- what is made once ---- */

struct group {
	const char *controller;   /* name in /proc/self/cgroup, "" for v2 */
	const char *mount_data;   /* the same for mount(2) */
	const char *view;         /* directory below /sys/fs/cgroup in the container */
	bool shared;              /* one for all containers: the device rules */
	int own;                  /* this process's group */
	int fd;                   /* floor-<pid> in it, which holds the containers' groups; -1 where there is none */
};
static struct group groups[] = {
	{ .controller = "", .view = "unified", .fd = -1 },
	{ .controller = "memory", .mount_data = "memory", .view = "memory", .fd = -1 },
	{ .controller = "blkio", .mount_data = "blkio", .view = "blkio", .fd = -1 },
	{ .controller = "devices", .mount_data = "devices", .view = "devices", .shared = true, .fd = -1 },
};
#define GROUPS (sizeof groups / sizeof *groups)
#define V2 (&groups[0])

static int router, bridge;            /* netlink socket in the router's namespace; index of its bridge */
static struct in_addr gateway;
static int scratch;                   /* SCRATCH */
static const char *program;
static struct sock_fprog filter;      /* len 0 = not confined */

/* The controllers of a line of /proc/self/cgroup, or the options of a mount, name the one looked for. */
static bool names(char *list, const char *controller)
{
	bool found = false;
	for (char *save, *word = strtok_r(list, ",", &save); word; word = strtok_r(NULL, ",", &save))
		found |= !strcmp(word, controller);
	return found;
}

/* Where the hierarchy with this controller is mounted, "" if it is not. */
static void find_mount(const char *controller, char path[2048])
{
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char line[8192];
	*path = 0;
	while (mounts && !*path && fgets(line, sizeof line, mounts)) {
		char target[2048], type[64], options[2048];
		char *tail = strstr(line, " - ");
		if (!tail || sscanf(line, "%*s %*s %*s %*s %2047s", target) != 1 ||
		    sscanf(tail, " - %63s %*s %2047s", type, options) != 2)
			continue;
		if (*controller ? !strcmp(type, "cgroup") && names(options, controller) : !strcmp(type, "cgroup2"))
			strcpy(path, target);
	}
	if (mounts)
		fclose(mounts);
}

/* Makes <own group>/floor-<pid> in one hierarchy. */
static void open_group(struct group *group)
{
	char mount[2048], own[2048] = "", line[2048], path[4200];
	find_mount(group->controller, mount);
	FILE *mine = fopen("/proc/self/cgroup", "re");
	while (mine && fgets(line, sizeof line, mine)) {
		line[strcspn(line, "\n")] = 0;
		char *list = strchr(line, ':'), *below = list ? strchr(list + 1, ':') : NULL;
		if (!below)
			continue;
		*below++ = 0;
		if (*group->controller ? names(list + 1, group->controller) : !list[1])
			strcpy(own, below);
	}
	if (mine)
		fclose(mine);
	if (!*mount || !*own) {
		fprintf(stderr, "floor: no control group hierarchy for \"%s\": left out\n", group->controller);
		return;
	}
	snprintf(path, sizeof path, "%s%s", mount, own);
	group->own = (int)must(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	snprintf(path, sizeof path, "floor-%d", getpid());
	must(mkdirat(group->own, path, 0755));
	group->fd = (int)must(openat(group->own, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (!group->shared)
		return;
	static const char *rules[] = { "c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm",
		"c 5:0 rwm", "c 5:1 rwm", "c 5:2 rwm", "c 136:* rwm" };
	int deny = (int)must(openat(group->fd, "devices.deny", O_WRONLY | O_CLOEXEC));
	must(write(deny, "a", 1));
	close(deny);
	int allow = (int)must(openat(group->fd, "devices.allow", O_WRONLY | O_CLOEXEC));
	for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
		must(write(allow, rules[i], strlen(rules[i])));
	close(allow);
}

static void close_groups(void)
{
	char path[32];
	snprintf(path, sizeof path, "floor-%d", getpid());
	for (size_t i = 0; i < GROUPS; i++)
		if (groups[i].fd >= 0)
			unlinkat(groups[i].own, path, AT_REMOVEDIR);
}

/* The router: this process's own network namespace from now on. */
static void open_router(void)
{
	struct batch b = { 0 };
	struct ifinfomsg link = { .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	router = netlink_open();
	inet_pton(AF_INET, ROUTER_ADDRESS, &gateway);
	batch_up(&b, 1);
	batch_message(&b, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link, sizeof link);
	batch_attribute(&b, IFLA_IFNAME, "br0", 4);
	struct rtattr *info = batch_attribute(&b, IFLA_LINKINFO, NULL, 0);
	batch_attribute(&b, IFLA_INFO_KIND, "bridge", 6);
	batch_close(&b, info);
	batch_send(&b, router);
	bridge = interface_index(router, "br0");
	b = (struct batch){ 0 };
	batch_address(&b, bridge, gateway);
	batch_send(&b, router);
}

/* A root of three mounts: tmpfs, the layer at /l, the scratch directory at /s. Containers' roots are mounted at /r. */
static void open_root(const char *layer_path, const char *scratch_path)
{
	must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	int layer = (int)must(open_tree(AT_FDCWD, layer_path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
	int upper = (int)must(open_tree(AT_FDCWD, scratch_path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
	must(mount("tmpfs", scratch_path, "tmpfs", 0, "mode=755"));
	must(chdir(scratch_path));
	must(mkdir("l", 0755));
	must(mkdir("s", 0755));
	must(mkdir("r", 0755));
	must(mkdir("f", 0755));
	must(move_mount(layer, "", AT_FDCWD, "l", MOVE_MOUNT_F_EMPTY_PATH));
	must(move_mount(upper, "", AT_FDCWD, "s", MOVE_MOUNT_F_EMPTY_PATH));
	close(layer);
	close(upper);
	must(syscall(SYS_pivot_root, ".", "."));
	must(umount2(".", MNT_DETACH));
	must(chdir("/"));
	scratch = (int)must(open("/s", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static void read_filter(const char *path)
{
	static struct sock_filter code[BPF_MAXINSNS];
	int fd = (int)must(open(path, O_RDONLY | O_CLOEXEC));
	ssize_t length = must(read(fd, code, sizeof code));
	close(fd);
	filter = (struct sock_fprog){ .len = (unsigned short)((size_t)length / sizeof *code), .filter = code };
}

/* ---- one container, inside ---- */

static void write_file(const char *path, const char *text)
{
	int fd = (int)must(open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
	must(write(fd, text, strlen(text)));
	close(fd);
}

/* /etc/hosts, /etc/hostname and /etc/resolv.conf: files on the session's tmpfs, bound over the image's. */
static void mount_files(const char *name, struct in_addr address)
{
	static const char *files[] = { "hosts", "hostname", "resolv.conf" };
	char directory[64], path[128], target[64], text[256], dotted[INET_ADDRSTRLEN];
	inet_ntop(AF_INET, &address, dotted, sizeof dotted);
	snprintf(directory, sizeof directory, "/f/%s", name);
	must(mkdir(directory, 0755));
	for (int i = 0; i < 3; i++) {
		if (i == 0)
			snprintf(text, sizeof text, "127.0.0.1\tlocalhost\n::1\tlocalhost\n%s\t%s\n", dotted, name);
		else if (i == 1)
			snprintf(text, sizeof text, "%s\n", name);
		else
			snprintf(text, sizeof text, "nameserver %s\n", ROUTER_ADDRESS);
		snprintf(path, sizeof path, "%s/%s", directory, files[i]);
		snprintf(target, sizeof target, "etc/%s", files[i]);
		write_file(path, text);
		must(mount(path, target, NULL, MS_BIND, NULL));
	}
}

static void mount_devices(void)
{
	static const struct { const char *path; unsigned major, minor; } nodes[] = {
		{ "dev/null", 1, 3 }, { "dev/zero", 1, 5 }, { "dev/full", 1, 7 },
		{ "dev/random", 1, 8 }, { "dev/urandom", 1, 9 }, { "dev/tty", 5, 0 },
	};
	static const char *links[][2] = {
		{ "/proc/self/fd", "dev/fd" }, { "/proc/self/fd/0", "dev/stdin" }, { "/proc/self/fd/1", "dev/stdout" },
		{ "/proc/self/fd/2", "dev/stderr" }, { "pts/ptmx", "dev/ptmx" }, { "/proc/kcore", "dev/core" },
	};
	must(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
	for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++)
		must(mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)));
	for (size_t i = 0; i < sizeof links / sizeof *links; i++)
		must(symlink(links[i][0], links[i][1]));
	must(mkdir("dev/pts", 0755));
	must(mkdir("dev/shm", 01777));
	must(mkdir("dev/mqueue", 01777));
	must(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"));
	must(mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=65536k"));
	must(mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
}

static void mount_control_groups(void)
{
	unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	must(mount("tmpfs", "sys/fs/cgroup", "tmpfs", flags, "mode=755"));
	for (size_t i = 0; i < GROUPS; i++) {
		char target[64];
		if (groups[i].fd < 0)
			continue;
		snprintf(target, sizeof target, "sys/fs/cgroup/%s", groups[i].view);
		must(mkdir(target, 0755));
		/* In the container's cgroup namespace the root of each is the container's own group. */
		must(mount("cgroup", target, &groups[i] == V2 ? "cgroup2" : "cgroup", flags | MS_RDONLY, groups[i].mount_data));
	}
	must(mount(NULL, "sys/fs/cgroup", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL));
}

/* Docker's lists. Paths that this kernel does not have are skipped. */
static void mask_paths(void)
{
	static const char *masked[] = {
		"proc/asound", "proc/acpi", "proc/interrupts", "proc/kcore", "proc/keys", "proc/latency_stats", "proc/timer_list",
		"proc/timer_stats", "proc/sched_debug", "proc/scsi", "sys/firmware", "sys/devices/virtual/powercap",
	};
	static const char *readonly[] = { "proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger" };
	for (size_t i = 0; i < sizeof masked / sizeof *masked; i++) {
		if (mount("dev/null", masked[i], NULL, MS_BIND, NULL) == 0 || errno == ENOENT)
			continue;
		if (errno != ENOTDIR)
			die(masked[i]);
		must(mount("tmpfs", masked[i], "tmpfs", MS_RDONLY, "size=0k"));
	}
	for (size_t i = 0; i < sizeof readonly / sizeof *readonly; i++) {
		if (mount(readonly[i], readonly[i], NULL, MS_BIND | MS_REC, NULL)) {
			if (errno != ENOENT)
				die(readonly[i]);
			continue;
		}
		must(mount(NULL, readonly[i], NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
	}
}

/* The seccomp program first, while CAP_SYS_ADMIN allows it without no_new_privs; then Docker's default capabilities. */
static void confine(void)
{
	static const uint64_t docker = 0xa80425fb;
	must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter));
	for (int capability = 0; capability < 64; capability++)
		if (!(docker >> capability & 1) && prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) && errno == EINVAL)
			break;
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { { .effective = (uint32_t)docker, .permitted = (uint32_t)docker } };
	must(syscall(SYS_capset, &header, data));
}

/* What runs in the container up to exec. linked: readable once the parent has made eth0. Does not return. */
static void contain(const char *name, struct in_addr address, int linked)
{
	char data[256];
	uint64_t token;

	for (size_t i = 0; i < GROUPS; i++) {
		if (groups[i].fd < 0 || &groups[i] == V2)
			continue;
		snprintf(data, sizeof data, "%s/tasks", groups[i].shared ? "." : name);
		int tasks = (int)must(openat(groups[i].fd, data, O_WRONLY | O_CLOEXEC));
		must(write(tasks, "0", 1));
		close(tasks);
	}
	/* Not a flag of clone3: the namespace's root is the group its maker is in, and that was the parent's. */
	must(unshare(CLONE_NEWCGROUP));
	must(setsid());
	must(sethostname(name, strlen(name)));
	umask(0);

	snprintf(data, sizeof data, "lowerdir=/l,upperdir=/s/%s/u,workdir=/s/%s/w,volatile", name, name);
	must(mount("overlay", "/r", "overlay", 0, data));
	must(chdir("/r"));
	must(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
	mount_devices();
	must(mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL));
	mount_control_groups();
	mount_files(name, address);
	mask_paths();
	must(syscall(SYS_pivot_root, ".", "."));
	must(umount2(".", MNT_DETACH));
	must(chdir("/"));

	int netlink = netlink_open();
	must(read(linked, &token, sizeof token));
	struct batch b = { 0 };
	int eth0 = interface_index(netlink, "eth0");
	batch_up(&b, 1);
	batch_up(&b, eth0);
	batch_address(&b, eth0, address);
	struct rtmsg route = { .rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN };
	route.rtm_protocol = RTPROT_BOOT;
	route.rtm_type = RTN_UNICAST;
	batch_message(&b, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &route, sizeof route);
	batch_attribute(&b, RTA_GATEWAY, &gateway, sizeof gateway);
	batch_send(&b, netlink);

	umask(022);
	if (filter.len)
		confine();
	char *argv[] = { (char *)program, NULL }, *env[] = { "PATH=/usr/bin:/bin", NULL };
	execve(program, argv, env);
	die(program);
}

/* ---- one container, outside ---- */

/* One message: the router's end on the bridge and up, the other end as eth0 in the container's namespace. That one cannot
 * be made up at once: veth refuses with ENOTCONN before the two ends know each other. */
static void link_to(pid_t peer_pid, const char *name)
{
	struct batch b = { 0 };
	struct ifinfomsg link = { .ifi_flags = IFF_UP, .ifi_change = IFF_UP }, down = { 0 };
	char port[IFNAMSIZ];
	uint32_t pid = (uint32_t)peer_pid;
	int length = snprintf(port, sizeof port, "v%s", name);
	batch_message(&b, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link, sizeof link);
	batch_attribute(&b, IFLA_IFNAME, port, (size_t)length + 1);
	batch_attribute(&b, IFLA_MASTER, &bridge, sizeof bridge);
	struct rtattr *info = batch_attribute(&b, IFLA_LINKINFO, NULL, 0);
	batch_attribute(&b, IFLA_INFO_KIND, "veth", 4);
	struct rtattr *details = batch_attribute(&b, IFLA_INFO_DATA, NULL, 0);
	struct rtattr *peer = batch_attribute(&b, VETH_INFO_PEER, &down, sizeof down);
	batch_attribute(&b, IFLA_IFNAME, "eth0", 5);
	batch_attribute(&b, IFLA_NET_NS_PID, &pid, sizeof pid);
	batch_close(&b, peer);
	batch_close(&b, details);
	batch_close(&b, info);
	batch_send(&b, router);
}

/* Removes name in directory and all that is in it. */
static void remove_tree(int directory, const char *name)
{
	int fd = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	must(fd);
	char entries[4096];
	for (long length; (length = must(syscall(SYS_getdents64, fd, entries, sizeof entries))) > 0;)
		for (long at = 0; at < length;) {
			struct dirent64 *entry = (struct dirent64 *)(entries + at);
			at += entry->d_reclen;
			if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
				continue;
			if (entry->d_type == DT_DIR)
				remove_tree(fd, entry->d_name);
			else
				must(unlinkat(fd, entry->d_name, 0));
		}
	close(fd);
	must(unlinkat(directory, name, AT_REMOVEDIR));
}

static void make_round(unsigned number)
{
	char name[16], path[32], unused;
	int linked[2], running[2], status;
	struct in_addr address = { htonl(ntohl(gateway.s_addr) + 1 + number % 60000) };
	uint64_t start = now_ns();

	snprintf(name, sizeof name, "%u", number);
	must(mkdirat(scratch, name, 0700));
	snprintf(path, sizeof path, "%s/u", name);
	must(mkdirat(scratch, path, 0755));
	snprintf(path, sizeof path, "%s/w", name);
	must(mkdirat(scratch, path, 0700));
	for (size_t i = 0; i < GROUPS; i++)
		if (groups[i].fd >= 0 && !groups[i].shared)
			must(mkdirat(groups[i].fd, name, 0755));
	must(pipe2(linked, O_CLOEXEC));
	must(pipe2(running, O_CLOEXEC)); /* ends when exec closes the child's end */

	struct clone_args arguments = { .exit_signal = SIGCHLD,
		.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWTIME };
	if (V2->fd >= 0) {
		arguments.flags |= CLONE_INTO_CGROUP;
		arguments.cgroup = (uint64_t)must(openat(V2->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	}
	container = (pid_t)must(syscall(SYS_clone3, &arguments, sizeof arguments));
	if (container == 0)
		contain(name, address, linked[0]);
	close(running[1]);
	link_to(container, name);
	must(write(linked[1], &(uint64_t){ 1 }, sizeof(uint64_t)));
	must(read(running[0], &unused, 1));
	uint64_t executed = now_ns();

	must(waitpid(container, &status, 0));
	container = 0;
	if (V2->fd >= 0)
		close((int)arguments.cgroup);
	for (size_t i = 0; i < GROUPS; i++)
		if (groups[i].fd >= 0 && !groups[i].shared)
			must(unlinkat(groups[i].fd, name, AT_REMOVEDIR));
	remove_tree(scratch, name);
	char files[32];
	snprintf(files, sizeof files, "/f/%s", name);
	remove_tree(AT_FDCWD, files);
	if (status) {
		errno = ECHILD;
		die("the container failed");
	}
	close(linked[0]);
	close(linked[1]);
	close(running[0]);
	must(dprintf(1, "%llu %llu\n", (unsigned long long)(executed - start), (unsigned long long)(now_ns() - start)));
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: floor ROOTFS SCRATCH PROGRAM [--rounds N] [--confine FILTER]\n");
		return 2;
	}
	long rounds = -1;
	for (int i = 4; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--rounds"))
			rounds = strtol(argv[i + 1], NULL, 10);
		else if (!strcmp(argv[i], "--confine"))
			read_filter(argv[i + 1]);
	}
	program = argv[3];
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN); /* Ctrl-C reaches the caller too, which then ends our input */
	for (size_t i = 0; i < GROUPS; i++)
		open_group(&groups[i]);
	must(unshare(CLONE_NEWNS | CLONE_NEWNET));
	open_router();
	open_root(argv[1], argv[2]);

	char order;
	for (unsigned number = 1; rounds < 0 ? read(0, &order, 1) == 1 : rounds-- > 0; number++)
		make_round(number);
	close_groups();
	return 0;
}
