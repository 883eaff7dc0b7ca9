#ifndef KL_MATCH_H
#define KL_MATCH_H
/*
 * Label matchers and their regular expressions. Go/RE2 syntax, anchored as ^(?s:...)$, linear
 * time whatever the pattern. A pattern is first reduced to equality, a set of literals, a prefix,
 * a suffix or "contains" where it is one; RE2 (in regex_re2.cc, the one file that knows it) does
 * the rest. A kl_regex is immutable once made: any thread may match with it.
 */
#include <stdbool.h>

#include "libkoal/base/err.h"
#include "libkoal/base/labels.h"

enum { KL_REGEX_PATTERN_MAX = 64 * 1024, KL_REGEX_MEMORY_MAX = 8 << 20 };

struct kl_regex;
enum kl_code kl_regex_new(struct kl_span pattern, struct kl_regex **re, struct kl_err *err);
void         kl_regex_free(struct kl_regex *re);
bool         kl_regex_match(const struct kl_regex *re, struct kl_span text);
/* Where the pattern is a finite set of literals (also one), fills *set (borrowed from re) and
 * returns their count, else 0. Where every match begins with some literal, fills *prefix. */
size_t       kl_regex_set(const struct kl_regex *re, const struct kl_span **set);
struct kl_span kl_regex_prefix(const struct kl_regex *re);
/* For label_replace and relabelling: full match with groups; group 0 is the whole text.
 * Returns the number of groups filled (0: no match), at most `max`. Names: kl_regex_group_index
 * gives the number of a named group, or -1. */
size_t       kl_regex_groups(const struct kl_regex *re, struct kl_span text,
                             struct kl_span *groups, size_t max);
int          kl_regex_group_index(const struct kl_regex *re, struct kl_span name);

/* Go's Regexp.Expand: `form` with $1, ${1}, $name and ${name} replaced by groups; $$ is a dollar. */
void         kl_regex_expand(const struct kl_regex *re, struct kl_span form,
                             const struct kl_span *groups, size_t count, struct kl_buf *out);

enum kl_match_op { KL_MATCH_EQ, KL_MATCH_NE, KL_MATCH_RE, KL_MATCH_NRE };
struct kl_matcher {
    enum kl_match_op op;
    struct kl_span   name, value;                      /* value: the literal, or the pattern */
    const struct kl_regex *re;                         /* for RE and NRE; owned by the maker */
};
/* An absent label is the empty string. */
bool kl_matcher_test(const struct kl_matcher *m, struct kl_span value);
bool kl_matchers_test(const struct kl_matcher *m, size_t count, struct kl_labels l);
#endif
