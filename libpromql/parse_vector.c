/* Selectors, their matchers, and lists of labels. */
#include <stdlib.h>
#include <string.h>

#include "libpromql/ast_priv.h"

#include "libkoal/base/regex_size.h"

static bool add_matcher(struct pql_parse *p, struct pql_selector_node *s, uint32_t *room,
                        struct kl_matcher m, int32_t at)
{
    struct kl_err err;

    if (s->count == PQL_MATCHERS_MAX || p->regex_count == PQL_REGEXES_MAX) {
        pql_error(p, at, "more than %d matchers in a selector, or %d regular expressions in a query",
                  PQL_MATCHERS_MAX, PQL_REGEXES_MAX);
        return false;
    }
    if (m.op == KL_MATCH_RE || m.op == KL_MATCH_NRE) {
        struct kl_regex *re;
        if (kl_regex_new(m.value, &re, &err) != KL_OK) {
            pql_error(p, at, "%s", err.text);
            return false;
        }
        if (p->regex_count == p->regex_room) {
            p->regex_room = p->regex_room == 0 ? 8 : p->regex_room * 2;
            p->regexes = kl_resize(p->regexes, p->regex_room * sizeof *p->regexes);
        }
        p->regexes[p->regex_count++] = re;
        p->regex_bytes += kl_regex_bytes(re);
        if (p->regex_bytes > PQL_REGEX_BYTES_MAX) {
            pql_error(p, at, "regular expressions that take more than %d MiB", PQL_REGEX_BYTES_MAX >> 20);
            return false;
        }
        m.re = re;
    }
    if (s->count == *room) {
        uint32_t           more = *room == 0 ? 4 : *room * 2;
        struct kl_matcher *grown = pql_parse_alloc(p, more * sizeof *grown);
        if (grown == NULL)
            return false;
        if (s->count > 0)
            memcpy(grown, s->matchers, s->count * sizeof *grown);
        s->matchers = grown;
        *room = more;
    }
    s->matchers[s->count++] = m;
    return true;
}

static bool unquoted(struct pql_parse *p, struct kl_span *out)
{
    struct kl_span s = pql_item_text(p, p->tok);

    if (pql_unquote(s, &p->arena, out))
        return true;
    pql_error(p, p->tok.at, "error unquoting string %.*s: invalid syntax", (int)s.size,
              (const char *)s.at);
    return false;
}

static bool parse_matcher(struct pql_parse *p, struct pql_selector_node *s, uint32_t *room)
{
    struct kl_matcher m = { .op = KL_MATCH_EQ };
    struct pql_item   name = p->tok;

    if (name.tok == T_STRING) {
        if (!unquoted(p, &m.name))
            return false;
    } else if (name.tok == T_IDENT) {
        m.name = pql_item_text(p, name);
    } else {
        pql_unexpected(p, "label matching", "identifier or \"}\"");
        return false;
    }
    pql_take(p);
    switch (p->tok.tok) {
    case T_EQL: m.op = KL_MATCH_EQ; break;
    case T_NEQ: m.op = KL_MATCH_NE; break;
    case T_RE: m.op = KL_MATCH_RE; break;
    case T_NRE: m.op = KL_MATCH_NRE; break;
    default:
        if (name.tok == T_IDENT) {
            pql_unexpected(p, "label matching", "label matching operator");
            return false;
        }
        m.value = m.name;                              /* {"name"}: the metric's name, quoted */
        m.name = kl_span_str("__name__");
        return add_matcher(p, s, room, m, name.at);
    }
    pql_take(p);
    if (p->tok.tok != T_STRING) {
        pql_unexpected(p, "label matching", "string");
        return false;
    }
    if (!unquoted(p, &m.value))
        return false;
    pql_take(p);
    return add_matcher(p, s, room, m, name.at);
}

static bool parse_matchers(struct pql_parse *p, struct pql_selector_node *s, uint32_t *room)
{
    pql_take(p);
    while (p->tok.tok != T_RBRACE) {
        if (p->failed || !parse_matcher(p, s, room))
            return false;
        if (p->tok.tok == T_COMMA) {
            pql_take(p);
        } else if (p->tok.tok != T_RBRACE) {
            pql_unexpected(p, "label matching", "\",\" or \"}\"");
            return false;
        }
    }
    pql_take(p);
    return !p->failed;
}

struct pql_node *pql_parse_vector(struct pql_parse *p)
{
    struct pql_node          *n = pql_node_new(p, N_VECTOR, p->tok.at, p->tok.end, NULL, NULL);
    struct pql_selector_node *s = pql_parse_alloc(p, sizeof *s);
    uint32_t                  room = 0;

    if (n == NULL || s == NULL)
        return NULL;
    n->sel = s;
    s->name = kl_span("", 0);
    if (p->tok.tok != T_LBRACE) {
        s->name = pql_item_text(p, p->tok);
        pql_take(p);
    }
    if (p->tok.tok == T_LBRACE && !parse_matchers(p, s, &room))
        return NULL;
    n->to = p->last_end;
    /* The name's own matcher comes last, as Prometheus has it. */
    if (s->name.size > 0
        && !add_matcher(p, s, &room, (struct kl_matcher){ .op = KL_MATCH_EQ, .value = s->name,
                                                          .name = kl_span_str("__name__") }, n->from))
        return NULL;
    return p->failed ? NULL : n;
}

static bool label_token(uint8_t t)
{
    return t != T_WITHOUT && (pql_name_token(t) || t == T_BOOL || t == T_ON || t == T_IGNORING
                              || t == T_GROUP_LEFT || t == T_GROUP_RIGHT || t == T_ATAN2);
}

static bool one_label(struct pql_parse *p, struct kl_span *label)
{
    uint8_t t = p->tok.tok;

    if (t == T_STRING) {
        if (!unquoted(p, label))
            return false;
    } else if (label_token(t)) {
        *label = pql_item_text(p, p->tok);
    } else {
        pql_unexpected(p, "grouping opts", "label");
        return false;
    }
    if (label->size == 0 || !kl_utf8_ok(*label)) {
        pql_error(p, p->tok.at, "invalid label name for grouping: \"%.*s\"", (int)label->size,
                  (const char *)label->at);
        return false;
    }
    return true;
}

bool pql_parse_labels(struct pql_parse *p, struct kl_span **labels, uint32_t *count)
{
    uint32_t room = 0;

    *labels = NULL;
    *count = 0;
    if (p->tok.tok != T_LPAREN) {
        pql_unexpected(p, "grouping opts", "\"(\"");
        return false;
    }
    pql_take(p);
    while (p->tok.tok != T_RPAREN) {
        if (*count == room) {
            uint32_t        more = room == 0 ? 8 : room * 2;
            struct kl_span *grown = pql_parse_alloc(p, more * sizeof *grown);
            if (grown == NULL)
                return false;
            if (*count > 0)
                memcpy(grown, *labels, *count * sizeof *grown);
            *labels = grown;
            room = more;
        }
        if (p->failed || !one_label(p, &(*labels)[*count]))
            return false;
        (*count)++;
        pql_take(p);
        if (p->tok.tok == T_COMMA) {
            pql_take(p);
        } else if (p->tok.tok != T_RPAREN) {
            pql_unexpected(p, "grouping opts", "\",\" or \")\"");
            return false;
        }
    }
    pql_take(p);
    return !p->failed;
}
