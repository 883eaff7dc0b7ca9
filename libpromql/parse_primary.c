/* Literals, calls, aggregations, parentheses: what an expression begins with. */
#include <string.h>

#include "libpromql/ast_priv.h"

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
        return pql_take_rparen(p) && !p->failed;
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

struct pql_node *pql_parse_primary(struct pql_parse *p)
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
        if (n == NULL || !pql_take_rparen(p))
            return NULL;
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
