/*
 * A column of times, which rise strictly; the chunk's head has the first and the last.
 *
 *   0x00  an integer column of t - first
 *   0x01  zigzag step in 1/65536 ms, then an integer column of what is left:
 *         t[i] = first + floor(i * step / 65536) + left[i]
 *
 * A scrape every so often is a straight line, with some jitter; a straight line without jitter
 * costs nothing but the step.
 */
#include "libblock/blk_priv.h"

enum { TIME_COLUMN = 0, TIME_LINE = 1 };

/* Steps are rounded to whole ms when that is what was meant: a step that is off by jitter / count
 * would bend the line without need. */
static uint64_t step_of(const int64_t *t, uint32_t count)
{
    uint64_t span = (uint64_t)t[count - 1] - (uint64_t)t[0], step, whole;

    if (span >> 46 != 0)
        return 0;
    step = (span << 16) / (count - 1);
    whole = (step + 0x8000) & ~0xffffull;
    /* Over the whole chunk, is it no further off than a few ms? */
    return (step > whole ? step - whole : whole - step) * count < 8u << 16 ? whole : step;
}

void blk_time_encode(const int64_t *t, uint32_t count, struct kl_buf *out)
{
    uint64_t            x[BLK_CHUNK_MAX], left[BLK_CHUNK_MAX], step;
    struct blk_int_plan column, line;

    x[0] = 0;
    for (uint32_t i = 1; i < count; i++)
        x[i] = (uint64_t)t[i] - (uint64_t)t[0];
    blk_int_choose(x, count, &column);
    step = count > 2 ? step_of(t, count) : 0;
    if (step != 0) {
        for (uint32_t i = 0; i < count; i++)
            left[i] = x[i] - (i * step >> 16);
        blk_int_choose(left, count, &line);
        if (line.bits + 32 < column.bits) {
            kl_buf_add8(out, TIME_LINE);
            kl_buf_addz(out, (int64_t)step);
            blk_int_write(left, count, &line, out);
            return;
        }
    }
    kl_buf_add8(out, TIME_COLUMN);
    blk_int_write(x, count, &column, out);
}

void blk_time_encode_quick(const int64_t *t, uint32_t count, struct kl_buf *out)
{
    uint64_t x[BLK_CHUNK_MAX];

    for (uint32_t i = 0; i < count; i++)
        x[i] = (uint64_t)t[i] - (uint64_t)t[0];
    kl_buf_add8(out, TIME_COLUMN);
    blk_int_encode_quick(x, count, out);
}

bool blk_time_decode(const struct blk_kernels *k, struct kl_cur *c, uint32_t count, int64_t first,
                     int64_t last, int64_t *t)
{
    uint64_t *x = (uint64_t *)t;
    uint8_t   form = kl_cur_8(c);
    uint64_t  step = form == TIME_LINE ? (uint64_t)kl_cur_z(c) : 0;

    if (c->bad || form > TIME_LINE || !blk_int_decode(k, c, count, x))
        return false;
    k->line(x, count, (uint64_t)first, step);
    return t[0] == first && t[count - 1] == last && k->rising(t, count);
}

bool blk_time_skip(struct kl_cur *c, uint32_t count)
{
    uint8_t form = kl_cur_8(c), head;

    if (form == TIME_LINE)
        kl_cur_z(c);
    return !c->bad && form <= TIME_LINE && blk_int_skip(c, count, &head);
}
