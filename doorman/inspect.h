#ifndef DM_INSPECT_H
#define DM_INSPECT_H
/*
 * What the doorman refuses, and how it says so: everything a sample can be refused for is found
 * here, before the log; nothing is refused afterwards. A report counts per reason and keeps the first
 * offender of each by name. Pure.
 */
#include <stdbool.h>
#include <stdint.h>

#include "doorman/doorman.h"
#include "libkoal/base/labels.h"

enum dm_reason {
    DM_GOOD,
    DM_NAMELESS,                                       /* no __name__ */
    DM_UNSORTED, DM_TWICE, DM_NO_LABEL_NAME, DM_NOT_UTF8, DM_MALFORMED,
    DM_TOO_MANY_LABELS, DM_LONG_NAME, DM_LONG_VALUE, DM_LARGE_SET,
    DM_TOO_OLD, DM_TOO_NEW,
    DM_TOO_MANY_SERIES, DM_TOO_MANY_SAMPLES, DM_TOO_MANY_CLUSTERS,
    DM_BAD_HIST, DM_BAD_EXEMPLAR, DM_BAD_METADATA, DM_BAD_LINE, DM_BAD_NUMBER, DM_BROKEN,
    DM_BAD_POINT, DM_NO_VALUE, DM_TEMPORALITY, DM_DELTA_LATE, DM_DELTA_FULL,
    DM_REASONS,
    DM_DROPPED                                         /* no refusal: a rule wants it gone */
};
/* Times beyond it would overflow arithmetic further in: 2^53 ms, some 285,000 years. */
#define DM_TIME_MAX INT64_C(9007199254740992)

enum { DM_OFFENDER_MAX = 120 };
struct dm_report {
    uint64_t total, counts[DM_REASONS];
    char     first[DM_REASONS][DM_OFFENDER_MAX + 1];
};

/* Judges a label set as sent. `in_order`: the format demands sorted names (remote write). Names
 * given twice are found here only when in order; kl_labels_finish finds the others. What is too long
 * is not looked through: in some formats many series share one text, and each would cost all of it. */
/* The same of its form alone, before rules that may change it: names given twice are always found. */
enum dm_reason dm_inspect_form(const struct kl_labels_builder *b, bool in_order);
enum dm_reason dm_inspect_labels(const struct dm_limits *limits, const struct kl_labels_builder *b,
                                 bool in_order, struct kl_span *metric);
enum dm_reason dm_inspect_time(const struct dm_limits *limits, int64_t now_ms, int64_t time_ms);

const char *dm_reason_name(enum dm_reason r);          /* for a metric's label: "unsorted" */
/* Counts `count` samples refused; `b` (or `words` when NULL) names the offender if it is the first. */
void dm_report_add(struct dm_report *r, enum dm_reason why, uint64_t count,
                   const struct kl_labels_builder *b, const char *words);
/* The sentence for the sender; at most `size` bytes with the NUL. */
void dm_report_write(const struct dm_report *r, uint64_t stored, char *text, size_t size);
#endif
