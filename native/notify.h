#pragma once
/* Told when a program in a container calls listen(2): seccomp's user notification on that one call. */
#include "loop.h"

struct notify { struct watch watch; const char *container; };
void notify_init(struct notify *);
void notify_open(struct notify *, int listener, const char *container_id);  /* takes the descriptor */
void notify_close(struct notify *);
