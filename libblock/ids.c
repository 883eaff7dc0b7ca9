/* Sets of series in memory: the one file that knows libroaring (0.2: 32-bit sets are all it has). */
#include <roaring/roaring.h>

#include "libblock/fileset_priv.h"

#include <stdlib.h>

/* A blk_ids is a roaring_bitmap_t; the name is ours so that no other file needs its header. */
static roaring_bitmap_t *in(struct blk_ids *s) { return (roaring_bitmap_t *)s; }
static const roaring_bitmap_t *of(const struct blk_ids *s) { return (const roaring_bitmap_t *)s; }

struct blk_ids *blk_ids_new(void)
{
    roaring_bitmap_t *r = roaring_bitmap_create();

    if (r == NULL)
        abort();                                       /* as kl_new */
    return (struct blk_ids *)r;
}

void blk_ids_free(struct blk_ids *s)
{
    if (s != NULL)
        roaring_bitmap_free(in(s));
}

void blk_ids_add(struct blk_ids *s, uint32_t id) { roaring_bitmap_add(in(s), id); }
void blk_ids_add_range(struct blk_ids *s, uint32_t from, uint32_t to)
{
    roaring_bitmap_add_range(in(s), from, to);
}
void blk_ids_and(struct blk_ids *s, const struct blk_ids *other)
{
    roaring_bitmap_and_inplace(in(s), of(other));
}
void blk_ids_andnot(struct blk_ids *s, const struct blk_ids *other)
{
    roaring_bitmap_andnot_inplace(in(s), of(other));
}
void blk_ids_flip(struct blk_ids *s, uint32_t limit)
{
    roaring_bitmap_flip_inplace(in(s), 0, limit);
}
uint32_t blk_ids_count(const struct blk_ids *s)
{
    return (uint32_t)roaring_bitmap_get_cardinality(of(s));
}
bool blk_ids_has(const struct blk_ids *s, uint32_t id) { return roaring_bitmap_contains(of(s), id); }
bool blk_ids_meets(const struct blk_ids *s, const struct blk_ids *other)
{
    return roaring_bitmap_intersect(of(s), of(other));
}
void blk_ids_list(const struct blk_ids *s, uint32_t *ids)
{
    roaring_bitmap_to_uint32_array(of(s), ids);
}
