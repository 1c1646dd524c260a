#pragma once
/* A further program in a running container. The connection carries its output, its end and its stdin. */
#include "process.h"
#include "request.h"
#include "stream.h"

/* Takes the connection over (also when it fails: then the error has been sent and it ends). */
void exec_open(struct connection *, const struct request *);
/* The child's side: enters the container of pidfd and becomes the program. */
_Noreturn void exec_child(const struct plan *, int pidfd, const int *procs_fds, size_t procs_count, struct process_setup *);
/* Control verbs on an exec; false if there is no such exec. */
bool exec_signal(const char *exec_id, int number);
bool exec_resize(const char *exec_id, unsigned short columns, unsigned short rows);
