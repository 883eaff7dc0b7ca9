/*
 * summaries: where the frames of data and index are, and what they must hash to. Read at opening,
 * kept in memory: with it any series is one index page and a data frame or two away.
 *
 *   "KOAs" u8 version, then three lists: data frames, index pages, order pages
 *     varint n, n times { varint size, u64 check, varint first, varint count, u64 key }
 *
 * Frames follow each other without gaps; in `index` the order pages follow the index pages. `first`
 * and `count` are series numbers (order pages: ranks of fingerprints); `key` is the upper half of
 * an order page's first fingerprint, else absent. A series with very many chunks spans data frames:
 * the next one then begins with the same number.
 */
#include "libblock/fileset_priv.h"

#include <assert.h>
#include <stdlib.h>

void blk_places_add(struct blk_places *p, struct blk_place place)
{
    if (p->count == p->room) {
        p->room = p->room ? p->room * 2 : 16;
        p->at = kl_resize(p->at, p->room * sizeof *p->at);
    }
    p->at[p->count++] = place;
}

uint64_t blk_places_check(const struct blk_places *p, uint64_t seed)
{
    uint64_t h = seed;

    for (uint32_t i = 0; i < p->count; i++)
        h = kl_hash64_seed(&p->at[i].check, 8, h);
    return h;
}

static void put(const struct blk_places *p, bool keys, struct kl_buf *out)
{
    kl_buf_addv(out, p->count);
    for (uint32_t i = 0; i < p->count; i++) {
        kl_buf_addv(out, p->at[i].size);
        kl_buf_add64(out, p->at[i].check);
        kl_buf_addv(out, p->at[i].first);
        kl_buf_addv(out, p->at[i].count);
        if (keys)
            kl_buf_add64(out, p->at[i].key);
    }
}

void blk_summaries_write(const struct blk_summaries *s, struct kl_buf *out)
{
    kl_buf_add(out, "KOAs", 4);
    kl_buf_add8(out, BLK_VERSION);
    put(&s->data, false, out);
    put(&s->pages, false, out);
    put(&s->order, true, out);
}

/* `overlap`: a frame may begin with the series that the last one ended with. `page` 0: any count. */
static bool get(struct kl_cur *c, uint64_t *offset, uint32_t series_count, bool overlap,
                uint32_t page, bool keys, struct blk_places *p)
{
    uint64_t n = kl_cur_v(c), next = 0;

    if (c->bad || n > kl_cur_left(c) / 11)             /* the least that an entry takes */
        return false;
    for (uint64_t i = 0; i < n; i++) {
        struct blk_place at = { .offset = *offset };
        uint64_t         size = kl_cur_v(c), first, count;

        at.check = kl_cur_64(c);
        first = kl_cur_v(c);
        count = kl_cur_v(c);
        at.key = keys ? kl_cur_64(c) : 0;
        if (c->bad || size < BLK_FRAME_HEAD || size > (size_t)BLK_FRAME_HEAD + BLK_FRAME_RAW_MAX ||
            count == 0 || count > series_count || first > series_count - count ||
            !(first == next || (overlap && i > 0 && first + 1 == next)) ||
            (page != 0 && count != (series_count - first < page ? series_count - first : page)))
            return false;
        at.size = (uint32_t)size;
        at.first = (uint32_t)first;
        at.count = (uint32_t)count;
        next = first + count;
        *offset += size;
        blk_places_add(p, at);
    }
    return next == series_count;
}

enum kl_code blk_summaries_read(struct kl_span raw, uint32_t series_count, struct blk_summaries *s,
                                struct kl_err *err)
{
    struct kl_cur  c = kl_cur(raw.at, raw.size);
    struct kl_span magic = kl_cur_bytes(&c, 4);
    uint8_t        version = kl_cur_8(&c);
    uint64_t       data = 0, index = 0;

    memset(s, 0, sizeof *s);
    if (c.bad || memcmp(magic.at, "KOAs", 4) != 0 || version != BLK_VERSION)
        return kl_fail(err, KL_ECORRUPT, "not a summaries file of version %d", BLK_VERSION);
    if (!get(&c, &data, series_count, true, 0, false, &s->data) ||
        !get(&c, &index, series_count, false, BLK_PAGE_SERIES, false, &s->pages) ||
        !get(&c, &index, series_count, false, BLK_ORDER_SERIES, true, &s->order) ||
        kl_cur_left(&c) != 0) {
        blk_summaries_deinit(s);
        return kl_fail(err, KL_ECORRUPT, "bad list of frames");
    }
    return KL_OK;
}

void blk_summaries_deinit(struct blk_summaries *s)
{
    free(s->data.at);
    free(s->pages.at);
    free(s->order.at);
    memset(s, 0, sizeof *s);
}
