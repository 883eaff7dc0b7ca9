#ifndef TSP_TIMETEXT_PRIV_H
#define TSP_TIMETEXT_PRIV_H
/*
 * Times as people write them, by a layout in the manner of Go's package time: the layout is how the moment
 * "Monday, January 2, 2006, 15:04:05 at UTC-7" would be written. Pure.
 *
 *   2006 06 · 01 1 Jan January · 02 2 _2 · 15 03 3 PM pm · 04 4 · 05 5 · .000 .999 (or with a comma)
 *   Z07:00 Z0700 Z07 -07:00 -0700 -07 · MST · Mon Monday       all else stands for itself
 *
 * As in Go, a fraction may follow the seconds where the layout has none. Without a zone it is UTC; of the
 * abbreviations only UTC, GMT and Z are known: the others mean different things to different people.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/err.h"
#include "libkoal/base/mem.h"

#define TSP_TIME_RFC3339 "2006-01-02T15:04:05Z07:00"
/* Whether a layout can be read by: KL_EINVAL names what cannot. */
enum kl_code tsp_time_layout_check(struct kl_span layout, struct kl_err *err);
/* Rounded down to the millisecond. False: the text is not of this layout, or no such time exists. */
bool         tsp_time_parse(struct kl_span layout, struct kl_span text, int64_t *ms);
#endif
