#include "libtsproto/layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libtsproto/pb_priv.h"
#include "libtsproto/placement.pb.h"
#include "libtsproto/placement_priv.h"

enum { ARENA_BYTES = 4 << 20 };

struct spreads {                                       /* one key */
    uint64_t revision;
    struct kl_arena    arena;
    struct tsp_spread *all; size_t count, room;
};
struct tsp_layout {
    struct tsp_placement *main;
    uint64_t main_revision, revision;
    struct spreads keys[TSP_SPREAD_KEYS];
};

struct tsp_layout *tsp_layout_new(void)
{
    struct tsp_layout *l = kl_new(sizeof *l);

    for (int i = 0; i < TSP_SPREAD_KEYS; i++)
        kl_arena_init(&l->keys[i].arena, ARENA_BYTES);
    return l;
}

static void spreads_deinit(struct spreads *s)
{
    kl_arena_deinit(&s->arena);
    free(s->all);
}

void tsp_layout_free(struct tsp_layout *l)
{
    if (l == NULL)
        return;
    tsp_placement_free(l->main);
    for (int i = 0; i < TSP_SPREAD_KEYS; i++)
        spreads_deinit(&l->keys[i]);
    free(l);
}

void tsp_spread_key(uint32_t number, char *out, size_t size)
{
    snprintf(out, size, TSP_PLACEMENT_KEY ".spread.%02u", number % TSP_SPREAD_KEYS);
}

uint32_t tsp_spread_number(struct kl_span tenant, struct kl_span metric)
{
    return (uint32_t)(tsp_placement_base(tenant, metric) >> 60) % TSP_SPREAD_KEYS;
}

/* ---- bytes ---- */

static bool get_one(pb_istream_t *stream, const pb_field_t *field, void **arg)
{
    struct spreads      *s = *arg;
    koalemos_Spread      m = koalemos_Spread_init_zero;
    struct tsp_spread    one = { 0 };
    struct tsp_pb_bytes  tenant = { &s->arena, &one.tenant }, metric = { &s->arena, &one.metric };

    (void)field;
    m.tenant = tsp_pb_get(&tenant);
    m.metric = tsp_pb_get(&metric);
    if (s->count == TSP_SPREADS_MAX)
        PB_RETURN_ERROR(stream, "too many spreads");
    if (!pb_decode(stream, koalemos_Spread_fields, &m))
        return false;
    if (m.spread == 0 || m.spread > 12 || one.tenant.size == 0)
        PB_RETURN_ERROR(stream, "a spread that cannot be");
    one.spread = (uint8_t)m.spread;
    one.valid_from_ms = m.valid_from_ms;
    if (s->count == s->room) {
        s->room = s->room == 0 ? 16 : s->room * 2;
        s->all = kl_resize(s->all, s->room * sizeof *s->all);
    }
    s->all[s->count++] = one;
    return true;
}

static enum kl_code decode(struct kl_span value, struct spreads *s, struct kl_err *err)
{
    koalemos_Spreads m = koalemos_Spreads_init_zero;

    m.spreads = (pb_callback_t){ .funcs.decode = get_one, .arg = s };
    return tsp_pb_decode(koalemos_Spreads_fields, value, &m, "spreads of the placement table", err);
}

struct two { const struct tsp_spread *a, *b; size_t a_count, b_count; };

static bool put_one(pb_ostream_t *stream, const pb_field_t *field, const struct tsp_spread *s)
{
    koalemos_Spread m = { .tenant = tsp_pb_put(&s->tenant), .metric = tsp_pb_put(&s->metric),
                          .spread = s->spread, .valid_from_ms = s->valid_from_ms };

    return pb_encode_tag_for_field(stream, field) &&
           pb_encode_submessage(stream, koalemos_Spread_fields, &m);
}

static bool put_all(pb_ostream_t *stream, const pb_field_t *field, void *const *arg)
{
    const struct two *t = *arg;

    for (size_t i = 0; i < t->a_count; i++)
        if (!put_one(stream, field, &t->a[i]))
            return false;
    for (size_t i = 0; i < t->b_count; i++)
        if (!put_one(stream, field, &t->b[i]))
            return false;
    return true;
}

/* ---- seeing ---- */

/* The number of a spread's key, or -1. */
static int number_of(const char *key)
{
    char expect[64];

    for (uint32_t i = 0; i < TSP_SPREAD_KEYS; i++) {
        tsp_spread_key(i, expect, sizeof expect);
        if (strcmp(key, expect) == 0)
            return (int)i;
    }
    return -1;
}

static bool see_main(struct tsp_layout *l, struct kl_span value, uint64_t revision, struct kl_err *err)
{
    struct tsp_placement *p;

    if (revision < l->main_revision || tsp_placement_decode(value, &p, err) != KL_OK)
        return false;
    tsp_placement_free(l->main);
    l->main = p;
    l->main_revision = revision;
    return true;
}

static bool see_spreads(struct spreads *s, struct kl_span value, uint64_t revision, struct kl_err *err)
{
    struct spreads now = { .revision = revision };

    if (revision <= s->revision)
        return false;
    kl_arena_init(&now.arena, ARENA_BYTES);
    if (decode(value, &now, err) != KL_OK) {
        spreads_deinit(&now);
        return false;
    }
    spreads_deinit(s);
    *s = now;
    return true;
}

bool tsp_layout_see(struct tsp_layout *l, const char *key, struct kl_span value, uint64_t revision,
                    struct kl_err *err)
{
    bool main = strcmp(key, TSP_PLACEMENT_KEY) == 0;
    int  number = main ? 0 : number_of(key);

    err->code = KL_OK;
    if (number < 0)
        return false;
    if (value.at == NULL) {                            /* it may come back, under any revision */
        *(main ? &l->main_revision : &l->keys[number].revision) = 0;
        return false;
    }
    if (!(main ? see_main(l, value, revision, err) : see_spreads(&l->keys[number], value, revision, err)))
        return false;
    l->revision = l->main_revision;
    for (int i = 0; i < TSP_SPREAD_KEYS; i++)
        if (l->keys[i].revision > l->revision)
            l->revision = l->keys[i].revision;
    return true;
}

struct tsp_placement *tsp_layout_table(const struct tsp_layout *l)
{
    struct tsp_placement *p;
    const struct tsp_spread **all;
    size_t                n = 0, count = 0;

    if (l->main == NULL)
        return NULL;
    p = tsp_placement_copy(l->main);
    for (int i = 0; i < TSP_SPREAD_KEYS; i++)
        count += l->keys[i].count;
    all = kl_new((count + 1) * sizeof *all);
    for (int i = 0; i < TSP_SPREAD_KEYS; i++)
        for (size_t k = 0; k < l->keys[i].count; k++)
            all[n++] = &l->keys[i].all[k];
    tsp_placement_take_spreads(p, all, count);
    free(all);
    tsp_placement_set_revision(p, l->revision);
    return p;
}

/* ---- recording ---- */

static bool recorded(const struct spreads *s, const struct tsp_spread *x)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->all[i].spread >= x->spread && kl_span_eq(s->all[i].tenant, x->tenant) &&
            kl_span_eq(s->all[i].metric, x->metric))
            return true;
    return false;
}

enum kl_code tsp_layout_add(const struct tsp_layout *l, uint32_t number, const struct tsp_spread *more,
                            size_t count, struct kl_buf *value, size_t *added, uint64_t *expect,
                            struct kl_err *err)
{
    const struct spreads *s = &l->keys[number];
    struct tsp_spread    *fresh = kl_new((count + 1) * sizeof *fresh);
    struct two            two = { .a = s->all, .a_count = s->count, .b = fresh };
    koalemos_Spreads      m = { .spreads = { .funcs.encode = put_all, .arg = &two } };
    size_t                begin = value->size;
    enum kl_code          code;

    for (size_t i = 0; i < count; i++)
        if (!recorded(s, &more[i]))
            fresh[two.b_count++] = more[i];
    code = tsp_pb_encode(koalemos_Spreads_fields, &m, value, "spreads of the placement table", err);
    free(fresh);
    if (code == KL_OK && value->size - begin > TSP_SPREAD_VALUE_MAX) {
        value->size = begin;
        code = kl_fail(err, KL_ELIMIT, "key %u of the placement table's spreads is full: %zu of them in "
                       "%d bytes", number, s->count, TSP_SPREAD_VALUE_MAX);
    }
    *added = two.b_count;
    *expect = s->revision;
    return code;
}
