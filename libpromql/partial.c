/*
 * Partials of all parts of a need, read and joined into what the aggregate would have of all their rows.
 * The bytes come from elsewhere: each count is held against what is left of them, and all that is kept is
 * in one arena, of what the query's budget leaves.
 */
#include <stdlib.h>
#include <string.h>

#include "libpromql/partial_priv.h"

enum { GROUP_LEAST_BYTES = 3 };                        /* of one in the bytes: two empty label sets, flags */

struct reader {
    struct pql_query    *q;
    struct pql_partials *p;
    struct kl_cur        c;
    uint8_t              op;                           /* the aggregate's token */
    uint32_t             steps;
    struct kl_err       *err;
};

void pql_partials_free(struct pql_partials *p)
{
    if (p == NULL)
        return;
    kl_arena_deinit(&p->arena);
    free(p->groups);
    free(p->slots);
    free(p);
}

static enum kl_code damaged(struct reader *r)
{
    return kl_fail(r->err, KL_ECORRUPT, "a damaged partial aggregate");
}

static enum kl_code no_room(struct reader *r)
{
    return kl_fail(r->err, KL_ELIMIT, "query needs more memory than its budget of %zu bytes", r->q->memory_max);
}

/* ---- groups by their labels ---- */

static void place(struct pql_partials *p, uint32_t number)
{
    const struct kl_labels *l = &p->groups[number].labels;
    uint32_t                at = (uint32_t)kl_hash64(l->at, l->size) & p->mask;

    while (p->slots[at] != 0)
        at = (at + 1) & p->mask;
    p->slots[at] = number + 1;
}

static bool grow(struct pql_partials *p, size_t most)
{
    uint32_t room = p->room == 0 ? 16 : p->room * 2;

    if (room > (1u << 28) || room * (sizeof *p->groups + 2 * sizeof *p->slots) > most)
        return false;
    p->groups = kl_resize(p->groups, room * sizeof *p->groups);
    p->slots = kl_resize(p->slots, 2 * room * sizeof *p->slots);
    memset(p->slots, 0, 2 * room * sizeof *p->slots);
    p->room = room;
    p->mask = 2 * room - 1;
    for (uint32_t i = 0; i < p->count; i++)
        place(p, i);
    return true;
}

static struct pql_folded *find(struct pql_partials *p, struct kl_labels l)
{
    if (p->count == 0)
        return NULL;
    for (uint32_t at = (uint32_t)kl_hash64(l.at, l.size) & p->mask; p->slots[at] != 0; at = (at + 1) & p->mask)
        if (pql_labels_eq(p->groups[p->slots[at] - 1].labels, l))
            return &p->groups[p->slots[at] - 1];
    return NULL;
}

static bool keep(struct pql_partials *p, struct kl_span *s)
{
    s->at = s->size > 0 ? kl_arena_copy(&p->arena, s->at, s->size) : "";
    return s->at != NULL;
}

static bool keep_labels(struct pql_partials *p, struct kl_labels *l)
{
    l->at = l->size > 0 ? kl_arena_copy(&p->arena, l->at, l->size) : NULL;
    return l->at != NULL || l->size == 0;
}

/* A new one, without values yet. NULL: no room. */
static struct pql_folded *add_group(struct reader *r, struct kl_labels labels, struct kl_labels first)
{
    struct pql_partials *p = r->p;
    struct pql_folded   *g;
    double              *v;

    if (p->count == p->room && !grow(p, r->q->memory_max))
        return NULL;
    if (!keep_labels(p, &labels) || !keep_labels(p, &first))
        return NULL;
    v = kl_arena_alloc(&p->arena, 3 * (size_t)r->steps * sizeof *v + r->steps);
    if (v == NULL)
        return NULL;
    memset(v, 0, 3 * (size_t)r->steps * sizeof *v + r->steps);
    g = &p->groups[p->count];
    *g = (struct pql_folded){ labels, first, false, v, v + r->steps, v + 2 * r->steps,
                              (uint8_t *)(v + 3 * (size_t)r->steps) };
    place(p, p->count++);
    return g;
}

/* ---- joining ---- */

static void join(uint8_t op, struct pql_folded *g, uint32_t i, double v, double c, double count)
{
    if (g->has[i] == P_NONE) {
        g->has[i] = P_FLOAT;
        g->v[i] = v;
        g->c[i] = c;
        g->count[i] = count;
        return;
    }
    g->count[i] += count;
    switch (op) {
    case T_SUM: case T_AVG:
        pql_sum_join(v, c, &g->v[i], &g->c[i]);
        break;
    case T_COUNT:
        g->v[i] += v;
        break;
    case T_MIN:
        g->v[i] = g->v[i] > v || isnan(g->v[i]) ? v : g->v[i];
        break;
    case T_MAX:
        g->v[i] = g->v[i] < v || isnan(g->v[i]) ? v : g->v[i];
        break;
    default:
        break;                                         /* group: 1 */
    }
}

/* ---- reading ---- */

static bool get_labels(struct kl_cur *c, struct kl_labels *l)
{
    struct kl_span s = kl_cur_span(c);
    struct kl_err  err;

    *l = (struct kl_labels){ s.size > 0 ? s.at : NULL, s.size };
    return !c->bad && s.size <= KL_LABELS_BYTES_MAX && (s.size == 0 || kl_labels_check(*l, &err) == KL_OK);
}

static bool there(const uint8_t *bitmap, uint32_t i) { return bitmap == NULL || bitmap[i / 8] >> i % 8 & 1; }

static enum kl_code get_group(struct reader *r)
{
    struct kl_cur     *c = &r->c, values, cs = { .bad = false };
    struct kl_labels   labels, first;
    struct pql_folded *g;
    const uint8_t     *bitmap = NULL;
    uint32_t           have = r->steps;
    uint8_t            flags;

    if (!get_labels(c, &labels) || !get_labels(c, &first))
        return damaged(r);
    flags = kl_cur_8(c);
    if (flags > 7 || (flags & 4 && r->op != T_SUM && r->op != T_AVG))
        return damaged(r);
    if (!(flags & 2)) {
        bitmap = kl_cur_bytes(c, (r->steps + 7) / 8).at;
        have = 0;
        for (uint32_t i = 0; !c->bad && i < r->steps; i++)
            have += there(bitmap, i);
    }
    if (c->bad || have > kl_cur_left(c) / sizeof(double))
        return damaged(r);
    values = *c;
    kl_cur_bytes(c, have * sizeof(double));
    if (flags & 4) {
        cs = *c;
        kl_cur_bytes(c, have * sizeof(double));
    }
    if (c->bad)
        return damaged(r);
    g = find(r->p, labels);
    if (pql_partial_is_rows(r->op)) {
        if (g != NULL || first.size > 0)
            return damaged(r);                         /* no series is in two parts */
        first = labels;
    }
    if (g == NULL)
        g = add_group(r, labels, first);
    else if (kl_labels_cmp(first, g->first) < 0) {
        g->first = first;
        if (!keep_labels(r->p, &g->first))
            g = NULL;
    }
    if (g == NULL)
        return no_room(r);
    g->drop_name |= flags & 1;
    for (uint32_t i = 0; i < r->steps && !c->bad; i++)
        if (there(bitmap, i)) {
            double v = kl_cur_f64(&values), comp = flags & 4 ? kl_cur_f64(&cs) : 0;

            join(r->op, g, i, v, comp, r->op == T_AVG ? (double)kl_cur_v(c) : 0);
        }
    return c->bad ? damaged(r) : KL_OK;
}

static bool get_tally(struct reader *r)
{
    struct pql_partials *p = r->p;

    if (r->steps > kl_cur_left(&r->c) / 2)
        return false;
    if (p->seen == NULL) {
        p->seen = kl_arena_alloc(&p->arena, 2 * r->steps * sizeof *p->seen);
        if (p->seen == NULL)
            return false;
        memset(p->seen, 0, 2 * r->steps * sizeof *p->seen);
        p->read = p->seen + r->steps;
    }
    for (uint32_t i = 0; i < r->steps; i++) {
        p->seen[i] += kl_cur_v(&r->c);
        p->read[i] += kl_cur_v(&r->c);
    }
    return !r->c.bad;
}

static bool get_notes(struct reader *r)
{
    struct pql_partials *p = r->p;
    uint64_t             count = kl_cur_v(&r->c);

    for (uint64_t i = 0; i < count && !r->c.bad; i++) {
        struct pql_partial_note n = { .what = kl_cur_8(&r->c) };
        const uint8_t          *bits;
        uint32_t                k = 0;

        n.name = kl_cur_span(&r->c);
        n.more = kl_cur_span(&r->c);
        bits = kl_cur_bytes(&r->c, (r->steps + 7) / 8).at;
        if (r->c.bad || n.what < 1 || n.what > 2 || n.name.size > KL_LABELS_BYTES_MAX ||
            n.more.size > KL_LABELS_BYTES_MAX)
            return false;
        while (k < p->note_count && !(p->notes[k].what == n.what && kl_span_eq(p->notes[k].name, n.name) &&
                                      kl_span_eq(p->notes[k].more, n.more)))
            k++;
        if (k == p->note_count) {
            if (k == PQL_PARTIAL_NOTES_MAX || !keep(p, &n.name) || !keep(p, &n.more) ||
                (n.has = kl_arena_alloc(&p->arena, r->steps)) == NULL)
                return false;
            memset(n.has, P_NONE, r->steps);
            p->notes[p->note_count++] = n;
        }
        for (uint32_t s = 0; s < r->steps; s++)
            if (there(bits, s))
                p->notes[k].has[s] = P_FLOAT;
    }
    return !r->c.bad;
}

static enum kl_code get_part(struct reader *r, struct pql_fed_partials *fed)
{
    uint64_t groups;
    uint8_t  flags;

    if (kl_cur_8(&r->c) != PQL_PARTIAL_VERSION)
        return damaged(r);
    flags = kl_cur_8(&r->c);
    if (flags > 1 || (flags == 1) != r->q->tally || kl_cur_8(&r->c) != pql_partial_code(r->op) ||
        kl_cur_v(&r->c) != r->steps)
        return damaged(r);
    fed->samples += kl_cur_v(&r->c);
    fed->series += kl_cur_v(&r->c);
    r->p->rows += kl_cur_v(&r->c);
    r->p->points += kl_cur_v(&r->c);
    if (r->c.bad || (flags == 1 && !get_tally(r)) || !get_notes(r))
        return damaged(r);
    groups = kl_cur_v(&r->c);
    if (r->c.bad || groups > kl_cur_left(&r->c) / GROUP_LEAST_BYTES)
        return damaged(r);
    for (uint64_t i = 0; i < groups; i++)
        if (get_group(r) != KL_OK)
            return r->err->code;
    return kl_cur_left(&r->c) == 0 ? KL_OK : damaged(r);
}

static int by_first(const void *a, const void *b)
{
    return kl_labels_cmp(((const struct pql_folded *)a)->first, ((const struct pql_folded *)b)->first);
}

static bool overflows(const struct reader *r)
{
    for (uint32_t g = 0; r->op == T_AVG && g < r->p->count; g++)
        for (uint32_t i = 0; i < r->steps; i++)
            if (r->p->groups[g].has[i] != P_NONE && !isfinite(r->p->groups[g].v[i]))
                return true;
    return false;
}

/* Are there two equal values at a step among what the parts chose? */
static bool tied(const struct reader *r)
{
    const struct pql_partials *p = r->p;
    double                    *values;
    bool                       is = false;

    if (!pql_partial_is_rows(r->op))
        return false;
    values = kl_resize(NULL, (p->count + 1) * sizeof *values);
    for (uint32_t i = 0; i < r->steps && !is; i++) {
        uint32_t n = 0;

        for (uint32_t g = 0; g < p->count; g++)
            if (p->groups[g].has[i] != P_NONE)
                values[n++] = p->groups[g].v[i];
        is = pql_equal_values(values, n);
    }
    free(values);
    return is;
}

static const struct pql_op *aggregate_of(const struct pql_query *q, uint32_t need)
{
    for (const struct pql_op *op = q->ops; op != NULL; op = op->next)
        if (pql_may_push(op) && op->in[0]->need == need + 1)
            return op;
    return NULL;
}

enum kl_code pql_feed_partials(struct pql_query *q, uint32_t need, const struct kl_span *parts, size_t count,
                               struct pql_fed_partials *fed, struct kl_err *err)
{
    const struct pql_op    *op = need < q->need_count && !q->needs[need].done ? aggregate_of(q, need) : NULL;
    struct reader           r = { .q = q, .err = err };
    struct pql_fed_partials sums = { 0, 0, 0 };
    uint64_t                used = atomic_load(&q->memory);

    if (op == NULL || q->needs[need].need.push == NULL)
        return kl_fail(err, KL_EINVAL, "it is nothing that can be folded elsewhere");
    r.p = kl_new(sizeof *r.p);
    r.op = op->node->op;
    r.steps = op->grid.count;
    kl_arena_init(&r.p->arena, q->memory_max > used ? q->memory_max - used : 0);
    for (size_t i = 0; i < count; i++) {
        r.c = kl_cur(parts[i].at, parts[i].size);
        if (get_part(&r, &sums) != KL_OK) {
            pql_partials_free(r.p);
            return err->code;
        }
    }
    if (overflows(&r)) {
        pql_partials_free(r.p);
        return kl_fail(err, KL_EINVAL, "an average's sum is infinite");
    }
    if (tied(&r)) {
        pql_partials_free(r.p);
        return kl_fail(err, KL_EINVAL, "equal values, or NaN, are among the first");
    }
    if (r.p->count > 1)
        qsort(r.p->groups, r.p->count, sizeof *r.p->groups, by_first);
    free(r.p->slots);                                  /* they no longer stand where it says */
    r.p->slots = NULL;
    atomic_fetch_add(&q->memory, r.p->arena.used_bytes + r.p->room * sizeof *r.p->groups);
    r.p->is_rows = pql_partial_is_rows(r.op);
    q->needs[need].partials = r.p;
    q->needs[need].done = true;
    sums.groups = r.p->count;
    *fed = sums;
    pql_charge(q, sums.samples, sums.series);          /* past it the query fails, as it would have */
    return KL_OK;
}

/* ---- in place of what was not done here ---- */

const struct pql_partials *pql_op_partials(const struct pql_op *op)
{
    return op->need != 0 ? op->q->needs[op->need - 1].partials : NULL;
}

/* The rows that are chosen from: those that parts have chosen. */
static void rows(struct pql_op *op, const struct pql_partials *p)
{
    if (pql_out_rows(op, p->count) == NULL)
        return;
    for (uint32_t k = 0; k < p->count; k++) {
        struct pql_row *r = &op->out.at[k];

        *r = (struct pql_row){ .labels = p->groups[k].labels, .v = p->groups[k].v, .has = p->groups[k].has,
                               .drop_name = p->groups[k].drop_name };
        for (uint32_t i = 0; i < op->grid.count; i++)
            r->have += r->has[i] != P_NONE;
        op->points_elsewhere -= r->have < op->points_elsewhere ? r->have : op->points_elsewhere;
    }
    op->rows_elsewhere -= p->count < op->rows_elsewhere ? p->count : op->rows_elsewhere;
}

void pql_partial_stand_in(struct pql_op *op, int32_t at)
{
    const struct pql_partials *p = pql_op_partials(op);
    struct pql_tally           t;

    for (uint32_t i = 0; i < p->note_count; i++)
        pql_note_floats(op, &(struct pql_row){ .has = p->notes[i].has }, p->notes[i].what == 1 ? A_NON_COUNTER
                        : A_NON_COUNTER_LABEL, at, p->notes[i].name, p->notes[i].what == 1 ? kl_span("", 0)
                        : p->notes[i].more);
    if (pql_tally_begin(op, &t) && p->seen != NULL)
        for (uint32_t i = 0; i < op->grid.count; i++)
            pql_tally_add(&t, i, p->seen[i], p->read[i]);
    pql_tally_end(&t);
    op->rows_elsewhere = p->rows;
    op->points_elsewhere = p->points;
    if (p->is_rows)
        rows(op, p);
}
