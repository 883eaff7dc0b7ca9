#ifndef PQL_AGG_PRIV_H
#define PQL_AGG_PRIV_H
/* Grouping rows by labels. */
#include "libpromql/hist_priv.h"

struct pql_groups {
    struct pql_index index;                            /* keys: the groups' labels */
    uint32_t count;
    uint32_t *members, *begins;                        /* group g: members[begins[g] .. begins[g+1]) */
};
/* A group's members stand as their rows do; `by_part`: those of a lower part before those of a higher one. */
bool pql_group(struct pql_op *op, const struct pql_rows *in, bool without, struct pql_names names, bool by_part,
               struct pql_groups *g);
/* The grouping labels; with `without` also the name, with `by` also `more` where it is not "". */
struct pql_names pql_grouping_names(struct pql_op *op, const struct pql_node *n, struct kl_span more);
/* sum or avg of one group at one step, histograms and floats as they come. */
void pql_agg_step(struct pql_op *op, unsigned worker, bool average, const struct pql_row *rows,
                  const uint32_t *members, uint32_t count, struct pql_row *out, uint32_t step);
/* Adds the sum of a part, `c` what it was compensated by, to that of the parts before it. */
void pql_sum_join(double v, double c, double *sum, double *sum_c);
/* Are two of them equal, or one no number? Sorts them. */
bool pql_equal_values(double *values, uint32_t count);
/* A series' place in [0, 1]; whether a ratio (negative: from the other end) takes it. */
double pql_ratio_of(struct kl_labels l, struct kl_buf *scratch);
bool   pql_ratio_takes(double ratio, double offset);
#endif
