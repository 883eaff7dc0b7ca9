/* Range queries that come again: what is read ahead for them, when, and what it was good for. */
#include "cluster.h"
#include "tests/suite.h"

enum { MINUTE = 60000, COUNT = 100, AGES = 400 };

static struct cluster       c;
static struct kl_metrics   *metrics;
static uint32_t             home;
static unsigned             gets;
static struct kl_bus_watch *catalogue;
static enum kl_code (*plain_get)(struct kl_store *, const char *, uint64_t, void *, size_t, struct kl_err *);

static enum kl_code counted_get(struct kl_store *s, const char *key, uint64_t offset, void *bytes, size_t size,
                                struct kl_err *err)
{
    gets++;
    return plain_get(s, key, offset, bytes, size, err);
}

static void watch(struct kl_bus *b, struct kl_bus_watch *w)
{
    if (strncmp(w->prefix, "catalogue", 9) == 0)
        catalogue = w;
    bus_watch(b, w);
}

static uint64_t counted(const char *what)
{
    char name[80];

    snprintf(name, sizeof name, "koalemos_querier_prefetch_%s_total", what);
    return kl_metrics_add(metrics, KL_COUNTER, name, "", "")->bits;
}

static void setup(void)
{
    uint32_t more;

    cluster_init(&c, NULL);
    c.options.metrics = metrics = kl_metrics_new();
    c.options.prefetch_max_bytes = 1 << 20;
    c.options.timeout_ms = 40000;
    c.bus.watch = watch;
    tsp_placement_range(c.placement, kl_span_str("t1"), kl_span_str("up"), &home, &more);
    gets = 0;
}

static void teardown(void)
{
    cluster_deinit(&c);
    kl_metrics_free(metrics);
}

/* ---- filesets, and catalogues that name them ---- */

/* A hundred minutes of `up` from the start-th on. */
static struct blk_info fileset(uint64_t id, int64_t start)
{
    struct series s = line("__name__=up", start * MINUTE, MINUTE, COUNT, 1);

    return cluster_fileset(&c, "t1", home, id, &s);
}

static void start_with(const struct blk_info *infos, size_t count)
{
    cluster_catalogue(&c, home, 1, infos, count);
    plain_get = c.store->get;
    c.store->get = counted_get;
    cluster_start(&c);
}

static void tell(void *unused)
{
    char key[KL_STORE_KEY_MAX + 1];

    (void)unused;
    blk_pointer_key(home, key, sizeof key);
    for (unsigned i = 0; i < c.kv_count; i++)
        if (strcmp(c.kv[i].key, key) == 0)
            catalogue->change(catalogue, key, kl_buf_span(&c.kv[i].value), c.kv[i].revision);
}

static void now_it_names(uint64_t revision, const struct blk_info *infos, size_t count)
{
    cluster_catalogue(&c, home, revision, infos, count);
    later(c.env, catalogue->loop, 0, tell, NULL);
}

/* ---- queries ---- */

struct query { struct qr_query x; bool released; uint64_t used, wasted; unsigned repeats; size_t series; };

static void answer(struct qr_query *x)
{
    struct query *q = kl_container_of(x, struct query, x);

    q->used = x->ahead_used;
    q->wasted = x->ahead_wasted;
    q->repeats = x->repeats;
    q->series = x->result != NULL ? x->result->series_count : 0;
}

static void release(struct qr_job *j)
{
    struct query *q = kl_container_of(kl_container_of(j, struct qr_query, job), struct query, x);

    qr_query_deinit(&q->x);
    q->released = true;
}

static void submit(struct query *q, const char *text, int64_t start_ms, int64_t length)
{
    memset(q, 0, sizeof *q);
    qr_query_init(&q->x);
    q->x.answer = answer;
    q->x.job.release = release;
    strcpy(q->x.job.tenant, "t1");
    q->x.params = (struct pql_params){ .text = kl_span_str(text), .start_ms = start_ms,
                                       .end_ms = start_ms + length * MINUTE, .step_ms = MINUTE,
                                       .now_ms = kl_env_now_ms(c.env) };
    qr_submit(c.q, &q->x.job);
}

/* All of AGES minutes, from that minute on; half a minute passes. */
static struct query ask_as(const char *text, int64_t start_ms)
{
    struct query q;

    submit(&q, text, start_ms, AGES);
    kl_env_sim_run(c.sim, 30000);
    ck_assert(q.released);
    return q;
}

static struct query ask(int64_t minute) { return ask_as("up", minute * MINUTE); }

/* ---- */

START_TEST(what_a_flush_added_is_there_when_the_query_comes_again)
{
    struct blk_info infos[] = { fileset(50, 0), fileset(60, 100) };
    struct query    q;
    unsigned        before;

    start_with(infos, 1);
    ask(0);
    ck_assert_uint_eq(ask(1).repeats, 1);
    before = gets;
    now_it_names(2, infos, 2);
    kl_env_sim_run(c.sim, 1000);
    ck_assert_uint_gt(gets, before);
    ck_assert_uint_gt(counted("bytes"), 0);
    before = gets;
    q = ask(2);
    ck_assert_uint_eq(gets, before);                   /* its manifest, its index, its frames */
    ck_assert_uint_eq(q.series, 1);
    ck_assert_uint_eq(q.used, counted("bytes"));
    ck_assert_uint_eq(q.wasted, 0);
    ck_assert_uint_eq(counted("used_bytes"), counted("bytes"));
}
END_TEST

START_TEST(after_a_merge_only_what_took_the_place_of_many_is_read)
{
    struct blk_info infos[] = { fileset(50, 0), fileset(60, 100), fileset(70, 200), fileset(80, 0) };
    unsigned        before;

    start_with(infos, 3);
    ask(0);
    ask(1);
    now_it_names(2, infos + 2, 2);
    kl_env_sim_run(c.sim, 1000);
    before = gets;
    ck_assert_uint_eq(ask(2).used, counted("bytes"));
    ck_assert_uint_eq(gets, before);
    now_it_names(3, infos + 2, 2);                     /* nothing new: only the manifest is read */
    kl_env_sim_run(c.sim, 1000);
    ck_assert_uint_eq(gets, before + 1);
}
END_TEST

START_TEST(a_query_that_does_not_move_on_by_its_step_is_not_read_ahead_for)
{
    struct blk_info infos[] = { fileset(50, 0), fileset(60, 100) };
    unsigned        before;

    start_with(infos, 1);
    ask(0);
    ask(0);
    ask_as("up", MINUTE / 2);
    ask_as("up or up", 0);
    before = gets;
    now_it_names(2, infos, 2);
    kl_env_sim_run(c.sim, 1000);
    ck_assert_uint_eq(gets, before);
}
END_TEST

START_TEST(a_query_that_has_not_come_for_a_while_is_not_read_ahead_for)
{
    struct blk_info infos[] = { fileset(50, 0), fileset(60, 100), fileset(70, 200) };
    unsigned        before;

    start_with(infos, 1);
    ask(0);
    ask(1);
    now_it_names(2, infos, 2);
    kl_env_sim_run(c.sim, 10 * MINUTE);
    before = gets;
    now_it_names(3, infos, 3);
    kl_env_sim_run(c.sim, 1000);
    ck_assert_uint_eq(gets, before);
}
END_TEST

START_TEST(nothing_is_read_ahead_where_that_is_off)
{
    struct blk_info infos[] = { fileset(50, 0), fileset(60, 100) };
    unsigned        before;

    c.options.prefetch_max_bytes = 0;
    start_with(infos, 1);
    ask(0);
    ask(1);
    before = gets;
    now_it_names(2, infos, 2);
    kl_env_sim_run(c.sim, 1000);
    ck_assert_uint_eq(gets, before);
}
END_TEST

START_TEST(no_more_is_read_ahead_than_may_be)
{
    struct blk_info infos[] = { fileset(50, 0), fileset(60, 100), fileset(70, 200), fileset(80, 300) };
    uint64_t        least;

    c.options.prefetch_max_bytes = 16;
    start_with(infos, 1);
    ask(0);
    ask(1);
    now_it_names(2, infos, 4);
    kl_env_sim_run(c.sim, 1000);
    least = counted("bytes");                          /* the first opening already */
    ck_assert_uint_gt(least, 0);
    ck_assert_uint_eq(counted("stopped"), 1);
    kl_env_sim_run(c.sim, 20000);
    ck_assert_uint_eq(counted("bytes"), least);
    ck_assert_uint_eq(ask(2).used, least);
}
END_TEST

START_TEST(others_come_first)
{
    struct blk_info infos[] = { fileset(50, 0), fileset(60, 100) };
    struct query    others[8];
    unsigned        before;

    start_with(infos, 1);
    ask(0);
    ask(1);
    c.owners[home].silent = true;
    for (unsigned i = 0; i < 8; i++)
        submit(&others[i], "up", 0, 10);
    kl_env_sim_run(c.sim, 100);
    before = gets;
    now_it_names(2, infos, 2);
    kl_env_sim_run(c.sim, 5000);
    ck_assert_uint_eq(gets, before);
    c.owners[home].silent = false;
    kl_env_sim_run(c.sim, 120000);
    ck_assert_uint_gt(gets, before);
    for (unsigned i = 0; i < 8; i++)
        ck_assert(others[i].released);
}
END_TEST

START_TEST(what_was_read_for_a_query_that_is_forgotten_was_wasted)
{
    struct blk_info infos[] = { fileset(50, 0), fileset(60, 100) };
    char            text[40];

    start_with(infos, 1);
    ask(0);
    ask(1);
    now_it_names(2, infos, 2);
    kl_env_sim_run(c.sim, 1000);
    for (unsigned i = 0; i < QR_REPEATS_MAX; i++) {
        snprintf(text, sizeof text, "up + %u", i);
        ask_as(text, 0);
    }
    ck_assert_uint_eq(counted("used_bytes"), 0);
    ck_assert_uint_eq(counted("wasted_bytes"), counted("bytes"));
    ck_assert_uint_gt(counted("bytes"), 0);
}
END_TEST

START_TEST(a_fileset_that_cannot_be_read_is_left_to_who_asks_for_it)
{
    struct blk_info infos[] = { fileset(50, 0), fileset(60, 100) };
    char            path[BLK_PATH_MAX + 1], key[KL_STORE_KEY_MAX + 1];
    unsigned        before;
    struct kl_err   err;

    start_with(infos, 1);
    ask(0);
    ask(1);
    blk_fileset_path(&infos[1], path);
    snprintf(key, sizeof key, "%s/data", path);
    c.store->remove(c.store, key, &err);
    now_it_names(2, infos, 2);
    kl_env_sim_run(c.sim, 20000);
    before = gets;
    kl_env_sim_run(c.sim, 20000);
    ck_assert_uint_eq(gets, before);                   /* it was tried, and is not again */
    ck_assert_uint_eq(counted("used_bytes"), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("repeats");
    TCase *t = tcase_create("repeats");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, what_a_flush_added_is_there_when_the_query_comes_again);
    tcase_add_test(t, after_a_merge_only_what_took_the_place_of_many_is_read);
    tcase_add_test(t, a_query_that_does_not_move_on_by_its_step_is_not_read_ahead_for);
    tcase_add_test(t, a_query_that_has_not_come_for_a_while_is_not_read_ahead_for);
    tcase_add_test(t, nothing_is_read_ahead_where_that_is_off);
    tcase_add_test(t, no_more_is_read_ahead_than_may_be);
    tcase_add_test(t, others_come_first);
    tcase_add_test(t, what_was_read_for_a_query_that_is_forgotten_was_wasted);
    tcase_add_test(t, a_fileset_that_cannot_be_read_is_left_to_who_asks_for_it);
    suite_add_tcase(s, t);
    return run_suite(s);
}
