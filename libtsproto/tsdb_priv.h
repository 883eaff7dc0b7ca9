#ifndef TSP_TSDB_PRIV_H
#define TSP_TSDB_PRIV_H
/* What its files have in common. Bits, most significant first, as chunks are made of: a read past the end sets
 * `bad`, and is 0. And pieces that end with their checksum. */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "libtsproto/tsdb.h"

struct tsp_bits { const uint8_t *at; uint64_t pos, end; bool bad; };   /* pos, end: in bits */

static inline struct tsp_bits tsp_bits(const uint8_t *at, size_t size)
{
    return (struct tsp_bits){ .at = at, .end = (uint64_t)size * 8 };
}

static inline uint64_t tsp_bits_get(struct tsp_bits *b, unsigned n)    /* n: 1..56 */
{
    uint64_t word = 0, byte = b->pos >> 3;

    if (b->end - b->pos < n) {
        b->bad = true;
        b->pos = b->end;
        return 0;
    }
    if ((b->end >> 3) - byte >= 8) {
        memcpy(&word, b->at + byte, 8);
        word = __builtin_bswap64(word);
    } else {
        for (uint64_t i = byte; i < b->end >> 3; i++)
            word |= (uint64_t)b->at[i] << (56 - 8 * (i - byte));
    }
    word = word << (b->pos & 7) >> (64 - n);
    b->pos += n;
    return word;
}

static inline uint64_t tsp_bits_64(struct tsp_bits *b)
{
    uint64_t high = tsp_bits_get(b, 32);

    return high << 32 | tsp_bits_get(b, 32);
}

/* As many ones as stand before a zero, which is read too, unless there are `most` of them. */
static inline unsigned tsp_bits_ones(struct tsp_bits *b, unsigned most)
{
    unsigned n = 0;

    while (n < most && tsp_bits_get(b, 1) == 1)
        n++;
    return n;
}

/* A signed number of n bits, its range Prometheus' own: -(2^(n-1) - 1) .. 2^(n-1). */
static inline int64_t tsp_bits_signed(struct tsp_bits *b, unsigned n)
{
    uint64_t v = n == 64 ? tsp_bits_64(b) : tsp_bits_get(b, n);

    if (n < 64 && v > UINT64_C(1) << (n - 1))
        v -= UINT64_C(1) << n;
    return (int64_t)v;
}

struct tsp_window { uint8_t leading, trailing; };
/* The next of a column of doubles, each XORed with the one before it. */
static inline double tsp_bits_xor(struct tsp_bits *b, double was, struct tsp_window *w)
{
    unsigned kind = tsp_bits_ones(b, 2), meaning;
    uint64_t v;

    if (kind == 0)
        return was;
    if (kind == 2) {
        unsigned leading = (unsigned)tsp_bits_get(b, 5);

        meaning = (unsigned)tsp_bits_get(b, 6);
        meaning = meaning == 0 ? 64 : meaning;
        if (leading + meaning > 64) {
            b->bad = true;
            return 0;
        }
        *w = (struct tsp_window){ (uint8_t)leading, (uint8_t)(64 - leading - meaning) };
    }
    meaning = 64u - w->leading - w->trailing;
    v = meaning > 56 ? tsp_bits_get(b, meaning - 32) << 32 : 0;
    v |= tsp_bits_get(b, meaning > 56 ? 32 : meaning);
    return kl_bits_f64(kl_f64_bits(was) ^ v << w->trailing);
}

static inline uint32_t tsp_tsdb_be16(const uint8_t *p) { return (uint32_t)p[0] << 8 | p[1]; }
static inline uint64_t tsp_tsdb_be64(const uint8_t *p)
{
    return (uint64_t)tsp_tsdb_be32(p) << 32 | tsp_tsdb_be32(p + 4);
}

/* What is `what` in words: `size` bytes that a CRC32C of four more ends. */
enum kl_code tsp_tsdb_checked(const uint8_t *at, size_t size, const char *what, struct kl_err *err);
/* How long a thing is that begins with its size as a varint, and has `more` bytes around these; 0: nobody makes
 * one so long. */
uint64_t     tsp_tsdb_sized(struct kl_span head, unsigned more);
/* One of these, of just `bytes`: what follows the varint, `more` - 4 bytes longer than it says, checked. */
enum kl_code tsp_tsdb_sized_content(struct kl_span bytes, unsigned more, const char *what, struct kl_span *content,
                                    struct kl_err *err);
#endif
