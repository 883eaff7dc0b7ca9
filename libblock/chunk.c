/*
 * A chunk: a head, a time section, and the rest.
 *
 *   u8 kind (1 floats, 2 histograms; + 0x10: has start times)   varint count, 1..BLK_CHUNK_MAX
 *   zigzag first time   varint last - first
 *   time section (codec_time.c)
 *   [start times: an integer column of sample time - start, 0 where unknown; see starts_encode]
 *   floats: a value column (codec_value.c);  histograms: chunk_hist.c
 */
#include "libblock/blk_priv.h"

#include <assert.h>

static enum kl_code corrupt(struct kl_err *err, const char *what)
{
    return kl_fail(err, KL_ECORRUPT, "chunk: %s", what);
}

static bool starts_known(const int64_t *starts_ms, uint32_t count)
{
    for (uint32_t i = 0; starts_ms != NULL && i < count; i++)
        if (starts_ms[i] != 0)
            return true;
    return false;
}

/* A start time is constant for long stretches, so the column holds it as it is. */
static void put_head(uint8_t kind, const int64_t *times_ms, const int64_t *starts_ms,
                     uint32_t count, bool quick, struct kl_buf *out)
{
    bool starts = starts_known(starts_ms, count);

    kl_buf_add8(out, (uint8_t)(kind | (starts ? BLK_HAS_STARTS : 0)));
    kl_buf_addv(out, count);
    kl_buf_addz(out, times_ms[0]);
    kl_buf_addv(out, (uint64_t)times_ms[count - 1] - (uint64_t)times_ms[0]);
    (quick ? blk_time_encode_quick : blk_time_encode)(times_ms, count, out);
    if (starts) {
        uint64_t x[BLK_CHUNK_MAX];

        for (uint32_t i = 0; i < count; i++)
            x[i] = (uint64_t)starts_ms[i];
        (quick ? blk_int_encode_quick : blk_int_encode)(x, count, out);
    }
}

static void check_input(const int64_t *times_ms, uint32_t count)
{
    assert(count >= 1 && count <= BLK_CHUNK_MAX);
    for (uint32_t i = 1; i < count; i++)
        assert(times_ms[i] > times_ms[i - 1]);
}

void blk_chunk_encode(const int64_t *times_ms, const double *values, const int64_t *starts_ms,
                      uint32_t count, struct kl_buf *out)
{
    check_input(times_ms, count);
    put_head(BLK_FLOATS, times_ms, starts_ms, count, false, out);
    blk_value_encode(values, count, out);
}

void blk_chunk_encode_quick(const int64_t *times_ms, const double *values, const int64_t *starts_ms,
                            uint32_t count, struct kl_buf *out)
{
    check_input(times_ms, count);
    put_head(BLK_FLOATS, times_ms, starts_ms, count, true, out);
    blk_value_encode_quick(values, count, out);
}

void blk_chunk_encode_hists(const int64_t *times_ms, const struct kl_hist *hists,
                            const int64_t *starts_ms, uint32_t count, struct kl_buf *out)
{
    check_input(times_ms, count);
    put_head(BLK_HISTS, times_ms, starts_ms, count, false, out);
    blk_hists_encode(hists, count, out);
}

/* The head alone; the cursor then stands at the time section. */
static enum kl_code get_head(struct kl_cur *c, struct blk_parts *p, struct kl_err *err)
{
    uint64_t count, span;

    p->kind = kl_cur_8(c);
    count = kl_cur_v(c);
    p->first_ms = kl_cur_z(c);
    span = kl_cur_v(c);
    if (c->bad)
        return corrupt(err, "the head is cut short");
    if ((p->kind & BLK_KIND_MASK) < BLK_FLOATS || (p->kind & BLK_KIND_MASK) > BLK_HISTS ||
        (p->kind & ~(BLK_KIND_MASK | BLK_HAS_STARTS)) != 0)
        return corrupt(err, "unknown kind");
    if (count == 0 || count > BLK_CHUNK_MAX)
        return corrupt(err, "sample count out of bounds");
    if (span > (uint64_t)INT64_MAX - (uint64_t)p->first_ms || (count == 1) != (span == 0))
        return corrupt(err, "time span out of bounds");
    p->count = (uint32_t)count;
    p->last_ms = (int64_t)((uint64_t)p->first_ms + span);
    return KL_OK;
}

enum kl_code blk_chunk_peek(struct kl_span chunk, struct blk_chunk_head *head, struct kl_err *err)
{
    struct kl_cur    c = kl_cur(chunk.at, chunk.size);
    struct blk_parts p;

    if (get_head(&c, &p, err) != KL_OK)
        return err->code;
    *head = (struct blk_chunk_head){ .kind = (enum blk_chunk_kind)(p.kind & BLK_KIND_MASK),
                                     .count = p.count, .first_ms = p.first_ms,
                                     .last_ms = p.last_ms };
    return KL_OK;
}

enum kl_code blk_chunk_split(struct kl_span chunk, struct blk_parts *p, struct kl_err *err)
{
    struct kl_cur  c = kl_cur(chunk.at, chunk.size);
    const uint8_t *time;

    if (get_head(&c, p, err) != KL_OK)
        return err->code;
    time = c.at;
    if (!blk_time_skip(&c, p->count))
        return corrupt(err, "bad time section");
    p->time = kl_span(time, (size_t)(c.at - time));
    p->rest = kl_span(c.at, kl_cur_left(&c));
    return KL_OK;
}

void blk_chunk_join(const struct blk_parts *p, struct kl_buf *out)
{
    kl_buf_add8(out, p->kind);
    kl_buf_addv(out, p->count);
    kl_buf_addz(out, p->first_ms);
    kl_buf_addv(out, (uint64_t)p->last_ms - (uint64_t)p->first_ms);
    kl_buf_add(out, p->time.at, p->time.size);
    kl_buf_add(out, p->rest.at, p->rest.size);
}

/* Head, times and start times of either kind; the cursor then stands at the values. */
static enum kl_code get_times(const struct blk_kernels *k, struct kl_cur *c, uint8_t kind,
                              int64_t *times_ms, int64_t *starts_ms, uint32_t *count,
                              struct kl_err *err)
{
    struct blk_parts p;
    uint64_t         x[BLK_CHUNK_MAX];

    if (get_head(c, &p, err) != KL_OK)
        return err->code;
    if ((p.kind & BLK_KIND_MASK) != kind)
        return corrupt(err, "of the other kind");
    if (!blk_time_decode(k, c, p.count, p.first_ms, p.last_ms, times_ms))
        return corrupt(err, "bad time section");
    if (p.kind & BLK_HAS_STARTS) {
        if (!blk_int_decode(k, c, p.count, x))
            return corrupt(err, "bad start times");
        if (starts_ms != NULL)
            memcpy(starts_ms, x, p.count * sizeof *starts_ms);
    } else if (starts_ms != NULL) {
        memset(starts_ms, 0, p.count * sizeof *starts_ms);
    }
    *count = p.count;
    return KL_OK;
}

enum kl_code blk_chunk_decode_by(const struct blk_kernels *k, struct kl_span chunk,
                                 int64_t *times_ms, double *values, int64_t *starts_ms,
                                 uint32_t *count, struct kl_err *err)
{
    struct kl_cur c = kl_cur(chunk.at, chunk.size);
    uint32_t      n;

    if (get_times(k, &c, BLK_FLOATS, times_ms, starts_ms, &n, err) != KL_OK)
        return err->code;
    if (!blk_value_decode(k, &c, n, values))
        return corrupt(err, "bad values");
    if (kl_cur_left(&c) != 0)
        return corrupt(err, "bytes left over");
    *count = n;
    return KL_OK;
}

enum kl_code blk_chunk_decode(struct kl_span chunk, int64_t *times_ms, double *values,
                              int64_t *starts_ms, uint32_t *count, struct kl_err *err)
{
    return blk_chunk_decode_by(blk_kernels(), chunk, times_ms, values, starts_ms, count, err);
}

enum kl_code blk_chunk_decode_hists(struct kl_span chunk, struct kl_arena *arena, int64_t *times_ms,
                                    struct kl_hist *hists, int64_t *starts_ms, uint32_t *count,
                                    struct kl_err *err)
{
    const struct blk_kernels *k = blk_kernels();
    struct kl_cur             c = kl_cur(chunk.at, chunk.size);
    uint32_t                  n;

    if (get_times(k, &c, BLK_HISTS, times_ms, starts_ms, &n, err) != KL_OK ||
        blk_hists_decode(k, &c, n, arena, hists, err) != KL_OK)
        return err->code;
    if (kl_cur_left(&c) != 0)
        return corrupt(err, "bytes left over");
    *count = n;
    return KL_OK;
}

bool blk_chunk_has_starts(struct kl_span chunk)
{
    return chunk.size > 0 && (*(const uint8_t *)chunk.at & BLK_HAS_STARTS) != 0;
}

const char *blk_parts_codec(const struct blk_parts *p)
{
    static const char *const names[4][10] = {          /* [form][transform, + 5 with exceptions] */
        { "bits/const", "bits/line", "bits/for", "bits/delta-for", "bits/dod-for",
          "?", "?", "bits/pfor", "bits/delta-pfor", "bits/dod-pfor" },
        { "decimal/const", "decimal/line", "decimal/for", "decimal/delta-for", "decimal/dod-for",
          "?", "?", "decimal/pfor", "decimal/delta-pfor", "decimal/dod-pfor" },
        { "decimal+aside/const", "decimal+aside/line", "decimal+aside/for",
          "decimal+aside/delta-for", "decimal+aside/dod-for", "?", "?", "decimal+aside/pfor",
          "decimal+aside/delta-pfor", "decimal+aside/dod-pfor" },
        { "decimal+ulps/const", "decimal+ulps/line", "decimal+ulps/for", "decimal+ulps/delta-for",
          "decimal+ulps/dod-for", "?", "?", "decimal+ulps/pfor", "decimal+ulps/delta-pfor",
          "decimal+ulps/dod-pfor" },
    };
    struct kl_cur c = kl_cur(p->rest.at, p->rest.size);
    uint8_t       form, head;

    if ((p->kind & BLK_KIND_MASK) == BLK_HISTS)
        return "histogram";
    if ((p->kind & BLK_HAS_STARTS) && !blk_int_skip(&c, p->count, &head))
        return "corrupt";
    if (!blk_value_skip(&c, p->count, &form, &head) || (head & 7) > BLK_INT_DOD)
        return "corrupt";
    return form == 0 ? "raw" : names[form >> 5][(head & 7) + (head & 0x10 ? 5 : 0)];
}

const char *blk_chunk_codec(struct kl_span chunk)
{
    struct kl_err    err;
    struct blk_parts p;

    return blk_chunk_split(chunk, &p, &err) == KL_OK ? blk_parts_codec(&p) : "corrupt";
}
