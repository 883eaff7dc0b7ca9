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

struct text { char *at; size_t size, room; };
struct meta { struct kl_span metric; struct text unit, help; uint8_t type; };
struct exemplar { struct kl_fp fp; int64_t time_ms; double value; struct kl_span labels; };
struct blk_extras {
    struct kl_arena arena;
    struct meta *metas;                                /* each metric once, */
    uint32_t *slots;                                   /* found by its hash: 1 + its place; 0: free */
    uint32_t meta_count, slot_count;                   /* slots: a power of two, or none */
    struct exemplar *exemplars;
    uint32_t exemplar_count, exemplar_room;
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
    free(x->slots);
    free(x->exemplars);
    free(x);
}

static bool keep(struct blk_extras *x, struct kl_span *s)
{
    const void *copy = kl_arena_copy(&x->arena, s->at, s->size);

    s->at = copy;
    return copy != NULL;
}

static uint32_t *slot_of(const struct blk_extras *x, struct kl_span metric)
{
    uint32_t at = (uint32_t)kl_hash64(metric.at, metric.size) & (x->slot_count - 1);

    while (x->slots[at] != 0 && !kl_span_eq(x->metas[x->slots[at] - 1].metric, metric))
        at = (at + 1) & (x->slot_count - 1);
    return &x->slots[at];
}

/* There is room for half as many as slots. */
static void more_slots(struct blk_extras *x)
{
    x->slot_count = x->slot_count ? x->slot_count * 2 : 128;
    free(x->slots);
    x->slots = kl_new(x->slot_count * sizeof *x->slots);
    x->metas = kl_resize(x->metas, x->slot_count / 2 * sizeof *x->metas);
    for (uint32_t i = 0; i < x->meta_count; i++)
        *slot_of(x, x->metas[i].metric) = i + 1;
}

/* In the place of what was said before, if it fits there. */
static bool say(struct blk_extras *x, struct text *t, struct kl_span s)
{
    if (s.size > t->room || t->at == NULL) {
        char *at = kl_arena_alloc(&x->arena, s.size);

        if (at == NULL)
            return false;
        t->at = at;
        t->room = s.size;
    }
    if (s.size > 0)
        memcpy(t->at, s.at, s.size);
    t->size = s.size;
    return true;
}

/* A merge is told the same by each of its inputs, so only what is new takes room; the last said counts. */
enum kl_code blk_extras_metadata(struct blk_extras *x, struct kl_span metric, uint8_t type,
                                 struct kl_span unit, struct kl_span help, struct kl_err *err)
{
    uint32_t    *slot;
    struct meta *m;

    if (x->meta_count == x->slot_count / 2 && x->meta_count < METADATA_MAX)
        more_slots(x);
    slot = slot_of(x, metric);
    if (*slot == 0) {
        if (x->meta_count == METADATA_MAX || !keep(x, &metric))
            return kl_fail(err, KL_ELIMIT, "more metadata than a fileset takes");
        x->metas[x->meta_count] = (struct meta){ .metric = metric };
        *slot = ++x->meta_count;
    }
    m = &x->metas[*slot - 1];
    m->type = type;
    return say(x, &m->unit, unit) && say(x, &m->help, help)
         ? KL_OK : kl_fail(err, KL_ELIMIT, "more metadata than a fileset takes");
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
    return kl_span_cmp(((const struct meta *)a)->metric, ((const struct meta *)b)->metric);
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

    if (x->meta_count > 0)                             /* the slots are of no use any more */
        qsort(x->metas, x->meta_count, sizeof *x->metas, by_metric);
    if (x->exemplar_count > 0)
        qsort(x->exemplars, x->exemplar_count, sizeof *x->exemplars, by_series);
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
        kl_buf_addspan(out, kl_span(x->metas[i].unit.at, x->metas[i].unit.size));
        kl_buf_addspan(out, kl_span(x->metas[i].help.at, x->metas[i].help.size));
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
