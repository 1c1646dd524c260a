#pragma once
/* Directories that a layer's archive did not mention, only what lies in them. In an overlay the upper directory's mode and owner
 * count, so they must get those that the layers below have: /tmp would lose its 1777 otherwise. That is known only once the lower
 * layers are unpacked too, and layers are unpacked side by side: hence a list, in `implied` beside the tree, of paths that each
 * end in a NUL, parents first. */
#include <stdbool.h>
#include <stddef.h>
#include "fault.h"

/* Writes the list of the tree at target. */
int adopt_remember(const char *target, const char *paths, size_t length, struct fault *);
/* Gives each directory of the list mode, owner, times and extended attributes of the one that the uppermost of the lower trees has
 * under its path, unless a layer in between hides it; then removes the list. Without a list there is nothing to do. */
int adopt_parents(const char *target, const char *const *lowers, size_t count, bool userxattr, bool keep_ids, struct fault *);
