#ifndef DM_OTLP_IN_H
#define DM_OTLP_IN_H
/* What OTLP's two ways in, HTTP and gRPC, have in common: a body made ready to be pushed. Pure. */
#include "doorman/doorman.h"

/*
 * p->body, unpacked, in JSON or protobuf, becomes the message a gate reads, checked down to its
 * metrics; `cap_bytes` bounds it. *gate: where dm_push should send it: with `connection`, unless it
 * tells deltas, whose sums are remembered in one gate a tenant. On failure p->body is the caller's to free.
 * KL_EINVAL: no OTLP; KL_ELIMIT: too large.
 */
enum kl_code dm_otlp_body(struct dm_push *p, bool json, size_t cap_bytes, unsigned connection,
                          unsigned *gate, struct kl_err *err);
int dm_otlp_code(unsigned http_status);                /* gRPC's for it */
#endif
