#pragma once
/* Sockets that live in the host's network namespace, for the warden that lives in the router's. */

/* As socket(2), but in the host's network namespace; always close-on-exec and non-blocking. -1 with errno.
 * The caller then binds, connects and listens as usual: a socket belongs to the namespace it was made in. */
int host_socket(int family, int type, int protocol);
