/*
 * At which steps something was noted: so that what is said of a range can be cut with the range, and said again
 * by another evaluation of the same text. It is known where the operator's steps are the query's own; not
 * inside subqueries, nor of what is found out over several steps, nor of what counts.
 */
#include <string.h>

#include "libpromql/annos_priv.h"

static bool bit(const uint64_t *bits, uint32_t i) { return bits[i / 64] >> (i % 64) & 1; }

static bool the_querys_own(const struct pql_op *op, const struct pql_annos *as)
{
    const struct pql_params *p = &op->q->params;

    return op->grid.start == p->start_ms && op->grid.step == p->step_ms && op->grid.count == as->step_count;
}

static void set(const struct pql_annos *as, struct pql_anno *e, uint32_t step)
{
    if (e->steps == NULL)
        e->steps = kl_new((as->step_count + 63) / 64 * sizeof *e->steps);
    e->set += !bit(e->steps, step);
    e->steps[step / 64] |= UINT64_C(1) << (step % 64);
}

void pql_annos_step(const struct pql_op *op, struct pql_annos *as, struct pql_anno *e, int64_t step)
{
    if (!as->by_steps)
        return;
    if (step < 0 || pql_annos_counts(e->what) || !the_querys_own(op, as))
        as->blurred = true;
    else
        set(as, e, (uint32_t)step);
}

void pql_annos_floats(const struct pql_op *op, struct pql_annos *as, struct pql_anno *e, const uint8_t *has)
{
    if (!as->by_steps)
        return;
    if (!the_querys_own(op, as))
        as->blurred = true;
    else if (e->set < as->step_count)                  /* soon it is all of them */
        for (uint32_t i = 0; i < as->step_count; i++)
            if (has[i] == P_FLOAT)
                set(as, e, i);
}

bool pql_said_by_steps(const struct pql_query *q)
{
    return q->annos->by_steps && !q->annos->blurred;
}

/* Bits [from, from + count) as bits from 0 on; false: none of them is set. */
static bool shift(const uint64_t *bits, uint32_t from, uint32_t count, uint64_t *out)
{
    bool any = false;

    for (uint32_t i = 0; i < count; i++)
        if (bit(bits, from + i)) {
            out[i / 64] |= UINT64_C(1) << (i % 64);
            any = true;
        }
    return any;
}

bool pql_said_cut(const struct pql_query *q, uint32_t first, uint32_t count, struct kl_arena *arena,
                  const struct pql_said **said, uint32_t *said_count)
{
    const struct pql_annos *as = q->annos;
    size_t                  words = (count + 63) / 64;
    struct pql_said        *list = NULL;
    uint64_t               *bits = NULL;
    uint32_t                n = 0;

    for (uint32_t i = 0; i < as->count; i++) {
        const struct pql_anno *a = &as->at[i];
        char                  *name, *more;

        if (list == NULL && (list = kl_arena_alloc(arena, as->count * sizeof *list)) == NULL)
            return false;
        if (bits == NULL && (bits = kl_arena_alloc(arena, words * sizeof *bits)) == NULL)
            return false;
        memset(bits, 0, words * sizeof *bits);
        if (a->steps == NULL || !shift(a->steps, first, count, bits))
            continue;
        name = kl_arena_copy(arena, a->name, strlen(a->name) + 1);
        more = kl_arena_copy(arena, a->more, strlen(a->more) + 1);
        if (name == NULL || more == NULL)
            return false;
        list[n++] = (struct pql_said){ a->what, a->at, a->order, name, more, a->x, a->y, bits };
        bits = NULL;
    }
    *said = list;
    *said_count = n;
    return true;
}

void pql_said_again(struct pql_query *q, const struct pql_said *said, uint32_t said_count, uint32_t from,
                    uint32_t to, uint32_t at)
{
    struct pql_annos *as = q->annos;

    pql_annos_lock(as);
    for (uint32_t i = 0; i < said_count; i++) {
        const struct pql_said *s = &said[i];
        struct pql_anno        a = { .what = s->what, .at = s->at, .x = s->x, .y = s->y, .order = s->order }, *e;
        bool                   is_new;
        uint32_t               k = from;

        while (k <= to && !bit(s->steps, k))
            k++;
        if (k > to)
            continue;
        e = pql_annos_entry(as, &a, kl_span_str(s->name), kl_span_str(s->more), &is_new);
        for (; e != NULL && k <= to; k++)
            if (bit(s->steps, k))
                set(as, e, at + k - from);
    }
    pql_annos_unlock(as);
}

bool pql_said_tell(struct pql_query *q) { return pql_annos_result(q); }

size_t pql_said_besides(const struct pql_query *q, bool infos, const char *const **texts)
{
    *texts = (const char *const *)(infos ? q->annos->infos : q->annos->own);
    return infos ? q->annos->info_count : q->annos->own_count;
}
