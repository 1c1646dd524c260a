#pragma once
/* The warden's one event loop: epoll over embedded watches, and timers in a sorted list. Single thread. */
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

struct watch {
	int fd;                                            /* -1 when not watched */
	void (*ready)(struct watch *, uint32_t events);    /* may free its own watch after loop_forget */
};
/* Watches fd. Level-triggered. Returns -1 with errno. Get the owner back with container_of. */
int loop_watch(struct watch *, int fd, uint32_t events, void (*ready)(struct watch *, uint32_t));
int loop_change(struct watch *, uint32_t events);
/* Stops watching; safe for any watch at any moment, also from inside a callback and for events already fetched. Does not close fd. */
void loop_forget(struct watch *);

struct timer {
	uint64_t due_ns;                 /* CLOCK_MONOTONIC; 0 = not set */
	void (*fire)(struct timer *);
	struct timer *next;
};
void timer_set(struct timer *, uint64_t after_us, void (*fire)(struct timer *)); /* sets anew if set already */
void timer_clear(struct timer *);

/* A job for when nothing else is ready: called once per idle moment until it returns false. One slot: the network's pool. */
void loop_when_idle(bool (*job)(void));

uint64_t now_ns(void);      /* CLOCK_MONOTONIC */
uint64_t wall_ns(void);     /* CLOCK_REALTIME */
void loop_run(void);        /* until loop_stop */
void loop_stop(void);

#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))
