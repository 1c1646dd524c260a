#pragma once
/* The last steps of a container's process, of its first one and of exec alike: from "inside the right namespaces" to execve. */
#include <linux/filter.h>
#include <stdbool.h>
#include <sys/types.h>

#include "loop.h"
#include "plan.h"

/* What the child tells the warden over its status channel (SOCK_SEQPACKET). Its end without a fault means: the program runs. */
enum status_kind { STATUS_FAULT = 'F', STATUS_LISTENER = 'L', STATUS_TERMINAL = 'T', STATUS_WARNING = 'W' };
struct status { enum status_kind kind; struct fault fault; };

/* Sends a record, with a descriptor unless it is -1. */
void status_send(int status_fd, const struct status *, int fd);
/* Receives what is there, each with the descriptor that came along, or -1: take closes or keeps it. At the end the channel is forgotten and
 * closed. False before: more will come. */
bool status_read(struct watch *channel, void (*take)(void *owner, const struct status *, int fd), void *owner);
/* Sends the fault and ends the process. */
_Noreturn void status_fail(int status_fd, const struct fault *);

struct process_setup {
	const struct process *process;
	int root_fd;                       /* the container's root */
	int status_fd;
	int stdio[3];                      /* ends for 0, 1, 2; unused with a terminal */
	const struct sock_fprog *seccomp;  /* NULL = unconfined */
	bool report_listen, init, rootless;
	int self_exe;                      /* the warden's own program, for init */
};

/* Opens a terminal in the devpts at /dev/pts of root_fd, sends its master, makes the slave controlling terminal and stdio. Returns the slave. */
int process_terminal(struct process_setup *, struct fault *);
/* Never returns: the program runs, or the fault went to the warden. cwd must be the root. */
_Noreturn void process_become(struct process_setup *);

/* main() of `mayfly-init <status fd> <program> <argument>…`: a PID 1 that passes signals on and reaps. */
int init_main(int argc, char **argv);
