/* Types: what each construct takes, said in Prometheus' words. Positions of an operator are found
 * in the text between its sides. */
#include <string.h>

#include "libpromql/ast_priv.h"

/* The operator's place: after the left side, past blanks. */
static int32_t op_at(const struct pql_parse *p, const struct pql_node *n)
{
    const char *s = p->text.at;
    int32_t     at = n->a->to;

    while ((size_t)at < p->text.size && (s[at] == ' ' || s[at] == '\t' || s[at] == '\n' || s[at] == '\r'))
        at++;
    return at;
}

static void expect(struct pql_parse *p, struct pql_node *n, uint8_t want, const char *context)
{
    uint8_t t = pql_check(p, n);

    if (t != want)
        pql_error(p, n->from, "expected type %s in %s, got %s", pql_type_name(want), context,
                  pql_type_name(t));
}

static void check_binary(struct pql_parse *p, struct pql_node *n)
{
    uint8_t              lt = pql_check(p, n->a), rt = pql_check(p, n->b);
    struct pql_matching *m = n->matching;
    const char          *op = pql_tok_text(n->op);
    static const char    only[] = "binary expression must contain only scalar and instant vector types";

    if (n->bool_modifier && !pql_is_cmp(n->op))
        pql_error(p, op_at(p, n), "bool modifier can only be used on comparison operators");
    if (pql_is_cmp(n->op) && !n->bool_modifier && lt == V_SCALAR && rt == V_SCALAR)
        pql_error(p, op_at(p, n), "comparisons between scalars must use BOOL modifier");
    if (pql_is_set(n->op) && m->card == CARD_ONE_TO_ONE)
        m->card = CARD_MANY_TO_MANY;
    for (uint32_t i = 0; m->on && i < m->label_count; i++)
        for (uint32_t k = 0; k < m->include_count; k++)
            if (kl_span_eq(m->labels[i], m->include[k]))
                pql_error(p, op_at(p, n), "label \"%.*s\" must not occur in ON and GROUP clause at once",
                          (int)m->labels[i].size, (const char *)m->labels[i].at);
    if (lt != V_SCALAR && lt != V_VECTOR)
        pql_error(p, n->a->from, "%s", only);
    if (rt != V_SCALAR && rt != V_VECTOR)
        pql_error(p, n->b->from, "%s", only);
    if (lt != V_VECTOR || rt != V_VECTOR) {
        if (m->label_count > 0)
            pql_error(p, n->from, "vector matching only allowed between instant vectors");
        if (m->fill_left || m->fill_right)
            pql_error(p, n->from,
                      "filling in missing series only allowed between instant vectors");
        n->matching = NULL;
    } else if (pql_is_set(n->op)) {
        if (m->card == CARD_ONE_TO_MANY || m->card == CARD_MANY_TO_ONE)
            pql_error(p, n->from, "no grouping allowed for \"%s\" operation", op);
        if (m->fill_left || m->fill_right)
            pql_error(p, n->from, "filling in missing series not allowed for set operators");
    }
    if ((lt == V_SCALAR || rt == V_SCALAR) && pql_is_set(n->op))
        pql_error(p, n->from, "set operator \"%s\" not allowed in binary scalar expression", op);
}

static void check_info(struct pql_parse *p, struct pql_node *n)
{
    struct pql_node *arg = n->args[1];
    uint8_t          t = pql_type(arg);

    if (t != V_VECTOR)
        pql_error(p, n->from, "expected type instant vector in call to function \"info\", got %s",
                  pql_type_name(t));
    if (arg->kind == N_VECTOR && arg->sel->name.size > 0)
        pql_error(p, arg->from, "expected label selectors only, got vector selector instead");
    else if (arg->kind == N_VECTOR)
        arg->sel->may_be_empty = true;
    else
        pql_error(p, arg->from, "expected label selectors only");
}

static void check_call(struct pql_parse *p, struct pql_node *n)
{
    const struct pql_func *f = n->func;
    unsigned               least = f->variadic == 0 ? f->arg_count : f->arg_count - 1u;

    if (f->variadic == 0 && n->count != f->arg_count)
        pql_error(p, n->from, "expected %u argument(s) in call to \"%s\", got %u", f->arg_count,
                  f->name, n->count);
    else if (n->count < least)
        pql_error(p, n->from, "expected at least %u argument(s) in call to \"%s\", got %u", least,
                  f->name, n->count);
    else if (f->variadic > 0 && n->count > least + (unsigned)f->variadic)
        pql_error(p, n->from, "expected at most %u argument(s) in call to \"%s\", got %u",
                  least + (unsigned)f->variadic, f->name, n->count);
    if (p->failed)
        return;
    if (strcmp(f->name, "info") == 0 && n->count > 1)
        check_info(p, n);
    for (uint32_t i = 0; i < n->count && !p->failed; i++) {
        uint8_t want = f->args[i < f->arg_count ? i : f->arg_count - 1u];
        uint8_t t = pql_check(p, n->args[i]);
        if (t != want)
            pql_error(p, n->args[i]->from, "expected type %s in call to function \"%s\", got %s",
                      pql_type_name(want), f->name, pql_type_name(t));
    }
}

static void check_vector(struct pql_parse *p, struct pql_node *n)
{
    struct pql_selector_node *s = n->sel;

    if (s->name.size > 0) {
        for (uint32_t i = 0; i + 1 < s->count; i++)
            if (kl_span_eq(s->matchers[i].name, kl_span_str("__name__")))
                pql_error(p, n->from, "metric name must not be set twice: \"%.*s\" or \"%.*s\"",
                          (int)s->name.size, (const char *)s->name.at,
                          (int)s->matchers[i].value.size, (const char *)s->matchers[i].value.at);
        return;
    }
    for (uint32_t i = 0; i < s->count; i++)
        if (!kl_matcher_test(&s->matchers[i], kl_span("", 0)))
            return;
    if (!s->may_be_empty)
        pql_error(p, n->from, "vector selector must contain at least one non-empty matcher");
}

uint8_t pql_check(struct pql_parse *p, struct pql_node *n)
{
    uint8_t t;

    if (p->failed)
        return V_NONE;
    switch (n->kind) {
    case N_AGG:
        expect(p, n->a, V_VECTOR, "aggregation expression");
        if (n->b != NULL)
            expect(p, n->b, n->op == T_COUNT_VALUES ? V_STRING : V_SCALAR, "aggregation parameter");
        break;
    case N_BINARY:
        check_binary(p, n);
        break;
    case N_CALL:
        check_call(p, n);
        break;
    case N_PAREN: case N_MATRIX:
        pql_check(p, n->a);
        break;
    case N_UNARY:
        t = pql_check(p, n->a);
        if (t != V_SCALAR && t != V_VECTOR)
            pql_error(p, n->from, "unary expression only allowed on expressions of type scalar or "
                      "instant vector, got \"%s\"", pql_type_name(t));
        break;
    case N_SUBQUERY:
        t = pql_check(p, n->a);
        if (t != V_VECTOR)
            pql_error(p, n->from, "subquery is only allowed on instant vector, got %s instead",
                      t == V_MATRIX ? "matrix" : pql_type_name(t));
        break;
    case N_VECTOR:
        check_vector(p, n);
        break;
    default:
        break;
    }
    return p->failed ? V_NONE : pql_type(n);
}
