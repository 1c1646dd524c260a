/* Makes system calls by number and prints what came of each: `name=0` or `name=EPERM`. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
static void say(const char *name, long result) { printf("%s=%s\n", name, result < 0 ? strerrorname_np(errno) : "0"); }
int main(void)
{
	char args[256] = {0};
	say("mount", syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, 0));
	say("umount2", syscall(SYS_umount2, "/proc", 2));
	say("pivot_root", syscall(SYS_pivot_root, ".", "."));
	say("unshare", syscall(SYS_unshare, CLONE_NEWUSER));
	say("setns", syscall(SYS_setns, 0, 0));
	say("clone_newuser", syscall(SYS_clone, CLONE_NEWUSER | 17, 0, 0, 0, 0));
	say("clone3", syscall(SYS_clone3, args, 64));
	say("bpf", syscall(SYS_bpf, 0, args, 64));
	say("keyctl", syscall(SYS_keyctl, 0, 0, 0, 0, 0));
	say("add_key", syscall(SYS_add_key, "user", "a", "b", 1, -3));
	say("perf_event_open", syscall(SYS_perf_event_open, args, 0, -1, -1, 0));
	say("userfaultfd", syscall(SYS_userfaultfd, 0));
	say("io_uring_setup", syscall(SYS_io_uring_setup, 1, args));
	say("open_by_handle_at", syscall(SYS_open_by_handle_at, 0, args, 0));
	say("kexec_load", syscall(SYS_kexec_load, 0, 0, 0, 0));
	say("init_module", syscall(SYS_init_module, args, 0, ""));
	say("reboot", syscall(SYS_reboot, 0, 0, 0, 0));
	say("swapon", syscall(SYS_swapon, "/dev/null", 0));
	say("settimeofday", syscall(SYS_settimeofday, 0, 0));
	say("sethostname", syscall(SYS_sethostname, "x", 1));
	say("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
	say("open_tree", syscall(SYS_open_tree, -100, "/", 1));
	say("socket_alg", socket(38, SOCK_SEQPACKET, 0));
	say("socket_vsock", socket(40, SOCK_STREAM, 0));
	say("socket_inet", socket(AF_INET, SOCK_STREAM, 0));
	say("socket_raw", socket(AF_INET, SOCK_RAW, 1));
	say("personality_0", personality(0xffffffff));
	say("personality_bad", personality(0x0040000));
	say("chroot", chroot("/"));
	say("mknod", syscall(SYS_mknodat, -100, "/tmp/node", 0020666, 0x103));
	say("getpid_x32", syscall(0x40000000 | SYS_getpid));
	return 0;
}
