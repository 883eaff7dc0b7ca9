/*
 * A column of 64-bit integers, by the cheapest of a menu; arithmetic is modulo 2^64 throughout.
 *
 *   u8 head       bits 0-2 transform, bit 3 a common divisor, bit 4 exceptions, bit 5 signed ones
 *   CONST         zigzag x0                                    all the same
 *   LINE          zigzag x0, zigzag step                       all differences the same
 *   others        [zigzag offset, varint divisor >= 2]         k = (x - offset) / divisor, else k = x
 *     PLAIN       -                                            y = k                 count values
 *     DELTA       zigzag k0                                    y = differences       count - 1
 *     DOD         zigzag k0, zigzag d0                         y = theirs            count - 2
 *                 zigzag base, u8 width (0..64)
 *                 [varint n, u8 upper width (1..64), n varint gaps between positions,
 *                  n packed upper parts: y = base + packed + (upper << width); signed: zigzag]
 *                 packed y - base
 *
 * With exceptions this is PFOR ("patched frame of reference": Zukowski et al., ICDE 2006), without
 * it is FOR; of the differences, delta-FOR. The base is the least value, or, with signed exceptions,
 * the least of the bulk: what lies below is an exception as what lies above.
 */
#include "libblock/blk_priv.h"

enum { HEAD_TRANSFORM = 0x07, HEAD_FACTOR = 0x08, HEAD_PATCHES = 0x10,
       HEAD_SIGNED = 0x20 };

static inline unsigned bit_length(uint64_t v)
{
    return v == 0 ? 0 : 64 - (unsigned)__builtin_clzll(v);
}
static inline unsigned varint_bits(uint64_t v) { return (bit_length(v | 1) + 6) / 7 * 8; }
static inline uint64_t zigzag(uint64_t v) { return v << 1 ^ (uint64_t)((int64_t)v >> 63); }

static inline uint64_t unzigzag(uint64_t v) { return v >> 1 ^ (0 - (v & 1)); }

static uint64_t gcd(uint64_t a, uint64_t b)
{
    unsigned twos;

    if (a == 0 || b == 0)
        return a | b;
    twos = (unsigned)__builtin_ctzll(a | b);
    a >>= __builtin_ctzll(a);
    do {
        b >>= __builtin_ctzll(b);
        if (a > b) {
            uint64_t t = a;
            a = b;
            b = t;
        }
        b -= a;
    } while (b != 0);
    return a << twos;
}

/* The greatest common divisor of all differences; differences count as signed. */
static uint64_t common_factor(const uint64_t *x, uint32_t count)
{
    uint64_t g = 0;

    for (uint32_t i = 1; i < count && g != 1; i++) {
        uint64_t d = x[i] - x[i - 1];

        d = (int64_t)d < 0 ? 0 - d : d;
        if (g == 0 || d % g != 0)                      /* most often it divides: spare the loop */
            g = gcd(g, d);
    }
    return g == 0 ? 1 : g;
}

/* The y of x; returns how many there are. */
static uint32_t transform(const uint64_t *x, uint32_t count, unsigned how, uint64_t *y)
{
    if (how == BLK_INT_PLAIN) {
        memcpy(y, x, count * sizeof *y);
        return count;
    }
    if (how == BLK_INT_DELTA) {
        for (uint32_t i = 1; i < count; i++)
            y[i - 1] = x[i] - x[i - 1];
        return count - 1;
    }
    for (uint32_t i = 2; i < count; i++)
        y[i - 2] = x[i] - 2 * x[i - 1] + x[i - 2];
    return count - 2;
}

struct range { int64_t least, most; };

static struct range range_of(const uint64_t *y, uint32_t count)
{
    struct range r = { (int64_t)y[0], (int64_t)y[0] };

    for (uint32_t i = 1; i < count; i++) {
        int64_t v = (int64_t)y[i];
        r.least = v < r.least ? v : r.least;
        r.most = v > r.most ? v : r.most;
    }
    return r;
}

/*
 * Where the bulk of the values begins: from a sorted handful, evenly spaced, the second least less
 * the spread of the handful. An estimate: a bad one costs room, never correctness.
 */
static int64_t bulk_least(const uint64_t *y, uint32_t count, struct range all)
{
    enum { HANDFUL = 24 };
    int64_t  some[HANDFUL], low, spread, edge;

    if (count < 2 * HANDFUL)
        return all.least;
    for (uint32_t i = 0; i < HANDFUL; i++) {
        int64_t  v = (int64_t)y[(uint64_t)i * (count - 1) / (HANDFUL - 1)];
        uint32_t at = i;
        for (; at > 0 && some[at - 1] > v; at--)
            some[at] = some[at - 1];
        some[at] = v;
    }
    low = some[1];
    if (__builtin_sub_overflow(some[HANDFUL - 2], low, &spread) ||
        __builtin_sub_overflow(low, spread / 2, &edge) || edge <= all.least)
        return all.least;
    low = INT64_MAX;
    for (uint32_t i = 0; i < count; i++) {
        int64_t v = (int64_t)y[i];
        low = v >= edge && v < low ? v : low;
    }
    return low;
}

/*
 * The best width for `base`; updates `plan` where it is better. With `below`, some values lie below
 * the base: they are exceptions at any width, and the upper parts have a sign.
 */
static void try_patched(const uint64_t *y, uint32_t count, uint64_t base, bool below, unsigned how,
                        uint64_t fixed_bits, struct blk_int_plan *plan)
{
    uint32_t lengths[65] = { 0 }, patches = 0;
    unsigned longest = 0, longest_below = 0, widest;

    for (uint32_t i = 0; i < count; i++) {
        uint64_t z = y[i] - base;

        if (below && (int64_t)z < 0) {
            patches++;
            z = ~z;
            longest_below = bit_length(z) > longest_below ? bit_length(z) : longest_below;
        } else {
            lengths[bit_length(z)]++;
        }
    }
    for (longest = 64; longest > 0 && lengths[longest] == 0; longest--)
        ;
    widest = longest > longest_below ? longest : longest_below;
    fixed_bits += varint_bits(zigzag(base)) + 8;
    for (unsigned width = longest;; width--) {
        uint64_t bits = fixed_bits + (uint64_t)width * count;
        unsigned upper = (widest > width ? widest - width : 0) + below;

        if (patches > 0)                               /* a gap takes a byte, seldom two */
            bits += 16 + (uint64_t)patches * (8 + upper);
        if (bits < plan->bits) {
            plan->bits = bits;
            plan->transform = (uint8_t)how;
            plan->width = (uint8_t)width;
            plan->base = base;
            plan->patches = patches;
            plan->patch_width = (uint8_t)(patches > 0 ? upper : 0);
            plan->below = below;
        }
        patches += lengths[width];
        if (width == 0 || patches > count / 4)
            break;
    }
}

static void try_transform(const uint64_t *k, uint32_t count, unsigned how, uint64_t fixed_bits,
                          struct blk_int_plan *plan)
{
    uint64_t     y[BLK_CHUNK_MAX];
    uint32_t     left = transform(k, count, how, y);
    struct range r = range_of(y, left);
    int64_t      bulk;

    if (how != BLK_INT_PLAIN)
        fixed_bits += varint_bits(zigzag(k[0]));
    if (how == BLK_INT_DOD)
        fixed_bits += varint_bits(zigzag(k[1] - k[0]));
    try_patched(y, left, (uint64_t)r.least, false, how, fixed_bits, plan);
    bulk = bulk_least(y, left, r);
    if (bulk != r.least)
        try_patched(y, left, (uint64_t)bulk, true, how, fixed_bits, plan);
}

void blk_int_choose(const uint64_t *x, uint32_t count, struct blk_int_plan *plan)
{
    uint64_t        scaled[BLK_CHUNK_MAX], step;
    const uint64_t *k = x;
    uint64_t        fixed_bits = 8;
    uint32_t        same = 1;

    *plan = (struct blk_int_plan){ .factor = 1, .bits = UINT64_MAX };
    step = count > 1 ? x[1] - x[0] : 0;
    while (same < count && x[same] - x[same - 1] == step)
        same++;
    if (same == count) {
        plan->transform = step == 0 ? BLK_INT_CONST : BLK_INT_LINE;
        plan->bits = 8 + varint_bits(zigzag(x[0])) + (step ? varint_bits(zigzag(step)) : 0);
        return;
    }
    plan->factor = common_factor(x, count);
    if (plan->factor > 1) {
        for (uint32_t i = 0; i < count; i++)
            scaled[i] = (uint64_t)((int64_t)(x[i] - x[0]) / (int64_t)plan->factor);
        /* Differences of the extremes may wrap, and then do not divide: only exact ones count. */
        for (uint32_t i = 0; i < count && plan->factor > 1; i++)
            if (scaled[i] * plan->factor + x[0] != x[i])
                plan->factor = 1;
    }
    if (plan->factor > 1) {
        k = scaled;
        fixed_bits += varint_bits(zigzag(x[0])) + varint_bits(plan->factor);
    }
    try_transform(k, count, BLK_INT_PLAIN, fixed_bits, plan);
    try_transform(k, count, BLK_INT_DELTA, fixed_bits, plan);
    if (count > 2)
        try_transform(k, count, BLK_INT_DOD, fixed_bits, plan);
}

void blk_int_write(const uint64_t *x, uint32_t count, const struct blk_int_plan *plan,
                   struct kl_buf *out)
{
    uint64_t  k[BLK_CHUNK_MAX], y[BLK_CHUNK_MAX];
    uint64_t *upper = k;                               /* k is no more needed by then */
    uint32_t  left, last = 0, n = 0;

    kl_buf_add8(out, (uint8_t)(plan->transform | (plan->factor > 1 ? HEAD_FACTOR : 0) |
                               (plan->patches > 0 ? HEAD_PATCHES : 0) |
                               (plan->below ? HEAD_SIGNED : 0)));
    if (plan->transform <= BLK_INT_LINE) {
        kl_buf_addz(out, (int64_t)x[0]);
        if (plan->transform == BLK_INT_LINE)
            kl_buf_addz(out, (int64_t)(x[1] - x[0]));
        return;
    }
    if (plan->factor > 1) {
        kl_buf_addz(out, (int64_t)x[0]);
        kl_buf_addv(out, plan->factor);
        for (uint32_t i = 0; i < count; i++)
            k[i] = (uint64_t)((int64_t)(x[i] - x[0]) / (int64_t)plan->factor);
        x = k;
    }
    left = transform(x, count, plan->transform, y);
    if (plan->transform != BLK_INT_PLAIN)
        kl_buf_addz(out, (int64_t)x[0]);
    if (plan->transform == BLK_INT_DOD)
        kl_buf_addz(out, (int64_t)(x[1] - x[0]));
    kl_buf_addz(out, (int64_t)plan->base);
    kl_buf_add8(out, plan->width);
    for (uint32_t i = 0; i < left; i++)
        y[i] -= plan->base;
    if (plan->patches > 0) {
        kl_buf_addv(out, plan->patches);
        kl_buf_add8(out, plan->patch_width);
        for (uint32_t i = 0; i < left; i++) {          /* width < 64 where there are exceptions */
            uint64_t up = plan->below ? (uint64_t)((int64_t)y[i] >> plan->width)
                                      : y[i] >> plan->width;
            if (up == 0)
                continue;
            kl_buf_addv(out, i - last);
            last = i;
            upper[n++] = plan->below ? zigzag(up) : up;
        }
        blk_pack(upper, n, plan->patch_width, out);
    }
    blk_pack(y, left, plan->width, out);
}

void blk_int_encode(const uint64_t *x, uint32_t count, struct kl_buf *out)
{
    struct blk_int_plan plan;

    blk_int_choose(x, count, &plan);
    blk_int_write(x, count, &plan, out);
}

void blk_int_encode_quick(const uint64_t *x, uint32_t count, struct kl_buf *out)
{
    struct blk_int_plan plan = { .factor = 1 };
    uint64_t            y[BLK_CHUNK_MAX], step = count > 1 ? x[1] - x[0] : 0;
    struct range        r;

    plan.transform = step == 0 ? BLK_INT_CONST : BLK_INT_LINE;
    for (uint32_t i = 2; i < count; i++)
        if (x[i] - x[i - 1] != step) {
            r = range_of(y, transform(x, count, BLK_INT_DELTA, y));
            plan.transform = BLK_INT_DELTA;
            plan.base = (uint64_t)r.least;
            plan.width = (uint8_t)bit_length((uint64_t)r.most - (uint64_t)r.least);
            break;
        }
    blk_int_write(x, count, &plan, out);
}

/* The fields before the packed parts; the same walk for decode and skip. */
struct layout {
    uint8_t  how;
    bool     scaled;
    uint64_t offset, factor, first, step, base;
    unsigned width, patch_width;
    uint32_t left, patches;
    uint16_t place[BLK_CHUNK_MAX];
    struct kl_span upper, packed;
};

static bool read_patches(struct kl_cur *c, struct layout *l)
{
    uint64_t n = kl_cur_v(c), at = 0;

    l->patch_width = kl_cur_8(c);
    if (c->bad || n == 0 || n > l->left || l->patch_width == 0 || l->patch_width > 64 ||
        l->width > 63)
        return false;
    l->patches = (uint32_t)n;
    for (uint32_t i = 0; i < l->patches; i++) {
        uint64_t gap = kl_cur_v(c);

        if (gap >= l->left || (i > 0 && gap == 0) || (at += gap) >= l->left)
            return false;
        l->place[i] = (uint16_t)at;
    }
    l->upper = kl_cur_bytes(c, blk_packed_size(l->patches, l->patch_width));
    return !c->bad;
}

static bool read_layout(struct kl_cur *c, uint32_t count, uint8_t *head, struct layout *l)
{
    *head = kl_cur_8(c);
    l->how = *head & HEAD_TRANSFORM;
    l->scaled = *head & HEAD_FACTOR;
    l->patches = 0;
    if (c->bad || *head > (HEAD_TRANSFORM | HEAD_FACTOR | HEAD_PATCHES | HEAD_SIGNED) ||
        l->how > BLK_INT_DOD || (l->how <= BLK_INT_LINE && *head != l->how) ||
        (*head & (HEAD_PATCHES | HEAD_SIGNED)) == HEAD_SIGNED)
        return false;
    if (l->how == BLK_INT_CONST || l->how == BLK_INT_LINE) {
        l->first = (uint64_t)kl_cur_z(c);
        l->step = l->how == BLK_INT_LINE ? (uint64_t)kl_cur_z(c) : 0;
        return !c->bad;
    }
    if (count < (l->how == BLK_INT_PLAIN ? 1u : l->how == BLK_INT_DELTA ? 2u : 3u))
        return false;
    l->left = count - (l->how - BLK_INT_PLAIN);
    if (l->scaled) {
        l->offset = (uint64_t)kl_cur_z(c);
        l->factor = kl_cur_v(c);
    }
    l->first = l->how == BLK_INT_PLAIN ? 0 : (uint64_t)kl_cur_z(c);
    l->step = l->how == BLK_INT_DOD ? (uint64_t)kl_cur_z(c) : 0;
    l->base = (uint64_t)kl_cur_z(c);
    l->width = kl_cur_8(c);
    if (c->bad || l->width > 64 || ((*head & HEAD_PATCHES) && !read_patches(c, l)))
        return false;
    l->packed = kl_cur_bytes(c, blk_packed_size(l->left, l->width));
    return !c->bad;
}

bool blk_int_decode(const struct blk_kernels *k, struct kl_cur *c, uint32_t count, uint64_t *x)
{
    struct layout l;
    uint64_t      upper[BLK_CHUNK_MAX], *y;
    uint8_t       head;

    if (!read_layout(c, count, &head, &l))
        return false;
    if (l.how == BLK_INT_CONST) {
        k->fill(x, count, l.first);
        return true;
    }
    if (l.how == BLK_INT_LINE) {
        x[0] = l.first;
        k->fill(x + 1, count - 1, l.step);
        k->prefix(x + 1, count - 1, l.first);
        return true;
    }
    y = x + (count - l.left);
    k->unpack(l.packed.at, l.width, l.left, l.base, y);
    if (l.patches > 0) {
        k->unpack(l.upper.at, l.patch_width, l.patches, 0, upper);
        for (uint32_t i = 0; i < l.patches; i++)
            y[l.place[i]] += (head & HEAD_SIGNED ? unzigzag(upper[i]) : upper[i]) << l.width;
    }
    if (l.how == BLK_INT_DOD) {
        x[1] = l.step;
        k->prefix(y, l.left, l.step);                  /* now differences */
    }
    if (l.how != BLK_INT_PLAIN) {
        x[0] = l.first;
        k->prefix(x + 1, count - 1, l.first);
    }
    if (l.scaled)
        k->scale(x, count, l.factor, l.offset);
    return true;
}

bool blk_int_skip(struct kl_cur *c, uint32_t count, uint8_t *head)
{
    struct layout l;

    return read_layout(c, count, head, &l);
}
