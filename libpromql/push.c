/*
 * Which aggregates may be folded where the series are: sum, avg, min, max, count and group, and topk and
 * bottomk of a number that is written down, right over a selector or over a function of its range that has
 * no other argument. Nobody else may read the
 * selector's series, nor the rows below the aggregate, for these then never come here.
 */
#include "libpromql/partial_priv.h"

enum { TEXT_MAX = 64 << 10 };

static bool folds(uint8_t op)
{
    return op == T_SUM || op == T_AVG || op == T_MIN || op == T_MAX || op == T_COUNT || op == T_GROUP;
}

/* Is it the same by itself as where it stands? What follows the query's range is not. */
static bool stands_alone(const struct pql_selector_node *s)
{
    return s->when.at_edge == 0 && s->when.offset_expr == NULL && !s->anchored && !s->smoothed && !s->stats_only;
}

static bool is_selector(const struct pql_op *op)
{
    const struct pql_node *n = op->node;

    if (op->need == 0 || op->users != 1 || n == NULL)
        return false;
    if (op->kind == &pql_op_vector)
        return n->kind == N_VECTOR && stands_alone(n->sel);
    return op->kind == &pql_op_range && n->count == 1 && n->args[0]->kind == N_MATRIX &&
           n->args[0]->range_expr == NULL && stands_alone(n->args[0]->a->sel);
}

static bool chooses(const struct pql_op *op)
{
    return op->kind == &pql_op_topk && (op->node->op == T_TOPK || op->node->op == T_BOTTOMK) &&
           op->in[1] != NULL && op->in[1]->kind == &pql_op_number;
}

bool pql_may_push(const struct pql_op *op)
{
    if (op->node == NULL || !(op->kind == &pql_op_agg ? folds(op->node->op) && op->in[1] == NULL : chooses(op)))
        return false;
    return op->in[0] != NULL && is_selector(op->in[0]) && op->grid.count > 0 &&
           op->grid.count <= PQL_POINTS_MAX;
}

static struct pql_push *push_of(struct pql_query *q, const struct pql_op *op)
{
    struct pql_push *push = NULL;
    struct kl_buf    text;
    const char      *copy;

    kl_buf_init(&text, TEXT_MAX);
    pql_print(&text, op->node);
    if (kl_buf_ok(&text) && (copy = kl_arena_copy(&q->plan, text.at, text.size)) != NULL &&
        (push = kl_arena_alloc(&q->plan, sizeof *push)) != NULL)
        *push = (struct pql_push){ kl_span(copy, text.size), op->grid.start, op->grid.step, op->grid.count };
    kl_buf_deinit(&text);
    return push;
}

void pql_push_plan(struct pql_query *q)
{
    for (struct pql_op *op = q->ops; op != NULL; op = op->next) {
        uint32_t readers = 0;

        if (!pql_may_push(op))
            continue;
        for (const struct pql_op *other = q->ops; other != NULL; other = other->next)
            readers += other->need == op->in[0]->need;
        if (readers == 1)
            q->needs[op->in[0]->need - 1].need.push = push_of(q, op);
    }
}
