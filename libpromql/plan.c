/*
 * From tree to operators, in the order they run. An expression that occurs twice over the same grid
 * is computed once: `rate(a[5m]) / rate(a[5m])` has one rate. What can warn is never shared, for a
 * warning names its place in the text.
 *
 * Each selector tells which times its operators can see: from the grid it is evaluated on, its
 * offset or @, its range, and the lookback. Selectors with equal matchers whose times overlap share
 * one need.
 */
#include <string.h>

#include "libpromql/partial_priv.h"
#include "libpromql/plan_priv.h"

#include "libpromql/pql.h"

enum { SUBQUERY_STEP_MS = 60000 };                     /* the default evaluation interval */

/* What surrounds the node being planned: hints for whoever fetches. */
struct around { const char *func; const struct pql_node *agg; };

static struct pql_op *plan(struct pql_query *q, const struct pql_node *n, struct pql_grid g,
                           struct around up);

struct pql_op *pql_op_new(struct pql_query *q, const struct pql_op_kind *kind,
                          const struct pql_node *node, struct pql_grid grid, uint32_t inputs)
{
    struct pql_op *op;

    if (q->op_count >= PQL_OPERATORS_MAX) {
        pql_fail(q, PQL_BAD_DATA, "query has more than %d operators", PQL_OPERATORS_MAX);
        return NULL;
    }
    op = kl_arena_alloc(&q->plan, sizeof *op);
    if (op == NULL)
        goto full;
    *op = (struct pql_op){ .q = q, .kind = kind, .node = node, .grid = grid, .in_count = inputs,
                           .inputs_had = inputs, .weight = q->weight };
    op->input_numbers = kl_arena_alloc(&q->plan, (inputs + 1) * sizeof *op->input_numbers);
    if (op->input_numbers == NULL)
        goto full;
    if (inputs > 0) {
        op->in = kl_arena_alloc(&q->plan, inputs * sizeof *op->in);
        if (op->in == NULL)
            goto full;
        memset(op->in, 0, inputs * sizeof *op->in);
    }
    return op;
full:
    pql_fail(q, PQL_EXECUTION, "query needs more memory to plan than allowed");
    return NULL;
}

/* Operators run in the order they are queued: inputs first. */
static struct pql_op *queue(struct pql_query *q, struct pql_op *op)
{
    if (op != NULL) {
        for (uint32_t i = 0; i < op->in_count; i++)
            op->input_numbers[i] = op->in[i] != NULL ? op->in[i]->number : UINT32_MAX;
        op->number = q->op_count++;
        op->order = ++q->orders;
        op->times = 1;
        *q->ops_tail = op;
        q->ops_tail = &op->next;
    }
    return op;
}

static bool input(struct pql_op *op, uint32_t i, struct pql_op *in)
{
    if (op == NULL || in == NULL)
        return false;
    op->in[i] = in;
    in->users++;
    return true;
}

/* ---- needs ---- */

static bool same_matchers(const struct pql_need *n, const struct kl_matcher *m, uint32_t count)
{
    if (n->matcher_count != count)
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (n->matchers[i].op != m[i].op || !kl_span_eq(n->matchers[i].name, m[i].name)
            || !kl_span_eq(n->matchers[i].value, m[i].value))
            return false;
    return true;
}

static int64_t common_divisor(int64_t a, int64_t b)
{
    uint64_t x = a < 0 ? 0 - (uint64_t)a : (uint64_t)a, y = b < 0 ? 0 - (uint64_t)b : (uint64_t)b;

    while (y != 0) {
        uint64_t rest = x % y;

        x = y;
        y = rest;
    }
    return x > INT64_MAX ? 1 : (int64_t)x;
}

static enum pql_fold fold_of(uint16_t id)
{
    switch (id) {
    case FN_MIN_OVER_TIME:     return PQL_FOLD_MIN;
    case FN_MAX_OVER_TIME:     return PQL_FOLD_MAX;
    case FN_FIRST_OVER_TIME:   return PQL_FOLD_FIRST;
    case FN_LAST_OVER_TIME: case FN_PRESENT_OVER_TIME: return PQL_FOLD_LAST;
    case FN_COUNT_OVER_TIME:   return PQL_FOLD_COUNT;
    case FN_SUM_OVER_TIME:     return PQL_FOLD_SUM;
    case FN_RATE: case FN_INCREASE: return PQL_FOLD_RATE;
    default:                   return PQL_FOLD_NONE;
    }
}

/* Every use of the need must be content with the same fold; what was there before this one was not if it
 * had none. */
static void set_fold(struct pql_query *q, uint32_t need, bool fresh, enum pql_fold fold, int64_t fold_ms,
                     int64_t range_ms)
{
    struct pql_need *n = &q->needs[need - 1].need;

    if (fresh) {
        n->fold = fold;
        n->fold_ms = fold_ms;
        n->fold_range_ms = range_ms;
        return;
    }
    n->fold = n->fold == fold ? fold : PQL_FOLD_NONE;
    n->fold_ms = common_divisor(n->fold_ms, fold_ms);
    n->fold_range_ms = range_ms < n->fold_range_ms ? range_ms : n->fold_range_ms;
}

static bool join_need(struct pql_need *n, int64_t from, int64_t to, const char *func, int64_t step,
                      int64_t range, const struct pql_node *agg)
{
    if (n->from_ms > to || n->to_ms < from)
        return false;
    n->from_ms = from < n->from_ms ? from : n->from_ms;
    n->to_ms = to > n->to_ms ? to : n->to_ms;
    if (strcmp(n->func, func) != 0)
        n->func = "";
    if (n->step_ms != step)
        n->step_ms = 0;
    n->range_ms = range > n->range_ms ? range : n->range_ms;
    if (agg == NULL || n->grouping != agg->grouping) {
        n->by = false;
        n->grouping_count = 0;
        n->grouping = NULL;
    }
    return true;
}

uint32_t pql_need_new(struct pql_query *q, const struct kl_matcher *matchers, uint32_t count,
                      int64_t from, int64_t to, const char *func, int64_t step, int64_t range,
                      const struct pql_node *agg, bool alone)
{
    struct pql_need *n;

    for (uint32_t i = 0; !alone && i < q->need_count; i++)
        if (!q->needs[i].done && !q->needs[i].stats_only && same_matchers(&q->needs[i].need, matchers, count)
            && join_need(&q->needs[i].need, from, to, func, step, range, agg))
            return i + 1;
    if (q->need_count == q->need_room) {
        q->need_room = q->need_room == 0 ? 8 : q->need_room * 2;
        q->needs = kl_resize(q->needs, q->need_room * sizeof *q->needs);
    }
    q->needs[q->need_count] = (struct pql_need_state){ .done = false };
    n = &q->needs[q->need_count].need;
    *n = (struct pql_need){ .id = q->need_count, .matcher_count = count, .matchers = matchers,
                            .from_ms = from, .to_ms = to, .func = func, .step_ms = step,
                            .range_ms = range };
    if (agg != NULL) {
        n->by = !agg->without;
        n->grouping_count = agg->count;
        n->grouping = agg->grouping;
    }
    return ++q->need_count;
}

static void first_and_last(const struct pql_when *w, struct pql_grid g, int64_t *first, int64_t *last)
{
    int64_t offset = w->offset_ns / 1000000;

    *first = (w->has_at ? w->at_ms : g.start) - offset;
    *last = (w->has_at ? w->at_ms : pql_at(g, g.count - 1)) - offset;
}

static uint32_t selector_need(struct pql_query *q, const struct pql_selector_node *s, int64_t range,
                              struct pql_grid g, struct around up, enum pql_fold fold)
{
    int64_t  first, last, fold_ms;
    uint32_t need, known = q->need_count;

    first_and_last(&s->when, g, &first, &last);
    fold_ms = common_divisor(common_divisor(first, last), common_divisor(range, s->when.has_at || g.count <= 1 ? 0 : g.step));
    if (s->anchored || s->smoothed || s->stats_only || range == 0 || range % 1000 != 0)
        fold = PQL_FOLD_NONE;
    first -= range - 1;
    if (range == 0)
        first -= q->lookback_ms;
    else if (s->anchored || s->smoothed)
        first -= q->lookback_ms;
    if (s->smoothed)
        last += q->lookback_ms;
    need = pql_need_new(q, s->matchers, s->count, first, last, up.func, g.step, range, up.agg,
                        s->stats_only);
    set_fold(q, need, need > known, fold, fold_ms, range);
    q->needs[need - 1].stats_only = s->stats_only;
    if (s->stats_only) {
        q->needs[need - 1].seen_from_ms = first;
        q->needs[need - 1].need.from_ms -= q->lookback_ms;
    }
    return need;
}

/* ---- sharing ---- */

/* What may warn (or is cheap) is not shared. */
static bool shareable(const struct pql_node *n)
{
    if (n == NULL)
        return true;
    switch (n->kind) {
    case N_NUMBER: case N_STRING: case N_DURATION:
        return true;
    case N_VECTOR:
        return !n->sel->smoothed && !n->sel->stats_only;
    case N_PAREN: case N_INVARIANT: case N_MATRIX: case N_SUBQUERY: case N_UNARY:
        return shareable(n->a);
    case N_AGG: case N_BINARY:
        return shareable(n->a) && shareable(n->b);
    case N_CALL:
        for (uint32_t i = 0; i < n->count; i++)
            if (!shareable(n->args[i]))
                return false;
        return n->func->id != FN_INFO;
    default:
        return false;
    }
}

static bool same_text(const struct pql_node *a, const struct pql_node *b)
{
    struct kl_buf ta, tb;
    bool          same;

    if (a->kind != b->kind || a->depth != b->depth)
        return false;
    kl_buf_init(&ta, 4096);
    kl_buf_init(&tb, 4096);
    pql_print(&ta, a);
    pql_print(&tb, b);
    same = kl_buf_ok(&ta) && kl_buf_ok(&tb) && ta.size == tb.size && memcmp(ta.at, tb.at, ta.size) == 0;
    kl_buf_deinit(&ta);
    kl_buf_deinit(&tb);
    return same;
}

static const struct pql_node *bare(const struct pql_node *n)
{
    while (n != NULL && (n->kind == N_PAREN || n->kind == N_INVARIANT))
        n = n->a;
    return n;
}

/* What was written before and is written again as `n`: of equal warnings Prometheus keeps the place of
 * the last, so the operators of the one, of which `last` is the last, speak of the other's places from now on. */
static void repoint(struct pql_query *q, const struct pql_op *last, const struct pql_node *was,
                    const struct pql_node *n)
{
    was = bare(was);
    n = bare(n);
    if (was == NULL || n == NULL || was->kind != n->kind || was->count != n->count)
        return;
    repoint(q, last, was->a, n->a);
    repoint(q, last, was->b, n->b);
    for (uint32_t i = 0; was->kind == N_CALL && i < was->count; i++)
        repoint(q, last, was->args[i], n->args[i]);
    for (struct pql_op *op = q->ops; op != last->next; op = op->next)
        if (op->node == was) {
            op->node = n;
            op->order = ++q->orders;
            op->times++;
        }
}

enum { SHARE_LOOK_MAX = 64 };                          /* operators looked back at */

static struct pql_op *shared(struct pql_query *q, const struct pql_node *n, struct pql_grid g)
{
    unsigned looked = 0;

    if ((n->kind != N_VECTOR && n->kind != N_CALL && n->kind != N_AGG && n->kind != N_BINARY) ||
        !shareable(n))
        return NULL;
    for (struct pql_op *op = q->ops; op != NULL && looked < SHARE_LOOK_MAX; op = op->next, looked++)
        if (op->node != NULL && op->node->kind == n->kind && op->grid.start == g.start
            && op->grid.step == g.step && op->grid.count == g.count && op->weight == q->weight
            && op->node->op == n->op && op->node->func == n->func && op->kind != &pql_op_broadcast
            && shareable(op->node) && same_text(op->node, n)) {
            repoint(q, op, op->node, n);
            return op;
        }
    return NULL;
}

/* ---- nodes ---- */

static struct pql_op *plan_vector(struct pql_query *q, const struct pql_node *n, struct pql_grid g,
                                  struct around up)
{
    struct pql_op *op = pql_op_new(q, &pql_op_vector, n, g, 0);

    if (op != NULL)
        op->need = selector_need(q, n->sel, 0, g, up, PQL_FOLD_NONE);
    return queue(q, op);
}

static int64_t truncated(int64_t a, int64_t b) { return b * (a / b); }

/* The steps a subquery is evaluated at: multiples of its step inside (first - range, last]. */
static struct pql_grid subquery_grid(struct pql_query *q, const struct pql_node *n, struct pql_grid g)
{
    int64_t         first, last, range = n->range_ns / 1000000, step = n->step_ns / 1000000;
    struct pql_grid sub = { .count = 0 };

    q->nests = true;
    if (step == 0)
        step = SUBQUERY_STEP_MS;
    if (g.count == 0)
        return sub;
    first_and_last(&n->when, g, &first, &last);
    sub.step = step;
    sub.start = truncated(first - range, step);
    if (sub.start <= first - range)
        sub.start += step;
    if (last < sub.start)
        return sub;
    if ((uint64_t)(last - sub.start) / (uint64_t)step >= q->samples_max
        || (uint64_t)(last - sub.start) / (uint64_t)step >= UINT32_MAX / 2) {
        pql_count_points(q, UINT64_MAX / 2);
        return sub;
    }
    sub.count = (uint32_t)((last - sub.start) / step) + 1;
    return sub;
}

/* With samples that count otherwise than around it. */
static struct pql_op *plan_inside(struct pql_query *q, const struct pql_node *n, struct pql_grid g,
                                  struct around up, uint32_t weight)
{
    uint32_t       was = q->weight;
    struct pql_op *op;

    q->weight = weight;
    op = plan(q, n, g, up);
    q->weight = was;
    return op;
}

static struct pql_op *plan_range_call(struct pql_query *q, const struct pql_node *n, struct pql_grid g,
                                      uint32_t which)
{
    const struct pql_op_kind *kind = n->func->id == FN_ABSENT_OVER_TIME ? &pql_op_absent_range
                                                                        : &pql_op_range;
    struct pql_op         *op = pql_op_new(q, kind, n, g, n->count), *in;
    const struct pql_node *arg = n->args[which];
    struct around          up = { .func = n->func->name };

    if (op == NULL)
        return NULL;
    for (uint32_t i = 0; i < n->count; i++) {
        if (i == which && arg->kind == N_MATRIX) {
            op->need = selector_need(q, arg->a->sel, arg->range_ns / 1000000, g, up,
                                     kind == &pql_op_range ? fold_of(n->func->id) : PQL_FOLD_NONE);
            continue;
        }
        in = i == which ? plan_inside(q, arg->a, subquery_grid(q, arg, g), up, 0)
                        : plan(q, n->args[i], g, (struct around){ .func = "" });
        if (!input(op, i, in))
            return NULL;
    }
    return queue(q, op);
}

static const struct pql_op_kind *kind_of_call(const struct pql_node *n)
{
    switch (n->func->id) {
    case FN_TIME: case FN_PI: case FN_MAX_OF: case FN_MIN_OF:
        return &pql_op_scalar_fn;
    case FN_DAY_OF_MONTH: case FN_DAY_OF_WEEK: case FN_DAY_OF_YEAR: case FN_DAYS_IN_MONTH:
    case FN_HOUR: case FN_MINUTE: case FN_MONTH: case FN_YEAR:
        return &pql_op_date;
    case FN_LABEL_REPLACE:
        return &pql_op_label_replace;
    case FN_LABEL_JOIN:
        return &pql_op_label_join;
    case FN_SORT: case FN_SORT_DESC: case FN_SORT_BY_LABEL: case FN_SORT_BY_LABEL_DESC:
        return &pql_op_sort;
    case FN_ABSENT:
        return &pql_op_absent;
    case FN_SCALAR:
        return &pql_op_to_scalar;
    case FN_VECTOR:
        return &pql_op_to_vector;
    case FN_HISTOGRAM_AVG: case FN_HISTOGRAM_COUNT: case FN_HISTOGRAM_STDDEV:
    case FN_HISTOGRAM_STDVAR: case FN_HISTOGRAM_SUM:
        return &pql_op_hist_fn;
    case FN_HISTOGRAM_FRACTION: case FN_HISTOGRAM_QUANTILE: case FN_HISTOGRAM_QUANTILES:
        return &pql_op_hist_quantile;
    case FN_INFO:
        return &pql_op_info;
    default:
        return &pql_op_map;
    }
}

static struct pql_op *plan_call(struct pql_query *q, const struct pql_node *n, struct pql_grid g)
{
    struct around  up = { .func = n->func->name };
    struct pql_op *op;
    uint8_t        id = (uint8_t)n->func->id;

    for (uint32_t i = 0; i < n->count; i++)
        if (n->args[i]->kind == N_MATRIX || n->args[i]->kind == N_SUBQUERY)
            return plan_range_call(q, n, g, i);
    /* timestamp() of a selector asks for the samples' own times. */
    if ((id == FN_TIMESTAMP || id == FN_START_TIMESTAMP) && n->args[0]->kind == N_VECTOR) {
        op = pql_op_new(q, &pql_op_vector, n, g, 0);
        if (op != NULL)
            op->need = selector_need(q, n->args[0]->sel, 0, g, up, PQL_FOLD_NONE);
        return queue(q, op);
    }
    op = pql_op_new(q, kind_of_call(n), n, g, n->count);
    if (op == NULL)
        return NULL;
    for (uint32_t i = 0; i < n->count; i++) {
        if (pql_type(n->args[i]) == V_STRING || (n->func->id == FN_INFO && i == 1))
            continue;
        if (!input(op, i, plan(q, n->args[i], g, up)))
            return NULL;
    }
    return queue(q, op);
}

static struct pql_op *plan_aggregate(struct pql_query *q, const struct pql_node *n, struct pql_grid g)
{
    const struct pql_op_kind *kind = n->op == T_COUNT_VALUES ? &pql_op_count_values
        : n->op == T_TOPK || n->op == T_BOTTOMK || n->op == T_LIMITK || n->op == T_LIMIT_RATIO
        ? &pql_op_topk : &pql_op_agg;
    struct pql_op *op = pql_op_new(q, kind, n, g, 2);

    if (op == NULL)
        return NULL;
    if (n->b != NULL && n->op != T_COUNT_VALUES
        && !input(op, 1, plan(q, n->b, g, (struct around){ .func = "" })))
        return NULL;
    if (!input(op, 0, plan(q, n->a, g, (struct around){ .func = pql_tok_text(n->op), .agg = n })))
        return NULL;
    return queue(q, op);
}

static struct pql_op *plan_binary(struct pql_query *q, const struct pql_node *n, struct pql_grid g)
{
    const struct pql_op_kind *kind = n->matching == NULL ? &pql_op_binary
                                   : pql_is_set(n->op) ? &pql_op_set : &pql_op_match;
    struct pql_op *op = pql_op_new(q, kind, n, g, 2);
    struct around  up = { .func = "" };

    if (!input(op, 0, plan(q, n->a, g, up)) || !input(op, 1, plan(q, n->b, g, up)))
        return NULL;
    return queue(q, op);
}

static struct pql_op *plan_one(struct pql_query *q, const struct pql_op_kind *kind,
                               const struct pql_node *n, struct pql_grid g, struct pql_grid inner,
                               struct around up)
{
    struct pql_op *op = pql_op_new(q, kind, n, g, 1);
    uint32_t       weight = inner.count < g.count ? q->weight * g.count : q->weight;

    return input(op, 0, plan_inside(q, n->a, inner, up, weight)) ? queue(q, op) : NULL;
}

static struct pql_op *plan(struct pql_query *q, const struct pql_node *n, struct pql_grid g,
                           struct around up)
{
    struct pql_op *op;

    if (pql_failed(q))
        return NULL;
    while (n->kind == N_PAREN || (n->kind == N_INVARIANT && g.count <= 1)
           || (n->kind == N_UNARY && n->op == T_ADD))
        n = n->a;
    if (g.count == 0)
        return queue(q, pql_op_new(q, &pql_op_empty, NULL, g, 0));
    op = shared(q, n, g);
    if (op != NULL)
        return op;
    switch (n->kind) {
    case N_NUMBER:
        return queue(q, pql_op_new(q, &pql_op_number, n, g, 0));
    case N_STRING:
        return queue(q, pql_op_new(q, &pql_op_string, n, g, 0));
    case N_VECTOR:
        return plan_vector(q, n, g, up);
    case N_CALL:
        return plan_call(q, n, g);
    case N_AGG:
        return plan_aggregate(q, n, g);
    case N_BINARY:
        return plan_binary(q, n, g);
    case N_UNARY:
        return plan_one(q, &pql_op_unary, n, g, g, up);
    case N_INVARIANT:
        return plan_one(q, &pql_op_broadcast, n, g,
                        (struct pql_grid){ .start = g.start, .step = g.step, .count = 1 }, up);
    default:
        pql_fail(q, PQL_INTERNAL, "range vector where none can be");
        return NULL;
    }
}

/* A range vector as the answer: one instant, so its samples as they are. */
static struct pql_op *plan_top_matrix(struct pql_query *q, const struct pql_node *n, struct pql_grid g)
{
    struct pql_op *op;
    struct around  up = { .func = "" };

    if (n->kind == N_SUBQUERY)
        return plan(q, n->a, subquery_grid(q, n, g), up);
    op = pql_op_new(q, &pql_op_top_matrix, n, g, 0);
    if (op != NULL)
        op->need = selector_need(q, n->a->sel, n->range_ns / 1000000, g, up, PQL_FOLD_NONE);
    return queue(q, op);
}

bool pql_plan(struct pql_query *q)
{
    const struct pql_params *p = &q->params;
    uint8_t                  type = pql_type(q->root);
    struct pql_grid          g = { .start = p->start_ms, .step = p->instant ? 1 : p->step_ms };
    const struct pql_node   *n;

    if (!p->instant && type != V_SCALAR && type != V_VECTOR) {
        pql_fail(q, PQL_BAD_DATA, "invalid expression type \"%s\" for range query, must be Scalar or "
                 "instant Vector", pql_type_name(type));
        return false;
    }
    if (!pql_prepare_tree(q))
        return false;
    q->weight = 1;
    g.count = p->instant ? 1 : (uint32_t)((p->end_ms - p->start_ms) / p->step_ms) + 1;
    q->step_count = g.count;
    q->tally = p->samples_per_step || p->tally;
    if (q->tally) {
        q->per_step = kl_new(g.count * sizeof *q->per_step);
        q->reads = kl_new(g.count * sizeof *q->reads);
    }
    for (n = q->root; n->kind == N_PAREN || n->kind == N_INVARIANT;)
        if (pql_type(n) == V_MATRIX || n->kind == N_PAREN)
            n = n->a;
        else
            break;
    q->top = n->kind == N_MATRIX || n->kind == N_SUBQUERY ? plan_top_matrix(q, n, g)
                                                         : plan(q, q->root, g, (struct around){ .func = "" });
    if (q->top == NULL)
        return false;
    if (p->partial && (!pql_may_push(q->top) || q->op_count != (q->top->kind == &pql_op_topk ? 3 : 2) ||
                       q->need_count != 1)) {
        pql_fail(q, PQL_BAD_DATA, "it is no aggregate that can be folded by itself");
        return false;
    }
    if (!p->partial && q->top->kind != &pql_op_top_matrix && q->top->kind != &pql_op_string) {
        struct pql_op *last = pql_op_new(q, &pql_op_result, NULL, q->top->grid, 1);
        if (!input(last, 0, q->top))
            return false;
        q->top = queue(q, last);
    }
    q->top->users++;                                   /* the answer reads it */
    q->root = (struct pql_node *)n;
    pql_push_plan(q);
    return !pql_failed(q);
}
