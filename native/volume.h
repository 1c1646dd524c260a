#pragma once
/* Named volumes: directories of the store that outlive containers. */
#include "fault.h"

/* In a container's process, at a mount of an empty volume: gives it what the directory below it holds, and that directory's owner and
 * mode. Once, whatever happens: whoever comes meanwhile waits, and what a process that died has begun is done anew. guard: a file beside
 * the volume's directory. */
int volume_fill(int guard, int target, int volume, struct fault *);
