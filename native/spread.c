#include "spread.h"

#include <linux/fs.h>
#include <sys/ioctl.h>

void spread_children(int directory_fd)
{
	int flags;
	if (ioctl(directory_fd, FS_IOC_GETFLAGS, &flags) == 0 && !(flags & FS_TOPDIR_FL)) {
		flags |= FS_TOPDIR_FL;
		ioctl(directory_fd, FS_IOC_SETFLAGS, &flags);
	}
}
