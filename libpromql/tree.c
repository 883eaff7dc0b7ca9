/* A tree as JSON, field for field what /api/v1/parse_query of Prometheus answers. */
#include "libpromql/ast_priv.h"

#include "libkoal/base/json.h"

static const char *const types[] = { "none", "scalar", "string", "vector", "matrix" };
static const char *const cards[] = { "one-to-one", "many-to-one", "one-to-many", "many-to-many" };

static void key(struct kl_buf *b, const char *name)
{
    if (b->size > 0 && b->at[b->size - 1] != '{')
        kl_buf_add8(b, ',');
    kl_json_cstr(b, name);
    kl_buf_add8(b, ':');
}

static void key_str(struct kl_buf *b, const char *name, const char *value)
{
    key(b, name);
    kl_json_cstr(b, value);
}

static void key_bool(struct kl_buf *b, const char *name, bool value)
{
    key(b, name);
    kl_buf_adds(b, value ? "true" : "false");
}

static void key_int(struct kl_buf *b, const char *name, int64_t value)
{
    key(b, name);
    kl_buf_addf(b, "%lld", (long long)value);
}

static void key_f64(struct kl_buf *b, const char *name, double v)
{
    char text[KL_F64_TEXT_MAX];

    key(b, name);
    kl_json_str(b, kl_span(text, kl_f64_text(v, text)));
}

static void key_list(struct kl_buf *b, const char *name, const struct kl_span *l, uint32_t count)
{
    key(b, name);
    kl_buf_add8(b, '[');
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0)
            kl_buf_add8(b, ',');
        kl_json_str(b, l[i]);
    }
    kl_buf_add8(b, ']');
}

static void node(struct kl_buf *b, const struct pql_node *n);

static void duration(struct kl_buf *b, const struct pql_node *n)
{
    if (n == NULL) {
        kl_buf_adds(b, "null");
        return;
    }
    if (n->kind != N_DURATION) {
        kl_buf_add8(b, '{');
        key_str(b, "type", "numberLiteral");
        key_f64(b, "val", n->value);
        key_bool(b, "duration", n->duration);
        kl_buf_add8(b, '}');
        return;
    }
    kl_buf_add8(b, '{');
    key_str(b, "type", "durationExpr");
    key_str(b, "op", pql_tok_text(n->op));
    key(b, "lhs");
    duration(b, n->a);
    key(b, "rhs");
    duration(b, n->b);
    key_bool(b, "wrapped", n->wrapped);
    kl_buf_add8(b, '}');
}

static void key_node(struct kl_buf *b, const char *name, const struct pql_node *n)
{
    key(b, name);
    if (n != NULL)
        node(b, n);
    else
        kl_buf_adds(b, "null");
}

static void key_duration(struct kl_buf *b, const char *name, const struct pql_node *n)
{
    key(b, name);
    duration(b, n);
}

static void when(struct kl_buf *b, const struct pql_when *w)
{
    key_int(b, "offset", w->offset_ns / 1000000);
    key_duration(b, "offsetExpr", w->offset_expr);
    key(b, "timestamp");
    if (w->has_at)
        kl_buf_addf(b, "%lld", (long long)w->at_ms);
    else
        kl_buf_adds(b, "null");
    key(b, "startOrEnd");
    if (w->at_edge != 0)
        kl_json_cstr(b, pql_tok_text(w->at_edge));
    else
        kl_buf_adds(b, "null");
}

static void selector(struct kl_buf *b, const struct pql_selector_node *s)
{
    static const char *const ops[] = { "=", "!=", "=~", "!~" };

    key(b, "name");
    kl_json_str(b, s->name);
    key(b, "matchers");
    kl_buf_add8(b, '[');
    for (uint32_t i = 0; i < s->count; i++) {
        kl_buf_adds(b, i > 0 ? ",{" : "{");
        key(b, "name");
        kl_json_str(b, s->matchers[i].name);
        key(b, "value");
        kl_json_str(b, s->matchers[i].value);
        key_str(b, "type", ops[s->matchers[i].op]);
        kl_buf_add8(b, '}');
    }
    kl_buf_add8(b, ']');
    key_bool(b, "anchored", s->anchored);
    key_bool(b, "smoothed", s->smoothed);
    when(b, &s->when);
}

static void key_fill(struct kl_buf *b, const char *name, bool is_set, double value)
{
    key(b, name);
    if (is_set && isfinite(value))
        pql_fmt_g(b, value);
    else
        kl_buf_adds(b, "null");
}

static void matching(struct kl_buf *b, const struct pql_matching *m)
{
    key(b, "matching");
    if (m == NULL) {
        kl_buf_adds(b, "null");
        return;
    }
    kl_buf_add8(b, '{');
    key_str(b, "card", cards[m->card]);
    key_list(b, "labels", m->labels, m->label_count);
    key_bool(b, "on", m->on);
    key_list(b, "include", m->include, m->include_count);
    key(b, "fillValues");
    kl_buf_add8(b, '{');
    key_fill(b, "lhs", m->fill_left, m->fill_left_value);
    key_fill(b, "rhs", m->fill_right, m->fill_right_value);
    kl_buf_adds(b, "}}");
}

static void call(struct kl_buf *b, const struct pql_node *n)
{
    const struct pql_func *f = n->func;

    key_str(b, "type", "call");
    key(b, "func");
    kl_buf_add8(b, '{');
    key_str(b, "name", f->name);
    key(b, "argTypes");
    kl_buf_add8(b, '[');
    for (unsigned i = 0; i < f->arg_count; i++) {
        if (i > 0)
            kl_buf_add8(b, ',');
        kl_json_cstr(b, types[f->args[i]]);
    }
    kl_buf_add8(b, ']');
    key_int(b, "variadic", f->variadic);
    key_str(b, "returnType", types[f->type]);
    kl_buf_add8(b, '}');
    key(b, "args");
    kl_buf_add8(b, '[');
    for (uint32_t i = 0; i < n->count; i++) {
        if (i > 0)
            kl_buf_add8(b, ',');
        node(b, n->args[i]);
    }
    kl_buf_add8(b, ']');
}

static void node(struct kl_buf *b, const struct pql_node *n)
{
    kl_buf_add8(b, '{');
    switch (n->kind) {
    case N_AGG:
        key_str(b, "type", "aggregation");
        key_str(b, "op", pql_tok_text(n->op));
        key_node(b, "expr", n->a);
        key_node(b, "param", n->b);
        key_list(b, "grouping", n->grouping, n->count);
        key_bool(b, "without", n->without);
        break;
    case N_BINARY:
        key_str(b, "type", "binaryExpr");
        key_str(b, "op", pql_tok_text(n->op));
        key_node(b, "lhs", n->a);
        key_node(b, "rhs", n->b);
        matching(b, n->matching);
        key_bool(b, "bool", n->bool_modifier);
        break;
    case N_CALL:
        call(b, n);
        break;
    case N_MATRIX:
        key_str(b, "type", "matrixSelector");
        key_int(b, "range", n->range_ns / 1000000);
        key_duration(b, "rangeExpr", n->range_expr);
        selector(b, n->a->sel);
        break;
    case N_SUBQUERY:
        key_str(b, "type", "subquery");
        key_node(b, "expr", n->a);
        key_int(b, "range", n->range_ns / 1000000);
        key_duration(b, "rangeExpr", n->range_expr);
        key_int(b, "step", n->step_ns / 1000000);
        key_duration(b, "stepExpr", n->step_expr);
        when(b, &n->when);
        break;
    case N_NUMBER:
        key_str(b, "type", "numberLiteral");
        key_f64(b, "val", n->value);
        break;
    case N_STRING:
        key_str(b, "type", "stringLiteral");
        key(b, "val");
        kl_json_str(b, n->text);
        break;
    case N_PAREN: case N_INVARIANT:
        key_str(b, "type", "parenExpr");
        key_node(b, "expr", n->a);
        break;
    case N_UNARY:
        key_str(b, "type", "unaryExpr");
        key_str(b, "op", pql_tok_text(n->op));
        key_node(b, "expr", n->a);
        break;
    case N_VECTOR:
        key_str(b, "type", "vectorSelector");
        selector(b, n->sel);
        break;
    default:
        break;
    }
    kl_buf_add8(b, '}');
}

void pql_print_json(struct kl_buf *out, const struct pql_node *n)
{
    node(out, n);
}
