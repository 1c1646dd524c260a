#pragma once
/* Which devices a container may open or make, in the two forms the kernel takes. Rules are text: one `allow c 1:3
 * rwm` a line (type a, b or c; major and minor a number or *; access of r, w, m), and what no line allows is denied. */
#include <stddef.h>
#include "fault.h"

/* Version 1: denies everything in the group and then allows line by line. group_fd: directory of a group without
 * processes (a denial does not close what is open). Fails with step "device" for a bad line, "cgroup" for a refusal. */
int devices_write_list(int group_fd, const char *rules, struct fault *);

/* Version 2: loads the rules as a program of type BPF_PROG_TYPE_CGROUP_DEVICE. Returns its descriptor. Fails as
 * above; errno EPERM means that this process may not load such programs. */
int devices_load_program(const char *rules, struct fault *);
/* Attaches it to a version 2 group. The programs of the groups above stay in force. -1 with errno. */
int devices_attach_program(int program_fd, int group_fd);
