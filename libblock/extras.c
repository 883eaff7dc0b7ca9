/*
 * extras: metadata of metrics, and exemplars.
 *
 *   "KOAx" u8 version
 *   varint n, n times { span metric, u8 type, span unit, span help }           by metric, each once
 *   varint n, n times { u64 fp.hi, u64 fp.lo, zigzag time, 8 bytes value, span labels }
 *                                                          by (series, time, value bits, labels)
 */
#include "libblock/fileset_priv.h"

#include <stdlib.h>

enum { METADATA_MAX = 1 << 20, EXEMPLARS_MAX = 1 << 22, BYTES_MAX = 256 << 20 };

struct meta { struct kl_span metric, unit, help; uint8_t type; uint32_t order; };
struct exemplar { struct kl_fp fp; int64_t time_ms; double value; struct kl_span labels; };
struct blk_extras {
    struct kl_arena arena;
    struct meta *metas;
    struct exemplar *exemplars;
    uint32_t meta_count, meta_room, exemplar_count, exemplar_room;
};

struct blk_extras *blk_extras_new(void)
{
    struct blk_extras *x = kl_new(sizeof *x);

    kl_arena_init(&x->arena, BYTES_MAX);
    return x;
}

void blk_extras_free(struct blk_extras *x)
{
    if (x == NULL)
        return;
    kl_arena_deinit(&x->arena);
    free(x->metas);
    free(x->exemplars);
    free(x);
}

static bool keep(struct blk_extras *x, struct kl_span *s)
{
    const void *copy = kl_arena_copy(&x->arena, s->at, s->size);

    s->at = copy;
    return copy != NULL;
}

enum kl_code blk_extras_metadata(struct blk_extras *x, struct kl_span metric, uint8_t type,
                                 struct kl_span unit, struct kl_span help, struct kl_err *err)
{
    struct meta m = { .metric = metric, .unit = unit, .help = help, .type = type,
                      .order = x->meta_count };

    if (x->meta_count == METADATA_MAX || !keep(x, &m.metric) || !keep(x, &m.unit) ||
        !keep(x, &m.help))
        return kl_fail(err, KL_ELIMIT, "more metadata than a fileset takes");
    if (x->meta_count == x->meta_room) {
        x->meta_room = x->meta_room ? x->meta_room * 2 : 64;
        x->metas = kl_resize(x->metas, x->meta_room * sizeof *x->metas);
    }
    x->metas[x->meta_count++] = m;
    return KL_OK;
}

enum kl_code blk_extras_exemplar(struct blk_extras *x, struct kl_fp fp, int64_t time_ms,
                                 double value, struct kl_labels labels, struct kl_err *err)
{
    struct exemplar e = { .fp = fp, .time_ms = time_ms, .value = value,
                          .labels = kl_span(labels.at, labels.size) };

    if (x->exemplar_count == EXEMPLARS_MAX || !keep(x, &e.labels))
        return kl_fail(err, KL_ELIMIT, "more exemplars than a fileset takes");
    if (x->exemplar_count == x->exemplar_room) {
        x->exemplar_room = x->exemplar_room ? x->exemplar_room * 2 : 64;
        x->exemplars = kl_resize(x->exemplars, x->exemplar_room * sizeof *x->exemplars);
    }
    x->exemplars[x->exemplar_count++] = e;
    return KL_OK;
}

static int by_metric(const void *a, const void *b)
{
    const struct meta *x = a, *y = b;
    int                c = kl_span_cmp(x->metric, y->metric);

    return c != 0 ? c : x->order < y->order ? -1 : x->order > y->order;
}

static int by_series(const void *a, const void *b)
{
    const struct exemplar *x = a, *y = b;
    uint64_t               u = kl_f64_bits(x->value), v = kl_f64_bits(y->value);
    int                    c = kl_fp_cmp(x->fp, y->fp);

    if (c != 0)
        return c;
    if (x->time_ms != y->time_ms)
        return x->time_ms < y->time_ms ? -1 : 1;
    return u != v ? (u < v ? -1 : 1) : kl_span_cmp(x->labels, y->labels);
}

void blk_extras_write(struct blk_extras *x, struct kl_buf *out)
{
    uint32_t kept = 0;

    if (x->meta_count > 0)
        qsort(x->metas, x->meta_count, sizeof *x->metas, by_metric);
    if (x->exemplar_count > 0)
        qsort(x->exemplars, x->exemplar_count, sizeof *x->exemplars, by_series);
    for (uint32_t i = 0; i < x->meta_count; i++)       /* the last said of a metric counts */
        if (i + 1 == x->meta_count || !kl_span_eq(x->metas[i].metric, x->metas[i + 1].metric))
            x->metas[kept++] = x->metas[i];
    x->meta_count = kept;
    kept = 0;
    for (uint32_t i = 0; i < x->exemplar_count; i++)
        if (i == 0 || by_series(&x->exemplars[i], &x->exemplars[kept - 1]) != 0)
            x->exemplars[kept++] = x->exemplars[i];
    x->exemplar_count = kept;

    kl_buf_add(out, "KOAx", 4);
    kl_buf_add8(out, BLK_VERSION);
    kl_buf_addv(out, x->meta_count);
    for (uint32_t i = 0; i < x->meta_count; i++) {
        kl_buf_addspan(out, x->metas[i].metric);
        kl_buf_add8(out, x->metas[i].type);
        kl_buf_addspan(out, x->metas[i].unit);
        kl_buf_addspan(out, x->metas[i].help);
    }
    kl_buf_addv(out, x->exemplar_count);
    for (uint32_t i = 0; i < x->exemplar_count; i++) {
        kl_buf_add64(out, x->exemplars[i].fp.hi);
        kl_buf_add64(out, x->exemplars[i].fp.lo);
        kl_buf_addz(out, x->exemplars[i].time_ms);
        kl_buf_addf64(out, x->exemplars[i].value);
        kl_buf_addspan(out, x->exemplars[i].labels);
    }
}

enum kl_code blk_extras_read(struct kl_span raw, const struct blk_extras_each *each,
                             struct kl_err *err)
{
    struct kl_cur  c = kl_cur(raw.at, raw.size);
    struct kl_span magic = kl_cur_bytes(&c, 4);
    uint8_t        version = kl_cur_8(&c);
    uint64_t       n;

    if (c.bad || memcmp(magic.at, "KOAx", 4) != 0 || version != BLK_VERSION)
        return kl_fail(err, KL_ECORRUPT, "not an extras file of version %d", BLK_VERSION);
    n = kl_cur_v(&c);
    for (uint64_t i = 0; i < n && !c.bad; i++) {
        struct kl_span metric = kl_cur_span(&c);
        uint8_t        type = kl_cur_8(&c);
        struct kl_span unit = kl_cur_span(&c), help = kl_cur_span(&c);

        if (!c.bad && each->metadata != NULL)
            each->metadata(each->ctx, metric, type, unit, help);
    }
    n = kl_cur_v(&c);
    for (uint64_t i = 0; i < n && !c.bad; i++) {
        struct kl_fp   fp = { .hi = kl_cur_64(&c) };
        int64_t        time_ms;
        double         value;
        struct kl_span labels;

        fp.lo = kl_cur_64(&c);
        time_ms = kl_cur_z(&c);
        value = kl_cur_f64(&c);
        labels = kl_cur_span(&c);
        if (!c.bad && each->exemplar != NULL)
            each->exemplar(each->ctx, fp, time_ms, value,
                           (struct kl_labels){ labels.at, labels.size });
    }
    if (c.bad || kl_cur_left(&c) != 0)
        return kl_fail(err, KL_ECORRUPT, "cut short, or bytes left over");
    return KL_OK;
}
