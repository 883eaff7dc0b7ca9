/* The language as text, without evaluating: selectors, formatting, the tree, durations. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libpromql/ast_priv.h"

static bool copy_span(struct kl_arena *arena, struct kl_span *s)
{
    void *at = kl_arena_copy(arena, s->at, s->size);

    s->at = at;
    return at != NULL || s->size == 0;
}

enum kl_code pql_selector(struct kl_span text, struct kl_arena *arena,
                          const struct kl_matcher **matchers, size_t *count, struct kl_err *err)
{
    struct pql_parse   p;
    struct pql_node   *n;
    struct kl_matcher *m = NULL;
    enum kl_code       code = KL_OK;

    pql_parse_init(&p, text);
    n = pql_parse_selector(&p);
    if (n == NULL) {
        code = kl_fail(err, KL_EINVAL, "%s", p.error);
        goto done;
    }
    m = kl_arena_alloc(arena, (n->sel->count + 1) * sizeof *m);
    for (uint32_t i = 0; m != NULL && i < n->sel->count; i++) {
        m[i] = n->sel->matchers[i];
        if (!copy_span(arena, &m[i].name) || !copy_span(arena, &m[i].value))
            m = NULL;
    }
    if (m == NULL) {
        code = kl_fail(err, KL_ELIMIT, "selector needs more memory than allowed");
        goto done;
    }
    p.regex_count = 0;                                 /* now the caller's, to free */
    *matchers = m;
    *count = n->sel->count;
done:
    pql_parse_deinit(&p);
    return code;
}

void pql_selector_free(const struct kl_matcher *matchers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        kl_regex_free((struct kl_regex *)matchers[i].re);
}

struct extract { struct kl_arena *arena; struct pql_selected *out; size_t most, *count; };

/* A copy of one selector's matchers, with regexes of its own. */
static enum kl_code extract_one(struct extract *x, const struct pql_selector_node *s,
                                struct kl_err *err)
{
    struct kl_matcher *m;
    size_t             n = 0;

    if (*x->count == x->most)
        return kl_fail(err, KL_ELIMIT, "more than %zu selectors", x->most);
    m = kl_arena_alloc(x->arena, (s->count + 1) * sizeof *m);
    if (m == NULL)
        return kl_fail(err, KL_ELIMIT, "selectors need more memory than allowed");
    x->out[*x->count] = (struct pql_selected){ m, 0 };
    for (uint32_t i = 0; i < s->count; i++) {
        struct kl_regex *re = NULL;

        m[n] = s->matchers[i];
        m[n].re = NULL;
        if (!copy_span(x->arena, &m[n].name) || !copy_span(x->arena, &m[n].value)) {
            (*x->count)++;
            return kl_fail(err, KL_ELIMIT, "selectors need more memory than allowed");
        }
        if ((m[n].op == KL_MATCH_RE || m[n].op == KL_MATCH_NRE) &&
            kl_regex_new(m[n].value, &re, err) != KL_OK) {
            (*x->count)++;
            return err->code;
        }
        m[n++].re = re;
        x->out[*x->count].count = n;
    }
    (*x->count)++;
    return KL_OK;
}

static enum kl_code extract(struct extract *x, const struct pql_node *n, struct kl_err *err)
{
    if (n == NULL)
        return KL_OK;
    if (n->kind == N_VECTOR)
        return extract_one(x, n->sel, err);
    for (uint32_t i = 0; n->kind == N_CALL && i < n->count; i++)
        if (extract(x, n->args[i], err) != KL_OK)
            return err->code;
    /* An aggregation's parameter stands before what it aggregates. */
    if (extract(x, n->kind == N_AGG ? n->b : n->a, err) != KL_OK)
        return err->code;
    return extract(x, n->kind == N_AGG ? n->a : n->b, err);
}

enum kl_code pql_selectors(struct kl_span text, struct kl_arena *arena, struct pql_selected *out,
                           size_t most, size_t *count, struct kl_err *err)
{
    struct pql_parse p;
    struct pql_node *n;
    struct extract   x = { arena, out, most, count };
    enum kl_code     code;

    *count = 0;
    pql_parse_init(&p, text);
    n = pql_parse_expr(&p);
    code = n == NULL ? kl_fail(err, KL_EINVAL, "%s", p.error) : extract(&x, n, err);
    pql_parse_deinit(&p);
    return code;
}

static enum kl_code with_tree(struct kl_span text, struct kl_buf *out, bool json, struct kl_err *err)
{
    struct pql_parse p;
    struct pql_node *n;
    enum kl_code     code = KL_OK;

    pql_parse_init(&p, text);
    n = pql_parse_expr(&p);
    if (n == NULL)
        code = kl_fail(err, KL_EINVAL, "%s", p.error);
    else if (json)
        pql_print_json(out, n);
    else
        pql_pretty(out, n, 0);
    pql_parse_deinit(&p);
    if (code == KL_OK && !kl_buf_ok(out))
        code = kl_fail(err, KL_ELIMIT, "formatted query is longer than allowed");
    return code;
}

enum kl_code pql_format(struct kl_span text, struct kl_buf *out, struct kl_err *err)
{
    return with_tree(text, out, false, err);
}

enum kl_code pql_tree_json(struct kl_span text, struct kl_buf *out, struct kl_err *err)
{
    return with_tree(text, out, true, err);
}

enum kl_code pql_duration(const char *text, int64_t *ms, struct kl_err *err)
{
    char  *end;
    double seconds;

    errno = 0;
    seconds = strtod(text, &end);
    if (*text != '\0' && *text != ' ' && *end == '\0') {
        if (!(seconds < 9223372036.0 && seconds > -9223372036.0))
            return kl_fail(err, KL_EINVAL,
                           "cannot parse \"%s\" to a valid duration. It overflows int64", text);
        *ms = (int64_t)(seconds * 1000);
        return KL_OK;
    }
    if (pql_duration_ms(kl_span_str(text), ms) != NULL)
        return kl_fail(err, KL_EINVAL, "cannot parse \"%s\" to a valid duration", text);
    return KL_OK;
}
