/* The launcher owns nothing that must be torn down: links, mounts and processes hang on namespaces that end with the warden. It lives as
 * long as the warden and holds the session's lock (flock) together with it, so whoever can take the lock knows that both
 * are dead and may remove what is left: empty control groups and the session's directory. Usually the launcher does that itself. */
#define _GNU_SOURCE
#include "launcher.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cgroup.h"
#include "idmap.h"
#include "json.h"
#include "loop.h"
#include "pass.h"
#include "probe.h"
#include "scratch.h"
#include "spawn.h"
#include "spread.h"
#include "warden.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif
#ifndef MAYFLY_SELF
#define MAYFLY_SELF "/proc/self/exe" /* what is PID 1 of containers that want one; a sanitized build needs libraries they do not have */
#endif

enum { CONTROL_FD = 3, SOCKET_PATH_MAX = 107, YOUNG_SECONDS = 60, END_SECONDS = 30 };

static struct {
	const char *home, *id, *resolvers;
	bool network, rootless;
	char directory[512];
	int directory_fd, sessions_fd, lock_fd, user_ns;
	int groups_fd; /* record of its control groups: to be read even if somebody has removed the directory */
} at = {.home = "", .id = "", .resolvers = "", .network = true, .directory_fd = -1, .sessions_fd = -1, .user_ns = -1, .groups_fd = -1};

static int fail(const struct fault *f)
{
	struct json j = {0};
	json_begin(&j);
	json_string(&j, "event", "failed");
	json_fault(&j, f);
	json_end(&j);
	(void)!write(CONTROL_FD, j.text, j.length);
	json_free(&j);
	return 1;
}

/* A container could write to /proc/<pid>/exe of a program of ours that it got hold of (CVE-2019-5736). So we run from a read-only mount of
 * the file that belongs to no namespace: nobody can make it writable, and its pages are the page cache's, shared by all
 * sessions. Where we may not mount (rootless), from a sealed copy in memory. */
static int readonly_program(int self)
{
	int tree = (int)syscall(SYS_open_tree, self, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
	if (tree >= 0 && mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) == 0)
		return tree;
	if (tree >= 0)
		close(tree);
	return -1;
}

static int sealed_program(int self)
{
	struct stat st;
	int copy = memfd_create("mayfly-warden", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
	if (copy < 0 && errno == EINVAL) /* before 6.3 */
		copy = memfd_create("mayfly-warden", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (copy < 0 || fstat(self, &st) < 0)
		return -1;
	for (off_t done = 0; done < st.st_size;) {
		char buffer[65536];
		ssize_t got = pread(self, buffer, sizeof(buffer), done);
		if (got <= 0 || pwrite(copy, buffer, (size_t)got, done) != got)
			return -1;
		done += got;
	}
	return fcntl(copy, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0 ? -1 : copy;
}

/* Executes ourselves once more, with `launch` written as `launch-protected`. Returns only when that fails, or has been done. */
static int protect_program(char **argv)
{
	static char done[] = "launch-protected";
	if (!strcmp(argv[1], done))
		return 0;
	int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int program = self < 0 ? -1 : readonly_program(self);
	if (self >= 0 && program < 0)
		program = sealed_program(self);
	argv[1] = done;
	if (program >= 0)
		syscall(SYS_execveat, program, "", argv, environ, AT_EMPTY_PATH);
	return -1;
}

static int read_arguments(int argc, char **argv, struct fault *f)
{
	for (int i = 2; i < argc; i++) {
		char *value = strchr(argv[i], '=');
		if (!value)
			return fault(f, "request", argv[i], EINVAL, "key=value is needed");
		*value++ = 0;
		if (!strcmp(argv[i], "home"))
			at.home = value;
		else if (!strcmp(argv[i], "id"))
			at.id = value;
		else if (!strcmp(argv[i], "network"))
			at.network = *value == '1';
		else if (!strcmp(argv[i], "resolvers"))
			at.resolvers = value;
		else
			return fault(f, "request", argv[i], EINVAL, "unknown argument");
	}
	if (at.home[0] != '/' || strlen(at.id) != 12 || strspn(at.id, "0123456789abcdef") != 12)
		return fault(f, "request", at.home[0] == '/' ? at.id : at.home, EINVAL, "home must be absolute, id 12 hexadecimal digits");
	if (snprintf(at.directory, sizeof(at.directory), "%s/sessions/%s", at.home, at.id) + 2 > SOCKET_PATH_MAX)
		return fault(f, "request", at.home, ENAMETOOLONG, "the path of the store is too long for a socket in it (83 bytes)");
	return 0;
}

static int make_directory(const char *path, struct fault *f)
{
	char part[512];
	for (const char *slash = path + 1; slash; ) {
		slash = strchr(slash, '/');
		snprintf(part, sizeof(part), "%.*s", slash ? (int)(slash - path) : 512, path);
		if (mkdir(part, 0700) < 0 && errno != EEXIST)
			return fault(f, "upper", part, errno, "cannot make the store's directory");
		if (slash)
			slash++;
	}
	return 0;
}

static int open_session(int *bulk, struct fault *f)
{
	char sessions[512];
	snprintf(sessions, sizeof(sessions), "%s/sessions", at.home);
	if (make_directory(sessions, f) < 0)
		return -1;
	at.sessions_fd = open(sessions, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (at.sessions_fd < 0)
		return fault(f, "upper", sessions, errno, NULL);
	spread_children(at.sessions_fd);
	/* The lock must be held before the directory has its name, or a sweeper could take it for a dead one. */
	char young[32];
	snprintf(young, sizeof(young), ".%s", at.id);
	if (mkdirat(at.sessions_fd, young, 0700) < 0)
		return fault(f, "upper", young, errno, NULL);
	at.directory_fd = openat(at.sessions_fd, young, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	at.lock_fd = at.directory_fd < 0 ? -1 : openat(at.directory_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (at.lock_fd < 0 || flock(at.lock_fd, LOCK_EX | LOCK_NB) < 0 || renameat(at.sessions_fd, young, at.sessions_fd, at.id) < 0)
		return fault(f, "upper", at.directory, errno, "cannot lock the session's directory");
	at.groups_fd = openat(at.directory_fd, CGROUP_RECORD, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (at.groups_fd < 0)
		return fault(f, "upper", CGROUP_RECORD, errno, NULL);
	/* Layers that node has made begin here; each has files enough to be worth a part of the disk. */
	int store = mkdirat(at.directory_fd, "store", 0700) < 0 ? -1 : openat(at.directory_fd, "store", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store < 0)
		return fault(f, "upper", at.directory, errno, NULL);
	spread_children(store);
	close(store);
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	snprintf(name.sun_path, sizeof(name.sun_path), "%.100s/s", at.directory);
	*bulk = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (*bulk < 0 || bind(*bulk, (struct sockaddr *)&name, sizeof(name)) < 0 || listen(*bulk, 512) < 0)
		return fault(f, "upper", name.sun_path, errno, "cannot listen for bulk connections");
	return 0;
}

/* -- what dead sessions left -------------------------------------------------------------------------------------------- */

/* False if something is left. Groups come first: with the directory goes the last that knows of them. */
static bool remove_session(const char *name, int groups_fd)
{
	/* Files of other ids can be removed only inside the user namespace that knows them. */
	return cgroup_sweep(groups_fd) && remove_tree(at.sessions_fd, name, 0) == 0;
}

/* Our own, once the warden is gone. Two may still be writing into it: processes in the host's PID namespace, which die only now, and
 * node, which may be in the middle of a file for the store and hears of the end at its own time. What stays is the next session's. */
static void end_session(void)
{
	const struct timespec pause = {.tv_nsec = 20000000};
	const uint64_t until = now_ns() + END_SECONDS * 1000000000ull;
	while ((spawn_living() || !remove_session(at.id, at.groups_fd)) && now_ns() < until)
		nanosleep(&pause, NULL);
}

/* A young one is being made and nobody touches it: whoever tried its lock would hold it for a moment, just when its maker wants it. An old
 * one's maker died before it had its name. */
static bool is_being_made(const char *name, int fd)
{
	struct stat st;
	return name[0] == '.' && (fstat(fd, &st) < 0 || time(NULL) - st.st_mtime <= YOUNG_SECONDS);
}

/* Nothing while the session lives. One without a lock was being removed by somebody who died of it. */
static void sweep_session(const char *name, int fd)
{
	int lock = openat(fd, "lock", O_RDWR | O_CLOEXEC);
	if (lock >= 0 ? flock(lock, LOCK_EX | LOCK_NB) == 0 : errno == ENOENT) {
		int groups = openat(fd, CGROUP_RECORD, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (groups >= 0 || errno == ENOENT)
			remove_session(name, groups);
		if (groups >= 0)
			close(groups);
	}
	if (lock >= 0)
		close(lock);
}

static void sweep(void)
{
	int copy = fcntl(at.sessions_fd, F_DUPFD_CLOEXEC, 3);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *entry;
	while (dir && (entry = readdir(dir))) {
		const char *name = entry->d_name;
		if (!strcmp(name, ".") || !strcmp(name, "..") || !strcmp(name + (name[0] == '.'), at.id))
			continue;
		int fd = openat(at.sessions_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (!is_being_made(name, fd))
			sweep_session(name, fd);
		close(fd);
	}
	if (dir)
		closedir(dir);
}

/* -- serving the warden ------------------------------------------------------------------------------------------------- */

/* False when the answer cannot be given. The warden waits for it, so there is nothing left but to end the session. */
static bool hand_out_socket(int fd)
{
	struct host_request request;
	if (recv(fd, &request, sizeof(request), 0) != sizeof(request))
		return true;
	int made = socket(request.family, request.type, request.protocol);
	struct host_answer answer = {made < 0 ? errno : 0, request.number};
	bool told = pass_answer(fd, &answer, sizeof(answer), &made, made >= 0) == sizeof(answer);
	if (made >= 0)
		close(made);
	return told;
}

/* Until the warden is gone. A signal to us ends it: then the session ends in order, and is swept. */
static int serve(pid_t warden, int warden_pidfd, int socket_fd, int spawn_fd, int signal_fd, int self_exe)
{
	struct pollfd polls[3] = {{socket_fd, POLLIN, 0}, {signal_fd, POLLIN, 0}, {spawn_fd, POLLIN, 0}};
	int status = 0;
	for (;;) {
		if (poll(polls, 3, -1) < 0 && errno != EINTR)
			return 1;
		if (polls[0].revents & POLLIN && !hand_out_socket(socket_fd))
			kill(warden, SIGKILL);
		if (!(polls[0].revents & POLLIN) && polls[0].revents & (POLLHUP | POLLERR))
			polls[0].fd = -1;
		if (polls[2].revents & POLLIN && !spawn_serve(spawn_fd, warden_pidfd, self_exe))
			kill(warden, SIGKILL);
		if (!(polls[2].revents & POLLIN) && polls[2].revents & (POLLHUP | POLLERR))
			polls[2].fd = -1;
		struct signalfd_siginfo info;
		if (!(polls[1].revents & POLLIN) || read(signal_fd, &info, sizeof(info)) != sizeof(info))
			continue;
		if (info.ssi_signo != SIGCHLD)
			kill(warden, SIGKILL);
		pid_t pid;
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			if (!spawn_reaped(spawn_fd, pid, status) && pid == warden)
				return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	}
}

void forget_start(void)
{
	extern const char __executable_start[], etext[];
	uintptr_t page = 4095, start = ((uintptr_t)__executable_start + page) & ~page, end = (uintptr_t)etext & ~page;
	madvise((void *)start, end - start, MADV_DONTNEED);
}

/* -- main --------------------------------------------------------------------------------------------------------------- */

static _Noreturn void become_warden(int bulk, int host_ns, int self_exe, int socket_fd, int spawn_fd, int go, const char *id_mode)
{
	/* The kernel kills us when the launcher dies; if it did between clone and here, its end of the socket tells. */
	struct pollfd peer = {socket_fd, 0, 0};
	pid_t pids[2];
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (poll(&peer, 1, 0) < 0 || peer.revents & POLLHUP)
		_exit(1);
	/* Wait for the id maps; and who we are in the host's eyes, only the launcher knows. */
	if (read(go, pids, sizeof(pids)) != sizeof(pids))
		_exit(1);
	close(go);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_NAME, "mayfly-warden", 0, 0, 0);
	host_open(socket_fd);
	struct fault f = {0};
	if (at.rootless && (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)) {
		fault(&f, "namespace", "user", errno, "cannot become root in the user namespace");
		_exit(fail(&f));
	}
	int warden_exe = fcntl(self_exe, F_DUPFD_CLOEXEC, 10);
	struct warden_start start = {
		.home = at.home, .id = at.id, .directory = at.directory, .resolvers = at.resolvers, .id_mode = id_mode,
		.control = CONTROL_FD, .bulk = bulk, .spawn = spawn_fd, .directory_fd = at.directory_fd, .host_net_ns = host_ns, .self_exe = warden_exe,
		.rootless = at.rootless, .network = at.network, .pid = pids[0], .launcher_pid = pids[1],
	};
	fcntl(CONTROL_FD, F_SETFD, FD_CLOEXEC);
	_exit(warden_run(&start));
}

int launcher_main(int argc, char **argv)
{
	struct fault f = {0};
	int bulk = -1, sockets[2], spawns[2], go[2], warden_pidfd = -1;
	if (fcntl(CONTROL_FD, F_GETFD) < 0) {
		fprintf(stderr, "mayfly-warden: started by node with its control connection as descriptor 3\n");
		return 2;
	}
	if (protect_program(argv) < 0) {
		fault(&f, "exec", "mayfly-warden", errno, "cannot run from a protected copy of itself");
		return fail(&f);
	}
	/* Once more, so that nobody has to wait for us: of a worker thread that was terminated nobody would, and node would keep a zombie. */
	pid_t self = fork();
	if (self != 0) {
		if (self < 0)
			fault(&f, "namespace", "launcher", errno, "fork");
		_exit(self < 0 ? fail(&f) : 0);
	}
	setsid();
	prctl(PR_SET_NAME, "mayfly-launcher", 0, 0, 0);
	umask(022);
	at.rootless = probe_rootless(); /* root of a CI container may lack what it takes */
	if (read_arguments(argc, argv, &f) < 0 || open_session(&bulk, &f) < 0)
		return fail(&f);
	int self_exe = open(MAYFLY_SELF, O_RDONLY | O_CLOEXEC);
	int host_ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	int signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (self_exe < 0 || host_ns < 0 || signal_fd < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, spawns) < 0 || pipe2(go, O_CLOEXEC) < 0) {
		fault(&f, "namespace", "launcher", errno, NULL);
		remove_session(at.id, at.groups_fd);
		return fail(&f);
	}
	/* A network namespace in any case: `network: none` needs one to come back from, and none may be the host's by mistake. */
	struct clone_args args = {.exit_signal = SIGCHLD, .pidfd = (uint64_t)(uintptr_t)&warden_pidfd,
		.flags = CLONE_PIDFD | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | (at.rootless ? CLONE_NEWUSER : 0)};
	struct idmap map = {0};
	if (at.rootless)
		idmap_plan(&map);
	cgroup_make_room(); /* here, where the caller's processes can still be seen */
	pid_t warden = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (warden == 0) {
		close(go[1]);
		close(sockets[0]);
		close(spawns[0]);
		close(signal_fd);
		become_warden(bulk, host_ns, self_exe, sockets[1], spawns[1], go[0], at.rootless ? map.mode : "root");
	}
	int error = errno;
	close(sockets[1]);
	close(spawns[1]);
	close(go[0]);
	close(bulk);
	if (warden < 0 || (at.rootless && idmap_write(&map, warden, &f) < 0)) {
		fault(&f, "namespace", at.rootless ? "user" : "pid", error,
			at.rootless ? "this machine does not let an unprivileged user make namespaces; `mayfly doctor` says what mends it" : NULL);
		remove_session(at.id, at.groups_fd);
		return fail(&f);
	}
	if (at.rootless) {
		char path[64];
		snprintf(path, sizeof(path), "/proc/%d/ns/user", warden);
		at.user_ns = open(path, O_RDONLY | O_CLOEXEC);
	}
	/* Node must see the warden's end of control close when the warden goes: no copy may stay here. */
	close(CONTROL_FD);
	pid_t pids[2] = {warden, getpid()};
	if (write(go[1], pids, sizeof(pids)) != sizeof(pids))
		kill(warden, SIGKILL);
	close(go[1]);
	pid_t sweeper = fork();
	if (sweeper == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		close(at.lock_fd);
		if (at.user_ns >= 0 && setns(at.user_ns, CLONE_NEWUSER) < 0)
			_exit(1);
		sweep();
		_exit(0);
	}
	forget_start();
	int code = serve(warden, warden_pidfd, sockets[0], spawns[0], signal_fd, self_exe);
	signal(SIGPIPE, SIG_IGN); /* node may be dead as well, and there is work left to do */
	if (code > 128) /* node reads it where it looks for the reason that control ended */
		dprintf(STDERR_FILENO, "the warden was killed by signal %d\n", code - 128);
	spawn_kill_all();
	if (at.user_ns >= 0 && setns(at.user_ns, CLONE_NEWUSER) < 0)
		return code;
	end_session();
	return code;
}
