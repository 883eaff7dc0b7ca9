/* Expressions: precedence climbing over unary, binary and the modifiers that bind tightest.
 * Source: the grammar of Prometheus 3.14. `context` is what an error inside is said to be in: the
 * innermost construct that Prometheus' grammar recovers in. */
#include <string.h>

#include "querier/promql/ast_priv.h"

static struct pql_node *parse_binary(struct pql_parse *p, int least);

static int precedence(uint8_t t)
{
    switch (t) {
    case T_OR: return 1;
    case T_AND: case T_UNLESS: return 2;
    case T_EQLC: case T_NEQ: case T_LTE: case T_LSS: case T_GTE: case T_GTR:
    case T_TRIM_UPPER: case T_TRIM_LOWER: return 3;
    case T_ADD: case T_SUB: return 4;
    case T_MUL: case T_DIV: case T_MOD: case T_ATAN2: return 5;
    case T_POW: return 6;
    default: return 0;
    }
}
enum { UNARY_PRECEDENCE = 5 };

static bool is_unit(const char *s, size_t size)
{
    static const char *const units[] = { "y", "w", "d", "h", "m", "s", "ms" };

    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strlen(units[i]) == size && memcmp(units[i], s, size) == 0)
            return true;
    return false;
}

static void bad_duration(struct pql_parse *p, int32_t at, struct kl_span s, const char *why)
{
    const char *c = s.at, *end = c + s.size, *unit;

    if (strcmp(why, "not a valid duration string") == 0) {
        pql_error(p, at, "%s: \"%.*s\"", why, (int)s.size, (const char *)s.at);
        return;
    }
    for (unit = c; strcmp(why, "unknown unit") == 0 && c < end; unit = c) {
        while (c < end && *c >= '0' && *c <= '9')
            c++;
        for (unit = c; c < end && !(*c >= '0' && *c <= '9');)
            c++;
        if (!is_unit(unit, (size_t)(c - unit))) {
            pql_error(p, at, "%s \"%.*s\" in duration \"%.*s\"", why, (int)(c - unit), unit,
                      (int)s.size, (const char *)s.at);
            return;
        }
    }
    pql_error(p, at, "%s", why);
}

struct pql_node *pql_parse_literal(struct pql_parse *p)
{
    struct pql_item  it = p->tok;
    struct kl_span   s = pql_item_text(p, it);
    struct pql_node *n = pql_node_new(p, N_NUMBER, it.at, it.end, NULL, NULL);
    const char      *why;

    if (n == NULL)
        return NULL;
    if (it.tok == T_DURATION) {
        int64_t ms = 0;
        why = pql_duration_ms(s, &ms);
        n->value = (double)(ms / 1000) + (double)(ms % 1000) / 1000;
        n->duration = true;
        if (why != NULL)
            bad_duration(p, it.at, s, why);
    } else if ((why = pql_number(s, &n->value)) != NULL) {
        pql_error(p, it.at, "error parsing number: strconv.ParseFloat: parsing \"%.*s\": %s",
                  (int)s.size, (const char *)s.at, why);
    }
    pql_take(p);
    return p->failed ? NULL : n;
}

static struct pql_node *parse_string(struct pql_parse *p)
{
    struct pql_node *n = pql_node_new(p, N_STRING, p->tok.at, p->tok.end, NULL, NULL);
    struct kl_span   s = pql_item_text(p, p->tok);

    if (n == NULL)
        return NULL;
    if (!pql_unquote(s, &p->arena, &n->text))
        pql_error(p, p->tok.at, "error unquoting string %.*s: invalid syntax", (int)s.size,
                  (const char *)s.at);
    pql_take(p);
    return n;
}

static bool append(struct pql_parse *p, struct pql_node ***args, uint32_t *count, uint32_t *room,
                   struct pql_node *n)
{
    if (*count == *room) {
        uint32_t          more = *room == 0 ? 4 : *room * 2;
        struct pql_node **grown = pql_parse_alloc(p, more * sizeof *grown);
        if (grown == NULL)
            return false;
        if (*count > 0)
            memcpy(grown, *args, *count * sizeof *grown);
        *args = grown;
        *room = more;
    }
    (*args)[(*count)++] = n;
    return true;
}

/* "( expr, ... )"; false after an error. */
static bool parse_args(struct pql_parse *p, struct pql_node ***args, uint32_t *count, uint32_t *depth)
{
    uint32_t room = 0;

    *args = NULL;
    *count = *depth = 0;
    if (p->tok.tok != T_LPAREN) {
        pql_unexpected(p, p->context, p->expected);
        return false;
    }
    pql_take(p);
    if (p->tok.tok == T_RPAREN) {
        pql_take(p);
        return !p->failed;
    }
    for (;;) {
        struct pql_node *n = pql_parse_any(p);
        if (n == NULL || !append(p, args, count, &room, n))
            return false;
        if (n->depth > *depth)
            *depth = n->depth;
        if (p->tok.tok == T_COMMA) {
            int32_t comma = p->tok.at;
            pql_take(p);
            if (p->tok.tok == T_RPAREN || p->tok.tok == T_COMMA)
                pql_error(p, comma, "trailing commas not allowed in function call args");
            if (p->failed)
                return false;
            continue;
        }
        if (p->tok.tok != T_RPAREN) {
            pql_unexpected(p, p->context, p->expected);
            return false;
        }
        pql_take(p);
        return !p->failed;
    }
}

static struct pql_node *parse_call(struct pql_parse *p)
{
    struct pql_item         name = p->tok;
    struct kl_span          s = pql_item_text(p, name);
    const struct pql_func  *f;
    struct pql_node       **args, *n;
    uint32_t                count, depth;

    pql_take(p);
    if (!parse_args(p, &args, &count, &depth))
        return NULL;
    f = pql_func_find(s);
    if (f == NULL) {
        pql_error(p, name.at, "unknown function with name \"%.*s\"", (int)s.size, (const char *)s.at);
        return NULL;
    }
    n = pql_node_new(p, N_CALL, name.at, p->last_end, NULL, NULL);
    if (n == NULL)
        return NULL;
    n->func = f;
    n->args = args;
    n->count = count;
    n->depth = depth + 1;
    if (n->depth > PQL_DEPTH_MAX) {
        pql_error(p, n->from, "expression is nested deeper than %d levels", PQL_DEPTH_MAX);
        return NULL;
    }
    return n;
}

static bool parse_grouping(struct pql_parse *p, struct pql_node *n)
{
    n->without = p->tok.tok == T_WITHOUT;
    pql_take(p);
    return pql_parse_labels(p, &n->grouping, &n->count);
}

static struct pql_node *aggregate(struct pql_parse *p, struct pql_node *n)
{
    struct pql_item   op = p->tok;
    struct pql_node **args;
    uint32_t          count, depth, want;
    bool              grouped = false;

    n->op = op.tok;
    pql_take(p);
    if (p->tok.tok == T_BY || p->tok.tok == T_WITHOUT) {
        grouped = true;
        if (!parse_grouping(p, n))
            return NULL;
    }
    if (!parse_args(p, &args, &count, &depth))
        return NULL;
    n->to = p->last_end;
    if (!grouped && (p->tok.tok == T_BY || p->tok.tok == T_WITHOUT)) {
        if (!parse_grouping(p, n))
            return NULL;
        n->to = p->last_end;
    }
    want = pql_agg_has_param(op.tok) ? 2 : 1;
    if (count == 0)
        pql_error(p, op.at, "no arguments for aggregate expression provided");
    else if (count != want)
        pql_error(p, op.at, "wrong number of arguments for aggregate expression provided, expected "
                  "%u, got %u", want, count);
    if (p->failed)
        return NULL;
    n->a = args[want - 1];
    n->b = want == 2 ? args[0] : NULL;
    n->depth = depth + 1;
    if (n->depth > PQL_DEPTH_MAX)
        pql_error(p, n->from, "expression is nested deeper than %d levels", PQL_DEPTH_MAX);
    return n;
}

static struct pql_node *parse_aggregate(struct pql_parse *p)
{
    const char      *context = p->context, *expected = p->expected;
    struct pql_node *n = pql_node_new(p, N_AGG, p->tok.at, p->tok.end, NULL, NULL);

    p->context = "aggregation";
    p->expected = "";
    if (n != NULL)
        n = aggregate(p, n);
    p->context = context;
    p->expected = expected;
    return p->failed ? NULL : n;
}

/* What the token after a word decides: call, aggregation or a metric's name. */
static uint8_t look_ahead(struct pql_parse *p)
{
    struct pql_lexer copy = p->lex;

    return pql_lex_next(&copy).tok;
}

static struct pql_node *parse_primary(struct pql_parse *p)
{
    struct pql_node *n;
    struct pql_item  open = p->tok;
    uint8_t          t = p->tok.tok, after;

    switch (t) {
    case T_NUMBER: case T_DURATION:
        return pql_parse_literal(p);
    case T_STRING:
        return parse_string(p);
    case T_LBRACE:
        return pql_parse_vector(p);
    case T_LPAREN:
        pql_take(p);
        n = pql_parse_any(p);
        if (n == NULL)
            return NULL;
        if (p->tok.tok != T_RPAREN) {
            pql_unexpected(p, p->context, p->expected);
            return NULL;
        }
        pql_take(p);
        return pql_node_new(p, N_PAREN, open.at, p->last_end, n, NULL);
    default:
        break;
    }
    if (pql_is_agg(t)) {
        after = look_ahead(p);
        if (after == T_LPAREN || after == T_BY || after == T_WITHOUT)
            return parse_aggregate(p);
        return pql_parse_vector(p);
    }
    if (t == T_IDENT || (t >= T_START && t < T_COUNT_OF_TOKENS))
        return look_ahead(p) == T_LPAREN ? parse_call(p) : pql_parse_vector(p);
    if (pql_name_token(t))
        return pql_parse_vector(p);
    pql_unexpected(p, p->context, p->expected);
    return NULL;
}

/* ---- modifiers ---- */

static struct pql_when *when_of(struct pql_node *n)
{
    return n->kind == N_VECTOR ? &n->sel->when : n->kind == N_MATRIX ? &n->a->sel->when
         : n->kind == N_SUBQUERY ? &n->when : NULL;
}

static int64_t seconds_to_ns(double s)
{
    double ns = round(s * 1e9);

    return ns >= 9223372036854775807.0 ? INT64_MAX : ns <= -9223372036854775808.0 ? INT64_MIN
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

static struct pql_node *parse_postfix(struct pql_parse *p)
{
    struct pql_node *n = parse_primary(p);

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

static struct pql_node *parse_unary(struct pql_parse *p)
{
    struct pql_item  op = p->tok;
    struct pql_node *n;

    if (op.tok != T_ADD && op.tok != T_SUB)
        return parse_postfix(p);
    if (++p->nesting > PQL_DEPTH_MAX) {
        pql_error(p, op.at, "expression is nested deeper than %d levels", PQL_DEPTH_MAX);
        return NULL;
    }
    pql_take(p);
    n = parse_binary(p, UNARY_PRECEDENCE + 1);
    p->nesting--;
    if (n == NULL)
        return NULL;
    if (n->kind == N_NUMBER) {
        n->value = op.tok == T_SUB ? -n->value : n->value;
        n->from = op.at;
        return n;
    }
    n = pql_node_new(p, N_UNARY, op.at, n->to, n, NULL);
    if (n != NULL)
        n->op = op.tok;
    return n;
}

/* ---- binary operators and what may stand between the operator and its right side ---- */

static bool parse_fill(struct pql_parse *p, double *value)
{
    double           sign = 1;
    struct pql_node *lit;

    pql_take(p);
    if (p->tok.tok == T_LPAREN) {
        pql_take(p);
        if (p->tok.tok == T_ADD || p->tok.tok == T_SUB) {
            sign = p->tok.tok == T_SUB ? -1 : 1;
            pql_take(p);
        }
        if (p->tok.tok == T_NUMBER || p->tok.tok == T_DURATION) {
            lit = pql_parse_literal(p);
            if (lit == NULL)
                return false;
            *value = sign * lit->value;
            if (p->tok.tok == T_RPAREN) {
                pql_take(p);
                return !p->failed;
            }
        }
    }
    pql_unexpected(p, p->context, p->expected);
    return false;
}

static bool parse_fills(struct pql_parse *p, struct pql_matching *m)
{
    uint8_t first = p->tok.tok;

    if (first == T_FILL) {
        m->fill_left = m->fill_right = true;
        if (!parse_fill(p, &m->fill_left_value))
            return false;
        m->fill_right_value = m->fill_left_value;
        return true;
    }
    for (int i = 0; i < 2; i++) {
        uint8_t t = p->tok.tok;
        if ((t != T_FILL_LEFT && t != T_FILL_RIGHT) || (i == 1 && t == first))
            break;
        if (t == T_FILL_LEFT)
            m->fill_left = true;
        else
            m->fill_right = true;
        if (!parse_fill(p, t == T_FILL_LEFT ? &m->fill_left_value : &m->fill_right_value))
            return false;
    }
    return true;
}

static bool parse_modifiers(struct pql_parse *p, bool *returns_bool, struct pql_matching *m)
{
    if (p->tok.tok == T_BOOL) {
        *returns_bool = true;
        pql_take(p);
    }
    if (p->tok.tok == T_ON || p->tok.tok == T_IGNORING) {
        m->on = p->tok.tok == T_ON;
        pql_take(p);
        if (!pql_parse_labels(p, &m->labels, &m->label_count))
            return false;
        if (p->tok.tok == T_GROUP_LEFT || p->tok.tok == T_GROUP_RIGHT) {
            m->card = p->tok.tok == T_GROUP_LEFT ? CARD_MANY_TO_ONE : CARD_ONE_TO_MANY;
            pql_take(p);
            if (p->tok.tok == T_LPAREN && !pql_parse_labels(p, &m->include, &m->include_count))
                return false;
        }
    }
    if (p->tok.tok == T_FILL || p->tok.tok == T_FILL_LEFT || p->tok.tok == T_FILL_RIGHT)
        return parse_fills(p, m);
    return !p->failed;
}

static struct pql_node *parse_binary(struct pql_parse *p, int least)
{
    struct pql_node *left = parse_unary(p);

    while (left != NULL && !p->failed) {
        uint8_t              op = p->tok.tok;
        int                  level = precedence(op);
        struct pql_node     *right, *n;
        struct pql_matching *m;
        bool                 returns_bool = false;

        if (level == 0 || level < least)
            return left;
        pql_take(p);
        m = pql_parse_alloc(p, sizeof *m);
        if (m == NULL || !parse_modifiers(p, &returns_bool, m))
            return NULL;
        if (++p->nesting > PQL_DEPTH_MAX) {
            pql_error(p, p->tok.at, "expression is nested deeper than %d levels", PQL_DEPTH_MAX);
            return NULL;
        }
        right = parse_binary(p, op == T_POW ? level : level + 1);
        p->nesting--;
        if (right == NULL)
            return NULL;
        n = pql_node_new(p, N_BINARY, left->from, right->to, left, right);
        if (n == NULL)
            return NULL;
        n->op = op;
        n->bool_modifier = returns_bool;
        n->matching = m;
        left = n;
    }
    return p->failed ? NULL : left;
}

struct pql_node *pql_parse_any(struct pql_parse *p)
{
    struct pql_node *n;

    if (++p->nesting > PQL_DEPTH_MAX) {
        pql_error(p, p->tok.at, "expression is nested deeper than %d levels", PQL_DEPTH_MAX);
        return NULL;
    }
    n = parse_binary(p, 1);
    p->nesting--;
    return p->failed ? NULL : n;
}

struct pql_node *pql_parse_expr(struct pql_parse *p)
{
    struct pql_node *n;

    if (p->failed)
        return NULL;
    pql_take(p);
    if (p->tok.tok == T_EOF) {
        pql_error(p, 0, "no expression found in input");
        return NULL;
    }
    n = pql_parse_any(p);
    if (n != NULL && p->tok.tok != T_EOF)
        pql_unexpected(p, "", "");
    if (!p->failed)
        pql_check(p, n);
    return p->failed ? NULL : n;
}

struct pql_node *pql_parse_selector(struct pql_parse *p)
{
    struct pql_node *n;

    if (p->failed)
        return NULL;
    pql_take(p);
    if (p->tok.tok != T_LBRACE && !pql_name_token(p->tok.tok)) {
        pql_unexpected(p, "", "");
        return NULL;
    }
    n = pql_parse_vector(p);
    if (n != NULL && p->tok.tok != T_EOF)
        pql_unexpected(p, "", "");
    return p->failed ? NULL : n;
}
