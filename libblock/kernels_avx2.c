/*
 * AVX2. Unpacking takes four values at a time as two pairs: a pair of values of up to 57 bits lies
 * within 16 bytes of the byte it begins on, so one 16-byte load, a byte shuffle, a shift by lane
 * and a mask give it. Groups whose loads would pass the end go to the plain kernel.
 */
#include "libblock/blk_priv.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,fma")))

AVX2 static void fill(uint64_t *x, uint32_t count, uint64_t v)
{
    __m256i  all = _mm256_set1_epi64x((int64_t)v);
    uint32_t i = 0;

    for (; i + 4 <= count; i += 4)
        _mm256_storeu_si256((__m256i *)(x + i), all);
    for (; i < count; i++)
        x[i] = v;
}

AVX2 static bool rising(const int64_t *x, uint32_t count)
{
    __m256i  all = _mm256_set1_epi64x(-1);
    uint32_t i = 1;
    bool     rises = true;

    for (; i + 4 <= count; i += 4)
        all = _mm256_and_si256(
            all, _mm256_cmpgt_epi64(_mm256_loadu_si256((const __m256i *)(x + i)),
                                    _mm256_loadu_si256((const __m256i *)(x + i - 1))));
    for (; i < count; i++)
        rises &= x[i] > x[i - 1];
    return rises && _mm256_movemask_epi8(all) == -1;
}

AVX2 static void unpack(const uint8_t *in, unsigned width, uint32_t count, uint64_t base,
                        uint64_t *out)
{
    size_t   size = blk_packed_size(count, width);
    uint32_t i = 0;

    if (width == 0) {
        fill(out, count, base);
        return;
    }
    if (width > 57 || count < 8) {
        blk_kernels_plain.unpack(in, width, count, base, out);
        return;
    }
    /* For pair p (values 2p, 2p+1) of a group: where it begins, and inside it the bytes and shifts
     * of its two values. They are the same for every group. */
    uint8_t start[4], bytes[4][16];
    int64_t shift[8];
    for (unsigned p = 0; p < 4; p++) {
        start[p] = (uint8_t)(2 * p * width / 8);
        for (unsigned v = 0; v < 2; v++) {
            unsigned bit = (2 * p + v) * width - start[p] * 8u;
            shift[2 * p + v] = bit % 8;
            for (unsigned b = 0; b < 8; b++)
                bytes[p][v * 8 + b] = bit / 8 + b < 16 ? (uint8_t)(bit / 8 + b) : 0x80;
        }
    }
    __m256i lo_bytes = _mm256_loadu_si256((const __m256i *)bytes[0]);
    __m256i hi_bytes = _mm256_loadu_si256((const __m256i *)bytes[2]);
    __m256i lo_shift = _mm256_loadu_si256((const __m256i *)shift);
    __m256i hi_shift = _mm256_loadu_si256((const __m256i *)(shift + 4));
    __m256i mask = _mm256_set1_epi64x((int64_t)((1ull << width) - 1));
    __m256i add = _mm256_set1_epi64x((int64_t)base);

    for (size_t at = 0; i + 8 <= count && at + start[3] + 16 <= size; i += 8, at += width) {
        const uint8_t *g = in + at;
        __m256i lo = _mm256_inserti128_si256(
            _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(g + start[0]))),
            _mm_loadu_si128((const __m128i *)(g + start[1])), 1);
        __m256i hi = _mm256_inserti128_si256(
            _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(g + start[2]))),
            _mm_loadu_si128((const __m128i *)(g + start[3])), 1);
        lo = _mm256_srlv_epi64(_mm256_shuffle_epi8(lo, lo_bytes), lo_shift);
        hi = _mm256_srlv_epi64(_mm256_shuffle_epi8(hi, hi_bytes), hi_shift);
        _mm256_storeu_si256((__m256i *)(out + i), _mm256_add_epi64(_mm256_and_si256(lo, mask), add));
        _mm256_storeu_si256((__m256i *)(out + i + 4),
                            _mm256_add_epi64(_mm256_and_si256(hi, mask), add));
    }
    if (i < count)                                     /* i is a multiple of 8: a byte boundary */
        blk_kernels_plain.unpack(in + (size_t)i / 8 * width, width, count - i, base, out + i);
}

AVX2 static void prefix(uint64_t *x, uint32_t count, uint64_t first)
{
    __m256i  sum = _mm256_set1_epi64x((int64_t)first), zero = _mm256_setzero_si256();
    uint32_t i = 0;

    for (; i + 4 <= count; i += 4) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(x + i));
        /* a b c d -> a, a+b, b+c, c+d -> the four sums */
        v = _mm256_add_epi64(v, _mm256_blend_epi32(_mm256_permute4x64_epi64(v, 0x90), zero, 0x03));
        v = _mm256_add_epi64(v, _mm256_permute2x128_si256(v, v, 0x08));
        v = _mm256_add_epi64(v, sum);
        _mm256_storeu_si256((__m256i *)(x + i), v);
        sum = _mm256_permute4x64_epi64(v, 0xff);
    }
    first = (uint64_t)_mm256_extract_epi64(sum, 0);
    for (; i < count; i++)
        x[i] = first += x[i];
}

/* The low 64 bits of a product, from three of 32 x 32. */
AVX2 static inline __m256i mul64(__m256i a, __m256i b)
{
    __m256i cross = _mm256_add_epi64(_mm256_mul_epu32(_mm256_srli_epi64(a, 32), b),
                                     _mm256_mul_epu32(a, _mm256_srli_epi64(b, 32)));
    return _mm256_add_epi64(_mm256_mul_epu32(a, b), _mm256_slli_epi64(cross, 32));
}

AVX2 static void scale(uint64_t *x, uint32_t count, uint64_t factor, uint64_t offset)
{
    __m256i  f = _mm256_set1_epi64x((int64_t)factor), o = _mm256_set1_epi64x((int64_t)offset);
    uint32_t i = 0;

    for (; i + 4 <= count; i += 4) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(x + i));
        _mm256_storeu_si256((__m256i *)(x + i), _mm256_add_epi64(mul64(v, f), o));
    }
    for (; i < count; i++)
        x[i] = x[i] * factor + offset;
}

AVX2 static void line(uint64_t *x, uint32_t count, uint64_t first, uint64_t step)
{
    __m256i  at = _mm256_set_epi64x((int64_t)(3 * step), (int64_t)(2 * step), (int64_t)step, 0);
    __m256i  by = _mm256_set1_epi64x((int64_t)(4 * step)), f = _mm256_set1_epi64x((int64_t)first);
    uint32_t i = 0;

    for (; i + 4 <= count; i += 4) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(x + i));
        v = _mm256_add_epi64(v, _mm256_add_epi64(f, _mm256_srli_epi64(at, 16)));
        _mm256_storeu_si256((__m256i *)(x + i), v);
        at = _mm256_add_epi64(at, by);
    }
    for (; i < count; i++)
        x[i] += first + (i * step >> 16);
}

/* A signed integer to the nearest double: the upper half as 2^84 + (its value + 2^31) * 2^32, the
 * lower as 2^52 + its value, both exact; take the constants away and add: one rounding. */
AVX2 static inline __m256d to_double(__m256i v)
{
    __m256i lo = _mm256_blend_epi32(_mm256_set1_epi64x(0x4330000000000000), v, 0x55);
    __m256i hi = _mm256_xor_si256(_mm256_srli_epi64(v, 32), _mm256_set1_epi64x(0x4530000080000000));
    __m256d bias = _mm256_castsi256_pd(_mm256_set1_epi64x(0x4530000080100000));

    return _mm256_add_pd(_mm256_sub_pd(_mm256_castsi256_pd(hi), bias), _mm256_castsi256_pd(lo));
}

/* Division, correctly rounded, without dividing: one step of Newton brings q within a unit in the
 * last place, and then q + (x - q d) / d rounds correctly (Markstein 1990, theorem on the final
 * step; 1/d is itself correctly rounded, and nothing here comes near to underflow). */
AVX2 static void decimal(const uint64_t *x, uint32_t count, unsigned exponent, double *out)
{
    double   by = blk_pow10[exponent];
    __m256d  d = _mm256_set1_pd(by), r = _mm256_set1_pd(1 / by);
    uint32_t i = 0;

    if (exponent == 0)
        for (; i + 4 <= count; i += 4)
            _mm256_storeu_pd(out + i, to_double(_mm256_loadu_si256((const __m256i *)(x + i))));
    else
        for (; i + 4 <= count; i += 4) {
            __m256d v = to_double(_mm256_loadu_si256((const __m256i *)(x + i)));
            __m256d q = _mm256_mul_pd(v, r);
            q = _mm256_fmadd_pd(_mm256_fnmadd_pd(q, d, v), r, q);
            q = _mm256_fmadd_pd(_mm256_fnmadd_pd(q, d, v), r, q);
            _mm256_storeu_pd(out + i, q);
        }
    if (i < count)
        blk_kernels_plain.decimal(x + i, count - i, exponent, out + i);
}

const struct blk_kernels blk_kernels_avx2 = {
    "avx2", unpack, prefix, scale, line, decimal, fill, rising,
};
#endif
