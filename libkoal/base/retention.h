#ifndef KL_RETENTION_H
#define KL_RETENTION_H
/*
 * How long samples of which series are kept: rules, of which the first that fits a series decides; what
 * none fits is kept as long as the tenant's `retention` says.
 *
 *   retention_rules:
 *     - {match: '{__name__=~"debug_.*"}', keep: 7d}
 *     - {match: 'slo{env!="test"}', keep: 400d}
 *     - {match: 'node_cpu_seconds_total', keep: 30d, keep_5m: 180d, keep_1h: 0}
 *
 * `match` is a selector: a metric's name, matchers in braces (= != =~ !~, values in quotes, escaped
 * with \), or both. `keep` is a number and one of ms s m h d; 0 is for ever. `keep_5m` and `keep_1h` are
 * how long their rows in these rollups are kept, shorter or longer than the samples; without them rows go
 * with their samples, and no later than the tenant's `rollup.5m` and `rollup.1h` say. Immutable; any thread.
 */
#include "libkoal/base/match.h"

enum { KL_RETENTION_RULES_MAX = 64, KL_RETENTION_MATCHERS_MAX = 16, KL_RETENTION_ROLLUPS = 2 };
/* Samples, and the rollups in the order of blk_rollup_ms (libblock/rollup.h). */
enum kl_retention_what { KL_RETENTION_SAMPLES = -1, KL_RETENTION_5M, KL_RETENTION_1H };

struct kl_retention;
/* `list` as KL_OPT_LIST keeps it (config.h). The words name the rule, counted from 1. */
enum kl_code kl_retention_new(const char *list, struct kl_retention **r, struct kl_err *err);
void         kl_retention_free(struct kl_retention *r);                        /* NULL is fine */
enum kl_code kl_retention_check(const char *list, struct kl_err *err);        /* for an option's row */
uint64_t     kl_retention_hash(const struct kl_retention *r);                 /* of the list's text */
size_t       kl_retention_count(const struct kl_retention *r);
/* Has each rule, and all that it says, an effect? KL_EINVAL with words that say which has none, why, and what to do:
 * one that keeps rows of a rollup that is not made, or one behind another that fits whatever it fits. Only what is
 * certain is told. `makes`: are there rows of that rollup? `tenant` is for the words; NULL: all. */
enum kl_code kl_retention_effect(const struct kl_retention *r, const bool makes[KL_RETENTION_ROLLUPS], const char *tenant,
                                 struct kl_err *err);
/* The matchers of a rule. */
size_t       kl_retention_rule(const struct kl_retention *r, size_t i, const struct kl_matcher **m);
/* How long it keeps what; 0: for ever. What no rule fits, and rows of a rule that does not speak of them
 * and keeps the samples longer, are kept as the tenant's option says: otherwise_ms. */
int64_t      kl_retention_keep(const struct kl_retention *r, size_t i, enum kl_retention_what what, int64_t otherwise_ms);
/* The rule that fits a series; none: kl_retention_count. */
size_t       kl_retention_find(const struct kl_retention *r, struct kl_labels labels);
/* Does the rule speak of that at all? */
bool         kl_retention_says(const struct kl_retention *r, size_t i, enum kl_retention_what what);
/* What holds for a series. r NULL: there are no rules. */
int64_t      kl_retention_of(const struct kl_retention *r, struct kl_labels labels, enum kl_retention_what what,
                             int64_t otherwise_ms);
#endif
