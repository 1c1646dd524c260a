#define _GNU_SOURCE
#include "grow.h"

#include <stdlib.h>

enum { FIRST_BYTES = 256 };

void *grow(void *array, size_t *capacity, size_t needed, size_t size)
{
	if (needed <= *capacity)
		return array;
	size_t wanted = *capacity ? 2 * *capacity : FIRST_BYTES / size;
	if (wanted < needed)
		wanted = needed;
	void *longer = reallocarray(array, wanted, size);
	if (longer)
		*capacity = wanted;
	return longer;
}
