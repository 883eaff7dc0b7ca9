#include "libtsproto/placement.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "libkoal/base/sorted.h"
#include "libtsproto/pb_priv.h"
#include "libtsproto/placement.pb.h"
#include "libtsproto/placement_priv.h"
#include "libtsproto/record.h"

enum { METRIC_MAX = 64 * 1024, DECODE_ARENA = 16 << 20 };

struct assignment { unsigned count; char *members[TSP_REPLICAS_MAX]; };
struct spread { uint64_t key; struct kl_span tenant, metric; uint8_t spread; int64_t valid_from_ms; };
struct tsp_placement {
    uint32_t           partitions;
    unsigned           split_count;
    struct tsp_split       splits[TSP_LAYOUTS_MAX - 1];    /* oldest first */
    uint64_t           revision;
    struct assignment *assignments;                    /* one a partition */
    size_t             spread_count;
    struct spread     *spreads;                        /* sorted by key, then valid_from; spans owned */
};

/* Which partition the metric begins in; also what its exceptions are found by. */
uint64_t tsp_placement_base(struct kl_span tenant, struct kl_span metric)
{
    char     small[1024], *at = small;
    uint64_t h;

    if (tenant.size + 1 + metric.size > sizeof small)
        at = kl_new(tenant.size + 1 + metric.size);
    if (tenant.size > 0)
        memcpy(at, tenant.at, tenant.size);
    at[tenant.size] = '\0';
    if (metric.size > 0)
        memcpy(at + tenant.size + 1, metric.at, metric.size);
    h = kl_hash64(at, tenant.size + 1 + metric.size);
    if (at != small)
        free(at);
    return h;
}

struct tsp_placement *tsp_placement_new(uint32_t partitions)
{
    struct tsp_placement *p = kl_new(sizeof *p);

    assert(partitions > 0 && partitions <= TSP_PARTITIONS_MAX && (partitions & (partitions - 1)) == 0);
    p->partitions = partitions;
    p->assignments = kl_new(partitions * sizeof *p->assignments);
    return p;
}

static struct kl_span own(struct kl_span s)
{
    char *at = kl_new(s.size + 1);

    if (s.size > 0)
        memcpy(at, s.at, s.size);
    return kl_span(at, s.size);
}

struct tsp_placement *tsp_placement_copy(const struct tsp_placement *p)
{
    struct tsp_placement *q = tsp_placement_new(p->partitions);

    q->revision = p->revision;
    q->split_count = p->split_count;
    memcpy(q->splits, p->splits, sizeof q->splits);
    for (uint32_t i = 0; i < p->partitions; i++) {
        q->assignments[i].count = p->assignments[i].count;
        for (unsigned k = 0; k < p->assignments[i].count; k++)
            q->assignments[i].members[k] = kl_strdup(p->assignments[i].members[k]);
    }
    q->spread_count = p->spread_count;
    q->spreads = kl_new((p->spread_count + 1) * sizeof *q->spreads);
    for (size_t i = 0; i < p->spread_count; i++) {
        q->spreads[i] = p->spreads[i];
        q->spreads[i].tenant = own(p->spreads[i].tenant);
        q->spreads[i].metric = own(p->spreads[i].metric);
    }
    return q;
}

void tsp_placement_free(struct tsp_placement *p)
{
    if (p == NULL)
        return;
    for (uint32_t i = 0; i < p->partitions; i++)
        for (unsigned k = 0; k < p->assignments[i].count; k++)
            free(p->assignments[i].members[k]);
    for (size_t i = 0; i < p->spread_count; i++) {
        free((void *)p->spreads[i].tenant.at);
        free((void *)p->spreads[i].metric.at);
    }
    free(p->assignments);
    free(p->spreads);
    free(p);
}

uint32_t tsp_placement_partitions(const struct tsp_placement *p) { return p->partitions; }
uint64_t tsp_placement_revision(const struct tsp_placement *p) { return p->revision; }
void tsp_placement_set_revision(struct tsp_placement *p, uint64_t revision) { p->revision = revision; }

static bool fit_name(struct kl_span s)
{
    if (s.size == 0 || s.size > TSP_NAME_MAX)
        return false;
    for (size_t i = 0; i < s.size; i++) {
        char c = ((const char *)s.at)[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
              c == '_' || c == '-'))
            return false;
    }
    return true;
}

static enum kl_code assign(struct tsp_placement *p, uint64_t partition, const struct kl_span *members,
                           unsigned count, struct kl_err *err)
{
    struct assignment *a;

    if (partition >= p->partitions || count > TSP_REPLICAS_MAX)
        return kl_fail(err, KL_EINVAL, "partition %llu with %u members: there are %u partitions, of at "
                       "most %d members each", (unsigned long long)partition, count, p->partitions,
                       TSP_REPLICAS_MAX);
    for (unsigned k = 0; k < count; k++)
        if (!fit_name(members[k]))
            return kl_fail(err, KL_EINVAL, "\"%.*s\" is no name for a member: letters, digits, '.', '_' "
                           "and '-', at most %d", (int)(members[k].size < 80 ? members[k].size : 80),
                           (const char *)members[k].at, TSP_NAME_MAX);
    a = &p->assignments[partition];
    for (unsigned k = 0; k < a->count; k++)
        free(a->members[k]);
    a->count = count;
    for (unsigned k = 0; k < count; k++)
        a->members[k] = (char *)own(members[k]).at;
    return KL_OK;
}

enum kl_code tsp_placement_assign(struct tsp_placement *p, uint32_t partition,
                                  const char *const *members, unsigned count, struct kl_err *err)
{
    struct kl_span spans[TSP_REPLICAS_MAX];

    for (unsigned k = 0; k < count && k < TSP_REPLICAS_MAX; k++)
        spans[k] = kl_span_str(members[k]);
    return assign(p, partition, spans, count, err);
}

unsigned tsp_placement_members(const struct tsp_placement *p, uint32_t partition,
                               const char **members, unsigned cap)
{
    const struct assignment *a = &p->assignments[partition];

    assert(partition < p->partitions);
    for (unsigned k = 0; k < a->count && k < cap; k++)
        members[k] = a->members[k];
    return a->count < cap ? a->count : cap;
}

/* ---- splits ---- */

enum kl_code tsp_placement_split(struct tsp_placement *p, int64_t valid_from_ms, struct kl_err *err)
{
    uint32_t was = p->partitions;

    if (was * 2 > TSP_PARTITIONS_MAX)
        return kl_fail(err, KL_ELIMIT, "there are %u partitions already: more than %d cannot be", was,
                       TSP_PARTITIONS_MAX);
    if (p->split_count > 0 && valid_from_ms <= p->splits[p->split_count - 1].valid_from_ms)
        return kl_fail(err, KL_EINVAL, "a split that begins no later than the one before");
    p->assignments = kl_resize(p->assignments, 2 * was * sizeof *p->assignments);
    for (uint32_t i = 0; i < was; i++) {
        p->assignments[was + i] = (struct assignment){ .count = p->assignments[i].count };
        for (unsigned k = 0; k < p->assignments[i].count; k++)
            p->assignments[was + i].members[k] = kl_strdup(p->assignments[i].members[k]);
    }
    p->partitions = 2 * was;
    p->splits[p->split_count++] = (struct tsp_split){ p->partitions, valid_from_ms };
    return KL_OK;
}

unsigned tsp_placement_splits(const struct tsp_placement *p, const struct tsp_split **splits)
{
    *splits = p->splits;
    return p->split_count;
}

uint32_t tsp_placement_partitions_at(const struct tsp_placement *p, int64_t now_ms)
{
    uint32_t now = p->partitions;

    for (unsigned i = p->split_count; i-- > 0 && p->splits[i].valid_from_ms > now_ms; )
        now = p->splits[i].partitions / 2;
    return now;
}

unsigned tsp_placement_layouts(const struct tsp_placement *p, int64_t from_ms,
                               uint32_t partitions[TSP_LAYOUTS_MAX])
{
    unsigned n = 0;

    partitions[n++] = p->partitions;
    for (unsigned i = p->split_count;
         i-- > 0 && (p->splits[i].valid_from_ms > INT64_MAX - TSP_LAYOUT_KEPT_MS ||
                     from_ms <= p->splits[i].valid_from_ms + TSP_LAYOUT_KEPT_MS); )
        partitions[n++] = p->splits[i].partitions / 2;
    return n;
}

/* ---- spreads ---- */

/* The first entry whose key is not below `key`. */
static size_t lower(const struct tsp_placement *p, uint64_t key)
{
    return KL_FIRST(i, p->spread_count, p->spreads[i].key >= key);
}

static bool same_metric(const struct spread *s, struct kl_span tenant, struct kl_span metric)
{
    return kl_span_eq(s->tenant, tenant) && kl_span_eq(s->metric, metric);
}

/* The largest spread of a metric with valid_from up to `now_ms`. */
static uint8_t spread_of(const struct tsp_placement *p, uint64_t key, struct kl_span tenant,
                         struct kl_span metric, int64_t now_ms)
{
    uint8_t best = 0;

    for (size_t i = lower(p, key); i < p->spread_count && p->spreads[i].key == key; i++)
        if (same_metric(&p->spreads[i], tenant, metric) && p->spreads[i].valid_from_ms <= now_ms &&
            p->spreads[i].spread > best)
            best = p->spreads[i].spread;
    return best;
}

static bool fit_spread(const struct tsp_placement *p, const struct tsp_spread *s)
{
    return s->tenant.size > 0 && s->tenant.size <= TSP_TENANT_MAX && s->metric.size <= METRIC_MAX &&
           s->spread > 0 && s->spread <= 31 && 1u << s->spread <= p->partitions;
}

/* One more, behind those of its key that are there. */
static void insert(struct tsp_placement *p, size_t at, uint64_t key, const struct tsp_spread *s)
{
    memmove(&p->spreads[at + 1], &p->spreads[at], (p->spread_count - at) * sizeof *p->spreads);
    p->spreads[at] = (struct spread){ .key = key, .tenant = own(s->tenant), .metric = own(s->metric),
                                      .spread = s->spread, .valid_from_ms = s->valid_from_ms };
    p->spread_count++;
}

enum kl_code tsp_placement_spread(struct tsp_placement *p, const struct tsp_spread *s,
                                  struct kl_err *err)
{
    uint64_t key;

    if (s->tenant.size == 0 || s->tenant.size > TSP_TENANT_MAX || s->metric.size > METRIC_MAX)
        return kl_fail(err, KL_EINVAL, "a spread for a tenant or metric that cannot be");
    if (s->spread == 0 || s->spread > 31 || 1u << s->spread > p->partitions)
        return kl_fail(err, KL_EINVAL, "spread %u: %u partitions allow 1 to %d", s->spread,
                       p->partitions, 31 - __builtin_clz(p->partitions));
    if (p->spread_count == TSP_SPREADS_MAX)
        return kl_fail(err, KL_ELIMIT, "the placement table has %d spreads already", TSP_SPREADS_MAX);
    key = tsp_placement_base(s->tenant, s->metric);
    if (s->spread <= spread_of(p, key, s->tenant, s->metric, INT64_MAX))
        return kl_fail(err, KL_EINVAL, "spread %u of \"%.*s\" is no larger than the one recorded",
                       s->spread, (int)(s->metric.size < 100 ? s->metric.size : 100),
                       (const char *)s->metric.at);
    p->spreads = kl_resize(p->spreads, (p->spread_count + 1) * sizeof *p->spreads);
    insert(p, lower(p, key), key, s);
    return KL_OK;
}

static int by_base(const void *a, const void *b)
{
    const struct tsp_spread *x = *(const struct tsp_spread *const *)a;
    const struct tsp_spread *y = *(const struct tsp_spread *const *)b;
    uint64_t bx = tsp_placement_base(x->tenant, x->metric), by = tsp_placement_base(y->tenant, y->metric);

    if (bx != by)
        return bx < by ? -1 : 1;
    return (x->spread > y->spread) - (x->spread < y->spread);
}

/* By key, so that where the table has none yet each goes to its end; of one metric the smaller first. */
void tsp_placement_take_spreads(struct tsp_placement *p, const struct tsp_spread **all, size_t count)
{
    size_t room = p->spread_count + count < TSP_SPREADS_MAX ? p->spread_count + count : TSP_SPREADS_MAX;

    qsort(all, count, sizeof *all, by_base);
    p->spreads = kl_resize(p->spreads, (room + 1) * sizeof *p->spreads);
    for (size_t i = 0; i < count && p->spread_count < room; i++) {
        const struct tsp_spread *s = all[i];
        uint64_t                 key = tsp_placement_base(s->tenant, s->metric);
        size_t                   at;

        if (!fit_spread(p, s) || s->spread <= spread_of(p, key, s->tenant, s->metric, INT64_MAX))
            continue;
        for (at = lower(p, key); at < p->spread_count && p->spreads[at].key == key; )
            at++;
        insert(p, at, key, s);
    }
}

uint32_t tsp_placement_steps(const struct tsp_placement *p, int64_t now_ms, int64_t *next_ms)
{
    uint32_t begun = 0;

    *next_ms = INT64_MAX;
    for (size_t i = 0; i < p->spread_count; i++) {
        int64_t from = p->spreads[i].valid_from_ms;
        if (from <= now_ms)
            begun++;
        else if (from < *next_ms)
            *next_ms = from;
    }
    for (unsigned i = 0; i < p->split_count; i++) {
        int64_t from = p->splits[i].valid_from_ms;
        if (from <= now_ms)
            begun++;
        else if (from < *next_ms)
            *next_ms = from;
    }
    return begun;
}

uint8_t tsp_placement_spread_of(const struct tsp_placement *p, struct kl_span tenant,
                                struct kl_span metric, int64_t *valid_from_ms)
{
    uint64_t key = tsp_placement_base(tenant, metric);
    uint8_t  best = 0;

    *valid_from_ms = INT64_MIN;
    for (size_t i = lower(p, key); i < p->spread_count && p->spreads[i].key == key; i++)
        if (same_metric(&p->spreads[i], tenant, metric) && p->spreads[i].spread > best) {
            best = p->spreads[i].spread;
            *valid_from_ms = p->spreads[i].valid_from_ms;
        }
    return best;
}

static uint32_t place(uint64_t base, uint8_t spread, struct kl_fp fp, uint32_t partitions)
{
    return (uint32_t)((base + (fp.lo & ((1u << spread) - 1))) & (partitions - 1));
}

uint32_t tsp_placement_of(const struct tsp_placement *p, struct kl_span tenant,
                          struct kl_span metric, struct kl_fp fp, int64_t now_ms)
{
    uint64_t base = tsp_placement_base(tenant, metric);
    uint8_t  spread = p->spread_count == 0 ? 0 : spread_of(p, base, tenant, metric, now_ms);

    return place(base, spread, fp, tsp_placement_partitions_at(p, now_ms));
}

uint32_t tsp_placement_place(struct kl_span tenant, struct kl_span metric, struct kl_fp fp, uint32_t spread,
                             uint32_t partitions)
{
    return place(tsp_placement_base(tenant, metric), (uint8_t)spread, fp, partitions);
}

void tsp_placement_range(const struct tsp_placement *p, struct kl_span tenant,
                         struct kl_span metric, uint32_t *first, uint32_t *count)
{
    tsp_placement_range_of(p, p->partitions, tenant, metric, first, count);
}

void tsp_placement_range_of(const struct tsp_placement *p, uint32_t partitions, struct kl_span tenant,
                            struct kl_span metric, uint32_t *first, uint32_t *count)
{
    uint64_t base = tsp_placement_base(tenant, metric);
    uint32_t all = 1u << spread_of(p, base, tenant, metric, INT64_MAX);

    *first = (uint32_t)(base & (partitions - 1));
    *count = all < partitions ? all : partitions;
}

/* Is it the place of the series once the step that begins at `at_ms` has begun, and is that the latest? */
static void look(const struct tsp_placement *p, uint64_t base, struct kl_span tenant, struct kl_span metric,
                 struct kl_fp fp, uint32_t partition, int64_t at_ms, int64_t *since)
{
    if (at_ms > *since && place(base, spread_of(p, base, tenant, metric, at_ms), fp,
                                tsp_placement_partitions_at(p, at_ms)) == partition)
        *since = at_ms;
}

int64_t tsp_placement_since(const struct tsp_placement *p, struct kl_span tenant, struct kl_span metric,
                            struct kl_fp fp, uint32_t partition)
{
    uint64_t base = tsp_placement_base(tenant, metric);
    int64_t  since = INT64_MIN;

    for (size_t i = lower(p, base); i < p->spread_count && p->spreads[i].key == base; i++)
        if (same_metric(&p->spreads[i], tenant, metric))
            look(p, base, tenant, metric, fp, partition, p->spreads[i].valid_from_ms, &since);
    for (unsigned i = 0; i < p->split_count; i++)
        look(p, base, tenant, metric, fp, partition, p->splits[i].valid_from_ms, &since);
    return since;
}

/* ---- bytes ---- */

static bool put_members(pb_ostream_t *stream, const pb_field_t *field, void *const *arg)
{
    const struct assignment *a = *arg;

    for (unsigned k = 0; k < a->count; k++)
        if (!pb_encode_tag_for_field(stream, field) ||
            !pb_encode_string(stream, (const pb_byte_t *)a->members[k], strlen(a->members[k])))
            return false;
    return true;
}

static bool put_assignments(pb_ostream_t *stream, const pb_field_t *field, void *const *arg)
{
    const struct tsp_placement *p = *arg;

    for (uint32_t i = 0; i < p->partitions; i++) {
        koalemos_Assignment m = { .partition = i,
            .member = { .funcs.encode = put_members, .arg = &p->assignments[i] } };
        if (p->assignments[i].count > 0 &&
            (!pb_encode_tag_for_field(stream, field) ||
             !pb_encode_submessage(stream, koalemos_Assignment_fields, &m)))
            return false;
    }
    return true;
}

static bool put_spreads(pb_ostream_t *stream, const pb_field_t *field, void *const *arg)
{
    const struct tsp_placement *p = *arg;

    for (size_t i = 0; i < p->spread_count; i++) {
        const struct spread *s = &p->spreads[i];
        koalemos_Spread m = { .tenant = tsp_pb_put(&s->tenant), .metric = tsp_pb_put(&s->metric),
                              .spread = s->spread, .valid_from_ms = s->valid_from_ms };
        if (!pb_encode_tag_for_field(stream, field) ||
            !pb_encode_submessage(stream, koalemos_Spread_fields, &m))
            return false;
    }
    return true;
}

static bool put_splits(pb_ostream_t *stream, const pb_field_t *field, void *const *arg)
{
    const struct tsp_placement *p = *arg;

    for (unsigned i = 0; i < p->split_count; i++) {
        koalemos_Split m = { .partitions = p->splits[i].partitions,
                             .valid_from_ms = p->splits[i].valid_from_ms };
        if (!pb_encode_tag_for_field(stream, field) ||
            !pb_encode_submessage(stream, koalemos_Split_fields, &m))
            return false;
    }
    return true;
}

enum kl_code tsp_placement_encode(const struct tsp_placement *p, struct kl_buf *out,
                                  struct kl_err *err)
{
    koalemos_Placement m = { .partitions = p->partitions, .revision = p->revision,
        .assignments = { .funcs.encode = put_assignments, .arg = (void *)p },
        .spreads = { .funcs.encode = put_spreads, .arg = (void *)p },
        .splits = { .funcs.encode = put_splits, .arg = (void *)p } };

    return tsp_pb_encode(koalemos_Placement_fields, &m, out, "placement table", err);
}

/* Assignments and spreads may come before `partitions`: they are kept until it is known. */
struct got_assignment { struct got_assignment *next; uint32_t partition; unsigned count;
                        struct kl_span members[TSP_REPLICAS_MAX]; };
struct got_spread { struct got_spread *next; struct tsp_spread spread; };
struct got { struct kl_arena arena; unsigned count; struct got_assignment *assignments;
             struct got_spread *spreads; unsigned split_count;
             struct tsp_split splits[TSP_LAYOUTS_MAX - 1]; };
struct got_members { struct got *got; struct got_assignment *to; };

static bool get_member(pb_istream_t *stream, const pb_field_t *field, void **arg)
{
    struct got_members *m = *arg;
    struct tsp_pb_bytes to;
    pb_callback_t       callback;

    if (m->to->count == TSP_REPLICAS_MAX)
        PB_RETURN_ERROR(stream, "too many members");
    to = (struct tsp_pb_bytes){ &m->got->arena, &m->to->members[m->to->count++] };
    callback = tsp_pb_get(&to);
    return callback.funcs.decode(stream, field, &callback.arg);
}

static bool get_assignment(pb_istream_t *stream, const pb_field_t *field, void **arg)
{
    struct got *got = *arg;
    struct got_assignment *a = kl_arena_alloc(&got->arena, sizeof *a);
    struct got_members     members = { got, a };
    koalemos_Assignment    m = koalemos_Assignment_init_zero;

    (void)field;
    if (a == NULL || ++got->count > TSP_PARTITIONS_MAX)
        PB_RETURN_ERROR(stream, "too many assignments");
    memset(a, 0, sizeof *a);
    m.member = (pb_callback_t){ .funcs.decode = get_member, .arg = &members };
    if (!pb_decode(stream, koalemos_Assignment_fields, &m))
        return false;
    a->partition = m.partition;
    a->next = got->assignments;
    got->assignments = a;
    return true;
}

static bool get_spread(pb_istream_t *stream, const pb_field_t *field, void **arg)
{
    struct got *got = *arg;
    struct got_spread  *s = kl_arena_alloc(&got->arena, sizeof *s);
    struct tsp_pb_bytes tenant, metric;
    koalemos_Spread     m = koalemos_Spread_init_zero;

    (void)field;
    if (s == NULL)
        PB_RETURN_ERROR(stream, "too many spreads");
    memset(s, 0, sizeof *s);
    tenant = (struct tsp_pb_bytes){ &got->arena, &s->spread.tenant };
    metric = (struct tsp_pb_bytes){ &got->arena, &s->spread.metric };
    m.tenant = tsp_pb_get(&tenant);
    m.metric = tsp_pb_get(&metric);
    if (!pb_decode(stream, koalemos_Spread_fields, &m) || m.spread > 31)
        return false;
    s->spread.spread = (uint8_t)m.spread;
    s->spread.valid_from_ms = m.valid_from_ms;
    s->next = got->spreads;
    got->spreads = s;
    return true;
}

static bool get_split(pb_istream_t *stream, const pb_field_t *field, void **arg)
{
    struct got    *got = *arg;
    koalemos_Split m = koalemos_Split_init_zero;

    (void)field;
    if (got->split_count == TSP_LAYOUTS_MAX - 1)
        PB_RETURN_ERROR(stream, "too many splits");
    if (!pb_decode(stream, koalemos_Split_fields, &m))
        return false;
    got->splits[got->split_count++] = (struct tsp_split){ m.partitions, m.valid_from_ms };
    return true;
}

/* Each doubles, begins later than the one before, and the last one led to what there is. */
static enum kl_code take_splits(struct tsp_placement *p, const struct got *got, struct kl_err *err)
{
    uint32_t after = p->partitions;

    for (unsigned i = got->split_count; i-- > 0; after /= 2)
        if (after < 2 || got->splits[i].partitions != after ||
            (i > 0 && got->splits[i].valid_from_ms <= got->splits[i - 1].valid_from_ms))
            return kl_fail(err, KL_EINVAL, "a split that cannot be");
    memcpy(p->splits, got->splits, sizeof p->splits);
    p->split_count = got->split_count;
    return KL_OK;
}

static enum kl_code take_spreads(struct tsp_placement *p, struct got *got, struct kl_err *err)
{
    const struct tsp_spread **all;
    size_t                    n = 0, i = 0;

    for (struct got_spread *s = got->spreads; s != NULL; s = s->next) {
        if (!fit_spread(p, &s->spread))
            return kl_fail(err, KL_EINVAL, "a spread that cannot be");
        n++;
    }
    if (n > TSP_SPREADS_MAX)
        return kl_fail(err, KL_ELIMIT, "%zu spreads, at most %d", n, TSP_SPREADS_MAX);
    all = kl_new((n + 1) * sizeof *all);
    for (struct got_spread *s = got->spreads; s != NULL; s = s->next)
        all[i++] = &s->spread;
    tsp_placement_take_spreads(p, all, n);
    free(all);
    return KL_OK;
}

static enum kl_code take(const koalemos_Placement *m, struct got *got, struct tsp_placement **out,
                         struct kl_err *err)
{
    struct tsp_placement *p;
    enum kl_code          code = KL_OK;

    if (m->partitions == 0 || m->partitions > TSP_PARTITIONS_MAX ||
        (m->partitions & (m->partitions - 1)) != 0)
        return kl_fail(err, KL_EINVAL, "placement table: %u partitions", m->partitions);
    p = tsp_placement_new(m->partitions);
    p->revision = m->revision;
    for (struct got_assignment *a = got->assignments; a != NULL && code == KL_OK; a = a->next)
        code = assign(p, a->partition, a->members, a->count, err);
    if (code == KL_OK)
        code = take_splits(p, got, err);
    if (code == KL_OK)
        code = take_spreads(p, got, err);
    if (code != KL_OK) {
        tsp_placement_free(p);
        return kl_within(err, "placement table");
    }
    *out = p;
    return KL_OK;
}

enum kl_code tsp_placement_decode(struct kl_span bytes, struct tsp_placement **p,
                                  struct kl_err *err)
{
    struct got         got = { 0 };
    koalemos_Placement m = koalemos_Placement_init_zero;
    enum kl_code       code;

    kl_arena_init(&got.arena, DECODE_ARENA);
    m.assignments = (pb_callback_t){ .funcs.decode = get_assignment, .arg = &got };
    m.spreads = (pb_callback_t){ .funcs.decode = get_spread, .arg = &got };
    m.splits = (pb_callback_t){ .funcs.decode = get_split, .arg = &got };
    code = tsp_pb_decode(koalemos_Placement_fields, bytes, &m, "placement table", err);
    if (code == KL_OK)
        code = take(&m, &got, p, err);
    kl_arena_deinit(&got.arena);
    return code;
}
