/*
 * From memory to the catalogue, and from one fileset to another, with a query in the middle of it: at
 * each single step of a flush, or of a merge, a query begins; and at each single step of a query a flush
 * begins. What is answered is the same each time, to the bit, also where rollups are read as soon as a merge has made
 * them, and nothing is said to be missing. So the
 * rules that ingestor, catalogue and querier share are held at every interleaving of these two.
 * And at each step of a deletion a query begins: what is not deleted is in it, and what is, from then on when the
 * catalogue has it, is not.
 * SCENARIO=n STEP=k runs one of them alone.
 */
#include "../unit/ingestor/world.h"

#include "tests/sim/kit.h"

enum { PARTITIONS = 2, SERIES = 6, MINUTE = 60000, STEPS_MAX = 20000 };

/* The querier's bus: the same, but that changes of the catalogue reach it only when they are asked for.
 * A watch may be late by any time; here it is by all of it. */
struct deaf { struct kl_bus bus; struct kl_bus *inner; struct kl_bus_watch catalogue, *heard; bool hears; };

static void deaf_ask(struct kl_bus *b, struct kl_bus_ask *op)
{
    struct kl_bus *inner = ((struct deaf *)b)->inner;
    inner->ask(inner, op);
}
static void deaf_kv(struct kl_bus *b, struct kl_bus_kv *op)
{
    struct kl_bus *inner = ((struct deaf *)b)->inner;
    inner->kv(inner, op);
}
static bool deaf_healthy(struct kl_bus *b, struct kl_err *err)
{
    struct kl_bus *inner = ((struct deaf *)b)->inner;
    return inner->healthy(inner, err);
}
static void deaf_change(struct kl_bus_watch *w, const char *key, struct kl_span value, uint64_t revision)
{
    struct deaf *d = w->ctx;

    if (d->hears)
        d->heard->change(d->heard, key, value, revision);
}
static void deaf_current(struct kl_bus_watch *w)
{
    struct deaf *d = w->ctx;

    d->heard->current(d->heard);
}
static void deaf_watch(struct kl_bus *b, struct kl_bus_watch *w)
{
    struct deaf *d = (struct deaf *)b;

    if (strncmp(w->prefix, "catalogue", 9) == 0) {
        d->heard = w;
        d->catalogue = (struct kl_bus_watch){ .loop = w->loop, .change = deaf_change, .current = deaf_current,
                                              .ctx = d };
        strcpy(d->catalogue.prefix, w->prefix);
        w = &d->catalogue;
    }
    d->inner->watch(d->inner, w);
}
static void deaf_unwatch(struct kl_bus *b, struct kl_bus_watch *w)
{
    struct deaf *d = (struct deaf *)b;

    d->inner->unwatch(d->inner, w == d->heard ? &d->catalogue : w);
}

struct cell {
    struct world       w;
    struct deaf        deaf;
    struct qr_querier *q;
    int64_t            begin_ms;
    int                scenario;
    const char        *text;                           /* what is asked, if not what the scenario says */
    bool               rows;                           /* the last answer came of some */
};

static void begin_query(struct cell *c, struct kit_query *a)
{
    /* Each sample that there is: times and values, by the step in which they are; or what rows tell, too. */
    bool rows = c->scenario == 3;

    kit_ask(a, c->q, (struct pql_params){ .text = kl_span_str(c->text != NULL ? c->text : rows ? "max_over_time({code=~\".+\"}[5m])"
                                                                   : "last_over_time({code=~\".+\"}[1m])"),
                                          .start_ms = c->begin_ms, .end_ms = c->begin_ms + 240 * MINUTE,
                                          .step_ms = rows ? 5 * MINUTE : MINUTE, .now_ms = w_now(&c->w) });
}

static void end_query(struct cell *c, struct kit_query *a, struct kl_buf *text)
{
    char *info;

    ck_assert(w_until(&c->w, &a->released));
    ck_assert(a->answered);
    *text = a->got;
    /* That rows were read is the one thing that may differ. */
    info = memmem(text->at, text->size, "\ninfo: ", 7);
    c->rows = info != NULL && memmem(info, text->size - (size_t)(info - text->at), "read rows of 5 minutes", 22) != NULL;
    if (c->rows)
        text->size = (size_t)(info - text->at);
}

static void write_some(struct cell *c, int64_t from_min, int64_t count, int64_t salt)
{
    for (uint32_t p = 0; p < PARTITIONS; p++)
        for (int64_t k = 0; k < count; k++)
            for (unsigned n = p; n < SERIES; n += PARTITIONS)
                w_write(&c->w, p, "anonymous", n, c->begin_ms + (from_min + k) * MINUTE + 1000 * n,
                        (double)(salt * 1000 + k * 7 + n));
}

static void flush(struct cell *c)
{
    uint32_t      filesets;
    struct kl_err err = { 0 };

    ck_assert_msg(w_flush(&c->w, &filesets, &err) == KL_OK, "%s", err.text);
}

/* What is there before the step that matters: nothing stored; a fileset and memory over it, with late
 * samples in both; three filesets that are about to be merged; and with rollups. */
static void cell_begin(struct cell *c, int scenario)
{
    struct qr_options o = { 0 };
    struct kl_err     err = { 0 };

    memset(c, 0, sizeof *c);
    w_init(&c->w, 7, PARTITIONS);
    c->w.window_ms = 60 * MINUTE;
    c->w.compacts = scenario >= 2;
    c->scenario = scenario;
    c->w.rollup_ms[0] = scenario == 3 ? INT64_C(1000) * 60 * MINUTE : 0;
    w_start(&c->w);
    w_ready(&c->w);
    o.log = c->w.log;
    c->deaf = (struct deaf){ .bus = { .ask = deaf_ask, .kv = deaf_kv, .healthy = deaf_healthy, .watch = deaf_watch,
                                      .unwatch = deaf_unwatch, .env = c->w.env },
                             .inner = c->w.bus, .hears = true };
    c->q = qr_new(c->w.env, &c->deaf.bus, c->w.store, &o);
    for (int n = 0; n < 100 && !qr_ready(c->q, &err); n++)
        kl_env_sim_run(c->w.sim, 100);
    c->begin_ms = w_now(&c->w) / MINUTE * MINUTE - 240 * MINUTE;
    if (scenario == 3)                                 /* a window that is over */
        c->begin_ms = c->begin_ms / (240 * MINUTE) * (240 * MINUTE);
    write_some(c, 0, 8, 1);
    if (scenario >= 1) {
        flush(c);
        write_some(c, 2, 3, 2);                        /* other values for some of the same times */
        write_some(c, 100, 4, 3);
    }
    if (scenario >= 2) {
        flush(c);
        write_some(c, 4, 2, 4);
        flush(c);
    }
}

static void cell_end(struct cell *c)
{
    qr_free(c->q);
    w_stop(&c->w);
    w_deinit(&c->w);
}

static uint64_t compactions(struct cell *c)
{
    return kl_metrics_add(c->w.metrics, KL_COUNTER, "koalemos_ingestor_compactions_total", "", "")->bits;
}

struct flushing { struct ing_flush f; bool done; };
static void flush_done(struct ing_flush *f) { kl_container_of(f, struct flushing, f)->done = true; }

static void begin_flush(struct cell *c, struct flushing *f)
{
    *f = (struct flushing){ .f = { .loop = c->w.loop, .done = flush_done } };
    ing_flush(c->w.ing, &f->f);
}

/* One interleaving: the other thing begins after `step` steps of the first. False: the first is over
 * by then. */
static bool interleave(int scenario, bool query_first, bool deaf, unsigned step, const struct kl_buf *expected)
{
    struct cell     *c = kl_new(sizeof *c);
    struct flushing  f = { 0 };
    struct kit_query a;
    struct kl_buf    got;
    int64_t          until;
    bool             within;

    cell_begin(c, scenario);
    c->deaf.hears = !deaf;
    until = kl_env_mono_ns(c->w.env) + INT64_C(3600000000000);
    if (query_first)
        begin_query(c, &a);
    else if (scenario < 2)
        begin_flush(c, &f);
    for (unsigned k = 0; k < step; k++)
        ck_assert(kl_env_sim_step(c->w.sim, until));
    within = query_first ? !a.answered : scenario < 2 ? !f.done : compactions(c) < PARTITIONS;
    if (!query_first)
        begin_query(c, &a);
    else if (scenario < 2)
        begin_flush(c, &f);
    end_query(c, &a, &got);
    ck_assert_msg(kl_span_eq(kl_buf_span(&got), kl_buf_span(expected)), "SCENARIO=%d, %s first, STEP=%u:\n%.*s\n"
                  "not\n%.*s", scenario, query_first ? "query" : "flush", step, (int)got.size, got.at,
                  (int)expected->size, expected->at);
    kl_buf_deinit(&got);
    if (scenario < 2)
        ck_assert(w_until(&c->w, &f.done));
    c->deaf.hears = true;
    if (scenario == 3)
        kl_env_sim_run(c->w.sim, MINUTE);
    begin_query(c, &a);                                /* and when all is over */
    end_query(c, &a, &got);
    ck_assert(kl_span_eq(kl_buf_span(&got), kl_buf_span(expected)));
    ck_assert_int_eq(c->rows, scenario == 3);
    kl_buf_deinit(&got);
    cell_end(c);
    free(c);
    return within;
}

static void all(int scenario, bool query_first)
{
    const char      *one = getenv("SCENARIO"), *step = getenv("STEP");
    struct cell     *c = kl_new(sizeof *c);
    struct kit_query a;
    struct kl_buf    expected;
    unsigned         k = 0;

    if (one != NULL && atoi(one) != scenario)
        return;
    cell_begin(c, scenario);
    begin_query(c, &a);
    end_query(c, &a, &expected);
    cell_end(c);
    free(c);
    ck_assert_uint_gt(expected.size, 500);
    ck_assert_ptr_null(memmem(expected.at, expected.size, "warning", 7));
    if (step != NULL) {
        interleave(scenario, query_first, false, (unsigned)atoi(step), &expected);
        interleave(scenario, query_first, true, (unsigned)atoi(step), &expected);
    } else {
        for (int deaf = 0; deaf < 2; deaf++) {
            for (k = 0; interleave(scenario, query_first, deaf, k, &expected); k++)
                ck_assert_uint_lt(k, STEPS_MAX);
            ck_assert_uint_gt(k, 10);
        }
    }
    kl_buf_deinit(&expected);
}

/* ---- a deletion ---- */

static const char others[] = "last_over_time({code=~\".+\",host!=\"h0\"}[1m])";

static bool listed(struct cell *c, uint64_t seq)
{
    struct blk_manifest m;
    bool                has;

    w_catalogue(&c->w, 0, &m);
    has = m.deleted_seq >= seq;
    blk_manifest_deinit(&m);
    return has;
}

/* One series, of those in a fileset and in memory, is deleted; `step` steps later all are asked for, or all others. These
 * are answered as ever; and from when the catalogue has the deletion, which is when who asked for it is answered, that
 * one is in no answer. False: it had it by then. */
static bool delete_and_ask(bool deaf, const char *text, unsigned step, const struct kl_buf *expected)
{
    struct cell        *c = kl_new(sizeof *c);
    struct kl_matcher   m = { KL_MATCH_EQ, kl_span_str("host"), kl_span_str("h0"), NULL };
    struct tsp_deletion d = { .from_ms = 0, .to_ms = INT64_MAX, .matcher_count = 1, .matchers = { m } };
    struct w_append     a;
    struct kit_query    query;
    struct kl_buf       got;
    int64_t             until;
    bool                over;

    cell_begin(c, 1);
    c->deaf.hears = !deaf;
    c->text = text;
    tsp_record_delete(c->w.writer, kl_span_str("anonymous"), &d);
    w_send(&c->w, 0, &a);
    until = kl_env_mono_ns(c->w.env) + INT64_C(3600000000000);
    for (unsigned k = 0; k < step; k++)
        ck_assert(kl_env_sim_step(c->w.sim, until));
    over = a.done && listed(c, a.op.seq);
    begin_query(c, &query);
    end_query(c, &query, &got);
    if (over || text != NULL)
        ck_assert_msg(kl_span_eq(kl_buf_span(&got), kl_buf_span(expected)), "%sSTEP=%u: %.*s\nnot\n%.*s", deaf ? "deaf, " : "",
                      step, (int)got.size, got.at, (int)expected->size, expected->at);
    ck_assert_ptr_null(memmem(got.at, got.size, "warning", 7));
    ck_assert_ptr_null(memmem(got.at, got.size, "failed", 6));
    kl_buf_deinit(&got);
    ck_assert(w_until(&c->w, &a.done));
    ck_assert_int_eq(a.op.code, KL_OK);
    w_deleted(&c->w, 0, a.op.seq);
    begin_query(c, &query);
    end_query(c, &query, &got);
    ck_assert_msg(kl_span_eq(kl_buf_span(&got), kl_buf_span(expected)), "at last, %sSTEP=%u: %.*s", deaf ? "deaf, " : "", step,
                  (int)got.size, got.at);
    kl_buf_deinit(&got);
    kl_buf_deinit(&a.bytes);
    cell_end(c);
    free(c);
    return !over;
}

START_TEST(a_query_at_each_step_of_a_deletion)
{
    struct cell     *c = kl_new(sizeof *c);
    struct kit_query a;
    struct kl_buf    expected;

    cell_begin(c, 1);
    c->text = others;
    begin_query(c, &a);
    end_query(c, &a, &expected);
    cell_end(c);
    free(c);
    ck_assert_uint_gt(expected.size, 500);
    for (int n = 0; n < 4; n++) {
        unsigned k = 0;

        while (delete_and_ask(n / 2, n % 2 ? others : NULL, k, &expected))
            ck_assert_uint_lt(++k, STEPS_MAX);
        ck_assert_uint_gt(k, 5);
    }
    kl_buf_deinit(&expected);
}
END_TEST

START_TEST(a_query_at_each_step_of_a_first_flush) { all(0, false); }
END_TEST
START_TEST(a_query_at_each_step_of_a_flush_beside_filesets) { all(1, false); }
END_TEST
START_TEST(a_query_at_each_step_of_a_merge) { all(2, false); }
END_TEST
START_TEST(a_query_of_rows_at_each_step_of_a_merge_that_makes_them) { all(3, false); }
END_TEST
START_TEST(a_flush_at_each_step_of_a_query) { all(_i, true); }
END_TEST

int main(void)
{
    TCase *t = tcase_create("interleavings");

    tcase_set_timeout(t, 120);
    tcase_add_test(t, a_query_at_each_step_of_a_first_flush);
    tcase_add_test(t, a_query_at_each_step_of_a_flush_beside_filesets);
    tcase_add_test(t, a_query_at_each_step_of_a_merge);
    tcase_add_test(t, a_query_of_rows_at_each_step_of_a_merge_that_makes_them);
    tcase_add_test(t, a_query_at_each_step_of_a_deletion);
    tcase_add_loop_test(t, a_flush_at_each_step_of_a_query, 0, 2);
    return kit_run("handover", t);
}
