/*
 * Reading postings (pairs.c draws them). The file stays in memory as it is; beside it, for every
 * name where its values begin, and for every 16th value, whose text is whole, where it lies. So a
 * value is found by halving, then at most fifteen steps (sets are passed over by their size); a
 * prefix is a run of values; and only a regular expression without a prefix looks at all values of
 * its label, once each.
 * Everything is walked and checked once at opening; afterwards the bytes may be trusted.
 */
#include "libblock/fileset_priv.h"

#include <assert.h>
#include <stdlib.h>

enum { FRONT = 16 };

struct name {
    struct kl_span text;
    size_t   set;                                      /* where the set of all its series is */
    uint32_t value_count, blocks;                      /* blocks: index of its first in `block` */
};
struct blk_postings {
    struct kl_span raw;                                /* borrowed */
    uint32_t     series_count, name_count;
    struct name *names;
    uint32_t    *block;                                /* offsets of every 16th value */
    uint32_t     block_count, block_room;
};

static struct kl_cur cur_at(const struct blk_postings *p, size_t at)
{
    return kl_cur((const char *)p->raw.at + at, p->raw.size - at);
}
static size_t place(const struct blk_postings *p, const struct kl_cur *c)
{
    return (size_t)(c->at - (const uint8_t *)p->raw.at);
}

/* A set with its size in front: passed over when `into` is NULL, for it was checked at opening. */
static void pass_set(struct kl_cur *c, uint32_t limit, struct blk_ids *into)
{
    struct kl_span set = kl_cur_span(c);
    struct kl_cur  in = kl_cur(set.at, set.size);

    if (into != NULL)
        blk_set_read(&in, limit, into);
}

static bool check_set(struct kl_cur *c, uint32_t limit)
{
    struct kl_span set = kl_cur_span(c);
    struct kl_cur  in = kl_cur(set.at, set.size);

    return !c->bad && blk_set_read(&in, limit, NULL) && kl_cur_left(&in) == 0;
}

/* One value's text, from the one before it in `text`; the cursor then stands at its set. */
static bool next_value(struct kl_cur *c, bool whole, struct kl_buf *text)
{
    uint64_t       shared = kl_cur_v(c);
    struct kl_span rest = kl_cur_span(c);

    if (c->bad || shared > text->size || (whole && shared != 0))
        return false;
    text->size = shared;
    kl_buf_add(text, rest.at, rest.size);
    return kl_buf_ok(text);
}

static bool walk_values(struct blk_postings *p, struct kl_cur *c, struct name *n)
{
    struct kl_buf text, last;
    bool          fine = true;

    kl_buf_init(&text, KL_LABELS_BYTES_MAX);
    kl_buf_init(&last, KL_LABELS_BYTES_MAX);
    for (uint32_t i = 0; i < n->value_count && fine; i++) {
        if (i % FRONT == 0) {
            if (p->block_count == p->block_room) {
                p->block_room = p->block_room ? p->block_room * 2 : 64;
                p->block = kl_resize(p->block, p->block_room * sizeof *p->block);
            }
            p->block[p->block_count++] = (uint32_t)place(p, c);
        }
        fine = next_value(c, i % FRONT == 0, &text) && check_set(c, p->series_count) &&
               (i == 0 || kl_span_cmp(kl_buf_span(&last), kl_buf_span(&text)) < 0);
        kl_buf_reset(&last);
        kl_buf_add(&last, text.at, text.size);
    }
    kl_buf_deinit(&text);
    kl_buf_deinit(&last);
    return fine;
}

static bool walk(struct blk_postings *p, struct kl_cur *c)
{
    uint64_t n = kl_cur_v(c);

    if (c->bad || n > kl_cur_left(c) / 8)              /* the least a name with one value takes */
        return false;
    p->names = kl_resize(NULL, (n + 1) * sizeof *p->names);
    for (uint64_t i = 0; i < n; i++) {
        struct name *x = &p->names[p->name_count];
        uint64_t     values;

        x->text = kl_cur_span(c);
        values = kl_cur_v(c);
        if (c->bad || values == 0 || values > kl_cur_left(c) ||
            (i > 0 && kl_span_cmp(x[-1].text, x->text) >= 0))
            return false;
        x->value_count = (uint32_t)values;
        x->blocks = p->block_count;
        x->set = place(p, c);
        if (!check_set(c, p->series_count) || !walk_values(p, c, x))
            return false;
        p->name_count++;
    }
    return kl_cur_left(c) == 0;
}

enum kl_code blk_postings_read(struct kl_span raw, uint32_t series_count, struct blk_postings **out,
                               struct kl_err *err)
{
    struct kl_cur        c = kl_cur(raw.at, raw.size);
    struct kl_span       magic = kl_cur_bytes(&c, 4);
    uint8_t              version = kl_cur_8(&c);
    struct blk_postings *p;

    if (c.bad || memcmp(magic.at, "KOAp", 4) != 0 || version != BLK_VERSION)
        return kl_fail(err, KL_ECORRUPT, "not a postings file of version %d", BLK_VERSION);
    p = kl_new(sizeof *p);
    p->raw = raw;
    p->series_count = series_count;
    if (!walk(p, &c)) {
        blk_postings_free(p);
        return kl_fail(err, KL_ECORRUPT, "bad names, values or sets");
    }
    *out = p;
    return KL_OK;
}

void blk_postings_free(struct blk_postings *p)
{
    if (p == NULL)
        return;
    free(p->names);
    free(p->block);
    free(p);
}

size_t blk_postings_memory(const struct blk_postings *p)
{
    return sizeof *p + p->raw.size + p->name_count * sizeof *p->names +
           p->block_room * sizeof *p->block;
}

static const struct name *find_name(const struct blk_postings *p, struct kl_span text)
{
    uint32_t low = 0, high = p->name_count;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        int      c = kl_span_cmp(p->names[mid].text, text);

        if (c == 0)
            return &p->names[mid];
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

/* A walk over the values of a name. */
struct values {
    const struct blk_postings *p;
    const struct name *n;
    struct kl_cur c;                                   /* at the set of the present value */
    struct kl_buf text;
    uint32_t at;
};

static void values_seek(struct values *v, uint32_t block)
{
    uint32_t from = v->p->block[v->n->blocks + block];

    v->c = cur_at(v->p, from);
    v->at = block * FRONT;
    kl_buf_reset(&v->text);
    next_value(&v->c, true, &v->text);
}

static void values_open(struct values *v, const struct blk_postings *p, const struct name *n)
{
    *v = (struct values){ .p = p, .n = n };
    values_seek(v, 0);
}

/* Past the set of the present value, which goes to `into` unless NULL. False after the last. */
static bool values_next(struct values *v, struct blk_ids *into)
{
    pass_set(&v->c, v->p->series_count, into);
    if (++v->at == v->n->value_count)
        return false;
    next_value(&v->c, v->at % FRONT == 0, &v->text);
    return true;
}

/* To the first value not below `text`; false when there is none. */
static bool values_reach(struct values *v, struct kl_span text)
{
    uint32_t low = 0, high = (v->n->value_count + FRONT - 1) / FRONT;

    while (high - low > 1) {                           /* the last block that begins at or below it */
        uint32_t mid = low + (high - low) / 2;

        values_seek(v, mid);
        if (kl_span_cmp(kl_buf_span(&v->text), text) <= 0)
            low = mid;
        else
            high = mid;
    }
    values_seek(v, low);
    while (kl_span_cmp(kl_buf_span(&v->text), text) < 0)
        if (!values_next(v, NULL))
            return false;
    return true;
}

static void values_close(struct values *v) { kl_buf_deinit(&v->text); }

static void add_value(const struct blk_postings *p, const struct name *n, struct kl_span text,
                      struct blk_ids *into)
{
    struct values v;

    values_open(&v, p, n);
    if (values_reach(&v, text) && kl_span_eq(kl_buf_span(&v.text), text))
        values_next(&v, into);
    values_close(&v);
}

static void add_all(const struct blk_postings *p, const struct name *n, struct blk_ids *into)
{
    struct kl_cur c = cur_at(p, n->set);

    pass_set(&c, p->series_count, into);
}

bool blk_postings_has(const struct blk_postings *p, struct kl_span name, struct kl_span value)
{
    const struct name *n = find_name(p, name);
    struct values      v;
    bool               has = false;

    if (n == NULL)
        return false;
    values_open(&v, p, n);
    has = values_reach(&v, value) && kl_span_eq(kl_buf_span(&v.text), value);
    values_close(&v);
    return has;
}

static bool has_prefix(struct kl_span s, struct kl_span prefix)
{
    return s.size >= prefix.size && (prefix.size == 0 || memcmp(s.at, prefix.at, prefix.size) == 0);
}

/* The values that a pattern matches: by look-ups, over a prefix's run, or over all of them. */
static void add_matching(const struct blk_postings *p, const struct name *n,
                         const struct kl_regex *re, struct blk_ids *into)
{
    const struct kl_span *set;
    size_t                literals = kl_regex_set(re, &set);
    struct kl_span        prefix = kl_regex_prefix(re);
    struct values         v;

    if (literals > 0) {
        for (size_t i = 0; i < literals; i++)
            if (set[i].size > 0)
                add_value(p, n, set[i], into);
        return;
    }
    values_open(&v, p, n);
    if (prefix.size == 0 || values_reach(&v, prefix))
        while (has_prefix(kl_buf_span(&v.text), prefix) &&
               values_next(&v, kl_regex_match(re, kl_buf_span(&v.text)) ? into : NULL))
            ;
    values_close(&v);
}

/* Those whose value the positive form of `m` matches; an absent label is the empty string. */
static struct blk_ids *matching(const struct blk_postings *p, const struct kl_matcher *m)
{
    const struct name *n = find_name(p, m->name);
    struct blk_ids    *found = blk_ids_new(), *have;
    bool               regex = m->op == KL_MATCH_RE || m->op == KL_MATCH_NRE;
    bool               absent = regex ? kl_regex_match(m->re, kl_span("", 0)) : m->value.size == 0;

    if (n != NULL && regex)
        add_matching(p, n, m->re, found);
    else if (n != NULL && m->value.size > 0)
        add_value(p, n, m->value, found);
    if (!absent)
        return found;
    have = blk_ids_new();                              /* and all that do not have the label */
    if (n != NULL)
        add_all(p, n, have);
    blk_ids_andnot(have, found);
    blk_ids_flip(have, p->series_count);
    blk_ids_free(found);
    return have;
}

struct blk_ids *blk_postings_match(const struct blk_postings *p, const struct kl_matcher *m,
                                   size_t count)
{
    struct blk_ids *all = blk_ids_new();

    blk_ids_add_range(all, 0, p->series_count);
    for (size_t i = 0; i < count; i++) {
        struct blk_ids *one = matching(p, &m[i]);

        if (m[i].op == KL_MATCH_NE || m[i].op == KL_MATCH_NRE)
            blk_ids_andnot(all, one);
        else
            blk_ids_and(all, one);
        blk_ids_free(one);
    }
    return all;
}

struct kl_span blk_postings_name(const struct blk_postings *p, uint32_t name)
{
    return p->names[name].text;
}

bool blk_postings_has_pair(const struct blk_postings *p, struct blk_pair pair)
{
    return pair.name < p->name_count && pair.value < p->names[pair.name].value_count;
}

struct kl_span blk_postings_pair(const struct blk_postings *p, struct blk_pair pair,
                                 struct kl_buf *text)
{
    const struct name *n = &p->names[pair.name];
    struct values      v = { .p = p, .n = n, .text = *text };

    values_seek(&v, pair.value / FRONT);
    while (v.at < pair.value)
        values_next(&v, NULL);
    *text = v.text;                                    /* lent to the walk, and perhaps grown by it */
    return n->text;
}

void blk_postings_names(const struct blk_postings *p, const struct blk_ids *within,
                        void (*each)(void *ctx, struct kl_span text), void *ctx)
{
    for (uint32_t i = 0; i < p->name_count; i++) {
        bool meets = within == NULL;

        if (!meets) {
            struct blk_ids *have = blk_ids_new();
            add_all(p, &p->names[i], have);
            meets = blk_ids_meets(within, have);
            blk_ids_free(have);
        }
        if (meets)
            each(ctx, p->names[i].text);
    }
}

void blk_postings_values(const struct blk_postings *p, struct kl_span label,
                         const struct blk_ids *within,
                         void (*each)(void *ctx, struct kl_span text), void *ctx)
{
    const struct name *n = find_name(p, label);
    struct values      v;
    bool               more = n != NULL;

    if (n == NULL)
        return;
    values_open(&v, p, n);
    while (more) {
        if (within == NULL) {
            each(ctx, kl_buf_span(&v.text));
            more = values_next(&v, NULL);
        } else {
            struct kl_buf   text = { 0 };
            struct blk_ids *have = blk_ids_new();

            kl_buf_add(&text, v.text.at, v.text.size);
            more = values_next(&v, have);
            if (blk_ids_meets(within, have))
                each(ctx, kl_buf_span(&text));
            blk_ids_free(have);
            kl_buf_deinit(&text);
        }
    }
    values_close(&v);
}
