#ifndef TSP_WIRE_PRIV_H
#define TSP_WIRE_PRIV_H
/*
 * The protobuf wire format (protobuf.dev/programming-guides/encoding), read field by field where it
 * lies: no objects, no allocation. A field of a type that its number does not have is for the caller
 * to refuse; an unknown number is for the caller to pass over. Groups (types 3 and 4, deprecated
 * since proto2 and in none of our messages) make the message bad.
 *
 * Everything here is inline: it is what every sample passes through.
 */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"
#include "libkoal/base/hist.h"

enum tsp_wire_type { TSP_VARINT = 0, TSP_FIXED64 = 1, TSP_BYTES = 2, TSP_FIXED32 = 5 };

struct tsp_field {
    uint32_t number;
    uint8_t  type;                                     /* enum tsp_wire_type */
    uint64_t v;                                        /* a varint's or fixed value's bits */
    struct kl_span bytes;                              /* of TSP_BYTES */
};

static inline uint64_t tsp_wire_bad(struct kl_cur *c)
{
    c->bad = true;
    c->at = c->end;
    return 0;
}

static inline uint64_t tsp_wire_varint(struct kl_cur *c)
{
    uint64_t v = 0;

    if (c->at < c->end && *c->at < 0x80)
        return *c->at++;
    for (unsigned shift = 0; c->at < c->end && shift < 70; shift += 7) {
        uint8_t b = *c->at++;
        if (shift == 63 && b > 1)
            break;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80)
            return v;
    }
    return tsp_wire_bad(c);
}

static inline uint64_t tsp_wire_fixed(struct kl_cur *c, size_t size)
{
    uint64_t v = 0;

    if ((size_t)(c->end - c->at) < size)
        return tsp_wire_bad(c);
    memcpy(&v, c->at, size);                           /* little-endian, as the wire and our machines */
    c->at += size;
    return v;
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "fixed values are copied as they lie");

static inline struct kl_span tsp_wire_bytes(struct kl_cur *c)
{
    uint64_t       size = tsp_wire_varint(c);
    const uint8_t *at = c->at;

    if (size > (size_t)(c->end - c->at)) {
        tsp_wire_bad(c);
        return kl_span("", 0);
    }
    c->at += size;
    return kl_span(at, (size_t)size);
}

/* The next field; false at the end, or when the bytes are no protobuf (then c->bad). */
static inline bool tsp_wire_next(struct kl_cur *c, struct tsp_field *f)
{
    uint64_t tag;

    if (c->at == c->end)
        return false;
    tag = tsp_wire_varint(c);
    if (tag >> 3 == 0 || tag >> 3 > 0x1fffffff) {
        tsp_wire_bad(c);
        return false;
    }
    *f = (struct tsp_field){ .number = (uint32_t)(tag >> 3), .type = tag & 7 };
    switch (f->type) {
    case TSP_VARINT:  f->v = tsp_wire_varint(c); break;
    case TSP_FIXED64: f->v = tsp_wire_fixed(c, 8); break;
    case TSP_FIXED32: f->v = tsp_wire_fixed(c, 4); break;
    case TSP_BYTES:   f->bytes = tsp_wire_bytes(c); break;
    default:          tsp_wire_bad(c);
    }
    return !c->bad;
}

static inline struct kl_cur tsp_wire_in(struct kl_span message)
{
    return (struct kl_cur){ .at = message.at, .end = message.size == 0   /* NULL and nothing is fine */
                            ? message.at : (const uint8_t *)message.at + message.size };
}

static inline int64_t tsp_wire_zigzag(uint64_t v) { return (int64_t)(v >> 1 ^ (0 - (v & 1))); }

/*
 * prometheus.Histogram and io.prometheus.write.v2.Histogram, whose fields are numbered alike
 * (wire_hist.c). *start_ms is 0 when there is none. Arrays lie in `arena`. KL_EINVAL for what
 * Prometheus refuses too, or what is not exact as doubles (kl_hist); KL_ELIMIT past the bounds.
 */
struct kl_arena;
enum kl_code tsp_wire_hist(struct kl_span message, struct kl_arena *arena, int64_t *time_ms,
                           int64_t *start_ms, struct kl_hist *h, struct kl_err *err);
/* What is refused of a histogram, whatever form it came in. KL_EINVAL, in words. */
enum kl_code tsp_hist_check(const struct kl_hist *h, struct kl_err *err);
#endif
