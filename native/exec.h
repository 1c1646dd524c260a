#pragma once
/* A further program in a running container. The connection carries its output, its end and its stdin. */
#include "request.h"
#include "stream.h"

/* Takes the connection over (also when it fails: then the error has been sent and it ends). */
void exec_open(struct connection *, const struct request *);
/* Control verbs on an exec; false if there is no such exec. */
bool exec_signal(const char *exec_id, int number);
bool exec_resize(const char *exec_id, unsigned short columns, unsigned short rows);
