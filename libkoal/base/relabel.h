#ifndef KL_RELABEL_H
#define KL_RELABEL_H
/*
 * Relabelling, with Prometheus' rules: source_labels, separator, regex (anchored), modulus,
 * target_label, replacement and the actions replace, keep, drop, keepequal, dropequal, hashmod,
 * labelmap, labeldrop, labelkeep, lowercase, uppercase. $1, ${1}, $name and ${name} stand in
 * replacement, and in the target of replace; names are any UTF-8. An absent label is the empty
 * string; a label that is set to it goes. Labels whose names begin with __tmp go after the last rule.
 *
 * A kl_relabel is immutable once made: any thread may apply it.
 */
#include "libkoal/base/labels.h"

enum { KL_RELABEL_RULES_MAX = 1000 };

struct kl_relabel;
/* `list` as KL_OPT_LIST keeps it (config.h). The words name the rule, counted from 1. */
enum kl_code kl_relabel_new(const char *list, struct kl_relabel **r, struct kl_err *err);
void         kl_relabel_free(struct kl_relabel *r);
size_t       kl_relabel_count(const struct kl_relabel *r);
enum kl_code kl_relabel_check(const char *list, struct kl_err *err);          /* for an option's row */

enum kl_relabelled { KL_RELABEL_KEPT, KL_RELABEL_DROPPED, KL_RELABEL_FULL };
/* Changes the labels in `b`, whose names must differ; new text lies in `a`. FULL: the arena, or the
 * builder, is full; `b` is then good for nothing. The order of the labels is lost. */
enum kl_relabelled kl_relabel_apply(const struct kl_relabel *r, struct kl_labels_builder *b,
                                    struct kl_arena *a);
#endif
