/*
 * Doubles as decimals. Most metrics are: counts, bytes, ticks of a hundredth, nanoseconds. A value
 * fits an exponent e when m = round(v * 10^e) is below 2^53 and m / 10^e, divided and rounded as the
 * decoder will, has exactly the bits of v; so exactness is proven value by value, not assumed.
 * What fits e also fits e + 1 while m stays below 2^53, hence one exponent for the whole column,
 * the least that fits all; what fits none is set aside:
 *
 *   varint n, n times { varint gap, u8 code, [8 bytes when the code is 0] }
 *
 * Sums of decimals that were added as doubles fit no exponent, but are a few units in the last
 * place away from one: those are m and the distance.
 */
#include "libblock/blk_priv.h"

#include <math.h>

static const uint64_t codes[] = {                      /* the code is the place in this list */
    0,                                                 /* the bits follow */
    KL_STALE_BITS,
    0x7ff8000000000001ull,                             /* Go's NaN */
    0x7ff8000000000000ull,                             /* C's NaN */
    0x7ff0000000000000ull,                             /* +Inf */
    0xfff0000000000000ull,                             /* -Inf */
    0x8000000000000000ull,                             /* -0 */
};
enum { CODES = sizeof codes / sizeof *codes };

const double blk_pow10[BLK_DECIMAL_E_MAX + 1] = {      /* all exact */
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
};
static const double m_max = 9007199254740992.0;        /* 2^53 */

static inline bool fits(double v, unsigned e, uint64_t *m)
{
    double scaled = v * blk_pow10[e], back;
    int64_t i;

    if (!(fabs(scaled) < m_max))                       /* also NaN */
        return false;
    i = (int64_t)__builtin_rint(scaled);
    back = (double)i / blk_pow10[e];
    *m = (uint64_t)i;
    return kl_f64_bits(back) == kl_f64_bits(v);        /* so -0 does not fit */
}

/* Whole numbers may be larger: up to 2^63 every double is one. */
static inline bool fits_whole(double v, uint64_t *m)
{
    if (!(fabs(v) < 9223372036854775808.0))
        return false;
    *m = (uint64_t)(int64_t)v;
    return kl_f64_bits((double)(int64_t)v) == kl_f64_bits(v);
}

/* The largest exponent worth a try for v: if v fits any, it fits this one. */
static unsigned largest_exponent(double v)
{
    unsigned e = 0;

    for (v = fabs(v); e < BLK_DECIMAL_E_MAX && v * blk_pow10[e + 1] < m_max; e++)
        ;
    return e;
}

/* The least exponent from `e` on that v fits; BLK_DECIMAL_E_MAX + 1 for none. */
static unsigned least_exponent(double v, unsigned e)
{
    uint64_t m;
    unsigned top;

    if (!isfinite(v) || kl_f64_bits(v) == 0x8000000000000000ull)
        return BLK_DECIMAL_E_MAX + 1;
    top = largest_exponent(v);
    if (top < e || !fits(v, top, &m))
        return BLK_DECIMAL_E_MAX + 1;
    while (e < top && !fits(v, e, &m))
        e++;
    return e;
}

bool blk_decimal_split(const double *v, uint32_t count, struct blk_decimal *d, uint64_t *m)
{
    uint32_t aside_max = count < 8 ? 1 : count / 8;
    uint32_t odd = 0, i = 0;
    unsigned e = 0;

    while (i < count && fits_whole(v[i], &m[i]))
        i++;
    for (uint32_t j = i; j < count; j++) {             /* a first pass, for the exponent */
        uint64_t ignored;
        unsigned needs;

        if (e == 0 ? fits_whole(v[j], &ignored) : fits(v[j], e, &ignored))
            continue;
        needs = least_exponent(v[j], e);
        if (needs <= BLK_DECIMAL_E_MAX)
            e = needs;
        else if (++odd > aside_max)
            return false;
    }
    d->exponent = e;
    d->aside_count = 0;
    for (uint32_t j = e == 0 ? i : 0; j < count; j++) {
        if (e == 0 ? fits_whole(v[j], &m[j]) : fits(v[j], e, &m[j]))
            continue;
        if (d->aside_count == aside_max || d->aside_count == BLK_CHUNK_MAX / 8)
            return false;
        d->aside[d->aside_count++] = (uint16_t)j;
    }
    for (uint32_t a = 0; a < d->aside_count; a++)      /* a neighbour's value costs least */
        m[d->aside[a]] = d->aside[a] > 0 ? m[d->aside[a] - 1] : 0;
    if (d->aside_count > 0 && d->aside[0] == 0) {
        uint32_t first = 0;
        while (first < d->aside_count && d->aside[first] == first)
            first++;
        for (uint32_t a = 0; a < first; a++)
            m[a] = first < count ? m[first] : 0;
    }
    return true;
}

static uint64_t ulps_from(double v, unsigned e, uint64_t *m)
{
    int64_t i = (int64_t)__builtin_rint(v * blk_pow10[e]);

    *m = (uint64_t)i;
    return kl_f64_bits(v) - kl_f64_bits((double)i / blk_pow10[e]);
}

bool blk_decimal_ulps(const double *v, uint32_t count, unsigned *exponent, uint64_t *m,
                      uint64_t *ulps)
{
    enum { NEAR = 256, TRIES = 8 };
    double   largest = 0;
    unsigned top;

    for (uint32_t i = 0; i < count; i++) {
        if (!isfinite(v[i]))
            return false;
        largest = fmax(largest, fabs(v[i]));
    }
    top = largest_exponent(largest);
    if (largest * blk_pow10[top] >= m_max)
        return false;
    /* The coarsest exponent that stays near, as a handful of values tells. */
    for (unsigned e = 1; e <= top; e++) {
        bool near = true;

        for (uint32_t s = 0; s < TRIES && near; s++) {
            uint64_t ignored;
            int64_t  u = (int64_t)ulps_from(v[(uint64_t)s * (count - 1) / (TRIES - 1)], e, &ignored);
            near = u > -NEAR && u < NEAR;
        }
        if (!near)
            continue;
        for (uint32_t i = 0; i < count; i++)
            ulps[i] = ulps_from(v[i], e, &m[i]);
        *exponent = e;
        return true;
    }
    return false;
}

void blk_aside_write(const double *v, const struct blk_decimal *d, struct kl_buf *out)
{
    uint32_t last = 0;

    kl_buf_addv(out, d->aside_count);
    for (uint32_t a = 0; a < d->aside_count; a++) {
        uint64_t bits = kl_f64_bits(v[d->aside[a]]);
        uint8_t  code = CODES - 1;

        while (code > 0 && codes[code] != bits)
            code--;
        kl_buf_addv(out, d->aside[a] - last);
        last = d->aside[a];
        kl_buf_add8(out, code);
        if (code == 0)
            kl_buf_add64(out, bits);
    }
}

bool blk_aside_read(struct kl_cur *c, uint32_t count, double *v)
{
    uint64_t n = kl_cur_v(c), at = 0;

    if (c->bad || n == 0 || n > count)
        return false;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t gap = kl_cur_v(c), bits;
        uint8_t  code = kl_cur_8(c);

        if (c->bad || code >= CODES || gap >= count || (i > 0 && gap == 0) || (at += gap) >= count)
            return false;
        bits = code == 0 ? kl_cur_64(c) : codes[code];
        if (c->bad)
            return false;
        if (v != NULL)
            v[at] = kl_bits_f64(bits);
    }
    return true;
}
