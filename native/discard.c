/* Removing links and bridges. The kernel waits for its readers meanwhile, some 20 ms for each, so a process of its own does it, for all that
 * have come together. What is to go is cut off at once. */
#define _GNU_SOURCE
#include "router.h"

#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>
#include "loop.h"
#include "warden.h"

enum { MOST = 64, AFTER_US = 1000 };

static unsigned indexes[MOST], count;
static struct timer timer;

static void remove_all(struct netlink *nl)
{
	struct batch b;
	batch_clear(&b);
	for (unsigned i = 0; i < count; i++) {
		struct ifinfomsg link = {.ifi_index = (int)indexes[i]};
		message_begin(&b, RTM_DELLINK, NLM_F_ACK, &link, sizeof(link));
	}
	netlink_send(nl, &b);    /* fails for what a container has removed itself */
	count = 0;
}

/* Nobody waits for the process: who reaps it, be it the warden's loop, has nothing to do about it. */
static void start(struct timer *t)
{
	(void)t;
	pid_t pid = fork();
	if (pid < 0)
		remove_all(&router.rtnl);
	if (pid == 0) {
		struct netlink nl;
		sigset_t none;
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		child_keep_only(NULL, 0);
		if (netlink_open(&nl, NETLINK_ROUTE) == 0)
			remove_all(&nl);
		_exit(0);
	}
	count = 0;
}

void discard(unsigned index)
{
	if (count == MOST)
		start(&timer);
	indexes[count++] = index;
	timer_set(&timer, AFTER_US, start);
}

void discard_close(void)
{
	timer_clear(&timer);
	count = 0;
}

void cut_off(unsigned port)
{
	struct batch b;
	struct ifinfomsg link = {.ifi_family = AF_BRIDGE, .ifi_index = (int)port};
	batch_clear(&b);
	message_begin(&b, RTM_SETLINK, NLM_F_ACK, &link, sizeof(link));
	size_t nest = nest_begin(&b, IFLA_PROTINFO | NLA_F_NESTED);
	put_u8(&b, IFLA_BRPORT_STATE, 0 /* BR_STATE_DISABLED */);
	put(&b, IFLA_BRPORT_FLUSH, NULL, 0);
	nest_end(&b, nest);
	netlink_send(&router.rtnl, &b);
}
