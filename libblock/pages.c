/*
 * An index page: the labels of up to 128 series, in the order of data.
 *
 *   count times { varint pairs taken over from the series before (the first of its), varint more,
 *                 more times { varint name, varint value } }
 *
 * Numbers are places in `postings`. Neighbours share most of their labels; zstd takes much of what
 * comes again after a difference. Fingerprints are not kept: they are sixteen bytes that do not
 * compress, and a hash of the labels takes less time than reading them from a disk.
 *
 * An order page: up to 1024 series in the order of their fingerprints, packed (codec_pack.c) with
 * as many bits as the greatest number of a series takes.
 */
#include "libblock/fileset_priv.h"

#include <stdlib.h>

void blk_page_write(const struct blk_pairs *pairs, uint32_t first, uint32_t count,
                    struct kl_buf *out)
{
    struct blk_pair last[KL_LABELS_MAX], now[KL_LABELS_MAX];
    uint32_t        last_count = 0;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t n = blk_pairs_of(pairs, first + i, now), same = 0;

        while (same < last_count && same < n && now[same].name == last[same].name &&
               now[same].value == last[same].value)
            same++;
        kl_buf_addv(out, same);
        kl_buf_addv(out, n - same);
        for (uint32_t k = same; k < n; k++) {
            kl_buf_addv(out, now[k].name);
            kl_buf_addv(out, now[k].value);
        }
        memcpy(last, now, n * sizeof *now);
        last_count = n;
    }
}

static struct blk_pair *make_room(struct blk_page *page, uint32_t from, uint32_t more)
{
    if (from + more >= page->pair_room) {               /* also for none: an address to point at */
        page->pair_room = (from + more + 1) * 2;
        page->pairs = kl_resize(page->pairs, page->pair_room * sizeof *page->pairs);
    }
    return page->pairs + from;
}

/* At most 128 series of at most 256 pairs: what is kept is bounded. */
static bool read_row(struct kl_cur *c, const struct blk_postings *p, struct blk_page *page,
                     uint32_t i)
{
    uint32_t before = i > 1 ? page->ends[i - 2] : 0, from = i > 0 ? page->ends[i - 1] : 0;
    uint64_t same = kl_cur_v(c), more = kl_cur_v(c);
    struct blk_pair *row;

    if (c->bad || same > from - before || more > KL_LABELS_MAX - same)
        return false;
    row = make_room(page, from, (uint32_t)(same + more));
    if (same > 0)
        memcpy(row, page->pairs + before, same * sizeof *row);
    for (uint64_t k = same; k < same + more; k++) {
        uint64_t name = kl_cur_v(c), value = kl_cur_v(c);

        if (c->bad || name > UINT32_MAX || value > UINT32_MAX)
            return false;
        row[k] = (struct blk_pair){ (uint32_t)name, (uint32_t)value };
        if (!blk_postings_has_pair(p, row[k]) || (k > 0 && row[k - 1].name >= row[k].name))
            return false;                              /* no such pair, or a label twice */
    }
    page->ends[i] = from + (uint32_t)(same + more);
    return true;
}

enum kl_code blk_page_read(struct kl_span raw, const struct blk_postings *p, uint32_t first,
                           uint32_t count, struct blk_page *page, struct kl_err *err)
{
    struct kl_cur c = kl_cur(raw.at, raw.size);

    page->first = first;
    page->count = 0;
    for (uint32_t i = 0; i < count; i++)
        if (!read_row(&c, p, page, i))
            return kl_fail(err, KL_ECORRUPT, "bad page of series");
    if (kl_cur_left(&c) != 0)
        return kl_fail(err, KL_ECORRUPT, "page of series: bytes left over");
    page->count = count;
    return KL_OK;
}

/* Most pairs come again and again; a value that was put together is kept for a while. */
static struct kl_span text_of(struct blk_page *page, const struct blk_postings *p,
                              struct blk_pair pair, struct kl_span *value)
{
    unsigned at = (pair.name * 37 + pair.value) % BLK_PAGE_TEXTS;
    struct kl_span name;

    if (!page->texts[at].known || page->texts[at].pair.name != pair.name ||
        page->texts[at].pair.value != pair.value) {
        name = blk_postings_pair(p, pair, &page->texts[at].value);
        page->texts[at].pair = pair;
        page->texts[at].known = true;
    } else {
        name = blk_postings_name(p, pair.name);
    }
    *value = kl_buf_span(&page->texts[at].value);
    return name;
}

struct kl_labels blk_page_labels(struct blk_page *page, const struct blk_postings *p, uint32_t i)
{
    uint32_t from = i > 0 ? page->ends[i - 1] : 0;

    kl_buf_reset(&page->labels);
    kl_buf_reserve(&page->labels, 1);                  /* so that there is an address to point at */
    for (uint32_t k = from; k < page->ends[i]; k++) {
        struct kl_span value, name = text_of(page, p, page->pairs[k], &value);

        kl_buf_addspan(&page->labels, name);
        kl_buf_addspan(&page->labels, value);
    }
    return (struct kl_labels){ (const uint8_t *)page->labels.at, page->labels.size };
}

void blk_page_deinit(struct blk_page *page)
{
    for (unsigned i = 0; i < BLK_PAGE_TEXTS; i++)
        kl_buf_deinit(&page->texts[i].value);
    kl_buf_deinit(&page->labels);
    free(page->pairs);
}

static unsigned order_width(uint32_t series_count)
{
    return series_count > 1 ? 32 - (unsigned)__builtin_clz(series_count - 1) : 0;
}

void blk_order_write(const uint32_t *order, uint32_t count, uint32_t series_count,
                     struct kl_buf *out)
{
    uint64_t wide[BLK_ORDER_SERIES];

    for (uint32_t i = 0; i < count; i++)
        wide[i] = order[i];
    blk_pack(wide, count, order_width(series_count), out);
}

enum kl_code blk_order_read(struct kl_span raw, uint32_t count, uint32_t series_count,
                            uint64_t order[BLK_ORDER_SERIES], struct kl_err *err)
{
    unsigned width = order_width(series_count);

    if (raw.size != blk_packed_size(count, width))
        return kl_fail(err, KL_ECORRUPT, "order of series: of the wrong size");
    blk_kernels()->unpack(raw.at, width, count, 0, order);
    for (uint32_t i = 0; i < count; i++)
        if (order[i] >= series_count)
            return kl_fail(err, KL_ECORRUPT, "order of series: no such series");
    return KL_OK;
}
