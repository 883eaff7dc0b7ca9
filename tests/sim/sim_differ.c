/*
 * Members of a partition that are not alike, though they should be: one whose memory was changed behind its
 * back, or one that the log gave another record. Their cell goes on, and says which cut of which members
 * differs, in the log, in the metrics and in what a doorman shows; and a cell where nothing is wrong says nothing.
 */
#include "tests/sim/cluster.h"

#include "ingestor/snap_priv.h"
#include "libkoal/base/mem.h"

enum { SERIES = 12, LIVES = 12, AT_ONCE = 4 };

static void write_some(struct cell *c, unsigned batch)
{
    struct kl_buf    body = { 0 };
    struct kit_push *out = kl_new(sizeof *out);
    int64_t          now_ms = kl_env_now_ms(c->env);

    for (unsigned n = 0; n < SERIES; n++)
        kl_buf_addf(&body, "told_%u{series=\"%u\"} %u %" PRId64 "\n", n % 4, n, batch * n, now_ms);
    kit_push(out, c->nodes[batch % C_DOORMEN].dm, 0, body, kl_hash128(body.at, body.size), now_ms);
    kl_env_sim_run(c->sim, 500);
    ck_assert(out->done);
    ck_assert_uint_eq(out->p.status, 204);
    free(out);
}

static void live_for(struct cell *c, int64_t seconds)
{
    static unsigned batch;
    int64_t         until_ns = c_now_ns(c) + seconds * 1000000000;

    while (c_now_ns(c) < until_ns)
        write_some(c, ++batch);
}

static struct cell *cell_of(uint64_t seed, unsigned replicas, uint32_t repairs_per_hour)
{
    struct cell *c = kl_new(sizeof *c);

    c_init(c, seed);
    c->replicas = replicas;
    c->repairs_per_hour = repairs_per_hour;
    for (unsigned i = 0; i < C_NODES; i++)
        c_start(c, i);
    c_settle(c, "at the beginning");
    live_for(c, 20);
    return c;
}

static struct cell *cell_new(uint64_t seed) { return cell_of(seed, C_REPLICAS, 0); }

/* A partition with samples in memory of the ingestor i, as its owner or not. */
static struct ing_partition *some_partition(struct cell *c, unsigned i, bool owned)
{
    struct ing_ingestor *g = c->nodes[i].ing;

    for (uint32_t n = 0; n < C_ROOM; n++) {
        struct ing_partition *p = &g->partitions[n];

        if (atomic_load(&p->state) == ING_LIVE && (ing_epoch(p) != 0) == owned && p->tenant_count > 0 &&
            p->tenants[0].head->count > 0)
            return p;
    }
    return NULL;
}

static struct ing_partition *any_partition(struct cell *c, bool owned)
{
    for (unsigned i = C_DOORMEN; i < C_QUERIER; i++) {
        struct ing_partition *p = some_partition(c, i, owned);

        if (p != NULL)
            return p;
    }
    ck_abort_msg("nobody holds anything");
}

/* ---- what happens to it ---- */

static struct ing_series *some_series(struct ing_head *h)
{
    for (uint32_t id = 0; id < h->made; id++)
        if (ing_series_at(h, id)->alive)
            return ing_series_at(h, id);
    ck_abort_msg("no series");
}

/* The last chunk in memory that no cut has yet, with one value changed by the least bit, or a sample missing. */
static void alter_chunk(struct ing_partition *p, bool drop)
{
    struct ing_head      *h = p->tenants[0].head;
    struct ing_series    *s = some_series(h);
    struct ing_chunk     *c, *now, **link = &s->first;
    struct blk_chunk_head head;
    struct ing_run        run;
    struct kl_err         err;
    uint64_t              bits;

    ing_series_seal_tail(h, s);
    for (c = s->last; *link != c; link = &(*link)->next)
        ;
    ck_assert_ptr_nonnull(c);
    ck_assert_uint_eq(c->cut, 0);
    ck_assert_uint_eq(c->file, 0);
    ck_assert_int_eq(blk_chunk_decode(kl_span(c->bytes, c->size), run.times, run.values, run.starts, &run.count, &err),
                     KL_OK);
    ck_assert_uint_gt(run.count, 1);
    bits = kl_f64_bits(run.values[0]) ^ 1;
    run.values[0] = kl_bits_f64(bits);
    kl_buf_reset(&h->encoded);
    blk_chunk_encode(run.times + drop, run.values + drop, NULL, run.count - drop, &h->encoded);
    ck_assert_int_eq(blk_chunk_peek(kl_buf_span(&h->encoded), &head, &err), KL_OK);
    now = ing_chunk_new(h, kl_buf_span(&h->encoded), &head);
    *link = s->last = now;
    s->chunk_bytes += now->size - c->size;
    ing_chunk_free(h, c);
}

/* One letter of a label's value. */
static void alter_label(struct ing_partition *p)
{
    struct ing_head   *h = p->tenants[0].head;
    struct ing_series *s = some_series(h);
    struct ing_pair   *pair = ing_pair_at(h->pairs.pair_pages, s->pairs[s->pair_count - 1]);
    struct kl_span     text = ing_text(pair->text);

    ((uint8_t *)(uintptr_t)text.at)[0] ^= 4;
}

static void alter_late(struct ing_partition *p)
{
    struct ing_head   *h = p->tenants[0].head;
    struct ing_series *s = some_series(h);

    ing_series_float(h, s, s->last_ms - 1, 4711);      /* nobody sent that */
}

/* ---- what lies beside samples: a record of its own, into that partition ---- */

struct appended { struct kl_bus_append op; struct kl_buf bytes; };

static void appended(struct kl_bus_append *op)
{
    struct appended *a = kl_container_of(op, struct appended, op);

    kl_buf_deinit(&a->bytes);
    free(a);
}

static void append(struct cell *c, struct tsp_record_writer *w, uint8_t writer, uint64_t counter, uint32_t partition)
{
    struct tsp_incarnation who = { { writer } };
    struct appended       *a = kl_new(sizeof *a);
    struct kl_err          err;

    ck_assert_int_eq(tsp_record_finish(w, who, counter, &a->bytes, &err), KL_OK);
    a->op = (struct kl_bus_append){ .partition = partition, .record = kl_buf_span(&a->bytes), .loop = c->loop,
                                    .done = appended };
    c->bus->append(c->bus, &a->op);
}

static struct kl_labels labels_of(struct kl_buf *out, const char *name, const char *value)
{
    struct kl_labels_builder b;
    struct kl_err            err;

    kl_labels_start(&b);
    kl_labels_add(&b, kl_span_str("__name__"), kl_span_str(name), &err);
    kl_labels_add(&b, kl_span_str("n"), kl_span_str(value), &err);
    ck_assert_int_eq(kl_labels_finish(&b, out, &err), KL_OK);
    return (struct kl_labels){ (const uint8_t *)out->at, out->size };
}

static void write_beside(struct cell *c, uint32_t partition)
{
    struct tsp_record_writer *w = tsp_record_writer_new();
    struct kl_span            tenant = kl_span_str("anonymous");
    struct kl_buf             b = { 0 };
    struct kl_labels          labels = labels_of(&b, "beside", "1");
    int64_t                   now_ms = kl_env_now_ms(c->env);
    double                    value = 5;

    tsp_record_start(w);
    tsp_record_define(w, tenant, 1, kl_labels_fp(labels), labels);
    for (int i = 0; i < 3; i++) {
        int64_t at = now_ms - 3000 + 1000 * i;

        tsp_record_floats(w, tenant, 1, &at, &value, 1);
        tsp_record_start_time(w, tenant, 1, at, now_ms - 60000);
        tsp_record_exemplar(w, tenant, 1, at, i, labels);
    }
    tsp_record_metadata(w, tenant, kl_span_str("beside"), 1, kl_span_str(""), kl_span_str("What lies beside."));
    tsp_record_metadata(w, tenant, kl_span_str("behind"), 1, kl_span_str(""), kl_span_str("What lies behind."));
    append(c, w, 77, 1, partition);
    tsp_record_writer_free(w);
    kl_buf_deinit(&b);
    kl_env_sim_run(c->sim, 500);
}

enum beside { START_CHANGED, START_GONE, EXEMPLAR_CHANGED, EXEMPLAR_GONE, METADATA_CHANGED, METADATA_GONE, BESIDES };

static void alter_beside(struct ing_partition *p, enum beside how)
{
    struct ing_head   *h = p->tenants[0].head;
    struct ing_extras *x = h->extras;
    struct kl_buf      b = { 0 };
    struct kl_labels   labels = labels_of(&b, "beside", "1");
    struct ing_series *s = ing_head_find(h, kl_labels_fp(labels));

    ck_assert_ptr_nonnull(s);
    ck_assert_ptr_nonnull(x);
    ck_assert_uint_eq(x->exemplar_count, 3);
    ck_assert_uint_eq(x->meta_count, 2);
    switch (how) {
    case START_CHANGED:
    case START_GONE:                                   /* the last of its tail, as if told otherwise */
        ing_series_start(h, s, s->last_ms, how == START_GONE ? 0 : s->last_ms - 1);
        break;
    case EXEMPLAR_CHANGED:
        x->exemplars[1].value += 1;
        break;
    case EXEMPLAR_GONE:
        x->exemplar_count--;
        break;
    case METADATA_CHANGED:
        ((uint8_t *)(uintptr_t)x->metas[1].help.at)[3] ^= 1;
        break;
    default:
        x->meta_count--;
    }
    kl_buf_deinit(&b);
}

static bool names(const char *words, const char *member)
{
    char with[40];

    snprintf(with, sizeof with, " %s ", member);
    return strstr(words, with) != NULL;
}

static void shown(struct dm_cluster_text *t) { t->complete = t->complete && t->out.size > 0; }

/* Within two windows it is told, by both members, and by any doorman. */
static void must_be_told(struct cell *c, const char *member, uint32_t partition, const char *what)
{
    struct dm_cluster_text t = { .done = shown };
    char                   with[40];
    struct kl_buf          json = { 0 };

    for (int n = 0; n < 30 && c->differing == 0; n++)
        live_for(c, 5);
    kl_env_sim_run(c->sim, 1000);
    snprintf(with, sizeof with, "partition %" PRIu32 ", cut ", partition);
    ck_assert_msg(c->differing >= 2, "nobody says that %s differs", member);
    ck_assert_msg(strstr(c->difference, with) != NULL && names(c->difference, member) &&
                  strstr(c->difference, what) != NULL, "%s", c->difference);
    for (unsigned i = 0; i < C_DOORMEN; i++) {
        ck_assert_uint_ge(dm_coordinator_differ_count(c->nodes[i].co), 1);
        kl_buf_reset(&json);
        dm_coordinator_differ_json(c->nodes[i].co, &json);
        kl_buf_add8(&json, 0);
        ck_assert_msg(names((char *)json.at, member) && strstr((char *)json.at, what) != NULL, "%s", (char *)json.at);
    }
    dm_coordinator_text(c->nodes[0].co, &t);
    kl_env_sim_run(c->sim, 100);
    ck_assert(t.complete);
    kl_buf_add8(&t.out, 0);
    ck_assert_msg(strstr((char *)t.out.at, what) != NULL, "%s", (char *)t.out.at);
    kl_buf_deinit(&t.out);
    kl_buf_deinit(&json);
}

START_TEST(a_member_whose_memory_was_altered_is_found_at_the_next_cut)
{
    bool                  owned = _i % 2 == 0;
    struct cell          *c = cell_new(7000 + (uint64_t)_i);
    struct ing_partition *p = any_partition(c, owned);

    live_for(c, 5);
    ck_assert_msg(c->differing == 0, "%s", c->difference);
    if (_i / 2 < 2)
        alter_chunk(p, _i / 2 == 1);
    else if (_i / 2 == 2)
        alter_label(p);
    else
        alter_late(p);
    must_be_told(c, p->i->name, p->number, "hold different samples");
}
END_TEST

START_TEST(a_start_time_an_exemplar_or_a_text_that_was_altered_or_lost_is_found_at_the_next_cut)
{
    static const char *const what[] = { "hold different start times", "hold different exemplars",
                                        "hold different metadata" };
    bool                  owned = _i % 2 == 0;
    struct cell          *c = cell_new(7300 + (uint64_t)_i);
    struct ing_partition *p = any_partition(c, owned);

    while (kl_env_now_ms(c->env) % C_WINDOW_MS > C_WINDOW_MS / 2 || kl_env_now_ms(c->env) % C_WINDOW_MS < 10000)
        live_for(c, 1);                                /* no cut is near */
    write_beside(c, p->number);
    ck_assert_msg(c->differing == 0, "%s", c->difference);
    alter_beside(p, (enum beside)(_i / 2));
    must_be_told(c, p->i->name, p->number, what[_i / 4]);
}
END_TEST

/* ---- a log that gives two members different records at one sequence ---- */

static struct {
    void (*record)(struct kl_bus_reader *r, const struct kl_bus_record *rec);
    void (*read_open)(struct kl_bus *b, struct kl_bus_reader *r);
    uint32_t partition;
    bool     now;                                      /* the next record comes as the one before */
    struct kl_buf before;
} evil;

static void evil_record(struct kl_bus_reader *r, const struct kl_bus_record *rec)
{
    struct kl_bus_record other = *rec;

    if (r->partition == evil.partition && evil.now) {
        evil.now = false;
        other.bytes = kl_buf_span(&evil.before);
    } else if (r->partition == evil.partition) {
        kl_buf_reset(&evil.before);
        kl_buf_add(&evil.before, rec->bytes.at, rec->bytes.size);
    }
    evil.record(r, &other);
}

static void evil_read_open(struct kl_bus *b, struct kl_bus_reader *r)
{
    evil.record = r->record;
    r->record = evil_record;
    evil.read_open(b, r);
}

START_TEST(a_log_that_gives_two_members_different_records_is_found_at_the_next_cut)
{
    struct cell          *c = kl_new(sizeof *c);
    struct ing_partition *p;

    c_init(c, 7100 + (uint64_t)_i);
    for (unsigned i = 0; i < C_NODES; i++) {
        c_start(c, i);
        if (i == C_DOORMEN) {
            evil.read_open = c->nodes[i].bus->read_open;
            evil.partition = UINT32_MAX;
            c->nodes[i].bus->read_open = evil_read_open;
        }
    }
    c_settle(c, "at the beginning");
    live_for(c, 20);
    p = some_partition(c, C_DOORMEN, _i == 0);
    p = p != NULL ? p : some_partition(c, C_DOORMEN, _i != 0);
    ck_assert_ptr_nonnull(p);
    evil.partition = p->number;
    live_for(c, 5);
    ck_assert_msg(c->differing == 0, "%s", c->difference);
    evil.now = true;
    live_for(c, 5);
    ck_assert(!evil.now);
    must_be_told(c, p->i->name, p->number, "different records from");
}
END_TEST

START_TEST(members_that_are_alike_are_found_alike_cut_for_cut)
{
    struct cell *c = cell_new(7200);

    live_for(c, 200);
    ck_assert_msg(c->differing == 0, "%s", c->difference);
    ck_assert_uint_ge(c->same, 3 * 2 * 3);             /* three windows, at both members, of three partitions */
    for (unsigned i = 0; i < C_DOORMEN; i++)
        ck_assert_uint_eq(dm_coordinator_differ_count(c->nodes[i].co), 0);
}
END_TEST

/* ---- members that are made anew ---- */

static void wish(struct cell *c, uint32_t partition, const char *member)
{
    char key[80];

    tsp_repair_key(key, sizeof key, partition, member);
    c_kv(c, KL_BUS_KV_PUT, key, kl_span_str("1"));
}

static bool is_wished(struct cell *c, uint32_t partition, const char *member)
{
    char key[80];

    tsp_repair_key(key, sizeof key, partition, member);
    return c_kv(c, KL_BUS_KV_GET, key, kl_span_str(""))->op.code == KL_OK;
}

static void until(struct cell *c, const unsigned *count, unsigned least, const char *what)
{
    for (int n = 0; n < 60 && *count < least; n++)
        live_for(c, 5);
    ck_assert_msg(*count >= least, "%s: %u, not %u", what, *count, least);
}

/* For some windows nobody differs any more, and members are found alike. */
static void must_be_alike(struct cell *c)
{
    unsigned differing, same;

    c_settle(c, "after a repair");
    live_for(c, 2 * C_WINDOW_MS / 1000);               /* what was told before has been taken back */
    differing = c->differing;
    same = c->same;
    live_for(c, 3 * C_WINDOW_MS / 1000);
    ck_assert_msg(c->differing == differing, "%s", c->difference);
    ck_assert_uint_ge(c->same, same + 6);
    for (unsigned i = 0; i < C_DOORMEN; i++)
        ck_assert_uint_eq(dm_coordinator_differ_count(c->nodes[i].co), 0);
}

static bool kept_aside(struct cell *c, const struct ing_partition *p)
{
    struct kl_env_dir *dir;
    struct kl_err      err;
    void              *bytes;
    size_t             size;
    bool               is;

    (void)c;
    ck_assert_int_eq(ing_snap_folder((struct ing_partition *)(uintptr_t)p, &dir, &err), KL_OK);
    is = dir->read(dir, "head.kept", 1 << 26, &bytes, &size, &err) == KL_OK;
    if (is)
        free(bytes);
    dir->leave(dir);
    return is;
}

START_TEST(a_standby_that_is_not_as_the_owner_is_made_anew_from_the_log_and_is_alike_again)
{
    struct cell          *c = cell_of(7400 + (uint64_t)_i, _i < 2 ? 2 : 3, 2);
    struct ing_partition *p;

    live_for(c, 30);                                   /* snapshots are made */
    p = any_partition(c, false);
    if (_i % 2 == 0)
        alter_chunk(p, true);
    else
        alter_late(p);
    until(c, &c->repairs, 1, "repairs begun");
    until(c, &c->repaired, 1, "made anew");
    ck_assert(kept_aside(c, p));
    must_be_alike(c);
    ck_assert_uint_eq(c->repairs, 1);
    ck_assert_uint_eq(c->suspects + c->outvoted, 0);
}
END_TEST

START_TEST(of_three_members_the_two_that_are_alike_leave_each_other_alone_and_name_the_owner)
{
    struct cell          *c = cell_of(7450, 3, 2);
    struct ing_partition *p = any_partition(c, true);
    char                  owner[64];

    snprintf(owner, sizeof owner, "%s", p->i->name);
    alter_late(p);
    until(c, &c->outvoted, 2, "said by both");
    live_for(c, 60);
    ck_assert_uint_eq(c->repairs + c->suspects, 0);
    wish(c, p->number, owner);
    until(c, &c->repaired, 1, "made anew");
    must_be_alike(c);
}
END_TEST

START_TEST(an_owner_that_is_not_what_the_log_says_is_told_of_and_made_anew_on_a_wish)
{
    struct cell          *c = cell_of(7500, 2, 2);
    struct ing_partition *p = any_partition(c, true);
    char                  owner[64];

    snprintf(owner, sizeof owner, "%s", p->i->name);
    for (int n = 0; n < 40 && c->suspects == 0; n++) { /* again and again, as if its memory were bad */
        if (ing_epoch(p) != 0)
            alter_late(p);
        live_for(c, 10);
    }
    ck_assert_uint_ge(c->suspects, 1);
    ck_assert_uint_le(c->repairs, 2);
    ck_assert_uint_ne(ing_epoch(p), 0);                /* it was left alone */
    c->repaired = 0;
    wish(c, p->number, owner);
    until(c, &c->repaired, 1, "made anew");
    live_for(c, 20);
    ck_assert(!is_wished(c, p->number, owner));
    must_be_alike(c);
}
END_TEST

START_TEST(nobody_lets_go_of_what_it_has_while_no_other_member_is_ready)
{
    struct cell          *c = cell_new(7600);
    struct ing_partition *p = any_partition(c, true);
    char                  owner[64];

    snprintf(owner, sizeof owner, "%s", p->i->name);
    for (unsigned i = C_DOORMEN; i < C_QUERIER; i++)
        if (c->nodes[i].ing != p->i)
            c_kill(c, i, C_DISK);
    live_for(c, 10);
    wish(c, p->number, owner);
    live_for(c, 30);
    ck_assert_uint_eq(c->repairs, 0);
    ck_assert_uint_ne(ing_epoch(p), 0);
    ck_assert_int_eq(atomic_load(&p->state), ING_LIVE);
    for (unsigned i = C_DOORMEN; i < C_QUERIER; i++)
        if (c->nodes[i].env == NULL)
            c_start(c, i);
    until(c, &c->repaired, 1, "made anew");
    live_for(c, 10);
    ck_assert(!is_wished(c, p->number, owner));
    wish(c, C_ROOM - 1, owner);                        /* of a partition that it has not: nothing to be done */
    live_for(c, 10);
    ck_assert(!is_wished(c, C_ROOM - 1, owner));
    ck_assert_uint_eq(c->repairs, 1);
    must_be_alike(c);
}
END_TEST

/* ---- whatever a log may hold, and members that come and go: they stay alike ---- */

enum { REFS = 12, ROUNDS = 60, WRITERS = 3 };

struct wild {
    struct cell c;
    struct tsp_record_writer *w;
    uint64_t counters[WRITERS];
};
static void wild_define(struct wild *d, uint64_t ref)
{
    struct kl_buf    b = { 0 };
    struct kl_labels labels;
    char             name[20], value[20];

    snprintf(name, sizeof name, "wild_%u", (unsigned)(ref % 3));
    snprintf(value, sizeof value, "%u", (unsigned)ref);
    labels = labels_of(&b, name, value);
    tsp_record_define(d->w, kl_span_str("anonymous"), ref, kl_labels_fp(labels), labels);
    kl_buf_deinit(&b);
}

static void wild_hist(struct wild *d, uint64_t ref, int64_t time_ms)
{
    static const struct kl_hist_span spans[2][2] = { { { 0, 3 }, { 1, 1 } }, { { 1, 2 }, { 2, 2 } } };
    double         counts[4] = { 1, (double)(c_draw(&d->c) % 3), 0, 2 };
    struct kl_hist h = { .schema = (int32_t)(c_draw(&d->c) % 2), .was_int = c_draw(&d->c) % 2 == 0, .count = 9,
                         .sum = (double)(c_draw(&d->c) % 4), .pos_span_count = 2, .pos_count = 4, .pos = counts };

    h.pos_spans = spans[c_draw(&d->c) % 2];
    tsp_record_hist(d->w, kl_span_str("anonymous"), ref, time_ms, &h);
}

static void wild_exemplar(struct wild *d, uint64_t ref, int64_t time_ms)
{
    struct kl_buf    b = { 0 };
    struct kl_labels labels = labels_of(&b, "trace", c_draw(&d->c) % 2 == 0 ? "1" : "2");

    tsp_record_exemplar(d->w, kl_span_str("anonymous"), ref, time_ms, (double)(c_draw(&d->c) % 2), labels);
    kl_buf_deinit(&b);
}

/* Also of a tenant that never has a sample. */
static void wild_metadata(struct wild *d)
{
    struct cell *c = &d->c;
    char         metric[20];

    snprintf(metric, sizeof metric, "wild_%u", (unsigned)(c_draw(c) % 5));
    tsp_record_metadata(d->w, kl_span_str(c_draw(c) % 8 == 0 ? "silent" : "anonymous"), kl_span_str(metric),
                        (uint8_t)(1 + c_draw(c) % 2), kl_span_str(""),
                        kl_span_str(c_draw(c) % 2 == 0 ? "One thing." : "Another."));
}

/* Few times and few values, so that they meet; late, early, repeated, of series that nobody defined (yet). */
static void wild_item(struct wild *d, uint64_t ref)
{
    struct cell   *c = &d->c;
    struct kl_span tenant = kl_span_str("anonymous");
    int64_t        times[8], now_ms = kl_env_now_ms(c->env) / 1000 * 1000;
    double         values[8];
    size_t         count = 1 + c_draw(c) % 8;

    for (size_t i = 0; i < count; i++) {
        times[i] = now_ms - (int64_t)(c_draw(c) % (c_draw(c) % 8 == 0 ? 200 : 8)) * 1000;
        values[i] = c_draw(c) % 20 == 0 ? kl_bits_f64(KL_STALE_BITS) : (double)(c_draw(c) % 3);
    }
    switch (c_draw(c) % 16) {
    case 0:
    case 14:
        tsp_record_start_time(d->w, tenant, ref, times[0], times[0] - 5000 - (int64_t)(c_draw(c) % 3) * 1000);
        break;
    case 1:
        wild_hist(d, ref, times[0]);
        break;
    case 2: {
        struct tsp_deletion x = { .from_ms = times[0] - (int64_t)(c_draw(c) % 60) * 1000, .to_ms = times[0],
                                  .matcher_count = 1 };

        if (c_draw(c) % 4 != 0)
            break;
        x.matchers[0] = (struct kl_matcher){ .op = KL_MATCH_EQ, .name = kl_span_str("__name__"),
                                             .value = kl_span_str("wild_1") };
        tsp_record_delete(d->w, tenant, &x);
        break;
    }
    case 3:
        wild_define(d, ref);
        break;
    case 12:
        wild_exemplar(d, ref, times[0]);
        break;
    case 13:
        wild_metadata(d);
        break;
    case 15:                                           /* each with its start time */
        tsp_record_floats(d->w, tenant, ref, times, values, count);
        for (size_t i = 0; i < count; i++)
            tsp_record_start_time(d->w, tenant, ref, times[i], times[i] - 5000 - (int64_t)(c_draw(c) % 2) * 1000);
        break;
    default:
        tsp_record_floats(d->w, tenant, ref, times, values, count);
    }
}

static void wild_write(struct wild *d)
{
    struct cell *c = &d->c;
    unsigned     writer = (unsigned)(c_draw(c) % WRITERS);

    tsp_record_start(d->w);
    for (uint64_t ref = 1; ref <= REFS; ref++)         /* mostly defined when used, now and then later */
        if (c_draw(c) % 16 == 0)
            wild_define(d, ref);
    for (unsigned n = 1 + (unsigned)(c_draw(c) % 6); n > 0; n--)
        wild_item(d, 1 + c_draw(c) % REFS);
    wild_define(d, 1 + c_draw(c) % REFS);
    append(c, d->w, (uint8_t)(1 + writer), ++d->counters[writer], (uint32_t)(c_draw(c) % 2));
}

static void wild_event(struct wild *d)
{
    struct cell   *c = &d->c;
    unsigned       i = C_DOORMEN + (unsigned)(c_draw(c) % C_INGESTORS);
    struct c_node *n = &c->nodes[i];

    if (n->env == NULL) {
        c_start(c, i);
        return;
    }
    switch (c_draw(c) % 8) {
    case 0:
    case 1:
        c_kill(c, i, (enum c_death)(c_draw(c) % 3));
        break;
    case 2:
    case 3:
        n->paused = !n->paused;
        kl_env_sim_pause(c->sim, n->env, n->paused);
        break;
    case 4:
        n->cut = !n->cut;
        kl_bus_sim_cut(n->bus, n->cut);
        break;
    default:
        for (unsigned k = C_DOORMEN; k < C_QUERIER; k++)
            if (c->nodes[k].env != NULL && c_draw(c) % 3 > 0)
                kit_flush(c->nodes[k].ing, c->loop);
    }
}

static void wild_live(uint64_t seed)
{
    struct wild *d = kl_new(sizeof *d);
    struct cell *c = &d->c;

    c_init(c, 9000 + seed);
    d->w = tsp_record_writer_new();
    for (unsigned i = 0; i < C_NODES; i++)
        c_start(c, i);
    c_settle(c, "at the beginning");
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned n = 20 + (unsigned)(c_draw(c) % 60); n > 0; n--) {
            wild_write(d);
            kl_env_sim_run(c->sim, (int64_t)(c_draw(c) % 100));
        }
        if (c_draw(c) % 2 == 0)
            wild_event(d);
    }
    if (getenv("KOA_TELL") != NULL)
        printf("seed %" PRIu64 ": %.0f s, %u cuts found the same\n", seed, (double)c_now_ns(c) / 1e9, c->same);
    ck_assert_msg(c->differing == 0, "seed %" PRIu64 ": %s", seed, c->difference);
}

static unsigned lives(void)
{
    const char *text = getenv("KOA_SIM_SEEDS");

    return text == NULL ? LIVES : (unsigned)strtoul(text, NULL, 10);
}

START_TEST(whatever_the_log_holds_members_seal_the_same)
{
    kit_lives(_i, AT_ONCE, lives(), wild_live);
}
END_TEST

const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }      /* the cells are not taken down */

int main(void)
{
    TCase *t = tcase_create("all");

    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, a_member_whose_memory_was_altered_is_found_at_the_next_cut, 0, 8);
    tcase_add_loop_test(t, a_start_time_an_exemplar_or_a_text_that_was_altered_or_lost_is_found_at_the_next_cut, 0,
                        2 * BESIDES);
    tcase_add_loop_test(t, a_log_that_gives_two_members_different_records_is_found_at_the_next_cut, 0, 2);
    tcase_add_loop_test(t, a_standby_that_is_not_as_the_owner_is_made_anew_from_the_log_and_is_alike_again, 0, 4);
    tcase_add_test(t, of_three_members_the_two_that_are_alike_leave_each_other_alone_and_name_the_owner);
    tcase_add_test(t, an_owner_that_is_not_what_the_log_says_is_told_of_and_made_anew_on_a_wish);
    tcase_add_test(t, nobody_lets_go_of_what_it_has_while_no_other_member_is_ready);
    tcase_add_test(t, members_that_are_alike_are_found_alike_cut_for_cut);
    tcase_add_loop_test(t, whatever_the_log_holds_members_seal_the_same, 0, (int)((lives() + AT_ONCE - 1) / AT_ONCE));
    return kit_run("differ", t);
}
