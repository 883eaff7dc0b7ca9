/*
 * An index page: fingerprints and labels of up to 128 series, in the order of data.
 *
 *   count times { u64 hi, u64 lo }
 *   count times { varint pairs taken over from the series before (the first of its), varint more,
 *                 more times { varint name, varint value } }
 *
 * Numbers are places in `postings`. Neighbours share most of their labels; zstd takes much of what
 * comes again after a difference.
 */
#include "libblock/fileset_priv.h"

#include <stdlib.h>

void blk_page_write(const struct blk_pairs *pairs, const struct kl_fp *fps, uint32_t first,
                    uint32_t count, struct kl_buf *out)
{
    struct blk_pair last[KL_LABELS_MAX], now[KL_LABELS_MAX];
    uint32_t        last_count = 0;

    for (uint32_t i = 0; i < count; i++) {
        kl_buf_add64(out, fps[first + i].hi);
        kl_buf_add64(out, fps[first + i].lo);
    }
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
    kl_buf_init(&value, KL_LABELS_BYTES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        page->fps[i].hi = kl_cur_64(&c);
        page->fps[i].lo = kl_cur_64(&c);
    }
    for (uint32_t i = 0; i < count && fine; i++) {
        uint32_t begin = (uint32_t)page->text.size;

        fine = !c.bad && read_row(&c, p, &row, page, from, &value);
        page->label_end[i] = (uint32_t)page->text.size;
        from = begin;
    }
    kl_buf_deinit(&value);
    if (!fine || c.bad || kl_cur_left(&c) != 0)
        return kl_fail(err, KL_ECORRUPT, "bad page of series");
    return KL_OK;
}

void blk_page_deinit(struct blk_page *page) { kl_buf_deinit(&page->text); }
