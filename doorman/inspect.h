#ifndef DM_INSPECT_H
#define DM_INSPECT_H
/*
 * Whether a series may enter, and what is said of those that may not. Everything that can be refused is
 * refused here, before the log; after the ack nothing is. Pure.
 */
#include <stddef.h>
#include <stdint.h>

#include "doorman/doorman.h"
#include "libkoal/base/labels.h"

enum dm_reason {
    DM_FINE, DM_NO_NAME, DM_EMPTY_NAME, DM_DUPLICATE_NAME, DM_UNSORTED, DM_NOT_UTF8, DM_TOO_MANY_LABELS,
    DM_NAME_TOO_LONG, DM_VALUE_TOO_LONG, DM_LABELS_TOO_LONG, DM_TOO_OLD, DM_TOO_NEW, DM_MALFORMED,
    DM_REASONS
};
const char *dm_reason_name(enum dm_reason r);          /* for metrics: "no_name" */
const char *dm_reason_words(enum dm_reason r);         /* for people: "no __name__" */

/* Inspects labels as sent and, when fine, appends their canonical form to `out`. `sorted`: the format
 * promises sorted names (remote write), so unsorted ones are refused; else they are sorted. */
enum dm_reason dm_inspect(struct kl_labels_builder *b, const struct dm_limits *limits, bool sorted,
                          struct kl_buf *out);

/* What was refused in one push: counts by reason, and the first offenders by name. */
enum { DM_OFFENDERS_MAX = 5, DM_OFFENDER_BYTES = 160 };
struct dm_refusals {
    uint64_t count[DM_REASONS];
    uint64_t total;
    unsigned named;
    struct { enum dm_reason reason; char text[DM_OFFENDER_BYTES]; } first[DM_OFFENDERS_MAX];
};
/* `b` may be NULL where the labels are unknown; `detail` may be NULL. */
void dm_refuse(struct dm_refusals *r, enum dm_reason reason, const struct kl_labels_builder *b,
               const char *detail);
/* One sentence, then a line an offender; cut to `size`. */
void dm_refusals_text(const struct dm_refusals *r, char *text, size_t size);
#endif
