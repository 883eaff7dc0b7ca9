#ifndef KL_SORTED_H
#define KL_SORTED_H
/*
 * Arrays that are kept in the order of a key that each item has: found by halves, and what follows moves when one
 * comes or goes, so for thousands, not for millions. The array stays its owner's, of the owner's type, and no key
 * comes twice in it; nothing here is remembered. Any thread, as the owner says.
 */
#include <stdbool.h>
#include <stddef.h>

/*
 * The first i below `count` for which `holds` is true, where it is false of all before and true of all behind; `count`
 * where it is true of none. `holds` is an expression of i, without effects, evaluated a few times: a key may stand
 * more than once, and need not be a key.
 */
#define KL_FIRST(i, count, holds)                                                                 \
    ({                                                                                            \
        __typeof__((count) + 0) kl_low_ = 0, kl_high_ = (count);                                  \
        while (kl_low_ < kl_high_) {                                                              \
            __typeof__(kl_low_) i = kl_low_ + (kl_high_ - kl_low_) / 2;                           \
            if (holds)                                                                            \
                kl_high_ = i;                                                                     \
            else                                                                                  \
                kl_low_ = i + 1;                                                                  \
        }                                                                                         \
        kl_low_;                                                                                  \
    })

/* Where the item of `key` is (*there), or would be. `cmp` as bsearch's: the key, then an item. */
size_t kl_sorted_place(const void *key, const void *items, size_t count, size_t size,
                       int (*cmp)(const void *key, const void *item), bool *there);
/* Items [at, *count) move up by one: *count is one more. The array has room for it. */
void   kl_sorted_open(void *items, size_t *count, size_t size, size_t at);
/* The same of one that grows by doubling, from `*room` items (of `items` NULL: 0); returns it. */
void  *kl_sorted_grow(void *items, size_t *count, size_t *room, size_t size, size_t at);
/* Items behind `at` move down by one: *count is one less. */
void   kl_sorted_close(void *items, size_t *count, size_t size, size_t at);
#endif
