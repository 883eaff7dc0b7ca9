#ifndef KL_RETENTION_H
#define KL_RETENTION_H
/*
 * How long samples of which series are kept: rules, of which the first that fits a series decides; what
 * none fits is kept as long as the tenant's `retention` says.
 *
 *   retention_rules:
 *     - {match: '{__name__=~"debug_.*"}', keep: 7d}
 *     - {match: 'slo{env!="test"}', keep: 400d}
 *
 * `match` is a selector: a metric's name, matchers in braces (= != =~ !~, values in quotes, escaped
 * with \), or both. `keep` is a number and one of ms s m h d; 0 is for ever. Immutable; any thread.
 */
#include "libkoal/base/match.h"

enum { KL_RETENTION_RULES_MAX = 64, KL_RETENTION_MATCHERS_MAX = 16 };

struct kl_retention;
/* `list` as KL_OPT_LIST keeps it (config.h). The words name the rule, counted from 1. */
enum kl_code kl_retention_new(const char *list, struct kl_retention **r, struct kl_err *err);
void         kl_retention_free(struct kl_retention *r);                        /* NULL is fine */
enum kl_code kl_retention_check(const char *list, struct kl_err *err);        /* for an option's row */
uint64_t     kl_retention_hash(const struct kl_retention *r);                 /* of the list's text */
size_t       kl_retention_count(const struct kl_retention *r);
/* The matchers of a rule; keep_ms 0: for ever. */
size_t       kl_retention_rule(const struct kl_retention *r, size_t i, const struct kl_matcher **m,
                               int64_t *keep_ms);
/* What holds for a series; where no rule fits, otherwise_ms. 0: for ever. */
int64_t      kl_retention_of(const struct kl_retention *r, struct kl_labels labels, int64_t otherwise_ms);
#endif
