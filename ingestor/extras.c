/*
 * Metadata and exemplars of a tenant: few, bounded, and handed to filesets by cuts.
 *
 * What is held is a function of the log and of the cuts obeyed, as samples are: an exemplar is held once however
 * often it was sent, and of a metric's metadata the last that was told is. Each has a time, an exemplar its own,
 * metadata that of the record that told it last, and a cut takes what lies before its end. Where a tenant has
 * nothing that could become a fileset, there is none for them either: they stay, as `old`, for the next one, and
 * are no part of what members are compared by, since a member that began meanwhile has not read them.
 */
#include "ingestor/head_priv.h"

#include "libkoal/base/mem.h"
#include "libkoal/base/sorted.h"

#include <stdlib.h>
#include <string.h>

static struct ing_extras *extras(struct ing_head *h)
{
    if (h->extras == NULL)
        h->extras = kl_new(sizeof *h->extras);
    return h->extras;
}

static struct kl_span copy(struct ing_head *h, struct kl_span s)
{
    char *c = kl_resize(NULL, s.size + 1);

    if (s.size > 0)
        memcpy(c, s.at, s.size);
    h->memory.bytes[ING_MEM_OTHER] += (int64_t)s.size + 1;
    return kl_span(c, s.size);
}

static void drop(struct ing_head *h, struct kl_span s)
{
    h->memory.bytes[ING_MEM_OTHER] -= (int64_t)s.size + 1;
    free((void *)s.at);
}

/* Grows by half. */
static void room(struct ing_head *h, void **at, uint32_t count, uint32_t *have, size_t each)
{
    if (count < *have)
        return;
    h->memory.bytes[ING_MEM_OTHER] -= (int64_t)(*have * each);
    *have = *have == 0 ? 8 : *have + *have / 2;
    *at = kl_resize(*at, *have * each);
    h->memory.bytes[ING_MEM_OTHER] += (int64_t)(*have * each);
}

/* ---- metadata ---- */

bool ing_extras_meta(struct ing_head *h, const struct ing_meta *m)
{
    struct ing_extras *x = extras(h);
    uint32_t           lo = KL_FIRST(i, x->meta_count, kl_span_cmp(x->metas[i].metric, m->metric) >= 0);
    struct ing_meta   *old;

    if (lo < x->meta_count && kl_span_eq(x->metas[lo].metric, m->metric)) {
        old = &x->metas[lo];
        if (m->old && !old->old)
            return true;                               /* what is there was told after it */
        if (old->old && !m->old && x->meta_fresh == ING_META_MAX)
            return false;
        x->meta_fresh += old->old && !m->old;
        old->old = m->old;
        old->told_ms = m->told_ms;
        if (old->type == m->type && kl_span_eq(old->unit, m->unit) && kl_span_eq(old->help, m->help))
            return true;
        drop(h, old->unit);
        drop(h, old->help);
        old->type = m->type;
        old->unit = copy(h, m->unit);
        old->help = copy(h, m->help);
        return true;
    }
    if ((m->old ? x->meta_count - x->meta_fresh : x->meta_fresh) >= ING_META_MAX)
        return false;
    room(h, (void **)&x->metas, x->meta_count, &x->meta_room, sizeof *x->metas);
    memmove(x->metas + lo + 1, x->metas + lo, (x->meta_count - lo) * sizeof *x->metas);
    x->metas[lo] = (struct ing_meta){ .type = m->type, .old = m->old, .told_ms = m->told_ms,
                                      .metric = copy(h, m->metric), .unit = copy(h, m->unit),
                                      .help = copy(h, m->help) };
    x->meta_count++;
    x->meta_fresh += !m->old;
    return true;
}

void ing_extras_told(struct ing_head *h, int64_t end_ms, bool took)
{
    struct ing_extras *x = h->extras;
    uint32_t           kept = 0, old = 0;

    for (uint32_t i = 0; x != NULL && i < x->meta_count; i++) {
        struct ing_meta *m = &x->metas[i];
        bool             before = m->old || m->told_ms < end_ms;

        if (before && (took || old == ING_META_MAX)) {
            x->meta_fresh -= !m->old;
            drop(h, m->metric);
            drop(h, m->unit);
            drop(h, m->help);
            continue;
        }
        x->meta_fresh -= before && !m->old;
        m->old = before;
        old += before;
        x->metas[kept++] = *m;
    }
    if (x != NULL)
        x->meta_count = kept;
}

/* ---- exemplars ---- */

static struct kl_fp hash_of(const struct ing_exemplar *e)
{
    uint64_t head[5] = { e->fp.hi, e->fp.lo, (uint64_t)e->time_ms, kl_f64_bits(e->value) };

    head[4] = kl_hash64(e->labels.at, e->labels.size);
    return kl_hash128(head, sizeof head);
}

static bool same(const struct ing_exemplar *a, const struct ing_exemplar *b)
{
    return kl_fp_cmp(a->fp, b->fp) == 0 && a->time_ms == b->time_ms &&
           kl_f64_bits(a->value) == kl_f64_bits(b->value) && kl_span_eq(a->labels, b->labels);
}

/* Its number + 1, or an empty slot. */
static uint32_t *slot_of(const struct ing_extras *x, const struct ing_exemplar *e)
{
    uint32_t at = (uint32_t)hash_of(e).lo & x->slot_mask;

    while (x->slots[at] != 0 && !same(&x->exemplars[x->slots[at] - 1], e))
        at = (at + 1) & x->slot_mask;
    return &x->slots[at];
}

/* Where each of them is found, for twice as many. */
static void number(struct ing_head *h, struct ing_extras *x)
{
    size_t   before = x->slots == NULL ? 0 : (size_t)x->slot_mask + 1, slots = 16;

    while (slots < (size_t)x->exemplar_count * 3)
        slots *= 2;
    free(x->slots);
    x->slots = kl_new(slots * sizeof *x->slots);
    x->slot_mask = (uint32_t)(slots - 1);
    h->memory.bytes[ING_MEM_OTHER] += (int64_t)(slots * sizeof *x->slots) - (int64_t)(before * sizeof *x->slots);
    for (uint32_t i = 0; i < x->exemplar_count; i++)
        *slot_of(x, &x->exemplars[i]) = i + 1;
}

bool ing_extras_exemplar(struct ing_head *h, const struct ing_exemplar *e)
{
    struct ing_extras *x = extras(h);
    uint32_t          *slot;

    if (x->slots == NULL || x->exemplar_count >= x->slot_mask / 2)
        number(h, x);
    slot = slot_of(x, e);
    if (*slot != 0) {
        struct ing_exemplar *there = &x->exemplars[*slot - 1];

        if (there->old && !e->old) {
            if (x->exemplar_fresh == ING_EXEMPLARS_MAX)
                return false;
            there->old = false;
            x->exemplar_fresh++;
        }
        return true;
    }
    if ((e->old ? x->exemplar_count - x->exemplar_fresh : x->exemplar_fresh) >= ING_EXEMPLARS_MAX)
        return false;
    room(h, (void **)&x->exemplars, x->exemplar_count, &x->exemplar_room, sizeof *x->exemplars);
    x->exemplars[x->exemplar_count] = *e;
    x->exemplars[x->exemplar_count++].labels = copy(h, e->labels);
    x->exemplar_fresh += !e->old;
    *slot = x->exemplar_count;
    return true;
}

void ing_extras_sift(struct ing_head *h, enum ing_fate (*fate)(void *ctx, const struct ing_exemplar *e), void *ctx)
{
    struct ing_extras *x = h->extras;
    uint32_t           kept = 0, before, old = 0;

    if (x == NULL || x->exemplar_count == 0)
        return;
    before = x->exemplar_count;
    x->exemplar_fresh = 0;
    for (uint32_t i = 0; i < before; i++) {
        struct ing_exemplar *e = &x->exemplars[i];
        enum ing_fate        is = fate(ctx, e);

        e->old |= is == ING_OLD;
        if (is == ING_GONE || (e->old && old == ING_EXEMPLARS_MAX)) {
            drop(h, e->labels);
            continue;
        }
        old += e->old;
        x->exemplar_fresh += !e->old;
        x->exemplars[kept++] = *e;
    }
    x->exemplar_count = kept;
    if (kept < before)
        number(h, x);
}

/* ---- what members are compared by ---- */

static void put_span(struct kl_buf *b, struct kl_span s)
{
    kl_buf_add64(b, s.size);
    kl_buf_add(b, s.at, s.size);
}

bool ing_extras_digest(const struct ing_head *h, struct tsp_digest_sum of[TSP_DIGEST_KINDS])
{
    const struct ing_extras *x = h->extras;
    struct kl_fp             tenant = kl_hash128(h->tenant.at, h->tenant.size), hash;
    struct kl_buf            b = { 0 };

    if (x == NULL || x->meta_fresh + x->exemplar_fresh == 0)
        return false;
    for (uint32_t i = 0; i < x->meta_count; i++) {
        const struct ing_meta *m = &x->metas[i];

        if (m->old)
            continue;
        kl_buf_reset(&b);
        kl_buf_add64(&b, tenant.lo);
        kl_buf_add8(&b, m->type);
        put_span(&b, m->metric);
        put_span(&b, m->unit);
        put_span(&b, m->help);
        tsp_digest_item(&of[TSP_DIGEST_METADATA], kl_hash128(b.at, b.size));
    }
    for (uint32_t i = 0; i < x->exemplar_count; i++) {
        if (x->exemplars[i].old)
            continue;
        hash = hash_of(&x->exemplars[i]);
        hash.hi += tenant.hi;
        hash.lo ^= tenant.lo;
        tsp_digest_item(&of[TSP_DIGEST_EXEMPLARS], hash);
    }
    kl_buf_deinit(&b);
    return true;
}

void ing_extras_free(struct ing_head *h)
{
    struct ing_extras *x = h->extras;

    if (x == NULL)
        return;
    for (uint32_t i = 0; i < x->meta_count; i++) {
        drop(h, x->metas[i].metric);
        drop(h, x->metas[i].unit);
        drop(h, x->metas[i].help);
    }
    for (uint32_t i = 0; i < x->exemplar_count; i++)
        drop(h, x->exemplars[i].labels);
    free(x->metas);
    free(x->exemplars);
    free(x->slots);
    free(x);
    h->extras = NULL;
}
