/*
 * The open tail of a series: a stream of bytes that samples are appended to, in place of the two
 * arrays it would fill. Byte-aligned, after the idea of Gorilla (Pelkonen et al., VLDB 2015): times
 * as the change of their distance, values as what changed in them.
 *
 *   a float      u8 control = value mode * 4 + time mode, then time bytes, then value bytes
 *     time mode  the change of distance ("dod") as a signed number of 0, 1, 2 or 8 bytes
 *     control 252        a u8 n of 2 and more: n times the value and the distance of the sample before
 *     value mode 0       the same bits as before
 *                1..6    both are integers below 2^53, and differ by a signed number of that many bytes
 *                7..42   XOR with the bits before: (7 + its place in the list of (low zero bytes,
 *                        bytes kept)), high zero bytes dropped
 *                62      start: no sample, but the start time of the last one: zigzag varint
 *                        of its distance to that sample's time
 *   the first    8 bytes value (its time is first_ms)
 *   a histogram  span: varint size, the bytes of tsp_hist_put; before it a zigzag varint time
 *                distance * 2, or * 2 + 1 and then a zigzag varint: start of the sample before it
 *
 * All is little-endian. A snapshot's head holds these bytes, too (SNAPSHOT.md), so they are a format:
 * whoever changes them makes a new version of it.
 */
#include "ingestor/head_priv.h"

#include "libkoal/base/mem.h"
#include "libtsproto/record.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MODE_SAME = 0, MODE_INT = 0, MODE_XOR = 7, MODE_START = 62, MODE_REPEAT = 63, INT_BYTES_MAX = 6 };
enum { START = MODE_START * 4, REPEAT = MODE_REPEAT * 4 };     /* control bytes */
enum { HISTS_ARENA_MAX = 64 << 20 };
enum { START_MAX = 1 + 10 };
static const uint8_t time_bytes[4] = { 0, 1, 2, 8 };

enum { PAGE_BLOCKS = 64 };
static const uint16_t block_sizes[ING_TAIL_SIZES] = { ING_TAIL_TINY, ING_TAIL_SMALL, ING_TAIL_LARGE };

uint16_t ing_block_room(uint16_t size)
{
    for (int k = 0; k < ING_TAIL_SIZES; k++)
        if (size <= block_sizes[k])
            return block_sizes[k];
    return size;
}

/* Which kind of block has so much room; ING_TAIL_SIZES: one by itself. */
static int kind_of(uint16_t room)
{
    int k = 0;

    while (k < ING_TAIL_SIZES && room != block_sizes[k])
        k++;
    return k;
}

uint8_t *ing_block_take(struct ing_blocks *b, uint16_t room)
{
    int      k = kind_of(room);
    uint8_t *page;
    void    *block;

    if (k == ING_TAIL_SIZES) {
        b->bytes += room;
        return kl_resize(NULL, room);
    }
    if (b->of[k].free == NULL) {
        page = kl_resize(NULL, PAGE_BLOCKS * (size_t)room);
        if ((b->of[k].count & (b->of[k].count - 1)) == 0)
            b->of[k].pages = kl_resize(b->of[k].pages, (b->of[k].count == 0 ? 1 : b->of[k].count * 2) *
                                                       sizeof *b->of[k].pages);
        b->of[k].pages[b->of[k].count++] = page;
        b->bytes += PAGE_BLOCKS * (int64_t)room;
        for (int i = PAGE_BLOCKS; i-- > 0;) {
            memcpy(page + i * room, &b->of[k].free, sizeof b->of[k].free);
            b->of[k].free = page + i * room;
        }
    }
    block = b->of[k].free;
    memcpy(&b->of[k].free, block, sizeof b->of[k].free);
    return block;
}

void ing_block_give(struct ing_blocks *b, uint8_t *bytes, uint16_t room)
{
    int k = kind_of(room);

    if (bytes == NULL)
        return;
    if (k == ING_TAIL_SIZES) {
        b->bytes -= room;
        free(bytes);
        return;
    }
    memcpy(bytes, &b->of[k].free, sizeof b->of[k].free);
    b->of[k].free = bytes;
}

void ing_blocks_deinit(struct ing_blocks *b)
{
    for (int k = 0; k < ING_TAIL_SIZES; k++) {
        for (uint32_t i = 0; i < b->of[k].count; i++)
            free(b->of[k].pages[i]);
        free(b->of[k].pages);
    }
    *b = (struct ing_blocks){ 0 };
}

void ing_tail_drop(struct ing_tail *t, struct ing_blocks *b)
{
    ing_block_give(b, t->bytes, t->room);
    *t = (struct ing_tail){ 0 };
}

/* A tiny block first, where a value that stays fits for good, then a small one, then a large one; floats that are many by then are better sealed, and so are
 * those that fill it. */
static bool reserve(struct ing_tail *t, size_t more, struct ing_blocks *b)
{
    size_t   need = (size_t)t->size + more, room;
    uint8_t *bytes;

    if (need <= t->room)
        return true;
    room = need <= ING_TAIL_TINY ? ING_TAIL_TINY : need <= ING_TAIL_SMALL ? ING_TAIL_SMALL : ING_TAIL_LARGE;
    if (need > ING_TAIL_SMALL && t->kind == ING_FLOATS && t->count >= ING_TAIL_FEW)
        return false;
    if (need > ING_TAIL_LARGE) {
        if (t->count > 0 && t->kind == ING_FLOATS)
            return false;
        room = need + need / 2;
        if (need > UINT16_MAX)
            return false;
        if (room > UINT16_MAX)
            room = UINT16_MAX;
    }
    bytes = ing_block_take(b, (uint16_t)room);
    if (t->size > 0)
        memcpy(bytes, t->bytes, t->size);
    ing_block_give(b, t->bytes, t->room);
    t->bytes = bytes;
    t->room = (uint16_t)room;
    return true;
}

static void put(struct ing_tail *t, uint64_t v, unsigned size)
{
    memcpy(t->bytes + t->size, &v, sizeof v <= size ? sizeof v : size);
    t->size = (uint16_t)(t->size + size);
}

static uint64_t get(const uint8_t **at, unsigned size)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < size; i++)                /* a call would cost more than its few bytes */
        v |= (uint64_t)(*at)[i] << (8 * i);
    *at += size;
    return v;
}

static int64_t get_signed(const uint8_t **at, unsigned size)
{
    uint64_t v = get(at, size);
    unsigned shift = 64 - 8 * size;

    return size == 0 ? 0 : (int64_t)(v << shift) >> shift;
}

static unsigned signed_bytes(int64_t v)
{
    unsigned n = 1;

    while (n < 8 && (int64_t)((uint64_t)v << (64 - 8 * n)) >> (64 - 8 * n) != v)
        n++;
    return n;
}

static void put_varint(struct ing_tail *t, uint64_t v)
{
    for (; v > 0x7f; v >>= 7)
        t->bytes[t->size++] = (uint8_t)(v | 0x80);
    t->bytes[t->size++] = (uint8_t)v;
}

static uint64_t get_varint(const uint8_t **at)
{
    uint64_t v = 0;
    unsigned shift = 0;

    for (; **at & 0x80; shift += 7)
        v |= (uint64_t)(*(*at)++ & 0x7f) << shift;
    return v | (uint64_t)*(*at)++ << shift;
}

static uint64_t zig(int64_t v) { return (uint64_t)v << 1 ^ (uint64_t)(v >> 63); }
static int64_t  zag(uint64_t v) { return (int64_t)(v >> 1) ^ -(int64_t)(v & 1); }

/* An integer below 2^53 that is no -0: such doubles subtract without loss. */
static bool integer(uint64_t bits, int64_t *v)
{
    double d = kl_bits_f64(bits);

    if (!(fabs(d) < 9007199254740992.0))
        return false;
    *v = (int64_t)d;
    return kl_f64_bits((double)*v) == bits;
}

/* Mode, and the bytes to keep, of `bits` after `before`. */
static unsigned value_mode(uint64_t before, uint64_t bits, uint64_t *kept, unsigned *size)
{
    int64_t  a, b;
    uint64_t x = before ^ bits;
    unsigned low, high, place;

    *kept = 0;
    *size = 0;
    if (x == 0)
        return MODE_SAME;
    low = (unsigned)__builtin_ctzll(x) / 8;
    high = (unsigned)__builtin_clzll(x) / 8;
    if (integer(before, &a) && integer(bits, &b)) {
        unsigned n = signed_bytes(b - a);

        if (n <= INT_BYTES_MAX && n <= 8 - low - high) {
            *kept = (uint64_t)(b - a);
            *size = n;
            return MODE_INT + n;
        }
    }
    /* (low, kept) in the order low 0: 1..8, low 1: 1..7, ... */
    place = low * 8 - low * (low - 1) / 2;
    *size = 8 - low - high;
    *kept = x >> (8 * low);
    return MODE_XOR + place + *size - 1;
}

/* Of each place in the list: how many low bytes are zero; the bytes kept follow from where it begins. */
static const uint8_t low_of[36] = { 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2,
                                    3, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 6, 6, 7 };
static const uint8_t place_of[8] = { 0, 8, 15, 21, 26, 30, 33, 35 };

static uint64_t value_read(unsigned mode, uint64_t before, const uint8_t **at)
{
    int64_t  a;
    unsigned place, low;

    if (mode == MODE_SAME)
        return before;
    if (mode < MODE_XOR) {
        bool both = integer(before, &a);

        assert(both);
        return kl_f64_bits((double)(a + get_signed(at, mode)));
    }
    place = mode - MODE_XOR;
    low = low_of[place];
    return before ^ get(at, place - place_of[low] + 1) << (8 * low);
}

/* The value and the distance of the sample before, once more. */
static bool repeat(struct ing_tail *t, struct ing_blocks *b)
{
    if (t->end == ING_END_REPEAT && t->bytes[t->size - 1] < UINT8_MAX) {
        t->bytes[t->size - 1]++;
        return true;
    }
    if (!reserve(t, 1 + (t->end == ING_END_START ? START_MAX : 0), b))
        return false;
    if (t->end == ING_END_SAME) {
        t->bytes[t->size - 1] = REPEAT;
        t->bytes[t->size++] = 2;
        t->end = ING_END_REPEAT;
    } else {
        t->bytes[t->size++] = MODE_SAME * 4;
        t->end = ING_END_SAME;
    }
    return true;
}

bool ing_tail_add(struct ing_tail *t, int64_t time_ms, double value, struct ing_blocks *b)
{
    uint64_t bits = kl_f64_bits(value), kept;
    int64_t  step, dod;
    unsigned mode, size, tmode;

    if (t->count == 0) {
        t->size = 0;
        reserve(t, 8, b);
        put(t, bits, 8);
        t->first_ms = t->last_ms = time_ms;
        t->bits = bits;
        t->step_ms = 0;
        t->kind = ING_FLOATS;
        t->count = 1;
        t->end = ING_END_OTHER;
        return true;
    }
    if (t->kind != ING_FLOATS || t->count == ING_TAIL_MAX ||
        __builtin_sub_overflow(time_ms, t->last_ms, &step) || step > INT32_MAX ||
        (uint64_t)time_ms - (uint64_t)t->first_ms > UINT32_MAX)
        return false;
    assert(step > 0);
    dod = step - t->step_ms;
    tmode = dod == 0 ? 0 : dod == (int8_t)dod ? 1 : dod == (int16_t)dod ? 2 : 3;
    mode = value_mode(t->bits, bits, &kept, &size);
    if (mode == MODE_SAME && tmode == 0) {
        if (!repeat(t, b))
            return false;
    } else {
        /* Where samples have start times, there shall be room for this one's, too. */
        if (!reserve(t, 1 + time_bytes[tmode] + size + (t->end == ING_END_START ? START_MAX : 0), b))
            return false;
        t->bytes[t->size++] = (uint8_t)(mode * 4 + tmode);
        put(t, (uint64_t)dod, time_bytes[tmode]);
        put(t, kept, size);
        t->end = ING_END_OTHER;
    }
    t->step_ms = (int32_t)step;
    t->last_ms = time_ms;
    t->bits = bits;
    t->count++;
    return true;
}

bool ing_tail_add_hist(struct ing_tail *t, int64_t time_ms, struct kl_span hist, struct ing_blocks *b)
{
    int64_t step = 0;

    if (t->count > 0 && (t->kind != ING_HISTS || t->count == ING_TAIL_MAX ||
                         t->size + hist.size > ING_TAIL_BYTES_MAX ||
                         __builtin_sub_overflow(time_ms, t->last_ms, &step) || step > INT32_MAX ||
                         (uint64_t)time_ms - (uint64_t)t->first_ms > UINT32_MAX))
        return false;
    if (hist.size > ING_TAIL_BYTES_MAX || !reserve(t, hist.size + 2 * 10, b))
        return false;
    if (t->count == 0) {
        t->size = 0;
        t->first_ms = time_ms;
        t->kind = ING_HISTS;
    }
    put_varint(t, (uint64_t)step * 2);
    put_varint(t, hist.size);
    memcpy(t->bytes + t->size, hist.at, hist.size);
    t->size = (uint16_t)(t->size + hist.size);
    t->last_ms = time_ms;
    t->count++;
    t->end = ING_END_OTHER;
    return true;
}

bool ing_tail_start(struct ing_tail *t, int64_t start_ms, struct ing_blocks *b)
{
    assert(t->count > 0);
    if (!reserve(t, START_MAX, b))
        return false;
    if (t->kind == ING_FLOATS)
        t->bytes[t->size++] = START;
    else
        put_varint(t, 1);
    put_varint(t, zig((int64_t)((uint64_t)t->last_ms - (uint64_t)start_ms)));
    t->end = ING_END_START;
    return true;
}

void ing_tail_floats(const struct ing_tail *t, struct ing_run *run)
{
    const uint8_t *at = t->bytes, *end = t->bytes + t->size;
    uint64_t       bits = get(&at, 8);
    int64_t        time = t->first_ms, step = 0;
    uint32_t       n = 0, more = 0;

    assert(t->kind == ING_FLOATS && t->count > 0);
    for (;;) {
        run->times[n] = time;
        run->values[n] = kl_bits_f64(bits);
        run->starts[n] = 0;
        n++;
        if (more > 0) {
            more--;
            time += step;
            continue;
        }
        while (at < end && *at == START) {
            at++;
            run->starts[n - 1] = (int64_t)((uint64_t)time - (uint64_t)zag(get_varint(&at)));
        }
        if (at >= end)
            break;
        unsigned control = *at++;
        if (control == REPEAT) {
            more = *at++ - 1u;
            time += step;
            continue;
        }
        step += get_signed(&at, time_bytes[control & 3]);
        time += step;
        bits = value_read(control >> 2, bits, &at);
    }
    assert(n == t->count && time == t->last_ms);
    run->count = n;
}

enum kl_code ing_tail_hists(const struct ing_tail *t, struct kl_arena *arena, int64_t *times,
                            int64_t *starts, struct kl_hist *hists, struct kl_err *err)
{
    const uint8_t *at = t->bytes, *end = t->bytes + t->size;
    int64_t        time = t->first_ms;
    uint32_t       n = 0;

    assert(t->kind == ING_HISTS);
    while (at < end) {
        uint64_t      head = get_varint(&at);
        size_t        size;
        struct kl_cur c;

        if (head & 1) {
            starts[n - 1] = (int64_t)((uint64_t)time - (uint64_t)zag(get_varint(&at)));
            continue;
        }
        time += (int64_t)(head / 2);
        size = get_varint(&at);
        c = kl_cur(at, size);
        if (tsp_hist_get(&c, arena, &hists[n], err) != KL_OK)
            return kl_within(err, "open histograms");
        at += size;
        times[n] = time;
        starts[n++] = 0;
    }
    assert(n == t->count && time == t->last_ms);
    return KL_OK;
}

/* Does a start time other than 0 stand at `at`, as that of the sample before? The last of several counts. */
static bool float_has_start(const uint8_t *at, const uint8_t *end, int64_t time)
{
    int64_t start = 0;

    while (at < end && *at == START) {
        at++;
        start = (int64_t)((uint64_t)time - (uint64_t)zag(get_varint(&at)));
    }
    return start != 0;
}

static bool hist_has_start(const uint8_t *at, const uint8_t *end, int64_t time)
{
    int64_t start = 0;

    while (at < end && (*at & 1) != 0) {
        get_varint(&at);
        start = (int64_t)((uint64_t)time - (uint64_t)zag(get_varint(&at)));
    }
    return start != 0;
}

bool ing_tail_has(const struct ing_tail *t, int64_t time_ms, double value)
{
    const uint8_t *at = t->bytes, *end = t->bytes + t->size;
    int64_t        time = t->first_ms, step = 0;
    uint64_t       bits;
    uint32_t       more = 0;

    if (t->count == 0 || t->kind != ING_FLOATS || time_ms < t->first_ms || time_ms > t->last_ms)
        return false;
    bits = get(&at, 8);
    for (;;) {
        if (time >= time_ms)
            return time == time_ms && bits == kl_f64_bits(value) &&
                   (more > 0 || !float_has_start(at, end, time));
        if (more > 0) {
            more--;
            time += step;
            continue;
        }
        while (at < end && *at == START) {
            at++;
            get_varint(&at);
        }
        if (at >= end)
            return false;
        unsigned control = *at++;
        if (control == REPEAT) {
            more = *at++ - 1u;
            time += step;
            continue;
        }
        step += get_signed(&at, time_bytes[control & 3]);
        time += step;
        bits = value_read(control >> 2, bits, &at);
    }
}

bool ing_tail_has_hist(const struct ing_tail *t, int64_t time_ms, struct kl_span hist)
{
    const uint8_t *at = t->bytes, *end = t->bytes + t->size;
    int64_t        time = t->first_ms;

    if (t->count == 0 || t->kind != ING_HISTS || time_ms < t->first_ms || time_ms > t->last_ms)
        return false;
    while (at < end) {
        uint64_t head = get_varint(&at);
        size_t   size;

        if (head & 1) {
            get_varint(&at);
            continue;
        }
        time += (int64_t)(head / 2);
        size = get_varint(&at);
        if (time >= time_ms)
            return time == time_ms && kl_span_eq(kl_span(at, size), hist) && !hist_has_start(at + size, end, time);
        at += size;
    }
    return false;
}

/* ---- bytes that were in a file ---- */

static bool varint_ok(const uint8_t *at, const uint8_t *end, unsigned *size)
{
    for (unsigned n = 0; n < 10 && at + n < end; n++)
        if ((at[n] & 0x80) == 0) {
            *size = n + 1;
            return true;
        }
    return false;
}

static unsigned value_bytes(unsigned mode)
{
    unsigned low = 0, place;

    if (mode < MODE_XOR)
        return mode;
    for (place = mode - MODE_XOR; place >= 8 - low; low++)
        place -= 8 - low;
    return place + 1;
}

static bool floats_ok(const struct ing_tail *t, uint8_t *last)
{
    const uint8_t *at = t->bytes, *end = t->bytes + t->size;
    int64_t        time = t->first_ms, step = 0, a;
    uint32_t       n = 1;
    unsigned       size;
    uint64_t       bits;

    *last = ING_END_OTHER;
    if (t->size < 8)
        return false;
    for (bits = get(&at, 8); at < end; n++) {
        unsigned mode = *at >> 2, tsize = time_bytes[*at & 3];

        at++;
        if (mode == MODE_START) {
            if (at[-1] != START || !varint_ok(at, end, &size))
                return false;
            at += size;
            n--;
            *last = ING_END_START;
            continue;
        }
        if (mode == MODE_REPEAT) {
            if (at[-1] != REPEAT || at == end || *at < 2 || step <= 0 ||
                __builtin_add_overflow(time, *at * step, &time))
                return false;
            n += *at++ - 1u;
            *last = ING_END_REPEAT;
            continue;
        }
        *last = at[-1] == MODE_SAME * 4 ? ING_END_SAME : ING_END_OTHER;
        if (mode > MODE_XOR + 35 || (size_t)(end - at) < tsize + value_bytes(mode) ||
            (mode > MODE_SAME && mode < MODE_XOR && !integer(bits, &a)) ||
            __builtin_add_overflow(step, get_signed(&at, tsize), &step) || step <= 0 ||
            step > INT32_MAX || __builtin_add_overflow(time, step, &time))
            return false;
        bits = value_read(mode, bits, &at);
    }
    return n == t->count && time == t->last_ms && bits == t->bits && step == t->step_ms;
}

static bool hists_ok(const struct ing_tail *t, uint8_t *last)
{
    const uint8_t *at = t->bytes, *end = t->bytes + t->size;
    int64_t        time = t->first_ms;
    struct kl_arena arena;
    struct kl_hist  hist;
    struct kl_err   err;
    uint32_t        n = 0;
    bool            fine = true;

    *last = ING_END_OTHER;
    kl_arena_init(&arena, HISTS_ARENA_MAX);
    while (fine && at < end) {
        struct kl_cur c = kl_cur(at, (size_t)(end - at)), one;
        uint64_t      head = kl_cur_v(&c);
        struct kl_span bytes;

        *last = head & 1 ? ING_END_START : ING_END_OTHER;
        if (head & 1) {
            fine = n > 0;
            kl_cur_v(&c);
        } else {
            bytes = kl_cur_span(&c);
            fine = head / 2 <= INT32_MAX && (n == 0) == (head == 0) &&
                   !__builtin_add_overflow(time, (int64_t)(head / 2), &time) && n < ING_TAIL_MAX;
            if (fine && !c.bad) {
                one = kl_cur(bytes.at, bytes.size);
                fine = tsp_hist_get(&one, &arena, &hist, &err) == KL_OK && kl_cur_left(&one) == 0;
            }
            n++;
        }
        fine = fine && !c.bad;
        at = c.at;
    }
    kl_arena_deinit(&arena);
    return fine && n == t->count && time == t->last_ms;
}

bool ing_tail_check(struct ing_tail *t)
{
    if (t->count == 0 || t->count > ING_TAIL_MAX || t->last_ms < t->first_ms ||
        (uint64_t)t->last_ms - (uint64_t)t->first_ms > UINT32_MAX)
        return false;
    return t->kind == ING_FLOATS ? floats_ok(t, &t->end) : t->kind == ING_HISTS && hists_ok(t, &t->end);
}

static bool any(const int64_t *starts, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (starts[i] != 0)
            return true;
    return false;
}

enum kl_code ing_tail_encode(const struct ing_tail *t, struct kl_buf *out, struct kl_err *err)
{
    if (t->kind == ING_FLOATS) {
        struct ing_run run;

        ing_tail_floats(t, &run);
        blk_chunk_encode(run.times, run.values, any(run.starts, run.count) ? run.starts : NULL,
                         run.count, out);
        return KL_OK;
    }
    struct kl_arena arena;
    struct kl_hist  hists[ING_TAIL_MAX];
    int64_t         times[ING_TAIL_MAX], starts[ING_TAIL_MAX];

    kl_arena_init(&arena, HISTS_ARENA_MAX);
    if (ing_tail_hists(t, &arena, times, starts, hists, err) == KL_OK)
        blk_chunk_encode_hists(times, hists, any(starts, t->count) ? starts : NULL, t->count, out);
    else
        err->code = KL_ECORRUPT;
    kl_arena_deinit(&arena);
    return out->size > 0 ? KL_OK : err->code;
}
