/* Probes: file systems, mounts and devices. */
#define _GNU_SOURCE
#include "probe.h"

#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif
/* glibc declares the calls from 2.36 on; the numbers are older. */
#ifndef FSOPEN_CLOEXEC
#define FSOPEN_CLOEXEC 1
#define FSCONFIG_CMD_CREATE 6
#define FSMOUNT_CLOEXEC 1
#define MOVE_MOUNT_F_EMPTY_PATH 4
#define OPEN_TREE_CLONE 1
#define OPEN_TREE_CLOEXEC O_CLOEXEC
#endif

static int make_directories(const char *const names[], struct fault *f)
{
	for (; *names; names++)
		if (mkdir(*names, 0755) < 0)
			return fault(f, "mkdir", *names, errno, NULL);
	return 0;
}

static int write_through(struct fault *f)
{
	/* Deleting needs a whiteout: a device node in the upper, or an attribute with userxattr. */
	if (unlink("merged/file") < 0)
		return fault(f, "unlink", "overlay", errno, NULL);
	/* Where the kernel cannot say that a directory is opaque, a removed and remade one shows the old content. */
	if (mkdir("merged/file", 0755) < 0)
		return fault(f, "mkdir", "overlay", errno, NULL);
	return 0;
}

/* Mounts an overlay in the working directory and, if asked, writes through it. */
static int try_overlay(const char *options, bool write, struct fault *f)
{
	const char *const names[] = {"lower", "upper", "work", "merged", NULL};
	if (make_directories(names, f) < 0)
		return -1;
	int fd = open("lower/file", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	if (fd < 0)
		return fault(f, "open", "lower/file", errno, NULL);
	close(fd);
	char data[256];
	snprintf(data, sizeof(data), "lowerdir=lower,upperdir=upper,workdir=work%s", options);
	if (mount("overlay", "merged", "overlay", 0, data) < 0)
		return fault(f, "mount", "overlay", errno, NULL);
	int result = write ? write_through(f) : 0;
	if (umount2("merged", 0) < 0)
		return fault(f, "umount", "overlay", errno, NULL);
	/* The kernel leaves a directory without any permission in work, which an ordinary user could not empty later. */
	if (chmod("work/work", 0700) < 0)
		return fault(f, "chmod", "work", errno, NULL);
	return result;
}

static int overlay(struct probe_report *r)
{
	return probe_enter_scratch(0, &r->fault) < 0 ? -1 : try_overlay("", true, &r->fault);
}

static int overlay_userxattr(struct probe_report *r)
{
	return probe_enter_scratch(0, &r->fault) < 0 ? -1 : try_overlay(",userxattr", true, &r->fault);
}

static int overlay_volatile(struct probe_report *r)
{
	const char *options = probe_rootless() ? ",volatile,userxattr" : ",volatile";
	return probe_enter_scratch(0, &r->fault) < 0 ? -1 : try_overlay(options, false, &r->fault);
}

/* On the store's own file system, which may be an overlay (inside Docker) or NFS and then carries no upper. */
static int overlay_on_store(struct probe_report *r)
{
	if (!*probe_settings.store)
		return fault(&r->fault, "open", "store", ENOENT, "no store directory was given");
	/* As a user the kernel wants userxattr, or it keeps its marks where only root can read them. */
	const char *options = probe_rootless() ? ",userxattr" : "";
	if (probe_enter(CLONE_NEWNS, &r->fault) < 0)
		return -1;
	if (chdir(probe_settings.store) < 0)
		return fault(&r->fault, "chdir", probe_settings.store, errno, NULL);
	return try_overlay(options, true, &r->fault);
}

static int tmpfs(struct probe_report *r)
{
	return probe_enter_scratch(0, &r->fault);
}

static int bind_mount(struct probe_report *r)
{
	const char *const names[] = {"source", "target", NULL};
	if (probe_enter_scratch(0, &r->fault) < 0 || make_directories(names, &r->fault) < 0)
		return -1;
	if (mount("source", "target", NULL, MS_BIND, NULL) < 0)
		return fault(&r->fault, "mount", "bind", errno, NULL);
	if (mount(NULL, "target", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) < 0)
		return fault(&r->fault, "mount", "bind, read-only", errno, NULL);
	return 0;
}

static int change_root(struct probe_report *r)
{
	if (probe_enter_scratch(0, &r->fault) < 0)
		return -1;
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return fault(&r->fault, "pivot_root", "", errno, NULL);
	return umount2(".", MNT_DETACH) < 0 ? fault(&r->fault, "umount", "old root", errno, NULL) : 0;
}

static int try_mount(const char *type, const char *data, struct fault *f)
{
	if (mkdir("target", 0755) < 0)
		return fault(f, "mkdir", "target", errno, NULL);
	return mount(type, "target", type, MS_NOSUID | MS_NOEXEC, data) < 0 ? fault(f, "mount", type, errno, NULL) : 0;
}

static int mount_proc(struct probe_report *r)
{
	return try_mount("proc", NULL, &r->fault);
}

/* Refused with EPERM where parts of this /proc are covered, as they are in a container. */
static int proc(struct probe_report *r)
{
	return probe_enter_scratch(CLONE_NEWPID, &r->fault) < 0 ? -1 : probe_in_child(mount_proc, r);
}

static int sysfs(struct probe_report *r)
{
	return probe_enter_scratch(CLONE_NEWNET, &r->fault) < 0 ? -1 : try_mount("sysfs", NULL, &r->fault);
}

static int devpts(struct probe_report *r)
{
	return probe_enter_scratch(0, &r->fault) < 0 ? -1 : try_mount("devpts", "newinstance,ptmxmode=0666", &r->fault);
}

static int mqueue(struct probe_report *r)
{
	return probe_enter_scratch(CLONE_NEWIPC, &r->fault) < 0 ? -1 : try_mount("mqueue", NULL, &r->fault);
}

static int cgroup2(struct probe_report *r)
{
	return probe_enter_scratch(CLONE_NEWCGROUP, &r->fault) < 0 ? -1 : try_mount("cgroup2", NULL, &r->fault);
}

static int device_node(struct probe_report *r)
{
	if (probe_enter_scratch(0, &r->fault) < 0)
		return -1;
	if (mknod("null", S_IFCHR | 0666, makedev(1, 3)) < 0)
		return fault(&r->fault, "mknod", "c 1:3", errno, NULL);
	/* tmpfs of a user namespace, or a device control group, may still forbid its use. */
	int fd = open("null", O_RDWR | O_CLOEXEC);
	return fd < 0 ? fault(&r->fault, "open", "c 1:3", errno, NULL) : (close(fd), 0);
}

static int bind_device(struct probe_report *r)
{
	if (probe_enter_scratch(0, &r->fault) < 0)
		return -1;
	int made = open("null", O_CREAT | O_WRONLY | O_CLOEXEC, 0666);
	if (made < 0 || mount("/dev/null", "null", NULL, MS_BIND, NULL) < 0)
		return fault(&r->fault, "mount", "bind of /dev/null", errno, NULL);
	close(made);
	int fd = open("null", O_RDWR | O_CLOEXEC);
	return fd < 0 ? fault(&r->fault, "open", "/dev/null", errno, NULL) : (close(fd), 0);
}

static int open_in_root(struct probe_report *r)
{
	struct { uint64_t flags, mode, resolve; } how = {O_PATH | O_CLOEXEC, 0, 0x10 /* RESOLVE_IN_ROOT */};
	long fd = syscall(SYS_openat2, AT_FDCWD, ".", &how, sizeof(how));
	return fd < 0 ? fault(&r->fault, "openat2", "", errno, NULL) : 0;
}

/* fsopen to move_mount: mounts by descriptor. */
static int mount_api(struct probe_report *r)
{
	const char *const names[] = {"target", NULL};
	if (probe_enter_scratch(0, &r->fault) < 0 || make_directories(names, &r->fault) < 0)
		return -1;
	long context = syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
	if (context < 0)
		return fault(&r->fault, "fsopen", "tmpfs", errno, NULL);
	if (syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return fault(&r->fault, "fsconfig", "tmpfs", errno, NULL);
	long tree = syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0);
	if (tree < 0)
		return fault(&r->fault, "fsmount", "tmpfs", errno, NULL);
	if (syscall(SYS_move_mount, tree, "", AT_FDCWD, "target", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return fault(&r->fault, "move_mount", "tmpfs", errno, NULL);
	if (syscall(SYS_open_tree, AT_FDCWD, "target", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC) < 0)
		return fault(&r->fault, "open_tree", "", errno, NULL);
	return 0;
}

struct attributes_of_mount { uint64_t set, clear, propagation, user_namespace; };

static int mount_attributes(struct probe_report *r)
{
	if (probe_enter_scratch(0, &r->fault) < 0)
		return -1;
	struct attributes_of_mount read_only = {.set = 1 /* MOUNT_ATTR_RDONLY */};
	if (syscall(SYS_mount_setattr, AT_FDCWD, "/tmp", AT_RECURSIVE, &read_only, sizeof(read_only)) < 0)
		return fault(&r->fault, "mount_setattr", "", errno, NULL);
	return 0;
}

const struct probe probes_of_mounts[] = {
	{"tmpfs", tmpfs},
	{"overlay", overlay},
	{"overlay-userxattr", overlay_userxattr},
	{"overlay-volatile", overlay_volatile},
	{"overlay-on-store", overlay_on_store},
	{"bind-mount", bind_mount},
	{"pivot-root", change_root},
	{"proc", proc},
	{"sysfs", sysfs},
	{"devpts", devpts},
	{"mqueue", mqueue},
	{"cgroup2", cgroup2},
	{"device-node", device_node},
	{"bind-device", bind_device},
	{"openat2", open_in_root},
	{"mount-api", mount_api},
	{"mount-setattr", mount_attributes},
	{NULL, NULL},
};
