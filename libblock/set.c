/*
 * A set of series numbers in a file, by whatever is least:
 *
 *   u8 1  varint id                                                      one
 *   u8 2  varint n, n times { varint gap, varint length - 1 }            runs; gap from the last end
 *   u8 3  varint n, n times varint gap                                   a list; gap from the last + 1
 *   u8 4  varint first / 8, varint n, n bytes                            bits from there
 *
 * Series are numbered in the order of their labels, so most sets are a few runs. In memory they are
 * Roaring sets (ids.c); its file format is not used since the library that is at hand does not
 * check one that it is given.
 */
#include "libblock/fileset_priv.h"

#include <assert.h>

enum { ONE = 1, RUNS = 2, LIST = 3, BITS = 4 };

static size_t varint_size(uint64_t v) { return v == 0 ? 1 : (70 - (size_t)__builtin_clzll(v)) / 7; }

static void put_bits(const uint32_t *ids, uint32_t count, struct kl_buf *out)
{
    uint32_t first = ids[0] / 8, n = ids[count - 1] / 8 - first + 1, at = 0;

    kl_buf_add8(out, BITS);
    kl_buf_addv(out, first);
    kl_buf_addv(out, n);
    for (uint32_t b = 0; b < n; b++) {
        uint8_t byte = 0;

        while (at < count && ids[at] / 8 == first + b)
            byte |= (uint8_t)(1u << ids[at++] % 8);
        kl_buf_add8(out, byte);
    }
}

void blk_set_write(const uint32_t *ids, uint32_t count, struct kl_buf *out)
{
    size_t   runs_size = 0, list_size, bits_size;
    uint32_t runs = 0, end = 0;

    assert(count >= 1);
    if (count == 1) {
        kl_buf_add8(out, ONE);
        kl_buf_addv(out, ids[0]);
        return;
    }
    list_size = varint_size(ids[0]);
    for (uint32_t i = 1; i < count; i++) {
        assert(ids[i] > ids[i - 1]);
        list_size += varint_size(ids[i] - ids[i - 1] - 1);
    }
    for (uint32_t i = 0, j; i < count; i = j, runs++) {
        for (j = i + 1; j < count && ids[j] == ids[j - 1] + 1; j++)
            ;
        runs_size += varint_size(ids[i] - end) + varint_size(j - i - 1);
        end = ids[j - 1] + 1;
    }
    bits_size = ids[count - 1] / 8 - ids[0] / 8 + 1 + varint_size(ids[0] / 8);
    if (bits_size < runs_size && bits_size < list_size) {
        put_bits(ids, count, out);
    } else if (list_size < runs_size) {
        kl_buf_add8(out, LIST);
        kl_buf_addv(out, count);
        kl_buf_addv(out, ids[0]);
        for (uint32_t i = 1; i < count; i++)
            kl_buf_addv(out, ids[i] - ids[i - 1] - 1);
    } else {
        kl_buf_add8(out, RUNS);
        kl_buf_addv(out, runs);
        end = 0;
        for (uint32_t i = 0, j; i < count; i = j) {
            for (j = i + 1; j < count && ids[j] == ids[j - 1] + 1; j++)
                ;
            kl_buf_addv(out, ids[i] - end);
            kl_buf_addv(out, j - i - 1);
            end = ids[j - 1] + 1;
        }
    }
}

static bool read_runs(struct kl_cur *c, uint64_t n, uint32_t limit, struct blk_ids *into)
{
    uint64_t at = 0;

    for (uint64_t i = 0; i < n; i++) {
        uint64_t gap = kl_cur_v(c), length = kl_cur_v(c);

        if (c->bad || gap >= limit || length >= limit || (i > 0 && gap == 0) ||
            at + gap + length + 1 > limit)
            return false;
        if (into != NULL)
            blk_ids_add_range(into, (uint32_t)(at + gap), (uint32_t)(at + gap + length + 1));
        at += gap + length + 1;
    }
    return true;
}

static bool read_list(struct kl_cur *c, uint64_t n, uint32_t limit, struct blk_ids *into)
{
    uint64_t at = 0;

    for (uint64_t i = 0; i < n; i++, at++) {
        uint64_t gap = kl_cur_v(c);

        if (c->bad || gap >= limit || (at += gap) >= limit)
            return false;
        if (into != NULL)
            blk_ids_add(into, (uint32_t)at);
    }
    return true;
}

static bool read_bits(struct kl_cur *c, uint32_t limit, struct blk_ids *into)
{
    uint64_t       first = kl_cur_v(c), n = kl_cur_v(c);
    struct kl_span bytes;
    const uint8_t *b;

    if (c->bad || n == 0 || n > limit || first > limit)
        return false;
    bytes = kl_cur_bytes(c, n);
    b = bytes.at;
    if (c->bad || b[0] == 0 || b[n - 1] == 0 ||
        (first + n - 1) * 8 + (31 - (unsigned)__builtin_clz(b[n - 1])) >= limit)
        return false;
    for (uint64_t i = 0; into != NULL && i < n; i++)
        for (unsigned rest = b[i]; rest != 0; rest &= rest - 1)
            blk_ids_add(into, (uint32_t)((first + i) * 8) + (unsigned)__builtin_ctz(rest));
    return true;
}

bool blk_set_read(struct kl_cur *c, uint32_t limit, struct blk_ids *into)
{
    uint8_t  kind = kl_cur_8(c);
    uint64_t n;

    if (kind == BITS)
        return read_bits(c, limit, into);
    n = kl_cur_v(c);
    if (c->bad)
        return false;
    if (kind == ONE) {
        if (n >= limit)
            return false;
        if (into != NULL)
            blk_ids_add(into, (uint32_t)n);
        return true;
    }
    if (n == 0 || n > limit)
        return false;
    return kind == RUNS ? read_runs(c, n, limit, into) : kind == LIST && read_list(c, n, limit, into);
}
