/* Making nodes, and the parser's errors: only the first counts, after it everything returns fast. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpromql/ast_priv.h"

void pql_parse_init(struct pql_parse *p, struct kl_span text)
{
    char *copy;

    *p = (struct pql_parse){ .context = "", .expected = "" };
    kl_arena_init(&p->arena, PQL_PARSE_MEMORY_MAX);
    if (text.size > PQL_TEXT_MAX) {
        p->text = kl_span("", 0);
        p->failed = true;
        snprintf(p->error, sizeof p->error,
                 "1:1: parse error: query of %zu bytes is longer than the limit of %d", text.size,
                 PQL_TEXT_MAX);
        return;
    }
    copy = kl_arena_alloc(&p->arena, text.size + 1);
    if (copy == NULL)
        abort();                                       /* the cap is far above PQL_TEXT_MAX */
    if (text.size > 0)
        memcpy(copy, text.at, text.size);
    copy[text.size] = '\0';
    p->text = kl_span(copy, text.size);
    pql_lex_init(&p->lex, p->text);
}

void pql_parse_deinit(struct pql_parse *p)
{
    for (uint32_t i = 0; i < p->regex_count; i++)
        kl_regex_free(p->regexes[i]);
    free(p->regexes);
    kl_arena_deinit(&p->arena);
}

void pql_error(struct pql_parse *p, int32_t at, const char *fmt, ...)
{
    struct kl_buf where;
    va_list       ap;
    int           n;

    if (p->failed)
        return;
    p->failed = true;
    kl_buf_init(&where, 64);
    pql_position(p->text, at, &where);
    n = snprintf(p->error, sizeof p->error, "%.*s: parse error: ", (int)where.size, where.at);
    kl_buf_deinit(&where);
    va_start(ap, fmt);
    vsnprintf(p->error + n, sizeof p->error - (size_t)n, fmt, ap);
    va_end(ap);
}

void *pql_parse_alloc(struct pql_parse *p, size_t size)
{
    void *at = p->failed ? NULL : kl_arena_alloc(&p->arena, size);

    if (at != NULL)
        memset(at, 0, size);
    else
        pql_error(p, 0, "query needs more memory than allowed");
    return at;
}

struct kl_span pql_item_text(const struct pql_parse *p, struct pql_item it)
{
    return kl_span((const char *)p->text.at + it.at, (size_t)(it.end - it.at));
}

void pql_take(struct pql_parse *p)
{
    p->last_end = p->tok.end;
    if (p->failed) {
        p->tok = (struct pql_item){ .tok = T_ERROR, .at = p->tok.at, .end = p->tok.end };
        return;
    }
    p->tok = pql_lex_next(&p->lex);
    if (p->tok.tok == T_ERROR)
        pql_error(p, p->tok.at, "%s", p->lex.error);
}

bool pql_take_rparen(struct pql_parse *p)
{
    if (p->tok.tok != T_RPAREN) {
        pql_unexpected(p, p->context, p->expected);
        return false;
    }
    pql_take(p);
    return true;
}

/* "unexpected <what stands here> in <context>, expected <expected>" */
void pql_unexpected(struct pql_parse *p, const char *context, const char *expected)
{
    struct kl_buf  b;
    struct kl_span s = pql_item_text(p, p->tok);
    uint8_t        t = p->tok.tok;
    const char    *kind = t == T_IDENT ? "identifier " : t == T_METRIC ? "metric identifier "
                        : t == T_STRING ? "string " : t == T_NUMBER ? "number "
                        : t == T_DURATION ? "duration " : "";

    if (p->failed || t == T_ERROR)
        return;
    kl_buf_init(&b, 600);
    kl_buf_addf(&b, "unexpected %s", kind);
    if (t == T_EOF) {
        kl_buf_adds(&b, "end of input");
    } else if (t >= T_WORDS && t < T_WORDS_END) {
        kl_buf_addf(&b, "<%.*s>", (int)s.size, (const char *)s.at);
    } else if (pql_is_op(t)) {
        kl_buf_addf(&b, "<op:%.*s>", (int)s.size, (const char *)s.at);
    } else if (pql_is_agg(t)) {
        kl_buf_addf(&b, "<aggr:%.*s>", (int)s.size, (const char *)s.at);
    } else if (t != T_IDENT && t != T_METRIC && s.size > 10) {
        const char *at = s.at, *end = at + s.size;
        int         width;
        for (int i = 0; i < 10 && at < end; i++, at += width)
            pql_rune(at, end, &width);
        pql_quote(&b, kl_span(s.at, (size_t)(at - (const char *)s.at)));
        kl_buf_adds(&b, "...");
    } else {
        pql_quote(&b, s);
    }
    if (*context != '\0')
        kl_buf_addf(&b, " in %s", context);
    if (*expected != '\0')
        kl_buf_addf(&b, ", expected %s", expected);
    pql_error(p, p->tok.at, "%.*s", (int)b.size, b.at);
    kl_buf_deinit(&b);
}

struct pql_node *pql_node_new(struct pql_parse *p, uint8_t kind, int32_t from, int32_t to,
                              struct pql_node *a, struct pql_node *b)
{
    struct pql_node *n = pql_parse_alloc(p, sizeof *n);
    uint32_t         depth = a != NULL ? a->depth : 0;

    if (n == NULL)
        return NULL;
    if (b != NULL && b->depth > depth)
        depth = b->depth;
    n->kind = kind;
    n->from = from;
    n->to = to;
    n->a = a;
    n->b = b;
    n->depth = depth + 1;
    if (n->depth > PQL_DEPTH_MAX) {
        pql_error(p, from, "expression is nested deeper than %d levels", PQL_DEPTH_MAX);
        return NULL;
    }
    return n;
}

uint8_t pql_type(const struct pql_node *n)
{
    for (;;) {
        switch (n->kind) {
        case N_NUMBER: case N_DURATION:
            return V_SCALAR;
        case N_STRING:
            return V_STRING;
        case N_VECTOR: case N_AGG:
            return V_VECTOR;
        case N_MATRIX: case N_SUBQUERY:
            return V_MATRIX;
        case N_CALL:
            return n->func->type;
        case N_BINARY:
            if (pql_type(n->a) != V_SCALAR)
                return V_VECTOR;
            if (pql_type(n->b) != V_SCALAR)
                return V_VECTOR;
            return V_SCALAR;
        default:
            n = n->a;
        }
    }
}

const char *pql_type_name(uint8_t type)
{
    static const char *const names[] = { "none", "scalar", "string", "instant vector", "range vector" };

    return names[type];
}

bool pql_name_token(uint8_t t)
{
    return t == T_IDENT || t == T_METRIC || pql_is_agg(t) || (t >= T_START && t < T_COUNT_OF_TOKENS)
           || t == T_AND || t == T_OR || t == T_UNLESS || t == T_BY || t == T_WITHOUT || t == T_OFFSET
           || t == T_FILL || t == T_FILL_LEFT || t == T_FILL_RIGHT || t == T_ANCHORED
           || t == T_SMOOTHED;
}
