/*
 * The writer's dictionary: every (label name, value) of the fileset once, and for each series the
 * list of its pairs, four bytes each. At the end both are put in order and become `postings`.
 *
 *   "KOAp" u8 version, varint names; each name, rising:
 *     span name   varint values, at least 1   span set of the series that have it
 *     each value, rising:
 *       varint shared bytes with the value before (0 at every 16th), span rest, span set of its series
 */
#include "libblock/fileset_priv.h"

#include <assert.h>
#include <stdlib.h>

enum { SLOTS_FIRST = 1024, FRONT = 16 };

struct pair {
    uint64_t hash;
    size_t   at;                                       /* in `text`: the name, then the value */
    uint32_t name_size, value_size;
    uint32_t uses;                                     /* how many series; then: where in `users` */
    struct blk_pair id;
};
struct blk_pairs {
    struct kl_buf text;
    struct pair  *pairs;
    uint32_t      pair_count, pair_room;
    uint32_t     *slots;                               /* 1 + index of a pair; 0: free */
    uint32_t      slot_count;                          /* a power of two */
    uint32_t     *refs;                                /* the pairs of all series, end to end */
    size_t        ref_count, ref_room;
    size_t       *ends;                                /* by series */
    uint32_t      series_count, series_room;
    uint32_t     *order;                               /* finish: pairs by (name, value) */
};

struct blk_pairs *blk_pairs_new(void)
{
    struct blk_pairs *p = kl_new(sizeof *p);

    p->slot_count = SLOTS_FIRST;
    p->slots = kl_new(SLOTS_FIRST * sizeof *p->slots);
    return p;
}

void blk_pairs_free(struct blk_pairs *p)
{
    if (p == NULL)
        return;
    kl_buf_deinit(&p->text);
    free(p->pairs);
    free(p->slots);
    free(p->refs);
    free(p->ends);
    free(p->order);
    free(p);
}

static struct kl_span name_of(const struct blk_pairs *p, const struct pair *x)
{
    return kl_span(p->text.at + x->at, x->name_size);
}
static struct kl_span value_of(const struct blk_pairs *p, const struct pair *x)
{
    return kl_span(p->text.at + x->at + x->name_size, x->value_size);
}

static void rehash(struct blk_pairs *p)
{
    free(p->slots);
    p->slot_count *= 2;
    p->slots = kl_new(p->slot_count * sizeof *p->slots);
    for (uint32_t i = 0; i < p->pair_count; i++) {
        uint32_t at = (uint32_t)p->pairs[i].hash & (p->slot_count - 1);
        while (p->slots[at] != 0)
            at = (at + 1) & (p->slot_count - 1);
        p->slots[at] = i + 1;
    }
}

static uint32_t intern(struct blk_pairs *p, const struct kl_label *l)
{
    uint64_t     hash = kl_hash64_seed(l->value.at, l->value.size,
                                       kl_hash64(l->name.at, l->name.size));
    uint32_t     at = (uint32_t)hash & (p->slot_count - 1);
    struct pair *x;

    for (; p->slots[at] != 0; at = (at + 1) & (p->slot_count - 1)) {
        x = &p->pairs[p->slots[at] - 1];
        if (x->hash == hash && kl_span_eq(name_of(p, x), l->name) &&
            kl_span_eq(value_of(p, x), l->value))
            return p->slots[at] - 1;
    }
    if (p->pair_count == p->pair_room) {
        p->pair_room = p->pair_room ? p->pair_room * 2 : 256;
        p->pairs = kl_resize(p->pairs, p->pair_room * sizeof *p->pairs);
    }
    x = &p->pairs[p->pair_count];
    *x = (struct pair){ .hash = hash, .at = p->text.size, .name_size = (uint32_t)l->name.size,
                        .value_size = (uint32_t)l->value.size };
    kl_buf_add(&p->text, l->name.at, l->name.size);
    kl_buf_add(&p->text, l->value.at, l->value.size);
    p->slots[at] = ++p->pair_count;
    if (p->pair_count > p->slot_count / 2)
        rehash(p);
    return p->pair_count - 1;
}

void blk_pairs_series(struct blk_pairs *p, struct kl_labels labels)
{
    struct kl_cur   c = kl_labels_cur(labels);
    struct kl_label l;

    while (kl_labels_next(&c, &l)) {
        uint32_t ref = intern(p, &l);

        if (p->ref_count == p->ref_room) {
            p->ref_room = p->ref_room ? p->ref_room * 2 : 1024;
            p->refs = kl_resize(p->refs, p->ref_room * sizeof *p->refs);
        }
        p->refs[p->ref_count++] = ref;
        p->pairs[ref].uses++;
    }
    if (p->series_count == p->series_room) {
        p->series_room = p->series_room ? p->series_room * 2 : 256;
        p->ends = kl_resize(p->ends, p->series_room * sizeof *p->ends);
    }
    p->ends[p->series_count++] = p->ref_count;
}

static int by_text(const void *a, const void *b, void *ctx)
{
    const struct blk_pairs *p = ctx;
    const struct pair      *x = &p->pairs[*(const uint32_t *)a];
    const struct pair      *y = &p->pairs[*(const uint32_t *)b];
    int                     c = kl_span_cmp(name_of(p, x), name_of(p, y));

    return c != 0 ? c : kl_span_cmp(value_of(p, x), value_of(p, y));
}

/* Each pair's series, rising, end to end in `users`; afterwards `uses` is where a pair's end. */
static uint32_t *list_users(struct blk_pairs *p)
{
    uint32_t *users = kl_resize(NULL, (p->ref_count + 1) * sizeof *users);
    size_t    at = 0;

    assert(p->ref_count <= UINT32_MAX);
    for (uint32_t i = 0; i < p->pair_count; i++) {
        uint32_t uses = p->pairs[i].uses;
        p->pairs[i].uses = (uint32_t)at;
        at += uses;
    }
    at = 0;
    for (uint32_t s = 0; s < p->series_count; s++)
        for (; at < p->ends[s]; at++)
            users[p->pairs[p->refs[at]].uses++] = s;
    return users;
}

static uint32_t users_begin(const struct blk_pairs *p, uint32_t pair)
{
    return pair > 0 ? p->pairs[pair - 1].uses : 0;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* With its size in front, so that it can be passed over at once. */
static void put_set(const uint32_t *ids, uint32_t count, struct kl_buf *set, struct kl_buf *out)
{
    kl_buf_reset(set);
    blk_set_write(ids, count, set);
    kl_buf_addspan(out, kl_buf_span(set));
}

/* The series with a name: its values' sets are disjoint, so together they are a list to sort. */
static void put_name_set(const struct blk_pairs *p, const uint32_t *users, uint32_t from,
                         uint32_t to, uint32_t *scratch, struct kl_buf *set, struct kl_buf *out)
{
    uint32_t n = 0;

    for (uint32_t i = from; i < to; i++) {
        uint32_t pair = p->order[i], begin = users_begin(p, pair);
        memcpy(scratch + n, users + begin, (p->pairs[pair].uses - begin) * sizeof *scratch);
        n += p->pairs[pair].uses - begin;
    }
    if (to - from > 1)
        qsort(scratch, n, sizeof *scratch, by_number);
    put_set(scratch, n, set, out);
}

static void put_value(const struct blk_pairs *p, const struct pair *x, const struct pair *before,
                      struct kl_buf *out)
{
    struct kl_span value = value_of(p, x);
    size_t         shared = 0;

    if (before != NULL) {
        struct kl_span last = value_of(p, before);
        while (shared < last.size && shared < value.size &&
               ((const char *)last.at)[shared] == ((const char *)value.at)[shared])
            shared++;
    }
    kl_buf_addv(out, shared);
    kl_buf_addspan(out, kl_span((const char *)value.at + shared, value.size - shared));
}

void blk_pairs_finish(struct blk_pairs *p, struct kl_buf *out)
{
    uint32_t *users = list_users(p), *scratch, names = 0;
    uint32_t  n = p->pair_count;
    struct kl_buf set = { 0 };

    scratch = kl_resize(NULL, ((size_t)p->series_count + 1) * sizeof *scratch);
    p->order = kl_resize(NULL, ((size_t)n + 1) * sizeof *p->order);
    for (uint32_t i = 0; i < n; i++)
        p->order[i] = i;
    qsort_r(p->order, n, sizeof *p->order, by_text, p);
    for (uint32_t i = 0; i < n; i++)
        names += i == 0 || !kl_span_eq(name_of(p, &p->pairs[p->order[i]]),
                                       name_of(p, &p->pairs[p->order[i - 1]]));
    kl_buf_add(out, "KOAp", 4);
    kl_buf_add8(out, BLK_VERSION);
    kl_buf_addv(out, names);
    for (uint32_t from = 0, to, name = 0; from < n; from = to, name++) {
        struct kl_span text = name_of(p, &p->pairs[p->order[from]]);

        for (to = from + 1; to < n && kl_span_eq(name_of(p, &p->pairs[p->order[to]]), text); to++)
            ;
        kl_buf_addspan(out, text);
        kl_buf_addv(out, to - from);
        put_name_set(p, users, from, to, scratch, &set, out);
        for (uint32_t i = from; i < to; i++) {
            uint32_t     pair = p->order[i], begin = users_begin(p, pair);
            struct pair *x = &p->pairs[pair];

            x->id = (struct blk_pair){ .name = name, .value = i - from };
            put_value(p, x, (i - from) % FRONT ? &p->pairs[p->order[i - 1]] : NULL, out);
            put_set(users + begin, x->uses - begin, &set, out);
        }
    }
    kl_buf_deinit(&set);
    free(users);
    free(scratch);
}

uint32_t blk_pairs_of(const struct blk_pairs *p, uint32_t series, struct blk_pair *pairs)
{
    size_t   at = series > 0 ? p->ends[series - 1] : 0;
    uint32_t n = 0;

    for (; at < p->ends[series]; at++)
        pairs[n++] = p->pairs[p->refs[at]].id;
    return n;
}
