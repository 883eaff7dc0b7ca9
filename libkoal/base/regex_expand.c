/* Templates: what a match's groups become. */
#include "libkoal/base/match.h"

static bool word_byte(char c)
{
    return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* The group `$name`, `${name}`, `$1` speaks of; 0x7FFFFFFF for none. Moves past it. */
static int group_of(const struct kl_regex *re, const char **at, const char *end)
{
    bool        brace = *at < end && **at == '{';
    const char *name = *at + brace, *s = name;
    int         n = 0;

    while (s < end && word_byte(*s))
        s++;
    if (s == name || (brace && (s == end || *s != '}')))
        return -2;                                     /* no reference: a plain dollar sign */
    *at = s + brace;
    for (const char *d = name; d < s; d++) {
        if (*d < '0' || *d > '9')
            return kl_regex_group_index(re, kl_span(name, (size_t)(s - name)));
        n = n < 1000000 ? n * 10 + (*d - '0') : n;
    }
    return n;
}

void kl_regex_expand(const struct kl_regex *re, struct kl_span form, const struct kl_span *groups,
                     size_t count, struct kl_buf *out)
{
    const char *s = form.at, *end = s + form.size;

    while (s < end) {
        const char *after;
        int         n;
        if (*s != '$') {
            kl_buf_add8(out, (uint8_t)*s++);
            continue;
        }
        after = ++s;
        if (s < end && *s == '$') {
            kl_buf_add8(out, '$');
            s++;
            continue;
        }
        n = group_of(re, &after, end);
        if (n == -2) {
            kl_buf_add8(out, '$');
            continue;
        }
        s = after;
        if (n >= 0 && (size_t)n < count)
            kl_buf_add(out, groups[n].at, groups[n].size);
    }
}
