/*
 * Prometheus' XOR chunk, as its tsdb/chunkenc writes it:
 *
 *   u16 count, big-endian; then bits, most significant first:
 *   sample 0   varint (zigzag) time, as bytes; 64 bits value
 *   sample 1   uvarint time delta, as bytes; value
 *   others     delta of delta: 0 -> '0'; 14 bits '10'; 17 bits '110'; 20 bits '1110'; 64 '1111'
 *              value: same as before '0'; within the last window '10' + bits;
 *              else '11', 5 bits leading zeros (at most 31), 6 bits length (64 is 0), bits
 *
 * An n-bit class holds -(2^(n-1)-1) .. 2^(n-1).
 */
#include "querier/read_bits_priv.h"

void qr_put_bit(struct qr_bits *b, unsigned bit)
{
    b->byte = (uint8_t)(b->byte | (bit & 1) << (7 - b->used));
    if (++b->used == 8) {
        kl_buf_add8(b->out, b->byte);
        b->byte = 0;
        b->used = 0;
    }
}

void qr_put_bits(struct qr_bits *b, uint64_t v, unsigned n)
{
    while (n > 0)
        qr_put_bit(b, (unsigned)(v >> --n & 1));
}

void qr_bits_end(struct qr_bits *b)
{
    if (b->used > 0)
        kl_buf_add8(b->out, b->byte);
}

static void put_uvarint(struct qr_bits *b, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        qr_put_bits(b, (v & 0x7f) | 0x80, 8);
    qr_put_bits(b, v, 8);
}

bool qr_fits(int64_t v, unsigned n)
{
    return -((INT64_C(1) << (n - 1)) - 1) <= v && v <= INT64_C(1) << (n - 1);
}

static void put_dod(struct qr_bits *b, int64_t dod)
{
    if (dod == 0) {
        qr_put_bit(b, 0);
    } else if (qr_fits(dod, 14)) {
        qr_put_bits(b, 2, 2);
        qr_put_bits(b, (uint64_t)dod, 14);
    } else if (qr_fits(dod, 17)) {
        qr_put_bits(b, 6, 3);
        qr_put_bits(b, (uint64_t)dod, 17);
    } else if (qr_fits(dod, 20)) {
        qr_put_bits(b, 14, 4);
        qr_put_bits(b, (uint64_t)dod, 20);
    } else {
        qr_put_bits(b, 15, 4);
        qr_put_bits(b, (uint64_t)dod, 64);
    }
}

void qr_put_value(struct qr_bits *b, uint64_t delta, struct qr_window *w)
{
    unsigned leading, trailing, length;

    if (delta == 0) {
        qr_put_bit(b, 0);
        return;
    }
    qr_put_bit(b, 1);
    leading = (unsigned)__builtin_clzll(delta);
    trailing = (unsigned)__builtin_ctzll(delta);
    if (leading > 31)
        leading = 31;
    if (w->any && leading >= w->leading && trailing >= w->trailing) {
        qr_put_bit(b, 0);
        qr_put_bits(b, delta >> w->trailing, 64 - w->leading - w->trailing);
        return;
    }
    *w = (struct qr_window){ leading, trailing, true };
    length = 64 - leading - trailing;
    qr_put_bit(b, 1);
    qr_put_bits(b, leading, 5);
    qr_put_bits(b, length & 63, 6);
    qr_put_bits(b, delta >> trailing, length);
}

void qr_xor_chunk(const int64_t *times_ms, const double *values, uint32_t count,
                  struct kl_buf *out)
{
    struct qr_bits   b = { .out = out };
    struct qr_window w = { 0 };
    uint64_t      delta = 0;

    kl_buf_add8(out, (uint8_t)(count >> 8));
    kl_buf_add8(out, (uint8_t)count);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t bits = kl_f64_bits(values[i]);
        uint64_t now;

        if (i == 0) {
            put_uvarint(&b, ((uint64_t)times_ms[0] << 1) ^ (uint64_t)(times_ms[0] >> 63));
            qr_put_bits(&b, bits, 64);
            continue;
        }
        now = (uint64_t)times_ms[i] - (uint64_t)times_ms[i - 1];
        if (i == 1)
            put_uvarint(&b, now);
        else
            put_dod(&b, (int64_t)(now - delta));
        delta = now;
        qr_put_value(&b, bits ^ kl_f64_bits(values[i - 1]), &w);
    }
    qr_bits_end(&b);
}
