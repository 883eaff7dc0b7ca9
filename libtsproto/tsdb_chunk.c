/*
 * A chunk of doubles (XOR, or "Gorilla"): u16 count, then bits:
 *
 *   sample 0   time as a zigzag varint of whole bytes, 64 bits of value
 *   sample 1   delta of the time as a varint, value
 *   others     delta of delta: 0; 10 and 14 bits; 110, 17; 1110, 20; 1111, 64; value
 */
#include "libtsproto/tsdb_priv.h"

static enum kl_code cut_short(struct kl_err *err)
{
    return kl_fail(err, KL_ECORRUPT, "chunk is cut short, or not of its encoding");
}

static uint64_t varint(struct tsp_bits *b)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 70; shift += 7) {
        uint64_t byte = tsp_bits_get(b, 8);

        if (shift == 63 && byte > 1)
            break;
        v |= (byte & 0x7f) << shift;
        if (byte < 0x80)
            return v;
    }
    b->bad = true;
    return 0;
}

static int64_t delta_of_delta(struct tsp_bits *b)
{
    static const uint8_t sizes[] = { 0, 14, 17, 20, 64 };
    unsigned             n = sizes[tsp_bits_ones(b, 4)];

    return n == 0 ? 0 : tsp_bits_signed(b, n);
}

enum kl_code tsp_tsdb_floats(struct kl_span data, int64_t *times_ms, double *values, uint32_t *count,
                             struct kl_err *err)
{
    struct tsp_bits   b;
    struct tsp_window w = { 0 };
    uint64_t          time = 0, delta = 0, v;
    double            value = 0;
    uint32_t          n;

    if (data.size < 2)
        return cut_short(err);
    n = tsp_tsdb_be16(data.at);
    b = tsp_bits((const uint8_t *)data.at + 2, data.size - 2);
    for (uint32_t i = 0; i < n; i++) {
        if (i == 0) {
            v = varint(&b);
            time = v >> 1 ^ (0 - (v & 1));
            value = kl_bits_f64(tsp_bits_64(&b));
        } else {
            delta = i == 1 ? varint(&b) : delta + (uint64_t)delta_of_delta(&b);
            time += delta;
            value = tsp_bits_xor(&b, value, &w);
        }
        if (b.bad)
            return cut_short(err);
        if (i > 0 && (int64_t)time <= times_ms[i - 1])
            return kl_fail(err, KL_ECORRUPT, "chunk whose times do not rise");
        times_ms[i] = (int64_t)time;
        values[i] = value;
    }
    *count = n;
    return KL_OK;
}

/* ---- around chunks ---- */

enum kl_code tsp_tsdb_chunks_head(const uint8_t head[TSP_TSDB_CHUNKS_HEAD], struct kl_err *err)
{
    if (tsp_tsdb_be32(head) != 0x85bd40dd)
        return kl_fail(err, KL_ECORRUPT, "is no file of chunks: it begins with %08x",
                       (unsigned)tsp_tsdb_be32(head));
    if (head[4] != 1)
        return kl_fail(err, KL_ECORRUPT, "is a file of chunks of version %u, and only 1 is known", head[4]);
    return KL_OK;
}

uint64_t tsp_tsdb_chunk_size(struct kl_span head) { return tsp_tsdb_sized(head, 5); }

enum kl_code tsp_tsdb_chunk_content(struct kl_span bytes, uint8_t *encoding, struct kl_span *data,
                                    struct kl_err *err)
{
    struct kl_span content;

    if (tsp_tsdb_sized_content(bytes, 5, "chunk", &content, err) != KL_OK)
        return err->code;
    *encoding = *(const uint8_t *)content.at;
    *data = kl_span((const uint8_t *)content.at + 1, content.size - 1);
    return KL_OK;
}
