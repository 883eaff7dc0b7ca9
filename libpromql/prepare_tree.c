/* What happens to a tree once the query's times are known: start(), end(), step() and range() become
 * numbers, duration expressions durations, @ start() an instant; literals fold; and what is the same
 * at every step (all its selectors pinned by @) is marked to be evaluated once. */
#include <string.h>

#include "libpromql/plan_priv.h"

static void to_number(struct pql_node *n, double v)
{
    n->kind = N_NUMBER;
    n->value = v;
    n->duration = false;
}

static void fold_context(const struct pql_query *q, struct pql_node *n)
{
    const struct pql_params *p = &q->params;

    if (n == NULL)
        return;
    if (n->kind == N_CALL) {
        switch (n->func->id) {
        case FN_START: to_number(n, (double)p->start_ms / 1000); return;
        case FN_END: to_number(n, (double)p->end_ms / 1000); return;
        case FN_RANGE: to_number(n, (double)(p->end_ms - p->start_ms) / 1000); return;
        case FN_STEP:
            to_number(n, p->start_ms != p->end_ms ? (double)p->step_ms / 1000 : 0);
            return;
        default: break;
        }
        for (uint32_t i = 0; i < n->count; i++)
            fold_context(q, n->args[i]);
    } else if (n->kind != N_VECTOR && n->kind != N_MATRIX && n->kind != N_DURATION) {
        fold_context(q, n->a);
        fold_context(q, n->b);
    }
}

/* Two literals under an operator are a literal. Positions stay those of the whole. */
static void fold_literals(struct pql_node *n)
{
    if (n == NULL || n->kind == N_VECTOR || n->kind == N_MATRIX || n->kind == N_DURATION)
        return;
    for (uint32_t i = 0; n->kind == N_CALL && i < n->count; i++)
        fold_literals(n->args[i]);
    fold_literals(n->a);
    fold_literals(n->b);
    if (n->kind == N_PAREN && n->a->kind == N_NUMBER)
        to_number(n, n->a->value);
    else if (n->kind == N_UNARY && n->a->kind == N_NUMBER)
        to_number(n, n->op == T_SUB ? -n->a->value : n->a->value);
    else if (n->kind == N_BINARY && n->a->kind == N_NUMBER && n->b->kind == N_NUMBER)
        to_number(n, pql_scalar_op(n->op, n->a->value, n->b->value));
}

/* ---- durations ---- */

static bool evaluate(struct pql_query *q, const struct pql_node *n, double *v)
{
    double a = 0, b = 0;

    if (n->kind == N_NUMBER) {
        *v = n->value;
        return true;
    }
    if ((n->a != NULL && !evaluate(q, n->a, &a)) || (n->b != NULL && !evaluate(q, n->b, &b)))
        return false;
    if ((n->op == T_DIV || n->op == T_MOD) && b == 0) {
        pql_fail(q, PQL_BAD_DATA, "%d:%d: %s by zero", n->from, n->to,
                 n->op == T_DIV ? "division" : "modulo");
        return false;
    }
    switch (n->op) {
    case T_STEP: *v = (double)q->params.step_ms / 1000; break;
    case T_RANGE: *v = (double)(q->params.end_ms - q->params.start_ms) / 1000; break;
    case T_MIN_OF: *v = pql_min(a, b); break;
    case T_MAX_OF: *v = pql_max(a, b); break;
    case T_ADD: *v = n->a == NULL ? b : a + b; break;
    case T_SUB: *v = n->a == NULL ? -b : a - b; break;
    case T_MUL: *v = a * b; break;
    case T_DIV: *v = a / b; break;
    case T_MOD: *v = fmod(a, b); break;
    default: *v = pow(a, b); break;
    }
    return true;
}

static bool duration(struct pql_query *q, const struct pql_node *n, bool negative, int64_t *ns)
{
    const char *why = NULL;
    double      v;

    if (n == NULL)
        return true;
    if (!evaluate(q, n, &v))
        return false;
    if (!isfinite(v))
        why = "duration is NaN or infinite";
    else if (v <= 0 && !negative)
        why = "duration must be greater than 0";
    else if (v > 9223372036.854775807 || v < -9223372036.854775808)
        why = "duration is out of range";
    if (why != NULL) {
        pql_fail(q, PQL_BAD_DATA, "%d:%d: %s", n->from, n->to, why);
        return false;
    }
    *ns = (int64_t)(v * 1000) * 1000000;
    return true;
}

static bool durations(struct pql_query *q, struct pql_node *n)
{
    if (n == NULL)
        return true;
    switch (n->kind) {
    case N_VECTOR:
        return duration(q, n->sel->when.offset_expr, true, &n->sel->when.offset_ns);
    case N_MATRIX:
        return duration(q, n->range_expr, false, &n->range_ns) && durations(q, n->a);
    case N_SUBQUERY:
        return duration(q, n->when.offset_expr, true, &n->when.offset_ns)
               && duration(q, n->step_expr, false, &n->step_ns)
               && duration(q, n->range_expr, false, &n->range_ns) && durations(q, n->a);
    case N_CALL:
        for (uint32_t i = 0; i < n->count; i++)
            if (!durations(q, n->args[i]))
                return false;
        return true;
    default:
        return durations(q, n->a) && durations(q, n->b);
    }
}

/* ---- what does not change from step to step ---- */

static void pin(const struct pql_query *q, struct pql_when *w)
{
    if (w->at_edge == 0)
        return;
    w->has_at = true;
    w->at_ms = w->at_edge == T_START ? q->params.start_ms : q->params.end_ms;
}

static struct pql_node *invariant(struct pql_query *q, struct pql_node *n)
{
    struct pql_node *w = kl_arena_alloc(&q->plan, sizeof *w);

    if (w == NULL) {
        pql_fail(q, PQL_EXECUTION, "query needs more memory to plan than allowed");
        return n;
    }
    *w = (struct pql_node){ .kind = N_INVARIANT, .from = n->from, .to = n->to, .a = n,
                            .depth = n->depth };
    return w;
}

static struct pql_node *unwrapped(struct pql_node *n)
{
    while (n != NULL && n->kind == N_PAREN)
        n = n->a;
    return n;
}

/* Whether `n` is the same at every step; *wrap: whether marking it pays (a literal needs no mark). */
static bool settle(struct pql_query *q, struct pql_node *n, bool *wrap)
{
    bool wa, wb, a, b;

    *wrap = false;
    switch (n->kind) {
    case N_VECTOR:
        pin(q, &n->sel->when);
        return *wrap = n->sel->when.has_at;
    case N_AGG:
        n->a = unwrapped(n->a);
        n->b = unwrapped(n->b);
        return settle(q, n->a, wrap);
    case N_BINARY:
        a = settle(q, n->a, &wa);
        b = settle(q, n->b, &wb);
        if (a && b)
            return *wrap = true;
        n->a = wa ? invariant(q, n->a) : n->a;
        n->b = wb ? invariant(q, n->b) : n->b;
        return false;
    case N_CALL: {
        bool same = !n->func->moves, pinned_times = n->func->id == FN_TIMESTAMP;
        bool wraps[64] = { false };
        for (uint32_t i = 0; i < n->count; i++) {
            n->args[i] = unwrapped(n->args[i]);
            a = settle(q, n->args[i], &wa);
            if (i < 64)
                wraps[i] = wa;
            same = same && a;
            pinned_times = pinned_times && a && n->args[i]->kind == N_VECTOR;
        }
        if (same || pinned_times)
            return *wrap = true;
        for (uint32_t i = 0; i < n->count && i < 64; i++)
            n->args[i] = wraps[i] ? invariant(q, n->args[i]) : n->args[i];
        return false;
    }
    case N_MATRIX:
        return settle(q, n->a, &wa);
    case N_SUBQUERY:
        if (settle(q, n->a, &wa))
            n->a = invariant(q, n->a);
        pin(q, &n->when);
        return n->when.has_at;
    case N_PAREN: case N_UNARY:
        return settle(q, n->a, wrap);
    default:
        return true;
    }
}

/*
 * Selectors below histogram_count, _sum or _avg only need those of each histogram. Not where buckets
 * are looked at further out, nor in subqueries, which may skip samples.
 */
static void find_stats_only(struct pql_node *n, bool stats, bool buckets)
{
    if (n == NULL)
        return;
    switch (n->kind) {
    case N_VECTOR:
        n->sel->stats_only = stats && !buckets;
        return;
    case N_SUBQUERY:
        buckets = true;
        break;
    case N_BINARY:
        buckets |= n->op == T_TRIM_LOWER || n->op == T_TRIM_UPPER;
        break;
    case N_CALL:
        stats |= n->func->id == FN_HISTOGRAM_COUNT || n->func->id == FN_HISTOGRAM_SUM
                 || n->func->id == FN_HISTOGRAM_AVG;
        buckets |= n->func->id == FN_HISTOGRAM_QUANTILE || n->func->id == FN_HISTOGRAM_QUANTILES
                   || n->func->id == FN_HISTOGRAM_FRACTION;
        for (uint32_t i = 0; i < n->count; i++)
            find_stats_only(n->args[i], stats, buckets);
        return;
    default:
        break;
    }
    find_stats_only(n->a, stats, buckets);
    find_stats_only(n->b, stats, buckets);
}

bool pql_prepare_tree(struct pql_query *q)
{
    bool wrap;

    find_stats_only(q->root, false, false);
    fold_context(q, q->root);
    if (!durations(q, q->root))
        return false;
    fold_literals(q->root);
    settle(q, q->root, &wrap);
    if (wrap)
        q->root = invariant(q, q->root);
    return !pql_failed(q);
}
