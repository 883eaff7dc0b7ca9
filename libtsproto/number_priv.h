#ifndef TSP_NUMBER_PRIV_H
#define TSP_NUMBER_PRIV_H
/*
 * Numbers in text formats, read as Go's strconv does: the grammar that Prometheus takes.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/mem.h"

/* Decimal, or (case aside) Inf, Infinity, NaN with a sign. Hexadecimal, underscores, what overflows,
 * and more than TSP_NUMBER_MAX bytes are refused. NaN is Prometheus' ordinary one. */
enum { TSP_NUMBER_MAX = 400 };
#define TSP_NAN_BITS 0x7ff8000000000001ull
bool tsp_number_double(struct kl_span text, double *v);
bool tsp_number_nan(struct kl_span text, double *v);           /* NaN(0x7ff8000000000000), of these bits */
bool tsp_number_int64(struct kl_span text, int64_t *v);        /* decimal, with a sign or without */
bool tsp_number_uint64(struct kl_span text, uint64_t *v);      /* decimal, no sign */
#endif
