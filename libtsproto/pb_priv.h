#ifndef TSP_PB_PRIV_H
#define TSP_PB_PRIV_H
/*
 * What our control messages need of nanopb (pb.c): byte fields and repeated messages by callback, as
 * Debian's nanopb counts fields in 16 bits and payloads would not fit. Small or rare messages only.
 */
#include <pb_decode.h>
#include <pb_encode.h>

#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"

/* A bytes field, written from a kl_span that outlives the encoding; nothing when it is empty. */
pb_callback_t tsp_pb_put(const struct kl_span *span);
/* A bytes field, read into `*span`; its bytes lie in `arena`. */
struct tsp_pb_bytes { struct kl_arena *arena; struct kl_span *span; };
pb_callback_t tsp_pb_get(struct tsp_pb_bytes *to);

enum kl_code tsp_pb_encode(const pb_msgdesc_t *fields, const void *message, struct kl_buf *out,
                           const char *what, struct kl_err *err);
enum kl_code tsp_pb_decode(const pb_msgdesc_t *fields, struct kl_span bytes, void *message,
                           const char *what, struct kl_err *err);
#endif
