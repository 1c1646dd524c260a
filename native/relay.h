#pragma once
/* Two TCP sockets joined: what one sends, the other gets, both ways, until both have ended. */
#include <stdbool.h>
#include <netinet/in.h>

/* Takes over both sockets (non-blocking), closes them in every case. connecting: right's connect() is under way; if it fails,
 * left is reset. owner and container identify the connection for the two calls below. -1 with errno when there are too
 * many connections or no memory: both are reset then. */
int relay_start(int left, int right, bool connecting, const void *owner, struct in_addr container);
/* What has arrived already is passed on as far as the other side takes it at once; what is cut off ends in a reset. */
void relay_end_owner(const void *owner);
void relay_end_container(struct in_addr);

/* Closes a TCP socket so that its peer sees a reset instead of an orderly end. */
void reset_and_close(int fd);

/* Accepts one connection (non-blocking). When this process is out of descriptors the connection is reset rather than left
 * waiting, for the loop would be told about it for ever. -1 with errno: EAGAIN when none waits, ECONNABORTED and the like
 * when the next one may be tried. */
int accept_or_shed(int listener);
