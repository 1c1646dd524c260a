#pragma once
/* Processes in the host's PID namespace (`pid: host`). The warden cannot make them: nobody can enter a PID namespace above its own. The
 * launcher can, and does it on request: it forks, joins the warden's mount namespace and runs the same code as any container's child.
 * The kernel does not end such processes with the session, so the launcher does, and their control group serves as a net. */
#include <stdbool.h>
#include <sys/types.h>

#include "launch.h"
#include "warden.h"

/* -- in the warden ------------------------------------------------------------------------------------------------------ */

void spawn_open(int fd);                                  /* the warden's end of the channel, to be watched */
/* Starts what launch_child would run, elsewhere. *pidfd is one of the new process. child->ended is called at its end, as for our own.
 * child->pid is then a number of the host's, not ours: signals go through spawn_kill. */
int spawn_container(struct launch *, int cgroup_fd, struct child *, void (*ended)(struct child *, int), int *pidfd, struct fault *);
/* The same for an exec in such a container. */
int spawn_exec(struct plan *, int container_pidfd, struct process_setup *, int cgroup_fd, const int *procs_fds, size_t procs_count,
	struct child *, void (*ended)(struct child *, int), struct fault *);
int spawn_kill(const struct child *, int number);

/* -- in the launcher ------------------------------------------------------------------------------------------------------ */

bool spawn_serve(int fd, int warden_pidfd, int self_exe); /* one request is there to be read; false: it cannot be answered, and somebody waits */
bool spawn_reaped(int fd, pid_t pid, int status);         /* tells the warden; false if the process is not one of these */
void spawn_kill_all(void);                                /* the session is over */
bool spawn_living(void);                                  /* after that: some have not ended yet */
