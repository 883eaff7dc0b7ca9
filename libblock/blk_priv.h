#ifndef BLK_PRIV_H
#define BLK_PRIV_H
/*
 * What the codecs of this folder share: the kernels, the integer column and the value column.
 * FORMAT.md draws the bytes. Nothing here allocates; scratch is on the caller's stack.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libblock/chunk.h"

/*
 * The hot loops, once for each kind of machine; every set gives the same bits (test_kernels).
 * `in` holds count values of `width` (0..64) bits, packed as codec_pack.c says; kernels read
 * nothing outside `in[0 .. blk_packed_size)` . Arithmetic is modulo 2^64.
 */
struct blk_kernels {
    const char *name;
    /* out[i] = base + value i */
    void (*unpack)(const uint8_t *in, unsigned width, uint32_t count, uint64_t base, uint64_t *out);
    /* x[i] = first + sum of the x up to and with i */
    void (*prefix)(uint64_t *x, uint32_t count, uint64_t first);
    /* x[i] = x[i] * factor + offset */
    void (*scale)(uint64_t *x, uint32_t count, uint64_t factor, uint64_t offset);
    /* x[i] += first + floor(i * step / 2^16), the line of codec_time.c */
    void (*line)(uint64_t *x, uint32_t count, uint64_t first, uint64_t step);
    /* out[i] = (double)(int64_t)x[i] / 10^exponent, correctly rounded */
    void (*decimal)(const uint64_t *x, uint32_t count, unsigned exponent, double *out);
    /* x[i] = v */
    void (*fill)(uint64_t *x, uint32_t count, uint64_t v);
    /* Does every x[i] exceed x[i - 1], as signed numbers? */
    bool (*rising)(const int64_t *x, uint32_t count);
};
const struct blk_kernels *blk_kernels(void);           /* the best of this machine */
/* All that this machine can run, the plain ones first; for tests and benchmarks. */
enum { BLK_KERNELS_MAX = 3 };
uint32_t blk_kernels_list(const struct blk_kernels *list[BLK_KERNELS_MAX]);
extern const struct blk_kernels blk_kernels_plain;
#if defined(__x86_64__)
extern const struct blk_kernels blk_kernels_avx2, blk_kernels_avx512;
#endif

/* codec_pack.c */
static inline size_t blk_packed_size(uint32_t count, unsigned width)
{
    return ((size_t)count * width + 7) / 8;
}
void blk_pack(const uint64_t *x, uint32_t count, unsigned width, struct kl_buf *out);

/* codec_int.c: a column of 64-bit integers. */
enum blk_int_transform { BLK_INT_CONST, BLK_INT_LINE, BLK_INT_PLAIN, BLK_INT_DELTA, BLK_INT_DOD };
struct blk_int_plan {
    uint8_t  transform;
    uint8_t  width;                                    /* of the packed part */
    uint8_t  patch_width;                              /* of the exceptions' upper bits */
    bool     below;                                    /* some exceptions lie below the base */
    uint32_t patches;                                  /* exceptions */
    uint64_t factor;                                   /* the common divisor; 1: none */
    uint64_t base;
    uint64_t bits;                                     /* what it will cost, roughly */
};
void blk_int_choose(const uint64_t *x, uint32_t count, struct blk_int_plan *plan);
void blk_int_write(const uint64_t *x, uint32_t count, const struct blk_int_plan *plan,
                   struct kl_buf *out);
void blk_int_encode(const uint64_t *x, uint32_t count, struct kl_buf *out);
/* As a line or packed differences, whichever it is, without a look at the rest of the menu. */
void blk_int_encode_quick(const uint64_t *x, uint32_t count, struct kl_buf *out);
/* False on bytes that no writer makes; `count` is 1..BLK_CHUNK_MAX. Moves the cursor past it. */
bool blk_int_decode(const struct blk_kernels *k, struct kl_cur *c, uint32_t count, uint64_t *x);
/* Moves past a column, checking as decode does; *head gets its first byte. */
bool blk_int_skip(struct kl_cur *c, uint32_t count, uint8_t *head);

/* codec_decimal.c: doubles as m / 10^e, with what does not fit set aside. */
enum { BLK_DECIMAL_E_MAX = 22 };
extern const double blk_pow10[BLK_DECIMAL_E_MAX + 1];
struct blk_decimal {
    unsigned exponent;
    uint32_t aside_count;
    uint16_t aside[BLK_CHUNK_MAX / 8];                 /* positions of what does not fit */
};
/* False when too much does not fit. Positions set aside repeat their neighbour in `m`. */
bool blk_decimal_split(const double *v, uint32_t count, struct blk_decimal *d, uint64_t *m);
/* m and a distance in units of the last place: v = bits(m / 10^e) + ulps. */
bool blk_decimal_ulps(const double *v, uint32_t count, unsigned *exponent, uint64_t *m,
                      uint64_t *ulps);
void blk_aside_write(const double *v, const struct blk_decimal *d, struct kl_buf *out);
bool blk_aside_read(struct kl_cur *c, uint32_t count, double *v);    /* v NULL: only checks */

/* codec_value.c: a column of doubles. */
void blk_value_encode(const double *v, uint32_t count, struct kl_buf *out);
void blk_value_encode_quick(const double *v, uint32_t count, struct kl_buf *out);  /* one, or raw */
bool blk_value_decode(const struct blk_kernels *k, struct kl_cur *c, uint32_t count, double *v);
bool blk_value_skip(struct kl_cur *c, uint32_t count, uint8_t *form, uint8_t *head);

/* codec_time.c: a column of rising times; the first and last are known from elsewhere. */
void blk_time_encode(const int64_t *t, uint32_t count, struct kl_buf *out);
void blk_time_encode_quick(const int64_t *t, uint32_t count, struct kl_buf *out);
/* Also checks that times rise strictly from `first` to `last`. */
bool blk_time_decode(const struct blk_kernels *k, struct kl_cur *c, uint32_t count, int64_t first,
                     int64_t last, int64_t *t);
bool blk_time_skip(struct kl_cur *c, uint32_t count);

/* chunk.c: the parts of a chunk, for the fileset, which keeps a time column once for many series.
 *   head | time section | rest (start times, values) */
enum { BLK_KIND_MASK = 0x0f, BLK_HAS_STARTS = 0x10 };
struct blk_parts {
    uint8_t  kind;                                     /* with BLK_HAS_STARTS */
    uint32_t count;
    int64_t  first_ms, last_ms;
    struct kl_span time, rest;
};
enum kl_code blk_chunk_split(struct kl_span chunk, struct blk_parts *p, struct kl_err *err);
void         blk_chunk_join(const struct blk_parts *p, struct kl_buf *out);
const char  *blk_parts_codec(const struct blk_parts *p);       /* kind, count and rest alone */
/* The same as the public calls, with chosen kernels. */
enum kl_code blk_chunk_decode_by(const struct blk_kernels *k, struct kl_span chunk,
                                 int64_t *times_ms, double *values, int64_t *starts_ms,
                                 uint32_t *count, struct kl_err *err);
/* chunk_hist.c */
void blk_hists_encode(const struct kl_hist *h, uint32_t count, struct kl_buf *out);
enum kl_code blk_hists_decode(const struct blk_kernels *k, struct kl_cur *c, uint32_t count,
                              struct kl_arena *arena, struct kl_hist *h, struct kl_err *err);
#endif
