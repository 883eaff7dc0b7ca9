/* Duration expressions: `[5m + step()]`, `offset -(2 * 1h)`, max_of and min_of. */
#include "libpromql/ast_priv.h"

static struct pql_node *binary(struct pql_parse *p, int least);

static bool out_of_range(double seconds)
{
    return !(seconds <= 9223372036.854775807 && seconds >= -9223372036.854775808);     /* NaN too */
}

static struct pql_node *duration_node(struct pql_parse *p, uint8_t op, int32_t from, int32_t to,
                                      struct pql_node *a, struct pql_node *b)
{
    struct pql_node *n = pql_node_new(p, N_DURATION, from, to, a, b);

    if (n != NULL)
        n->op = op;
    return n;
}

static struct pql_node *in_range(struct pql_parse *p, struct pql_node *n, int32_t at)
{
    if (n != NULL && n->kind == N_NUMBER && out_of_range(n->value))
        pql_error(p, at, "duration out of range");
    return p->failed ? NULL : n;
}

static struct pql_node *wrap(struct pql_parse *p, struct pql_node *n, int32_t from, int32_t to)
{
    if (n != NULL && n->kind != N_DURATION)
        n = duration_node(p, T_ADD, from, to, NULL, n);
    if (n != NULL)
        n->wrapped = true;
    return n;
}

static struct pql_node *unary(struct pql_parse *p, struct pql_item op, struct pql_node *n)
{
    if (n == NULL)
        return NULL;
    if (n->kind == N_NUMBER) {
        n->value = op.tok == T_SUB ? -n->value : n->value;
        n->from = op.at;
        return in_range(p, n, op.at);
    }
    return op.tok == T_SUB ? duration_node(p, T_SUB, op.at, n->to, NULL, n) : n;
}

/* step(), range(), max_of(a, b), min_of(a, b) */
static struct pql_node *function(struct pql_parse *p)
{
    struct pql_item  name = p->tok;
    struct pql_node *a = NULL, *b = NULL;

    pql_take(p);
    if (p->tok.tok != T_LPAREN)
        goto unexpected;
    pql_take(p);
    if (name.tok == T_MAX_OF || name.tok == T_MIN_OF) {
        a = pql_parse_duration(p);
        if (a == NULL)
            return NULL;
        if (p->tok.tok != T_COMMA)
            goto unexpected;
        pql_take(p);
        b = pql_parse_duration(p);
        if (b == NULL)
            return NULL;
    }
    if (p->tok.tok != T_RPAREN)
        goto unexpected;
    pql_take(p);
    return duration_node(p, name.tok, name.at, p->last_end, a, b);
unexpected:
    pql_unexpected(p, p->context, p->expected);
    return NULL;
}

static struct pql_node *parens(struct pql_parse *p)
{
    int32_t          from = p->tok.at;
    struct pql_node *n;

    pql_take(p);
    n = pql_parse_duration(p);
    if (n == NULL || !pql_take_rparen(p))
        return NULL;
    return wrap(p, n, from, p->last_end);
}

static struct pql_node *primary(struct pql_parse *p)
{
    switch (p->tok.tok) {
    case T_NUMBER: case T_DURATION:
        return in_range(p, pql_parse_literal(p), p->tok.at);
    case T_STEP: case T_RANGE: case T_MAX_OF: case T_MIN_OF:
        return function(p);
    case T_LPAREN:
        return parens(p);
    default:
        pql_unexpected(p, p->context, p->expected);
        return NULL;
    }
}

static int precedence(uint8_t t)
{
    return t == T_ADD || t == T_SUB ? 1 : t == T_MUL || t == T_DIV || t == T_MOD ? 2
         : t == T_POW ? 3 : 0;
}

static struct pql_node *prefixed(struct pql_parse *p)
{
    struct pql_item op = p->tok;

    if (op.tok != T_ADD && op.tok != T_SUB)
        return primary(p);
    if (++p->nesting > PQL_DEPTH_MAX) {
        pql_error(p, op.at, "expression is nested deeper than %d levels", PQL_DEPTH_MAX);
        return NULL;
    }
    pql_take(p);
    struct pql_node *n = unary(p, op, binary(p, 3));   /* binds as multiplication does */
    p->nesting--;
    return n;
}

/* What comes after a left side; `least` is the weakest operator that may follow. */
static struct pql_node *climb(struct pql_parse *p, struct pql_node *left, int least)
{
    while (left != NULL && !p->failed) {
        struct pql_item  op = p->tok;
        struct pql_node *right;
        int              level = precedence(op.tok);

        if (level == 0 || level < least)
            return left;
        pql_take(p);
        if (++p->nesting > PQL_DEPTH_MAX) {
            pql_error(p, op.at, "expression is nested deeper than %d levels", PQL_DEPTH_MAX);
            return NULL;
        }
        right = binary(p, level + 1);                  /* `^` too: Go's table has it right */
        if (right != NULL && op.tok == T_POW && precedence(p->tok.tok) == 3)
            right = climb(p, right, 3);
        p->nesting--;
        if (right == NULL)
            return NULL;
        if ((op.tok == T_DIV || op.tok == T_MOD) && right->kind == N_NUMBER && right->value == 0) {
            pql_error(p, op.at, op.tok == T_DIV ? "division by zero" : "modulo by zero");
            return NULL;
        }
        left = duration_node(p, op.tok, left->from, right->to, left, right);
    }
    return p->failed ? NULL : left;
}

static struct pql_node *binary(struct pql_parse *p, int least)
{
    return climb(p, prefixed(p), least);
}

struct pql_node *pql_parse_duration(struct pql_parse *p)
{
    struct pql_node *n;

    if (++p->nesting > PQL_DEPTH_MAX) {
        pql_error(p, p->tok.at, "expression is nested deeper than %d levels", PQL_DEPTH_MAX);
        return NULL;
    }
    n = binary(p, 1);
    p->nesting--;
    return n;
}

/*
 * After `offset` a literal, a function or a sign before either binds at once: `foo offset 5m + 3`
 * adds 3 to foo. Only what begins with a parenthesis (or a second sign) is a whole expression.
 */
struct pql_node *pql_parse_offset(struct pql_parse *p)
{
    struct pql_item  op = p->tok;
    struct pql_node *n;

    if (op.tok == T_ADD || op.tok == T_SUB) {
        pql_take(p);
        switch (p->tok.tok) {
        case T_NUMBER: case T_DURATION:
            return unary(p, op, pql_parse_literal(p));
        case T_STEP: case T_RANGE: case T_MAX_OF: case T_MIN_OF:
            n = function(p);
            return n != NULL ? duration_node(p, op.tok, op.at, n->to, NULL, n) : NULL;
        case T_LPAREN:
            n = parens(p);
            return n != NULL && op.tok == T_SUB ? duration_node(p, T_SUB, op.at, n->to, NULL, n) : n;
        default:
            /* Signs may be gone when it is printed: parentheses then keep together what they did. */
            n = climb(p, unary(p, op, binary(p, 3)), 1);
            if (n != NULL && n->kind == N_DURATION && n->a != NULL)
                n->wrapped = true;
            else if (n != NULL && n->kind == N_DURATION && n->b != NULL && n->b->kind == N_DURATION
                     && n->b->a != NULL)
                n->b->wrapped = true;
            return n;
        }
    }
    if (op.tok == T_LPAREN)
        return pql_parse_duration(p);
    return primary(p);
}
