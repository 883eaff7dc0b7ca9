#include "libkoal/base/sorted.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <string.h>

enum { ROOM_FIRST = 16 };

size_t kl_sorted_place(const void *key, const void *items, size_t count, size_t size,
                       int (*cmp)(const void *key, const void *item), bool *there)
{
    size_t low = 0, high = count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int    c = cmp(key, (const char *)items + mid * size);

        if (c == 0) {
            *there = true;
            return mid;
        }
        if (c > 0)
            low = mid + 1;
        else
            high = mid;
    }
    *there = false;
    return low;
}

void kl_sorted_open(void *items, size_t *count, size_t size, size_t at)
{
    char *from = (char *)items + at * size;

    assert(at <= *count);
    memmove(from + size, from, (*count - at) * size);
    ++*count;
}

void *kl_sorted_grow(void *items, size_t *count, size_t *room, size_t size, size_t at)
{
    if (*count == *room) {
        *room = *room == 0 ? ROOM_FIRST : *room * 2;
        items = kl_resize(items, *room * size);
    }
    kl_sorted_open(items, count, size, at);
    return items;
}

void kl_sorted_close(void *items, size_t *count, size_t size, size_t at)
{
    char *to = (char *)items + at * size;

    assert(at < *count);
    --*count;
    memmove(to, to + size, (*count - at) * size);
}
