/* Expressions: precedence climbing over unary, binary and the modifiers that bind tightest.
 * Source: the grammar of Prometheus 3.14. `context` is what an error inside is said to be in: the
 * innermost construct that Prometheus' grammar recovers in. */
#include "libpromql/ast_priv.h"

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

static struct pql_node *parse_unary(struct pql_parse *p)
{
    struct pql_item  op = p->tok;
    struct pql_node *n;

    if (op.tok != T_ADD && op.tok != T_SUB)
        return pql_parse_postfix(p);
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
