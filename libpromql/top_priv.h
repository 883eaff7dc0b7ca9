#ifndef PQL_TOP_PRIV_H
#define PQL_TOP_PRIV_H
/* A range vector as the answer. */
#include "libpromql/eval_priv.h"

const struct pql_out_series *pql_top_matrix_series(const struct pql_op *op, size_t *count);
#endif
