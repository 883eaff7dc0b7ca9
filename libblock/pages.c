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

/* The labels of one series after those of the one before; ends[] is where each pair's text ends. */
struct row { uint32_t count, ends[KL_LABELS_MAX]; };

static bool read_row(struct kl_cur *c, const struct blk_postings *p, struct row *row,
                     struct blk_page *page, uint32_t from, struct kl_buf *value)
{
    uint64_t same = kl_cur_v(c), more = kl_cur_v(c);
    size_t   begin = page->text.size;
    uint32_t taken;

    if (c->bad || same > row->count || more > KL_LABELS_MAX - same)
        return false;
    taken = same > 0 ? row->ends[same - 1] : 0;
    if (!kl_buf_reserve(&page->text, taken))
        return false;
    if (taken > 0)
        memcpy(page->text.at + begin, page->text.at + from, taken);
    page->text.size += taken;
    for (uint64_t k = same; k < same + more; k++) {
        uint64_t       name = kl_cur_v(c), number = kl_cur_v(c);
        struct kl_span text;

        kl_buf_reset(value);
        if (c->bad || name > UINT32_MAX || number > UINT32_MAX ||
            !blk_postings_pair(p, (struct blk_pair){ (uint32_t)name, (uint32_t)number }, &text, value))
            return false;
        kl_buf_addspan(&page->text, text);
        kl_buf_addspan(&page->text, kl_buf_span(value));
        row->ends[k] = (uint32_t)(page->text.size - begin);
    }
    row->count = (uint32_t)(same + more);
    return kl_buf_ok(&page->text) && page->text.size - begin <= KL_LABELS_BYTES_MAX;
}

enum kl_code blk_page_read(struct kl_span raw, const struct blk_postings *p, uint32_t first,
                           uint32_t count, struct blk_page *page, struct kl_err *err)
{
    struct kl_cur c = kl_cur(raw.at, raw.size);
    struct kl_buf value;
    struct row    row = { 0 };
    uint32_t      from = 0;
    bool          fine = true;

    page->first = first;
    page->count = count;
    kl_buf_reset(&page->text);
    page->text.cap = (size_t)BLK_PAGE_SERIES * KL_LABELS_BYTES_MAX;
    kl_buf_reserve(&page->text, 1);                    /* so that there is an address to point at */
    kl_buf_init(&value, KL_LABELS_BYTES_MAX);
    for (uint32_t i = 0; i < count && fine; i++) {
        uint32_t begin = (uint32_t)page->text.size;

        fine = !c.bad && read_row(&c, p, &row, page, from, &value);
        page->label_end[i] = (uint32_t)page->text.size;
        from = begin;
    }
    kl_buf_deinit(&value);
    if (!fine || c.bad || kl_cur_left(&c) != 0)
        return kl_fail(err, KL_ECORRUPT, "bad page of series");
    for (uint32_t i = 0; i < count; i++)
        page->fps[i] = kl_labels_fp(blk_page_labels(page, i));
    return KL_OK;
}

void blk_page_deinit(struct blk_page *page) { kl_buf_deinit(&page->text); }

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
