/* The event loop. Timers are few (one per stopping container, per idle UDP flow sweep), so a sorted list does. */
#define _GNU_SOURCE
#include "loop.h"

#include <errno.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, ATTEMPTS = 16 };

static int epoll_fd = -1;
static bool running;
static struct timer *timers;
static bool (*idle_job)(void);
static struct epoll_event batch[BATCH];
static int batch_count;

static int loop_epoll(void)
{
	if (epoll_fd < 0)
		epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	return epoll_fd;
}

int loop_watch(struct watch *w, int fd, uint32_t events, void (*ready)(struct watch *, uint32_t))
{
	struct epoll_event event = {.events = events, .data.ptr = w};
	if (epoll_ctl(loop_epoll(), EPOLL_CTL_ADD, fd, &event) < 0)
		return -1;
	w->fd = fd;
	w->ready = ready;
	return 0;
}

/* What is watched can be changed and forgotten without memory or descriptors, so there is nothing to be short of. Where somebody refuses it all the
 * same, such as a tracer, he is asked again: events of what is gone must never come. */
static int rewatch(int operation, struct watch *w, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = w};
	int result = -1;
	for (int attempt = 0; attempt < ATTEMPTS && result < 0; attempt++)
		result = epoll_ctl(loop_epoll(), operation, w->fd, &event);
	return result;
}

int loop_change(struct watch *w, uint32_t events)
{
	return rewatch(EPOLL_CTL_MOD, w, events);
}

void loop_forget(struct watch *w)
{
	if (w->fd < 0 || !w->ready)
		return;
	rewatch(EPOLL_CTL_DEL, w, 0);
	w->fd = -1;
	w->ready = NULL;
	/* Events of this watch that epoll_wait has handed out already must not be delivered any more. */
	for (int i = 0; i < batch_count; i++)
		if (batch[i].data.ptr == w)
			batch[i].data.ptr = NULL;
}

uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t wall_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void timer_clear(struct timer *timer)
{
	if (!timer->due_ns)
		return;
	for (struct timer **at = &timers; *at; at = &(*at)->next)
		if (*at == timer) {
			*at = timer->next;
			break;
		}
	timer->due_ns = 0;
	timer->next = NULL;
}

void timer_set(struct timer *timer, uint64_t after_us, void (*fire)(struct timer *))
{
	timer_clear(timer);
	timer->due_ns = now_ns() + after_us * 1000;
	timer->fire = fire;
	struct timer **at = &timers;
	while (*at && (*at)->due_ns <= timer->due_ns)
		at = &(*at)->next;
	timer->next = *at;
	*at = timer;
}

void loop_when_idle(bool (*job)(void))
{
	idle_job = job;
}

/* Rounds up, so that a timer is due when epoll_wait returns. */
static int wait_ms(void)
{
	if (!timers)
		return -1;
	uint64_t now = now_ns();
	if (timers->due_ns <= now)
		return 0;
	uint64_t ms = (timers->due_ns - now + 999999) / 1000000;
	return ms > 3600000 ? 3600000 : (int)ms;
}

static void fire_due(void)
{
	while (timers && timers->due_ns <= now_ns()) {
		struct timer *timer = timers;
		timers = timer->next;
		timer->due_ns = 0;
		timer->next = NULL;
		timer->fire(timer);
	}
}

void loop_run(void)
{
	running = true;
	while (running) {
		batch_count = epoll_wait(loop_epoll(), batch, BATCH, idle_job ? 0 : wait_ms());
		if (batch_count < 0 && errno != EINTR)
			break;
		for (int i = 0; i < batch_count; i++) {
			struct watch *w = batch[i].data.ptr;
			if (w)
				w->ready(w, batch[i].events);
		}
		int handled = batch_count;
		batch_count = 0;
		fire_due();
		if (handled <= 0 && idle_job && !idle_job())
			idle_job = NULL;
	}
}

void loop_stop(void)
{
	running = false;
}
