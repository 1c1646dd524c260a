#pragma once
/* The launcher: makes the session's namespaces, starts the warden in them, hands out host sockets, and sweeps up after it. */

struct host_request { int family, type, protocol; unsigned number; };
struct host_answer { int error; unsigned number; };     /* and the socket */

/* `launch key=value…`, see PROTOCOL.md. Returns the exit code. */
int launcher_main(int argc, char **argv);
/* The pages of the program that only the start needed leave this process's memory; what is needed still comes back by itself. */
void forget_start(void);
/* In the warden: the socket to the launcher. */
void host_open(int fd);
