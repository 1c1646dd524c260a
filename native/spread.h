#ifndef MAYFLY_SPREAD_H
#define MAYFLY_SPREAD_H

/* Where a directory's files lie on the disk.
 *
 * Asks the file system to put each directory that is made in this one into a part of the disk of its own, as it does with those of
 * its root (`chattr +T`). ext4 otherwise puts them near this one, and what comes and goes there wears it out: without a journal, ext4 does not
 * use an inode again for minutes after its file was removed, and walks over all such inodes of a part at each new file. A
 * server that made a database's 300 files, again and again, then took 300 µs for each, and takes 35. It makes a mkdir 100 µs
 * dearer, so it is for sessions and layers, not for containers; and the part follows from the new directory's name, so those must
 * differ. A file system that knows no such thing is left alone. */
void spread_children(int directory_fd);

#endif
