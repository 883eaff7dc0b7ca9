/*
 * A column of doubles: the cheapest of
 *
 *   0x00          raw: count times 8 bytes
 *   0x01          the bits as integers: an integer column
 *   0x20 + e      decimal: an integer column of m, v = m / 10^e                        e 0..22
 *   0x40 + e      decimal with values set aside: those (codec_decimal.c), then as above
 *   0x60 + e      decimal and distance: an integer column of m, one of units in the last place
 *
 * Whatever is chosen, the bits come back as they were.
 */
#include "libblock/blk_priv.h"

enum { RAW = 0x00, BITS = 0x01, DECIMAL = 0x20, ASIDE = 0x40, ULPS = 0x60, FORM = 0xe0, E = 0x1f };
enum { DEAR_BITS = 24,                                 /* a sample: then look further */
       ASIDE_BITS = 48 };                              /* of one value set aside, roughly */

/* The bits as integers: the arrays have the same size, and we build without strict aliasing. */
static const uint64_t *bits_of(const double *v) { return (const uint64_t *)(const void *)v; }

static uint64_t *bits_in(double *v) { return (uint64_t *)(void *)v; }

/* Decimals with a distance, where they are cheaper than `most_bits`; else nothing is written. */
static bool write_ulps(const double *v, uint32_t count, uint64_t most_bits, struct kl_buf *out)
{
    uint64_t            m[BLK_CHUNK_MAX], ulps[BLK_CHUNK_MAX];
    struct blk_int_plan near, distance;
    unsigned            e;

    if (!blk_decimal_ulps(v, count, &e, m, ulps))
        return false;
    blk_int_choose(m, count, &near);
    blk_int_choose(ulps, count, &distance);
    if (near.bits + distance.bits >= most_bits)
        return false;
    kl_buf_add8(out, (uint8_t)(ULPS + e));
    blk_int_write(m, count, &near, out);
    blk_int_write(ulps, count, &distance, out);
    return true;
}

void blk_value_encode(const double *v, uint32_t count, struct kl_buf *out)
{
    uint64_t            m[BLK_CHUNK_MAX], least, raw_bits = (uint64_t)count * 64;
    struct blk_decimal  d;
    struct blk_int_plan decimal = { .bits = UINT64_MAX }, whole = { .bits = UINT64_MAX };

    if (blk_decimal_split(v, count, &d, m)) {
        blk_int_choose(m, count, &decimal);
        decimal.bits += d.aside_count * ASIDE_BITS;
    }
    if (decimal.bits > (uint64_t)count * DEAR_BITS) {
        blk_int_choose(bits_of(v), count, &whole);
        least = decimal.bits < whole.bits ? decimal.bits : whole.bits;
        least = least < raw_bits ? least : raw_bits;
        if (write_ulps(v, count, least, out))
            return;
        if (least == raw_bits) {
            kl_buf_add8(out, RAW);
            kl_buf_add(out, v, count * sizeof *v);
            return;
        }
    }
    if (whole.bits < decimal.bits) {
        kl_buf_add8(out, BITS);
        blk_int_write(bits_of(v), count, &whole, out);
        return;
    }
    kl_buf_add8(out, (uint8_t)((d.aside_count > 0 ? ASIDE : DECIMAL) + d.exponent));
    if (d.aside_count > 0)
        blk_aside_write(v, &d, out);
    blk_int_write(m, count, &decimal, out);
}

void blk_value_encode_quick(const double *v, uint32_t count, struct kl_buf *out)
{
    const uint64_t *bits = bits_of(v);
    uint64_t        differ = 0;

    for (uint32_t i = 1; i < count; i++)
        differ |= bits[i] ^ bits[0];
    if (differ == 0) {
        kl_buf_add8(out, BITS);
        blk_int_encode_quick(bits, count, out);
    } else {
        kl_buf_add8(out, RAW);
        kl_buf_add(out, v, count * sizeof *v);
    }
}

bool blk_value_decode(const struct blk_kernels *k, struct kl_cur *c, uint32_t count, double *v)
{
    uint64_t      x[BLK_CHUNK_MAX];
    uint8_t       form = kl_cur_8(c);
    struct kl_cur aside = *c;
    bool          once;

    if (c->bad)
        return false;
    if (form == RAW) {
        struct kl_span raw = kl_cur_bytes(c, (size_t)count * 8);
        if (c->bad)
            return false;
        memcpy(v, raw.at, raw.size);
        return true;
    }
    if (form == BITS) {
        if (!blk_int_decode(k, c, count, x))
            return false;
        memcpy(v, x, count * sizeof *v);
        return true;
    }
    if ((form & FORM) < DECIMAL || (form & FORM) > ULPS || (form & E) > BLK_DECIMAL_E_MAX)
        return false;
    if ((form & FORM) == ASIDE && !blk_aside_read(c, count, NULL))
        return false;
    /* Most chunks are one value all over: that is converted once. (The column's first byte, which
     * decode checks, tells; 0xff is no such byte.) */
    once = (kl_cur_left(c) > 0 ? *c->at : 0xff) == BLK_INT_CONST;
    if (!blk_int_decode(k, c, once ? 1 : count, x))
        return false;
    k->decimal(x, once ? 1 : count, form & E, v);
    if (once)
        k->fill(bits_in(v), count, kl_f64_bits(v[0]));
    if ((form & FORM) == ASIDE)
        return blk_aside_read(&aside, count, v);
    if ((form & FORM) == ULPS) {
        if (!blk_int_decode(k, c, count, x))
            return false;
        for (uint32_t i = 0; i < count; i++)
            v[i] = kl_bits_f64(kl_f64_bits(v[i]) + x[i]);
    }
    return true;
}

bool blk_value_skip(struct kl_cur *c, uint32_t count, uint8_t *form, uint8_t *head)
{
    uint8_t ignored;

    *form = kl_cur_8(c);
    *head = 0;
    if (c->bad)
        return false;
    if (*form == RAW) {
        kl_cur_bytes(c, (size_t)count * 8);
        return !c->bad;
    }
    if (*form == BITS)
        return blk_int_skip(c, count, head);
    if ((*form & FORM) < DECIMAL || (*form & FORM) > ULPS || (*form & E) > BLK_DECIMAL_E_MAX)
        return false;
    if ((*form & FORM) == ASIDE && !blk_aside_read(c, count, NULL))
        return false;
    return blk_int_skip(c, count, head) &&
           ((*form & FORM) != ULPS || blk_int_skip(c, count, &ignored));
}
