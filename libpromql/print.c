/* A tree as text: on one line, and spread over lines as Prometheus' formatter does. */
#include <string.h>

#include "libpromql/ast_priv.h"

#include "libkoal/base/json.h"

enum { LINE_MAX_CHARS = 100 };                         /* longer nodes are split */

static void name_or_quoted(struct kl_buf *out, struct kl_span s)
{
    if (pql_legacy_name(s))
        kl_buf_add(out, s.at, s.size);
    else
        pql_quote(out, s);
}

static void labels(struct kl_buf *out, const struct kl_span *l, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0)
            kl_buf_adds(out, ", ");
        name_or_quoted(out, l[i]);
    }
}

static void number(struct kl_buf *out, double v)
{
    char text[KL_F64_TEXT_MAX];

    kl_buf_add(out, text, kl_f64_text(v, text));
}

static void duration_ns(struct kl_buf *out, int64_t ns)
{
    if (ns % 1000000 != 0)                             /* finer than the units: a number of seconds */
        number(out, (double)ns / 1e9);
    else
        pql_fmt_ms(out, ns / 1000000);
}

static void print_duration(struct kl_buf *out, const struct pql_node *n)
{
    if (n->kind != N_DURATION) {
        pql_print(out, n);
        return;
    }
    if (n->wrapped)
        kl_buf_add8(out, '(');
    if (n->op == T_STEP || n->op == T_RANGE) {
        kl_buf_addf(out, "%s()", pql_tok_text(n->op));
    } else if (n->op == T_MAX_OF || n->op == T_MIN_OF) {
        bool under_sign = n->a == NULL;                /* cannot be: functions have both sides */
        kl_buf_addf(out, "%s(", pql_tok_text(n->op));
        if (!under_sign)
            print_duration(out, n->a);
        kl_buf_adds(out, ", ");
        print_duration(out, n->b);
        kl_buf_add8(out, ')');
    } else if (n->a == NULL) {
        if (n->op == T_SUB)
            kl_buf_add8(out, '-');
        print_duration(out, n->b);
    } else {
        print_duration(out, n->a);
        kl_buf_addf(out, " %s ", pql_tok_text(n->op));
        print_duration(out, n->b);
    }
    if (n->wrapped)
        kl_buf_add8(out, ')');
}

static void print_at(struct kl_buf *out, const struct pql_when *w)
{
    if (w->has_at)
        kl_buf_addf(out, " @ %.3f", (double)w->at_ms / 1000.0);
    else if (w->at_edge != 0)
        kl_buf_addf(out, " @ %s()", pql_tok_text(w->at_edge));
}

static void print_offset(struct kl_buf *out, const struct pql_when *w)
{
    if (w->offset_expr != NULL) {
        kl_buf_adds(out, " offset ");
        print_duration(out, w->offset_expr);
    } else if (w->offset_ns != 0) {
        kl_buf_adds(out, w->offset_ns > 0 ? " offset " : " offset -");
        duration_ns(out, w->offset_ns > 0 ? w->offset_ns : -w->offset_ns);
    }
}

/* An offset that begins with a parenthesis, or two signs, takes in whatever operator follows it: then
 * something else must, and comes last. */
static bool is_signed(const struct pql_node *n)
{
    return n->kind == N_DURATION && n->a == NULL && n->op == T_SUB && !n->wrapped;
}

static bool is_open(const struct pql_when *w)
{
    const struct pql_node *n = w->offset_expr;

    while (n != NULL && n->kind == N_DURATION && !n->wrapped && n->a != NULL && n->op != T_MAX_OF
           && n->op != T_MIN_OF)
        n = n->a;
    return n != NULL && n->kind == N_DURATION && (n->wrapped || (is_signed(n) && is_signed(n->b)));
}

static void print_when(struct kl_buf *out, const struct pql_when *w, const char *extended, bool range)
{
    bool open = is_open(w);

    if (open)
        print_offset(out, w);
    if (range)
        kl_buf_adds(out, extended);
    print_at(out, w);
    if (!range)
        kl_buf_adds(out, extended);
    if (!open)
        print_offset(out, w);
}

static void print_matcher(struct kl_buf *out, const struct kl_matcher *m)
{
    static const char *const ops[] = { "=", "!=", "=~", "!~" };

    name_or_quoted(out, m->name);
    kl_buf_adds(out, ops[m->op]);
    pql_quote(out, m->value);
}

/* Matchers in the order of their texts. */
static void print_matchers(struct kl_buf *out, const struct pql_selector_node *s)
{
    struct kl_buf texts;
    struct { size_t at, size; } part[PQL_MATCHERS_MAX], t;
    uint32_t      count = 0, k;

    kl_buf_init(&texts, 0);
    for (uint32_t i = 0; i < s->count && count < PQL_MATCHERS_MAX; i++) {
        const struct kl_matcher *m = &s->matchers[i];
        if (s->name.size > 0 && m->op == KL_MATCH_EQ && kl_span_eq(m->value, s->name)
            && kl_span_eq(m->name, kl_span_str("__name__")))
            continue;
        part[count].at = texts.size;
        print_matcher(&texts, m);
        part[count].size = texts.size - part[count].at;
        t = part[count];
        for (k = count++; k > 0 && kl_span_cmp(kl_span(texts.at + part[k - 1].at, part[k - 1].size),
                                               kl_span(texts.at + t.at, t.size)) > 0; k--)
            part[k] = part[k - 1];
        part[k] = t;
    }
    for (uint32_t i = 0; i < count; i++) {
        kl_buf_add8(out, i == 0 ? '{' : ',');
        kl_buf_add(out, texts.at + part[i].at, part[i].size);
    }
    if (count > 0)
        kl_buf_add8(out, '}');
    kl_buf_deinit(&texts);
}

static void print_selector(struct kl_buf *out, const struct pql_node *n)
{
    const struct pql_node          *v = n->kind == N_MATRIX ? n->a : n;
    const struct pql_selector_node *s = v->sel;
    const char *extended = s->anchored ? " anchored" : s->smoothed ? " smoothed" : "";

    kl_buf_add(out, s->name.at, s->name.size);
    print_matchers(out, s);
    if (n->kind == N_MATRIX) {
        kl_buf_add8(out, '[');
        if (n->range_expr != NULL)
            print_duration(out, n->range_expr);
        else
            duration_ns(out, n->range_ns);
        kl_buf_add8(out, ']');
    }
    print_when(out, &s->when, extended, n->kind == N_MATRIX);
}

void pql_print_sub_suffix(struct kl_buf *out, const struct pql_node *n)
{
    kl_buf_add8(out, '[');
    if (n->range_expr != NULL)
        print_duration(out, n->range_expr);
    else
        duration_ns(out, n->range_ns);
    kl_buf_add8(out, ':');
    if (n->step_expr != NULL)
        print_duration(out, n->step_expr);
    else if (n->step_ns != 0)
        duration_ns(out, n->step_ns);
    kl_buf_add8(out, ']');
    print_when(out, &n->when, "", true);
}

void pql_print_matching(struct kl_buf *out, const struct pql_node *n)
{
    const struct pql_matching *m = n->matching;

    if (n->bool_modifier)
        kl_buf_adds(out, " bool");
    if (m == NULL)
        return;
    if (m->label_count > 0 || m->on || m->card == CARD_MANY_TO_ONE || m->card == CARD_ONE_TO_MANY) {
        kl_buf_adds(out, m->on ? " on (" : " ignoring (");
        labels(out, m->labels, m->label_count);
        kl_buf_add8(out, ')');
    }
    if (m->card == CARD_MANY_TO_ONE || m->card == CARD_ONE_TO_MANY) {
        kl_buf_adds(out, m->card == CARD_MANY_TO_ONE ? " group_left (" : " group_right (");
        labels(out, m->include, m->include_count);
        kl_buf_add8(out, ')');
    }
    if (m->fill_left && m->fill_right && m->fill_left_value == m->fill_right_value) {
        kl_buf_adds(out, " fill (");
        pql_fmt_g(out, m->fill_left_value);
        kl_buf_add8(out, ')');
        return;
    }
    if (m->fill_left) {
        kl_buf_adds(out, " fill_left (");
        pql_fmt_g(out, m->fill_left_value);
        kl_buf_add8(out, ')');
    }
    if (m->fill_right) {
        kl_buf_adds(out, " fill_right (");
        pql_fmt_g(out, m->fill_right_value);
        kl_buf_add8(out, ')');
    }
}

void pql_print_grouping(struct kl_buf *out, const struct pql_node *n)
{
    kl_buf_adds(out, pql_tok_text(n->op));
    if (n->without || n->count > 0) {
        kl_buf_adds(out, n->without ? " without (" : " by (");
        labels(out, n->grouping, n->count);
        kl_buf_adds(out, ") ");
    }
}

void pql_print(struct kl_buf *out, const struct pql_node *n)
{
    if (!kl_buf_ok(out))                               /* a long node asked for a line's worth */
        return;
    switch (n->kind) {
    case N_NUMBER:
        if (!n->duration) {
            number(out, n->value);
        } else {
            if (signbit(n->value))
                kl_buf_add8(out, '-');
            pql_fmt_ms(out, (int64_t)round(fabs(n->value) * 1000));
        }
        break;
    case N_STRING:
        pql_quote(out, n->text);
        break;
    case N_VECTOR: case N_MATRIX:
        print_selector(out, n);
        break;
    case N_SUBQUERY:
        pql_print(out, n->a);
        pql_print_sub_suffix(out, n);
        break;
    case N_CALL:
        kl_buf_addf(out, "%s(", n->func->name);
        for (uint32_t i = 0; i < n->count; i++) {
            if (i > 0)
                kl_buf_adds(out, ", ");
            pql_print(out, n->args[i]);
        }
        kl_buf_add8(out, ')');
        break;
    case N_AGG:
        pql_print_grouping(out, n);
        kl_buf_add8(out, '(');
        if (n->b != NULL) {
            pql_print(out, n->b);
            kl_buf_adds(out, ", ");
        }
        pql_print(out, n->a);
        kl_buf_add8(out, ')');
        break;
    case N_BINARY:
        pql_print(out, n->a);
        kl_buf_addf(out, " %s", pql_tok_text(n->op));
        pql_print_matching(out, n);
        kl_buf_add8(out, ' ');
        pql_print(out, n->b);
        break;
    case N_UNARY:
        kl_buf_adds(out, pql_tok_text(n->op));
        pql_print(out, n->a);
        break;
    case N_PAREN:
        kl_buf_add8(out, '(');
        pql_print(out, n->a);
        kl_buf_add8(out, ')');
        break;
    case N_DURATION:
        print_duration(out, n);
        break;
    default:
        pql_print(out, n->a);
    }
}

/* Whether the node is too long for one line. Prints at most a line's worth to find out. */
static bool long_node(const struct pql_node *n)
{
    struct kl_buf b;
    bool          is_long;

    kl_buf_init(&b, LINE_MAX_CHARS);
    pql_print(&b, n);
    is_long = b.over;
    kl_buf_deinit(&b);
    return is_long;
}

static void indent(struct kl_buf *out, unsigned level)
{
    while (level-- > 0 && kl_buf_ok(out))
        kl_buf_adds(out, "  ");
}

static void pretty_call(struct kl_buf *out, const struct pql_node *n, unsigned level)
{
    kl_buf_addf(out, "%s(\n", n->func->name);
    for (uint32_t i = 0; i < n->count; i++) {
        if (i > 0)
            kl_buf_adds(out, ",\n");
        pql_pretty(out, n->args[i], level + 1);
    }
    kl_buf_add8(out, '\n');
    indent(out, level);
    kl_buf_add8(out, ')');
}

static void pretty_aggregate(struct kl_buf *out, const struct pql_node *n, unsigned level)
{
    pql_print_grouping(out, n);
    kl_buf_adds(out, "(\n");
    if (n->b != NULL) {
        pql_pretty(out, n->b, level + 1);
        kl_buf_adds(out, ",\n");
    }
    pql_pretty(out, n->a, level + 1);
    kl_buf_add8(out, '\n');
    indent(out, level);
    kl_buf_add8(out, ')');
}

static void pretty_unary(struct kl_buf *out, const struct pql_node *n, unsigned level)
{
    struct kl_buf child;
    size_t        from = 0;

    kl_buf_init(&child, out->cap);
    pql_pretty(&child, n->a, level);
    while (from < child.size && (child.at[from] == ' ' || child.at[from] == '\n'))
        from++;
    indent(out, level);
    kl_buf_adds(out, pql_tok_text(n->op));
    kl_buf_add(out, child.at + from, child.size - from);
    out->over |= child.over;
    kl_buf_deinit(&child);
}

void pql_pretty(struct kl_buf *out, const struct pql_node *n, unsigned level)
{
    if (!kl_buf_ok(out))
        return;
    if (n->kind == N_UNARY) {
        pretty_unary(out, n, level);
        return;
    }
    if (n->kind == N_SUBQUERY) {
        if (!long_node(n)) {
            pql_print(out, n);
        } else {
            pql_pretty(out, n->a, level);
            pql_print_sub_suffix(out, n);
        }
        return;
    }
    if ((n->kind != N_AGG && n->kind != N_BINARY && n->kind != N_CALL && n->kind != N_PAREN)
        || !long_node(n)) {
        indent(out, level);
        pql_print(out, n);
        return;
    }
    switch (n->kind) {
    case N_AGG:
        indent(out, level);
        pretty_aggregate(out, n, level);
        break;
    case N_CALL:
        indent(out, level);
        pretty_call(out, n, level);
        break;
    case N_PAREN:
        indent(out, level);
        kl_buf_adds(out, "(\n");
        pql_pretty(out, n->a, level + 1);
        kl_buf_add8(out, '\n');
        indent(out, level);
        kl_buf_add8(out, ')');
        break;
    default:
        pql_pretty(out, n->a, level + 1);
        kl_buf_add8(out, '\n');
        indent(out, level);
        kl_buf_adds(out, pql_tok_text(n->op));
        pql_print_matching(out, n);
        kl_buf_add8(out, '\n');
        pql_pretty(out, n->b, level + 1);
    }
}
