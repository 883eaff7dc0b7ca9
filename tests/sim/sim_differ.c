/*
 * Members of a partition that are not alike, though they should be: one whose memory was changed behind its
 * back, or one that the log gave another record. Their cell goes on, and says which cut of which members
 * differs, in the log, in the metrics and in what a doorman shows; and a cell where nothing is wrong says nothing.
 */
#include "tests/sim/cluster.h"

#include "ingestor/ing_priv.h"
#include "libkoal/base/mem.h"

enum { SERIES = 12 };

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

static struct cell *cell_new(uint64_t seed)
{
    struct cell *c = kl_new(sizeof *c);

    c_init(c, seed);
    for (unsigned i = 0; i < C_NODES; i++)
        c_start(c, i);
    c_settle(c, "at the beginning");
    live_for(c, 20);
    return c;
}

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

const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }      /* the cells are not taken down */

int main(void)
{
    TCase *t = tcase_create("all");

    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, a_member_whose_memory_was_altered_is_found_at_the_next_cut, 0, 8);
    tcase_add_loop_test(t, a_log_that_gives_two_members_different_records_is_found_at_the_next_cut, 0, 2);
    tcase_add_test(t, members_that_are_alike_are_found_alike_cut_for_cut);
    return kit_run("differ", t);
}
