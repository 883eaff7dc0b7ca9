#ifndef KL_HIST_H
#define KL_HIST_H
/*
 * A native histogram as a value, always in float form (an integer histogram of the wire is
 * converted exactly: counts below 2^53). Source: Prometheus remote write 2.0 spec and the
 * "Native Histograms" specification.
 *
 * schema -4..8: exponential, base 2^(2^-schema); schema -53: custom bounds, only positive spans,
 * `bounds` ascending, the last bucket open to +Inf. Spans: offset from the previous span's end
 * (first: from index 0), then that many buckets. Buckets hold absolute counts, not deltas.
 * The arrays belong to whoever made the value (an arena, a decoder's scratch); a copy of the
 * struct is a copy of the reference. The stale marker is a histogram whose sum is KL_STALE_BITS.
 */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { KL_HIST_CUSTOM = -53, KL_HIST_BUCKETS_MAX = 65536, KL_HIST_SPANS_MAX = 16384 };
enum kl_hist_reset { KL_HIST_UNKNOWN = 0, KL_HIST_RESET, KL_HIST_NO_RESET, KL_HIST_GAUGE };

struct kl_hist_span { int32_t offset; uint32_t length; };
struct kl_hist {
    int32_t schema;
    uint8_t reset;                                     /* enum kl_hist_reset */
    bool    was_int;                                   /* integer on the wire; for the codec only */
    double  zero_threshold, zero_count, count, sum;
    uint32_t pos_span_count, neg_span_count, pos_count, neg_count, bound_count;
    const struct kl_hist_span *pos_spans, *neg_spans;
    const double *pos, *neg;                           /* absolute bucket counts */
    const double *bounds;                              /* custom bounds; NULL unless schema -53 */
};

/* Prometheus' stale marker: a NaN with these bits ends a series. Any other NaN is a value. */
#define KL_STALE_BITS 0x7ff0000000000002ull
static inline uint64_t kl_f64_bits(double v) { uint64_t u; memcpy(&u, &v, 8); return u; }
static inline double   kl_bits_f64(uint64_t u) { double v; memcpy(&v, &u, 8); return v; }
static inline bool     kl_is_stale(double v) { return kl_f64_bits(v) == KL_STALE_BITS; }
#endif
