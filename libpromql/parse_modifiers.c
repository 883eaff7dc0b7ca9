/* What binds tightest, after an expression: offset, @, [range], [range:step], anchored, smoothed. */
#include "libpromql/ast_priv.h"

static struct pql_when *when_of(struct pql_node *n)
{
    return n->kind == N_VECTOR ? &n->sel->when : n->kind == N_MATRIX ? &n->a->sel->when
         : n->kind == N_SUBQUERY ? &n->when : NULL;
}

static int64_t seconds_to_ns(double s)
{
    double ns = round(s * 1e9);

    return ns >= 9223372036854775807.0 ? INT64_MAX : ns <= -9223372036854775807.0 ? -INT64_MAX
         : (int64_t)ns;
}

static struct pql_node *with_context(struct pql_parse *p, const char *context, const char *expected,
                                     struct pql_node *(*parse)(struct pql_parse *))
{
    const char      *c = p->context, *e = p->expected;
    struct pql_node *n;

    p->context = context;
    p->expected = expected;
    n = parse(p);
    p->context = c;
    p->expected = e;
    return n;
}

static struct pql_node *add_offset(struct pql_parse *p, struct pql_node *n)
{
    struct pql_when *w = when_of(n);
    struct pql_node *d;

    pql_take(p);
    d = with_context(p, "offset", "number, duration, step(), or range()", pql_parse_offset);
    if (d == NULL)
        return NULL;
    if (w == NULL) {
        pql_error(p, n->from, "offset modifier must be preceded by an instant vector selector or "
                  "range vector selector or a subquery");
        return NULL;
    }
    if (w->offset_ns != 0 || w->offset_expr != NULL)
        pql_error(p, n->from, "offset may not be set multiple times");
    if (d->kind == N_NUMBER)
        w->offset_ns = seconds_to_ns(d->value);
    else
        w->offset_expr = d;
    n->to = p->last_end;
    return n;
}

static struct pql_node *add_extended(struct pql_parse *p, struct pql_node *n)
{
    const char *what = p->tok.tok == T_ANCHORED ? "anchored" : "smoothed";
    struct pql_selector_node *s = n->kind == N_VECTOR ? n->sel : n->kind == N_MATRIX ? n->a->sel : NULL;

    pql_take(p);
    if (s == NULL) {
        pql_error(p, n->from, n->kind == N_SUBQUERY ? "%s modifier is not supported for subqueries"
                  : "%s modifier not implemented", what);
        return NULL;
    }
    if (what[0] == 'a')
        s->anchored = true;
    else
        s->smoothed = true;
    if (s->anchored && s->smoothed)
        pql_error(p, n->from, "anchored and smoothed modifiers cannot be used together");
    return n;
}

static struct pql_node *add_at(struct pql_parse *p, struct pql_node *n)
{
    static const char not_here[] = "@ modifier must be preceded by an instant vector selector or "
                                   "range vector selector or a subquery";
    struct pql_when *w = when_of(n), got = { .has_at = false };
    double           s = 1;

    pql_take(p);
    if (p->tok.tok == T_START || p->tok.tok == T_END) {
        got.at_edge = p->tok.tok;
        pql_take(p);
        if (p->tok.tok == T_LPAREN) {
            pql_take(p);
            if (p->tok.tok == T_RPAREN) {
                pql_take(p);
                goto set;
            }
        }
        pql_unexpected(p, "@", "timestamp");
        return NULL;
    }
    if (p->tok.tok == T_ADD || p->tok.tok == T_SUB) {
        s = p->tok.tok == T_SUB ? -1 : 1;
        pql_take(p);
    }
    if (p->tok.tok != T_NUMBER && p->tok.tok != T_DURATION) {
        pql_unexpected(p, "@", "timestamp");
        return NULL;
    }
    {
        struct pql_node *lit = pql_parse_literal(p);
        if (lit == NULL)
            return NULL;
        s *= lit->value;
        if (!isfinite(s) || s >= 9223372036854775807.0 || s <= -9223372036854775808.0) {
            pql_error(p, n->from, isnan(s) ? "timestamp out of bounds for @ modifier: NaN"
                      : isinf(s) ? (s > 0 ? "timestamp out of bounds for @ modifier: +Inf"
                                          : "timestamp out of bounds for @ modifier: -Inf")
                      : "timestamp out of bounds for @ modifier: %f", s);
            return NULL;
        }
        got.has_at = true;
        /* Far past any data, and far from overflowing the sums made with it. */
        s = round(s * 1000);
        got.at_ms = s > 1e18 ? 1000000000000000000 : s < -1e18 ? -1000000000000000000 : (int64_t)s;
    }
set:
    if (w == NULL) {
        pql_error(p, n->from, "%s", not_here);
        return NULL;
    }
    if (w->has_at || w->at_edge != 0) {
        pql_error(p, n->from, "@ <timestamp> may not be set multiple times");
        return NULL;
    }
    w->has_at = got.has_at;
    w->at_ms = got.at_ms;
    w->at_edge = got.at_edge;
    n->to = p->last_end;
    return p->failed ? NULL : n;
}

static struct pql_node *positive_duration(struct pql_parse *p)
{
    struct pql_node *d = pql_parse_duration(p);

    if (d != NULL && d->kind == N_NUMBER && d->value <= 0)
        pql_error(p, d->from, "duration must be greater than 0");
    return p->failed ? NULL : d;
}

static void set_duration(struct pql_node *d, int64_t *ns, struct pql_node **expr)
{
    if (d->kind == N_NUMBER)
        *ns = seconds_to_ns(d->value);
    else
        *expr = d;
}

static struct pql_node *add_range(struct pql_parse *p, struct pql_node *v, struct pql_node *range,
                                  int32_t bracket)
{
    const char      *why = NULL;
    struct pql_node *n;

    if (v->kind != N_VECTOR)
        why = "ranges only allowed for vector selectors";
    else if (v->sel->when.offset_ns != 0 || v->sel->when.offset_expr != NULL)
        why = "no offset modifiers allowed before range";
    else if (v->sel->when.has_at || v->sel->when.at_edge != 0)
        why = "no @ modifiers allowed before range";
    if (why != NULL) {
        pql_error(p, bracket, "%s", why);
        return NULL;
    }
    n = pql_node_new(p, N_MATRIX, v->from, p->last_end, v, NULL);
    if (n != NULL)
        set_duration(range, &n->range_ns, &n->range_expr);
    return n;
}

static struct pql_node *add_brackets(struct pql_parse *p, struct pql_node *v)
{
    int32_t          bracket = p->tok.at;
    struct pql_node *range, *step = NULL, *n;

    pql_take(p);
    range = with_context(p, "subquery or range selector", "number, duration, step(), or range()",
                         positive_duration);
    if (range == NULL)
        return NULL;
    if (p->tok.tok == T_RBRACKET) {
        pql_take(p);
        return add_range(p, v, range, bracket);
    }
    if (p->tok.tok != T_COLON) {
        pql_unexpected(p, "subquery or range", "\":\" or \"]\"");
        return NULL;
    }
    pql_take(p);
    if (p->tok.tok != T_RBRACKET) {
        step = with_context(p, "subquery selector",
                            "number, duration, step(), range(), or \"]\"", positive_duration);
        if (step == NULL)
            return NULL;
        if (p->tok.tok != T_RBRACKET) {
            pql_unexpected(p, "subquery selector", "\"]\"");
            return NULL;
        }
    }
    pql_take(p);
    n = pql_node_new(p, N_SUBQUERY, v->from, p->last_end, v, NULL);
    if (n == NULL)
        return NULL;
    set_duration(range, &n->range_ns, &n->range_expr);
    if (step != NULL)
        set_duration(step, &n->step_ns, &n->step_expr);
    return n;
}

struct pql_node *pql_parse_postfix(struct pql_parse *p)
{
    struct pql_node *n = pql_parse_primary(p);

    while (n != NULL && !p->failed) {
        switch (p->tok.tok) {
        case T_OFFSET:
            n = add_offset(p, n);
            break;
        case T_ANCHORED: case T_SMOOTHED:
            n = add_extended(p, n);
            break;
        case T_AT:
            n = add_at(p, n);
            break;
        case T_LBRACKET:
            n = add_brackets(p, n);
            break;
        default:
            return n;
        }
    }
    return p->failed ? NULL : n;
}
