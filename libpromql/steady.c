/*
 * Is the value at a step the same whatever range the step is part of? Then a range may be answered out
 * of pieces. What looks at the range itself is not (@ start(), range(), ...); nor is what looks at more
 * than one step at once: info() joins by what is there anywhere in the range, label_replace() may make
 * two series of different steps one. What is not known to be steady is taken not to be.
 *
 * Each selector must name its metric: only then functions that drop names cannot make two series one.
 */
#include "libpromql/ast_priv.h"

static bool names_metric(const struct pql_selector_node *s)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (s->matchers[i].op == KL_MATCH_EQ && s->matchers[i].value.size > 0 &&
            kl_span_eq(s->matchers[i].name, kl_span_str("__name__")))
            return true;
    return s->name.size > 0;
}

static bool plain(const struct pql_when *w)
{
    return !w->has_at && w->at_edge == 0 && w->offset_expr == NULL;
}

/* Does an expression of this kind never warn, whatever it meets? */
static bool quiet(const struct pql_node *n)
{
    switch (n->kind) {
    case N_NUMBER: case N_VECTOR:
        return true;
    case N_UNARY: case N_PAREN: case N_INVARIANT:
        return quiet(n->a);
    default:
        return false;
    }
}

static bool steady_call(const struct pql_node *n)
{
    switch (n->func->id) {
    case FN_START: case FN_END: case FN_RANGE: case FN_STEP: case FN_INFO: case FN_LABEL_JOIN:
    case FN_LABEL_REPLACE: case FN_SORT: case FN_SORT_DESC: case FN_SORT_BY_LABEL:
    case FN_SORT_BY_LABEL_DESC:
        return false;
    default:
        return true;
    }
}

/* *slack_ms: how much further back the pieces of a subquery may begin for one step than for another. */
static bool steady(const struct pql_node *n, int64_t step_ms, int64_t *slack_ms)
{
    int64_t own_ms;

    if (n == NULL)
        return true;
    switch (n->kind) {
    case N_NUMBER: case N_STRING:
        return true;
    case N_VECTOR:
        return plain(&n->sel->when) && names_metric(n->sel);
    case N_MATRIX:
        return n->range_expr == NULL && steady(n->a, step_ms, slack_ms);
    case N_SUBQUERY:
        own_ms = n->step_ns > 0 ? n->step_ns / 1000000 + 1 : step_ms > 60000 ? step_ms : 60000;
        *slack_ms += own_ms;
        /* It is evaluated between the windows of two steps as well, and may warn there. */
        return plain(&n->when) && n->range_expr == NULL && n->step_expr == NULL &&
               (n->range_ns / 1000000 >= step_ms || quiet(n->a)) && steady(n->a, own_ms, slack_ms);
    case N_CALL:
        for (uint32_t i = 0; i < n->count; i++)
            if (!steady(n->args[i], step_ms, slack_ms))
                return false;
        return steady_call(n);
    case N_AGG:
        return n->op != T_LIMITK && n->op != T_LIMIT_RATIO && steady(n->a, step_ms, slack_ms) &&
               steady(n->b, step_ms, slack_ms);
    case N_BINARY: case N_UNARY: case N_PAREN: case N_INVARIANT:
        return steady(n->a, step_ms, slack_ms) && steady(n->b, step_ms, slack_ms);
    default:
        return false;
    }
}

bool pql_steady(struct kl_span text, int64_t step_ms, int64_t *slack_ms)
{
    struct pql_parse       p;
    const struct pql_node *root;
    int64_t                slack = 0;
    bool                   is;

    /* The text, not a query that was made of it: there start() is a number already. */
    pql_parse_init(&p, text);
    root = pql_parse_expr(&p);
    is = root != NULL && steady(root, step_ms, &slack);
    pql_parse_deinit(&p);
    if (is)
        *slack_ms = slack;
    return is;
}
