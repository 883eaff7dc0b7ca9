/*
 * AVX-512 (F, BW, DQ, VL, VBMI). A group of eight values is `width` bytes: one masked load (which
 * never reads past them), one byte permutation that brings each value's bytes to its lane, a shift
 * by lane, a mask.
 */
#include "libblock/blk_priv.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX512 __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")))

AVX512 static void fill(uint64_t *x, uint32_t count, uint64_t v)
{
    __m512i  all = _mm512_set1_epi64((int64_t)v);
    uint32_t i = 0;

    for (; i + 8 <= count; i += 8)
        _mm512_storeu_si512(x + i, all);
    for (; i < count; i++)
        x[i] = v;
}

AVX512 static bool rising(const int64_t *x, uint32_t count)
{
    __mmask8 all = 0xff;
    uint32_t i = 1;
    bool     rises = true;

    for (; i + 8 <= count; i += 8)
        all &= _mm512_cmpgt_epi64_mask(_mm512_loadu_si512(x + i), _mm512_loadu_si512(x + i - 1));
    for (; i < count; i++)
        rises &= x[i] > x[i - 1];
    return rises && all == 0xff;
}

AVX512 static void unpack(const uint8_t *in, unsigned width, uint32_t count, uint64_t base,
                          uint64_t *out)
{
    uint32_t i = 0;

    if (width == 0) {
        fill(out, count, base);
        return;
    }
    if (width > 57) {
        blk_kernels_plain.unpack(in, width, count, base, out);
        return;
    }
    uint8_t  bytes[64];
    uint64_t shift[8];
    for (unsigned v = 0; v < 8; v++) {
        shift[v] = v * width % 8;
        for (unsigned b = 0; b < 8; b++)               /* past 63 only bits that the mask removes */
            bytes[v * 8 + b] = (uint8_t)((v * width / 8 + b) & 63);
    }
    __m512i   place = _mm512_loadu_si512(bytes), by = _mm512_loadu_si512(shift);
    __m512i   mask = _mm512_set1_epi64((int64_t)((1ull << width) - 1));
    __m512i   add = _mm512_set1_epi64((int64_t)base);
    __mmask64 group = (1ull << width) - 1;

    for (; i + 8 <= count; i += 8, in += width) {
        __m512i v = _mm512_permutexvar_epi8(place, _mm512_maskz_loadu_epi8(group, in));
        v = _mm512_and_si512(_mm512_srlv_epi64(v, by), mask);
        _mm512_storeu_si512(out + i, _mm512_add_epi64(v, add));
    }
    if (i < count)
        blk_kernels_plain.unpack(in, width, count - i, base, out + i);
}

AVX512 static void prefix(uint64_t *x, uint32_t count, uint64_t first)
{
    __m512i  sum = _mm512_set1_epi64((int64_t)first), zero = _mm512_setzero_si512();
    __m512i  last = _mm512_set1_epi64(7);
    uint32_t i = 0;

    for (; i + 8 <= count; i += 8) {
        __m512i v = _mm512_loadu_si512(x + i);
        v = _mm512_add_epi64(v, _mm512_alignr_epi64(v, zero, 7));
        v = _mm512_add_epi64(v, _mm512_alignr_epi64(v, zero, 6));
        v = _mm512_add_epi64(v, _mm512_alignr_epi64(v, zero, 4));
        _mm512_storeu_si512(x + i, _mm512_add_epi64(v, sum));
        /* Only this addition hangs on the group before: the rest of a group overlaps with it. */
        sum = _mm512_add_epi64(sum, _mm512_permutexvar_epi64(last, v));
    }
    first = (uint64_t)_mm_cvtsi128_si64(_mm512_castsi512_si128(sum));
    for (; i < count; i++)
        x[i] = first += x[i];
}

AVX512 static void scale(uint64_t *x, uint32_t count, uint64_t factor, uint64_t offset)
{
    __m512i  f = _mm512_set1_epi64((int64_t)factor), o = _mm512_set1_epi64((int64_t)offset);
    uint32_t i = 0;

    for (; i + 8 <= count; i += 8) {
        __m512i v = _mm512_loadu_si512(x + i);
        _mm512_storeu_si512(x + i, _mm512_add_epi64(_mm512_mullo_epi64(v, f), o));
    }
    for (; i < count; i++)
        x[i] = x[i] * factor + offset;
}

AVX512 static void line(uint64_t *x, uint32_t count, uint64_t first, uint64_t step)
{
    __m512i  at = _mm512_mullo_epi64(_mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0),
                                     _mm512_set1_epi64((int64_t)step));
    __m512i  by = _mm512_set1_epi64((int64_t)(8 * step)), f = _mm512_set1_epi64((int64_t)first);
    uint32_t i = 0;

    for (; i + 8 <= count; i += 8) {
        __m512i v = _mm512_loadu_si512(x + i);
        v = _mm512_add_epi64(v, _mm512_add_epi64(f, _mm512_srli_epi64(at, 16)));
        _mm512_storeu_si512(x + i, v);
        at = _mm512_add_epi64(at, by);
    }
    for (; i < count; i++)
        x[i] += first + (i * step >> 16);
}

/* Without dividing, as kernels_avx2.c explains. */
AVX512 static void decimal(const uint64_t *x, uint32_t count, unsigned exponent, double *out)
{
    double   by = blk_pow10[exponent];
    __m512d  d = _mm512_set1_pd(by), r = _mm512_set1_pd(1 / by);
    uint32_t i = 0;

    if (exponent == 0)
        for (; i + 8 <= count; i += 8)
            _mm512_storeu_pd(out + i, _mm512_cvtepi64_pd(_mm512_loadu_si512(x + i)));
    else
        for (; i + 8 <= count; i += 8) {
            __m512d v = _mm512_cvtepi64_pd(_mm512_loadu_si512(x + i));
            __m512d q = _mm512_mul_pd(v, r);
            q = _mm512_fmadd_pd(_mm512_fnmadd_pd(q, d, v), r, q);
            q = _mm512_fmadd_pd(_mm512_fnmadd_pd(q, d, v), r, q);
            _mm512_storeu_pd(out + i, q);
        }
    if (i < count)
        blk_kernels_plain.decimal(x + i, count - i, exponent, out + i);
}

const struct blk_kernels blk_kernels_avx512 = {
    "avx512", unpack, prefix, scale, line, decimal, fill, rising,
};
#endif
