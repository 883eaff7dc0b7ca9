#ifndef PQL_CLASSIC_PRIV_H
#define PQL_CLASSIC_PRIV_H
/* Classic histograms: cumulative buckets with upper bounds. */
#include <stdbool.h>
#include <stdint.h>

struct pql_classic { double le, count; };
/* Counts that fell with growing bounds were raised: from which bucket to which, by how much at most. */
struct pql_forced { bool is; double least, most, diff; };
/* Both sort and change `b`; count > 0. */
double pql_classic_quantile(double q, struct pql_classic *b, uint32_t count, struct pql_forced *forced);
double pql_classic_fraction(double lower, double upper, struct pql_classic *b, uint32_t count);
#endif
