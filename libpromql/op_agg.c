/*
 * Aggregations that give one row a group. A group's rows are folded in canonical order, each step for
 * itself with compensated sums, so the answer does not depend on how the work was cut: into blocks of
 * groups and, where groups are few and long, of steps. Where rows are of several parts, sums, averages and
 * extremes go through a part's rows before the next part's, and each part has a sum of its own that is then
 * added to that of all before: a part may be folded elsewhere.
 */
#include <stdlib.h>
#include <string.h>

#include "libpromql/partial_priv.h"

struct agg {
    uint8_t op;
    uint32_t *members, *begins;                        /* rows of group g: members[begins[g]...] */
    uint32_t groups, step_blocks;
    /* Of a partial: what sums were compensated by and how many values they have, of each group and step, and
     * the labels of each group's first row. */
    double *c, *count;
    struct kl_labels *first;
};

/* The rows in the order of their parts, else as they are. NULL: they already stand so, or memory is out. */
static uint32_t *order_of_parts(struct pql_op *op, const struct pql_rows *in)
{
    uint32_t *begins, *order, most = 0;
    bool      falls = false;

    for (uint32_t i = 0; i < in->count; i++) {
        falls |= i > 0 && in->at[i].part < in->at[i - 1].part;
        most = in->at[i].part > most ? in->at[i].part : most;
    }
    if (!falls || most > PQL_PART_MAX)
        return NULL;
    begins = pql_zalloc(op, 0, (most + 2) * sizeof *begins);
    order = pql_alloc(op, 0, (in->count + 1) * sizeof *order);
    if (begins == NULL || order == NULL)
        return NULL;
    for (uint32_t i = 0; i < in->count; i++)
        begins[in->at[i].part + 1]++;
    for (uint32_t i = 1; i <= most; i++)
        begins[i] += begins[i - 1];
    for (uint32_t i = 0; i < in->count; i++)
        order[begins[in->at[i].part]++] = i;
    return order;
}

/* Sorted by group. */
bool pql_group(struct pql_op *op, const struct pql_rows *in, bool without, struct pql_names names, bool by_part,
               struct pql_groups *g)
{
    const uint32_t *order = by_part ? order_of_parts(op, in) : NULL;
    struct kl_buf scratch;
    uint32_t     *group_of = pql_alloc(op, 0, (in->count + 1) * sizeof *group_of);

    g->members = pql_alloc(op, 0, (in->count + 1) * sizeof *g->members);
    if (group_of == NULL || g->members == NULL || !pql_index_new(op, &g->index, in->count + 1))
        return false;
    kl_buf_init(&scratch, 4 * KL_LABELS_BYTES_MAX);
    for (uint32_t i = 0; i < in->count; i++) {
        if (i > 0 && !without && names.count == 0)     /* one group of all */
            group_of[i] = 0;
        else
            group_of[i] = pql_index_key(op, &g->index, &scratch, in->at[i].labels, names, !without);
        if (group_of[i] == UINT32_MAX) {
            kl_buf_deinit(&scratch);
            return false;
        }
    }
    kl_buf_deinit(&scratch);
    g->count = g->index.count;
    g->begins = pql_zalloc(op, 0, (g->count + 2) * sizeof *g->begins);
    if (g->begins == NULL)
        return false;
    for (uint32_t i = 0; i < in->count; i++)
        g->begins[group_of[i] + 2]++;
    for (uint32_t i = 2; i < g->count + 2; i++)
        g->begins[i] += g->begins[i - 1];
    for (uint32_t i = 0; i < in->count; i++) {
        uint32_t row = order != NULL ? order[i] : i;

        g->members[g->begins[group_of[row] + 1]++] = row;
    }
    return true;
}

struct pql_names pql_grouping_names(struct pql_op *op, const struct pql_node *n, struct kl_span more)
{
    struct pql_names names = { .count = 0 };

    names.at = pql_alloc(op, 0, (n->count + 2) * sizeof *names.at);
    if (names.at == NULL)
        return names;
    for (uint32_t i = 0; i < n->count; i++)
        names.at[names.count++] = n->grouping[i];
    if (n->without)
        names.at[names.count++] = kl_span_str("__name__");
    else if (more.size > 0)
        names.at[names.count++] = more;
    return names;
}

static void note_quantile(struct pql_op *op)
{
    double least = INFINITY, most = -INFINITY;
    bool   nan = false;

    for (uint32_t i = 0; i < op->grid.count; i++) {
        double q = pql_scalar(op->in[1], i);
        nan |= isnan(q);
        least = q < least ? q : least;
        most = q > most ? q : most;
    }
    if (nan)
        pql_note(op, PQL_ANY_STEP, A_INVALID_QUANTILE, op->node->b->from, kl_span("", 0), kl_span("", 0), NAN, 0);
    if (most > 1)
        pql_note(op, PQL_ANY_STEP, A_INVALID_QUANTILE, op->node->b->from, kl_span("", 0), kl_span("", 0), most, 0);
    if (least < 0)
        pql_note(op, PQL_ANY_STEP, A_INVALID_QUANTILE, op->node->b->from, kl_span("", 0), kl_span("", 0), least, 0);
}

static bool folds_by_part(uint8_t op)
{
    return op == T_SUM || op == T_AVG || op == T_MIN || op == T_MAX;
}

static double finished(uint8_t op, double v, double c, double count)
{
    return op == T_AVG ? v / count + c / count : op == T_SUM ? v + c : v;
}

/* All was folded elsewhere: only what is last is done here. */
static void from_partials(struct pql_op *op, const struct pql_partials *p)
{
    if (pql_out_rows(op, p->count) == NULL || !pql_rows_new(op, 0, op->out.at, p->count, false))
        return;
    for (uint32_t k = 0; k < p->count; k++) {
        const struct pql_folded *g = &p->groups[k];
        struct pql_row          *r = &op->out.at[k];

        r->labels = g->labels;
        r->drop_name = g->drop_name;
        memcpy(r->has, g->has, op->grid.count);
        for (uint32_t i = 0; i < op->grid.count; i++)
            if (r->has[i] != P_NONE)
                r->v[i] = finished(op->node->op, g->v[i], g->c[i], g->count[i]);
    }
}

static bool keep_unfinished(struct pql_op *op, struct agg *a, const struct pql_rows *in)
{
    size_t cells = (size_t)a->groups * op->grid.count;

    a->first = pql_alloc(op, 0, (a->groups + 1) * sizeof *a->first);
    if (a->first == NULL)
        return false;
    for (uint32_t g = 0; g < a->groups; g++)
        a->first[g] = in->at[a->members[a->begins[g]]].labels;
    if (a->op != T_SUM && a->op != T_AVG)
        return true;
    a->c = pql_zalloc(op, 0, (2 * cells + 1) * sizeof *a->c);
    a->count = a->c + cells;
    return a->c != NULL;
}

struct pql_unfinished pql_agg_unfinished(const struct pql_op *op, uint32_t group)
{
    const struct agg *a = op->own;
    size_t            at = (size_t)group * op->grid.count;

    return (struct pql_unfinished){ a->c != NULL ? a->c + at : NULL, a->c != NULL ? a->count + at : NULL,
                                    &a->first[group] };
}

static void prepare(struct pql_op *op)
{
    const struct pql_rows     *in = &op->in[0]->out;
    struct agg                *a = pql_zalloc(op, 0, sizeof *a);
    const struct pql_partials *partials = pql_op_partials(op->in[0]);
    struct pql_groups          g;
    uint64_t                   work;

    op->own = a;
    if (a != NULL && partials != NULL) {
        from_partials(op, partials);
        return;
    }
    if (a == NULL || !pql_group(op, in, op->node->without, pql_grouping_names(op, op->node, kl_span("", 0)),
                                folds_by_part(op->node->op), &g))
        return;
    a->op = op->node->op;
    a->members = g.members;
    a->begins = g.begins;
    a->groups = g.count;
    if (pql_out_rows(op, g.count) == NULL || !pql_rows_new(op, 0, op->out.at, g.count, false))
        return;
    for (uint32_t i = 0; i < g.count; i++)
        op->out.at[i].labels = g.index.keys[i];
    if (op->q->params.partial && !keep_unfinished(op, a, in))
        return;
    if (a->op == T_QUANTILE)
        note_quantile(op);
    /* Few groups over many steps are cut by steps. A row of histograms is too, but needs its column. */
    a->step_blocks = op->grid.count >= 256 && g.count < 64 ? op->grid.count / 64 : 1;
    for (uint32_t i = 0; i < in->count; i++)
        if (in->at[i].h != NULL && (a->op == T_SUM || a->op == T_AVG))
            for (uint32_t k = 0; k < g.count; k++)
                if (!pql_row_hists(op, 0, &op->out.at[k]))
                    return;
    work = (uint64_t)in->count * op->grid.count * 4;
    pql_slice(op, g.count * a->step_blocks, g.count > 0 ? work / (g.count * a->step_blocks) : 0);
}

/* ---- one group, steps [from, to), column after column ---- */

struct part { struct pql_op *op; const struct pql_row *rows; const uint32_t *members; uint32_t count, group;
              struct pql_row *out; uint32_t from, to; unsigned worker; };

/* There are histograms among what only takes floats. */
static void ignored(const struct part *p)
{
    struct pql_op *op = p->op;

    for (uint32_t i = p->from, m; i < p->to; i++) {
        for (m = 0; m < p->count && p->rows[p->members[m]].has[i] != P_HIST; m++)
            ;
        if (m < p->count)
            pql_note(op, i, A_IGNORED_IN_AGG, op->node->a->from, kl_span("", 0),
                     kl_span_str(pql_tok_text(op->node->op)), 0, 0);
    }
}

static void set(struct part *p, uint32_t i, double v)
{
    p->out->v[i] = v;
    p->out->has[i] = P_FLOAT;
}

static void count_rows(struct part *p, bool only_group)
{
    for (uint32_t m = 0; m < p->count; m++) {
        const struct pql_row *r = &p->rows[p->members[m]];
        for (uint32_t i = p->from; i < p->to; i++) {
            bool has = r->has[i] != P_NONE;
            double v = p->out->has[i] != P_NONE ? p->out->v[i] : 0;
            p->out->v[i] = only_group ? 1 : v + has;
            p->out->has[i] |= has ? P_FLOAT : P_NONE;
        }
    }
}

static void extremes(struct part *p, bool max)
{
    bool seen_hist = false;

    for (uint32_t m = 0; m < p->count; m++) {
        const struct pql_row *r = &p->rows[p->members[m]];
        for (uint32_t i = p->from; i < p->to; i++) {
            double v = r->v[i], *o = &p->out->v[i];
            if (r->has[i] != P_FLOAT) {
                seen_hist |= r->has[i] == P_HIST;
                continue;
            }
            if (p->out->has[i] == P_NONE || (max ? *o < v : *o > v) || isnan(*o))
                *o = v;
            p->out->has[i] = P_FLOAT;
        }
    }
    if (seen_hist)
        ignored(p);
}

/* Welford's running variance, as Prometheus aggregates it. */
static void deviations(struct part *p, bool root)
{
    uint32_t n = p->to - p->from;
    double  *mean = kl_new((2 * (size_t)n + 1) * sizeof *mean), *count = mean + n;
    bool     seen_hist = false;

    for (uint32_t m = 0; m < p->count; m++) {
        const struct pql_row *r = &p->rows[p->members[m]];
        for (uint32_t i = p->from, k = 0; i < p->to; i++, k++) {
            double v = r->v[i], delta;
            if (r->has[i] != P_FLOAT) {
                seen_hist |= r->has[i] == P_HIST;
                continue;
            }
            if (count[k]++ == 0) {
                mean[k] = v;
                set(p, i, isfinite(v) ? 0 : NAN);
                continue;
            }
            delta = v - mean[k];
            mean[k] += delta / count[k];
            p->out->v[i] += delta * (v - mean[k]);
        }
    }
    for (uint32_t i = p->from, k = 0; i < p->to; i++, k++)
        if (p->out->has[i] != P_NONE)
            p->out->v[i] = root ? sqrt(p->out->v[i] / count[k]) : p->out->v[i] / count[k];
    if (seen_hist)
        ignored(p);
    free(mean);
}

static void quantiles(struct part *p)
{
    double *values = kl_resize(NULL, (p->count + 1) * sizeof *values);
    bool    seen_hist = false;

    for (uint32_t i = p->from; i < p->to; i++) {
        uint32_t n = 0;
        for (uint32_t m = 0; m < p->count; m++) {
            const struct pql_row *r = &p->rows[p->members[m]];
            if (r->has[i] == P_FLOAT)
                values[n++] = r->v[i];
            else
                seen_hist |= r->has[i] == P_HIST;
        }
        if (n > 0)
            set(p, i, pql_quantile(pql_scalar(p->op->in[1], i), values, n));
    }
    if (seen_hist)
        ignored(p);
    free(values);
}

/* Adds values [0, n) to sums that are begun, all there: pql_kahan without a branch, so that several go
 * at once. An infinite sum drops its compensation, as there. */
static void add_whole(const double *v, double *sum, double *c, double *count, uint32_t n)
{
    for (uint32_t k = 0; k < n; k++) {
        double s = sum[k], x = v[k], t = s + x;
        double big = fabs(s) >= fabs(x) ? s : x, small = fabs(s) >= fabs(x) ? x : s;
        double more = c[k] + ((big - t) + small);

        c[k] = fabs(t) == INFINITY ? 0 : more;
        sum[k] = t;
        count[k] += 1;
    }
}

struct run { uint32_t from, to; };                     /* steps, counted from the part's first */

/* Where all of a row's values are, if they are one after another; else nothing. */
static struct run run_of(const struct part *p, const struct pql_row *r)
{
    const uint8_t *has = r->has + p->from;
    struct run     run = { 0, p->to - p->from };

    if (r->have == p->op->grid.count)
        return run;
    while (run.from < run.to && has[run.from] == P_NONE)
        run.from++;
    while (run.to > run.from && has[run.to - 1] == P_NONE)
        run.to--;
    if (memchr(has + run.from, P_NONE, run.to - run.from) != NULL)
        run.to = run.from;
    return run;
}

/* What sums have come to, of each of a part's steps. */
struct pile { double *v, *c, *count; uint8_t *has; };

static void add_some(const struct part *p, const struct pql_row *r, struct pile *to, uint32_t k, uint32_t end)
{
    for (; k < end; k++) {
        uint32_t i = p->from + k;

        if (r->has[i] == P_NONE)
            continue;
        to->count[k]++;
        if (to->has[k] == P_NONE)
            to->v[k] = r->v[i];
        else
            pql_kahan(r->v[i], &to->v[k], &to->c[k]);
        to->has[k] = P_FLOAT;
    }
}

/* Members [m, end), in this order. */
static void pile_up(const struct part *p, uint32_t m, uint32_t end, struct pile *to)
{
    struct run begun = { 0, 0 };                       /* here every step has a sum */

    for (; m < end; m++) {
        const struct pql_row *r = &p->rows[p->members[m]];
        struct run            run = run_of(p, r), both;

        if ((m & 1023) == 1023 && pql_failed(p->op->q))
            break;
        both.from = run.from > begun.from ? run.from : begun.from;
        both.to = run.to < begun.to ? run.to : begun.to;
        if (both.from < both.to) {
            add_some(p, r, to, run.from, both.from);
            add_whole(r->v + p->from + both.from, to->v + both.from, to->c + both.from,
                      to->count + both.from, both.to - both.from);
            add_some(p, r, to, both.to, run.to);
        } else {
            add_some(p, r, to, 0, p->to - p->from);
        }
        if (run.to - run.from > begun.to - begun.from)
            begun = run;
    }
}

void pql_sum_join(double v, double c, double *sum, double *sum_c)
{
    pql_kahan(v, sum, sum_c);
    if (!isinf(*sum))
        *sum_c += c;
}

static void join(struct pile *to, const struct pile *more, uint32_t n)
{
    for (uint32_t k = 0; k < n; k++) {
        if (more->has[k] == P_NONE)
            continue;
        to->count[k] += more->count[k];
        if (to->has[k] != P_NONE) {
            pql_sum_join(more->v[k], more->c[k], &to->v[k], &to->c[k]);
            continue;
        }
        to->v[k] = more->v[k];
        to->c[k] = more->c[k];
        to->has[k] = P_FLOAT;
    }
}

static uint32_t part_end(const struct part *p, uint32_t m)
{
    uint32_t part = p->rows[p->members[m]].part;

    while (m < p->count && p->rows[p->members[m]].part == part)
        m++;
    return m;
}

/* Sums and averages of floats only; false when a histogram or an overflow stands in the way. */
static bool sums(struct part *p, bool average)
{
    uint32_t    n = p->to - p->from, first;
    double     *room;
    struct pile all, next;
    bool        fine = true;

    for (uint32_t m = 0; m < p->count; m++) {
        const struct pql_row *r = &p->rows[p->members[m]];
        if (r->h != NULL && memchr(r->has + p->from, P_HIST, n) != NULL)
            return false;
    }
    first = p->count > 0 ? part_end(p, 0) : 0;
    room = kl_new(6 * ((size_t)n + 1) * sizeof *room);
    all = (struct pile){ p->out->v + p->from, room, room + n + 1, p->out->has + p->from };
    next = (struct pile){ room + 2 * ((size_t)n + 1), room + 3 * ((size_t)n + 1), room + 4 * ((size_t)n + 1),
                          (uint8_t *)(room + 5 * ((size_t)n + 1)) };
    pile_up(p, 0, first, &all);
    for (uint32_t m = first; m < p->count;) {
        uint32_t end = part_end(p, m);

        memset(next.v, 0, (size_t)((char *)(next.has + n) - (char *)next.v));
        pile_up(p, m, end, &next);
        join(&all, &next, n);
        m = end;
    }
    if (p->op->q->params.partial) {                    /* whoever gets it makes the rest */
        struct pql_unfinished u = pql_agg_unfinished(p->op, p->group);

        memcpy(u.c + p->from, all.c, n * sizeof *all.c);
        memcpy(u.count + p->from, all.count, n * sizeof *all.count);
        free(room);
        return true;
    }
    for (uint32_t k = 0; k < n; k++) {
        double v = all.v[k];

        if (all.has[k] == P_NONE)
            continue;
        fine = fine && !(average && !isfinite(v));
        all.v[k] = finished(average ? T_AVG : T_SUM, v, all.c[k], all.count[k]);
    }
    free(room);
    return fine;
}

static void fold(struct part *p, uint8_t op)
{
    switch (op) {
    case T_COUNT: count_rows(p, false); break;
    case T_GROUP: count_rows(p, true); break;
    case T_MIN: extremes(p, false); break;
    case T_MAX: extremes(p, true); break;
    case T_STDVAR: deviations(p, false); break;
    case T_STDDEV: deviations(p, true); break;
    case T_QUANTILE: quantiles(p); break;
    default:
        if (!sums(p, op == T_AVG))
            for (uint32_t i = p->from; i < p->to && !pql_failed(p->op->q); i++)
                pql_agg_step(p->op, p->worker, op == T_AVG, p->rows, p->members, p->count, p->out, i);
    }
}

static void item(struct pql_op *op, size_t item, unsigned worker)
{
    const struct agg *a = op->own;
    uint32_t          from, to;

    pql_slice_of(op, item, a->groups * a->step_blocks, &from, &to);
    for (uint32_t u = from; u < to && !pql_failed(op->q); u++) {
        uint32_t    g = u / a->step_blocks, block = u % a->step_blocks;
        struct part p = { .op = op, .rows = op->in[0]->out.at, .members = a->members + a->begins[g],
                          .count = a->begins[g + 1] - a->begins[g], .out = &op->out.at[g],
                          .worker = worker, .group = g,
                          .from = (uint32_t)((uint64_t)op->grid.count * block / a->step_blocks),
                          .to = (uint32_t)((uint64_t)op->grid.count * (block + 1) / a->step_blocks) };
        fold(&p, a->op);
    }
}

static void finish(struct pql_op *op)
{
    const struct agg *a = op->own;

    for (uint32_t g = 0; g < op->out.count; g++) {
        struct pql_row *r = &op->out.at[g];
        for (uint32_t i = 0; i < op->grid.count; i++)
            r->have += r->has[i] != P_NONE;
        for (uint32_t m = a->begins != NULL ? a->begins[g] : 0; a->begins != NULL && m < a->begins[g + 1]; m++)
            r->drop_name |= op->in[0]->out.at[a->members[m]].drop_name;
    }
    if (!op->q->params.partial)                        /* there a row's number is its group's */
        pql_drop_empty(op);
}
const struct pql_op_kind pql_op_agg = { "aggregation", prepare, item, finish };
