#include "libkoal/base/match.h"

bool kl_matcher_test(const struct kl_matcher *m, struct kl_span value)
{
    switch (m->op) {
    case KL_MATCH_EQ:  return kl_span_eq(m->value, value);
    case KL_MATCH_NE:  return !kl_span_eq(m->value, value);
    case KL_MATCH_RE:  return kl_regex_match(m->re, value);
    case KL_MATCH_NRE: return !kl_regex_match(m->re, value);
    }
    return false;
}

bool kl_matchers_test(const struct kl_matcher *m, size_t count, struct kl_labels l)
{
    for (size_t i = 0; i < count; i++)
        if (!kl_matcher_test(&m[i], kl_labels_get(l, m[i].name)))
            return false;
    return true;
}
