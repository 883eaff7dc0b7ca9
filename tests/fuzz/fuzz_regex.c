/*
 * A pattern and texts, divided by NUL: what kl_regex reduces must match exactly as RE2 does, whose
 * verdict kl_regex_groups gives; and what it says of sets and prefixes must hold.
 */
#include "libkoal/base/match.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void check(const struct kl_regex *re, struct kl_span text)
{
    const struct kl_span *set;
    struct kl_span        prefix = kl_regex_prefix(re), group;
    size_t                n = kl_regex_set(re, &set);
    bool                  yes = kl_regex_match(re, text), in_set = false;

    if (!kl_utf8_ok(text))                             /* values are UTF-8 where this is used */
        return;
    if (yes != (kl_regex_groups(re, text, &group, 1) > 0))
        abort();
    for (size_t i = 0; i < n; i++)
        in_set |= kl_span_eq(set[i], text);
    if (n > 0 && in_set != yes)
        abort();
    if (yes && (text.size < prefix.size || memcmp(text.at, prefix.at, prefix.size) != 0))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t   *end = size > 0 ? memchr(data, 0, size) : NULL;
    size_t           n = end != NULL ? (size_t)(end - data) : size;
    struct kl_regex *re;
    struct kl_err    err;
    const struct kl_span *set;

    if (n > 200 || kl_regex_new(kl_span(data, n), &re, &err) != KL_OK)
        return 0;
    for (size_t at = n + 1; at <= size; ) {
        const uint8_t *stop = at < size ? memchr(data + at, 0, size - at) : NULL;
        size_t         k = stop != NULL ? (size_t)(stop - data) - at : size - at;
        check(re, kl_span(data + at, k));
        at += k + 1;
    }
    for (size_t i = 0, count = kl_regex_set(re, &set); i < count; i++)
        check(re, set[i]);
    check(re, kl_span(data, n));
    check(re, kl_regex_prefix(re));
    kl_regex_free(re);
    return 0;
}
