#pragma once
/* Arrays that grow. */
#include <stddef.h>

/* An array with room for so many elements of that size: the one given, or one at least twice as long in its place. NULL without memory
 * (ENOMEM); the one given is then as it was. needed is not 0. */
void *grow(void *array, size_t *capacity, size_t needed, size_t size);
