#ifndef PQL_BINOP_PRIV_H
#define PQL_BINOP_PRIV_H
/* One operator on two samples, floats or histograms. */
#include "libpromql/hist_priv.h"

struct pql_operand { double v; const struct kl_hist *h; };
/* False: no result (the operator does not apply; it was said). *keep: whether a comparison held. */
bool pql_elem(struct pql_op *op, unsigned worker, uint32_t step, struct pql_operand a, struct pql_operand b,
              bool notes, bool *keep, struct pql_operand *out);
static inline bool pql_changes_name(uint8_t op)        /* arithmetic does, comparison does not */
{
    return op >= T_ADD && op <= T_ATAN2;
}
static inline struct pql_operand pql_operand(const struct pql_row *r, uint32_t i)
{
    return (struct pql_operand){ r->has[i] == P_HIST ? 0 : r->v[i],
                                 r->has[i] == P_HIST ? r->h[i] : NULL };
}
#endif
