#ifndef PQL_MATCH_PRIV_H
#define PQL_MATCH_PRIV_H
/* Signatures: the labels by which rows of two sides find each other. */
#include "libpromql/binop_priv.h"

struct pql_sides {
    struct pql_index index;
    uint32_t *left, *right;                            /* the signature of each row of either side */
    uint8_t *present;
};
struct pql_sides *pql_sides_new(struct pql_op *op);    /* NULL: out of memory */
#endif
