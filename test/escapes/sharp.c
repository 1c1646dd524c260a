/* Calls of the kernel that holes were found behind; prints what came of each: name=0 or name=EPERM. With a terminal also TIOCSTI. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static void say(const char *name, long result)
{
	printf("%s=%s\n", name, result < 0 ? strerrorname_np(errno) : "0");
}

int main(void)
{
	char zeros[256] = { 0 };

	say("AF_ALG", socket(AF_ALG, SOCK_SEQPACKET, 0));
	say("AF_VSOCK", socket(AF_VSOCK, SOCK_STREAM, 0));
	say("io_uring_setup", syscall(SYS_io_uring_setup, 1, zeros));
	say("userfaultfd", syscall(SYS_userfaultfd, 0));
	say("bpf", syscall(SYS_bpf, 0, zeros, 64));
	say("keyctl", syscall(SYS_keyctl, 0, 0, 0, 0, 0));
	say("unshare", syscall(SYS_unshare, 0x10000000 /* CLONE_NEWUSER */));
	return 0;
}
