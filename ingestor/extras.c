/* Metadata and exemplars of a tenant: few, bounded, and handed to every fileset. */
#include "ingestor/head_priv.h"

#include "libkoal/base/mem.h"

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

/* Grows by half; false when `most` are there. */
static bool room(struct ing_head *h, void **at, uint32_t count, uint32_t *have, size_t each,
                 uint32_t most)
{
    if (count < *have)
        return true;
    if (count >= most)
        return false;
    h->memory.bytes[ING_MEM_OTHER] -= (int64_t)(*have * each);
    *have = *have == 0 ? 8 : *have + *have / 2;
    *at = kl_resize(*at, *have * each);
    h->memory.bytes[ING_MEM_OTHER] += (int64_t)(*have * each);
    return true;
}

void ing_extras_meta(struct ing_head *h, const struct ing_meta *m)
{
    struct ing_extras *x = extras(h);
    uint32_t lo = 0, hi = x->meta_count;

    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;

        if (kl_span_cmp(x->metas[mid].metric, m->metric) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo < x->meta_count && kl_span_eq(x->metas[lo].metric, m->metric)) {
        struct ing_meta *old = &x->metas[lo];

        if (old->type == m->type && kl_span_eq(old->unit, m->unit) && kl_span_eq(old->help, m->help))
            return;
        drop(h, old->unit);
        drop(h, old->help);
        old->type = m->type;
        old->unit = copy(h, m->unit);
        old->help = copy(h, m->help);
        return;
    }
    if (!room(h, (void **)&x->metas, x->meta_count, &x->meta_room, sizeof *x->metas, ING_META_MAX))
        return;
    memmove(x->metas + lo + 1, x->metas + lo, (x->meta_count - lo) * sizeof *x->metas);
    x->metas[lo] = (struct ing_meta){ .type = m->type, .metric = copy(h, m->metric),
                                      .unit = copy(h, m->unit), .help = copy(h, m->help) };
    x->meta_count++;
}

void ing_extras_exemplar(struct ing_head *h, const struct ing_exemplar *e)
{
    struct ing_extras *x = extras(h);

    if (!room(h, (void **)&x->exemplars, x->exemplar_count, &x->exemplar_room,
              sizeof *x->exemplars, ING_EXEMPLARS_MAX))
        return;
    x->exemplars[x->exemplar_count] = *e;
    x->exemplars[x->exemplar_count++].labels = copy(h, e->labels);
}

void ing_extras_drop(struct ing_head *h, struct ing_exemplar *e) { drop(h, e->labels); }

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
    free(x);
    h->extras = NULL;
}
