#include "libblock/rollup.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "libblock/fileset_priv.h"

enum { MIN, MAX, FIRST, LAST, RESETS, COLUMNS };

struct blk_roll {
    int64_t  resolution_ms;
    uint32_t count;                                    /* rows of the open chunk */
    int64_t  times[BLK_CHUNK_MAX];
    struct kl_hist hists[BLK_CHUNK_MAX];
    double   columns[BLK_CHUNK_MAX][COLUMNS];
    int64_t  starts[BLK_CHUNK_MAX];
    bool     any_start;                                /* in the open chunk */
    /* the open bucket */
    bool     open;
    int64_t  end_ms, first_ms, last_ms, first_start, last_start;
    struct blk_row row;
    double   lost;                                     /* of the sum: Neumaier's compensation */
    struct kl_buf bytes;
    struct blk_chunk_ref *refs;
    size_t  *ends;
    uint32_t ref_count, ref_room;
    int64_t in_times[BLK_CHUNK_MAX], in_starts[BLK_CHUNK_MAX];
    double  in_values[BLK_CHUNK_MAX];
};

static const struct kl_hist_span span = { 0, COLUMNS };
static const double BEGUN_MAX = 9007199254740992;      /* what a double holds exactly */

struct blk_roll *blk_roll_new(int64_t resolution_ms)
{
    struct blk_roll *r = kl_new(sizeof *r);

    assert(resolution_ms > 0);
    r->resolution_ms = resolution_ms;
    return r;
}

void blk_roll_free(struct blk_roll *r)
{
    if (r == NULL)
        return;
    kl_buf_deinit(&r->bytes);
    free(r->refs);
    free(r->ends);
    free(r);
}

int64_t blk_bucket_end(int64_t time_ms, int64_t resolution_ms)
{
    int64_t into = time_ms % resolution_ms, end;

    if (into == 0)
        return time_ms;
    into += into < 0 ? resolution_ms : 0;
    return __builtin_add_overflow(time_ms, resolution_ms - into, &end) ? INT64_MAX : end;
}

bool blk_row_get(const struct kl_hist *h, struct blk_row *row)
{
    if (h->schema != BLK_ROLLUP_SCHEMA || h->pos_count != COLUMNS)
        return false;
    *row = (struct blk_row){ .count = h->count, .sum = h->sum, .min = h->pos[MIN], .max = h->pos[MAX],
                             .first = h->pos[FIRST], .last = h->pos[LAST], .resets = h->pos[RESETS],
                             .since_ms = h->zero_count, .begun_ms = h->zero_threshold };
    return true;
}

int64_t blk_row_begun(const struct blk_row *row, int64_t last_start_ms)
{
    if (row->begun_ms == BLK_ROW_BEGUN_SAME)
        return last_start_ms;
    return row->begun_ms > 0 && row->begun_ms <= BEGUN_MAX ? (int64_t)row->begun_ms : 0;
}

static void end_chunk(struct blk_roll *r)
{
    struct blk_chunk_ref ref = { .count = r->count, .kind = BLK_HISTS };

    if (r->count == 0)
        return;
    ref.first_ms = r->times[0];
    ref.last_ms = r->times[r->count - 1];
    blk_chunk_encode_hists(r->times, r->hists, r->any_start ? r->starts : NULL, r->count, &r->bytes);
    r->any_start = false;
    if (r->ref_count == r->ref_room) {
        r->ref_room = r->ref_room ? r->ref_room * 2 : 16;
        r->refs = kl_resize(r->refs, r->ref_room * sizeof *r->refs);
        r->ends = kl_resize(r->ends, r->ref_room * sizeof *r->ends);
    }
    r->ends[r->ref_count] = r->bytes.size;
    r->refs[r->ref_count++] = ref;
    r->count = 0;
}

static void end_bucket(struct blk_roll *r)
{
    double *c = r->columns[r->count];

    if (!r->open)
        return;
    r->open = false;
    c[MIN] = r->row.min;
    c[MAX] = r->row.max;
    c[FIRST] = r->row.first;
    c[LAST] = r->row.last;
    c[RESETS] = r->row.resets;
    r->times[r->count] = r->last_ms;
    r->starts[r->count] = r->last_start;
    r->any_start = r->any_start || r->last_start != 0;
    r->hists[r->count] = (struct kl_hist){
        .schema = BLK_ROLLUP_SCHEMA, .reset = KL_HIST_GAUGE, .count = r->row.count,
        .sum = isfinite(r->lost) ? r->row.sum + r->lost : r->row.sum,
        .zero_threshold = r->first_start == r->last_start ? BLK_ROW_BEGUN_SAME
                        : r->first_start == 0 ? BLK_ROW_BEGUN_NONE : (double)r->first_start,
        .zero_count = (double)(r->last_ms - r->first_ms), .pos_spans = &span, .pos_span_count = 1,
        .pos = c, .pos_count = COLUMNS };
    if (++r->count == BLK_CHUNK_MAX)
        end_chunk(r);
}

static void add_to_sum(struct blk_roll *r, double v)
{
    double t = r->row.sum + v;

    r->lost += fabs(r->row.sum) >= fabs(v) ? (r->row.sum - t) + v : (v - t) + r->row.sum;
    r->row.sum = t;
}

/* As libpromql/range_rate.c: was the counter begun anew, by what two samples say? */
static bool began(int64_t before_start, int64_t before, int64_t start, int64_t now)
{
    if (start == 0 || start >= now || start < before)
        return false;
    return start > before || (before_start <= before && before_start != 0 && before_start != before);
}

static void sample(struct blk_roll *r, int64_t time_ms, double v, int64_t start_ms)
{
    struct blk_row *row = &r->row;

    if (kl_is_stale(v))
        return;
    if (start_ms < 0 || start_ms > (int64_t)BEGUN_MAX)
        start_ms = 0;                                  /* no time that anybody means */
    if (!r->open || time_ms > r->end_ms) {
        end_bucket(r);
        r->open = true;
        r->end_ms = blk_bucket_end(time_ms, r->resolution_ms);
        r->first_ms = r->last_ms = time_ms;
        r->first_start = r->last_start = start_ms;
        *row = (struct blk_row){ .count = 1, .sum = v, .min = v, .max = v, .first = v, .last = v };
        r->lost = 0;
        return;
    }
    /* As Prometheus folds: a NaN gives way to anything, also to another NaN. */
    if (row->min > v || isnan(row->min))
        row->min = v;
    if (row->max < v || isnan(row->max))
        row->max = v;
    if (v < row->last || began(r->last_start, r->last_ms, start_ms, time_ms))
        row->resets += row->last;
    row->count++;
    row->last = v;
    r->last_ms = time_ms;
    r->last_start = start_ms;
    add_to_sum(r, v);
}

enum kl_code blk_roll_series(struct blk_roll *r, const struct blk_chunk_ref *chunks, uint32_t count,
                             const struct blk_chunk_ref **out, uint32_t *out_count,
                             struct kl_err *err)
{
    for (uint32_t i = 0; i < count; i++)
        if (chunks[i].kind != BLK_FLOATS) {
            *out = chunks;
            *out_count = count;
            return KL_OK;
        }
    kl_buf_reset(&r->bytes);
    r->ref_count = r->count = 0;
    r->open = r->any_start = false;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t n;

        if (blk_chunk_decode(chunks[i].bytes, r->in_times, r->in_values, r->in_starts, &n, err) != KL_OK)
            return err->code;
        for (uint32_t k = 0; k < n; k++)
            sample(r, r->in_times[k], r->in_values[k], r->in_starts[k]);
    }
    end_bucket(r);
    end_chunk(r);
    for (uint32_t i = 0; i < r->ref_count; i++) {      /* only now do the bytes stay where they are */
        size_t from = i > 0 ? r->ends[i - 1] : 0;

        r->refs[i].bytes = kl_span(r->bytes.at + from, r->ends[i] - from);
    }
    *out = r->refs;
    *out_count = r->ref_count;
    return KL_OK;
}
