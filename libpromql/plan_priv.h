#ifndef PQL_PLAN_PRIV_H
#define PQL_PLAN_PRIV_H
/* From tree to operators. */
#include "libpromql/eval_priv.h"

bool pql_prepare_tree(struct pql_query *q);            /* prepare_tree.c */
#endif
