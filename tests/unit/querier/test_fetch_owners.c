/* Which owners a fetch asks, how long it waits for them, and what it says of those that do not answer. */
#include "tests/unit/querier/fetch.h"

#include "libkoal/app/app.h"

START_TEST(a_query_that_names_its_metric_asks_its_partition_alone)
{
    struct asked *a;

    cluster_start(&c);
    a = get(&c, "up{job=\"a\"}", 0, 1000);
    complete(a);
    asked_free(a);
    for (uint32_t p = 0; p < PARTS; p++)
        ck_assert_uint_eq(c.owners[p].asked, p == home("up"));
}
END_TEST

START_TEST(a_set_of_names_asks_their_partitions_and_any_other_regex_asks_all)
{
    unsigned      some = 0;
    struct asked *a;

    cluster_start(&c);
    a = get(&c, "{__name__=~\"up|down\"}", 0, 1000);
    asked_free(a);
    for (uint32_t p = 0; p < PARTS; p++)
        some += c.owners[p].asked;
    ck_assert_uint_eq(some, home("up") == home("down") ? 1 : 2);
    a = get(&c, "{__name__=~\"u.*\"}", 0, 1000);
    asked_free(a);
    for (uint32_t p = 0; p < PARTS; p++)
        ck_assert_uint_ge(c.owners[p].asked, 1);
}
END_TEST

START_TEST(a_busy_owner_is_asked_again)
{
    struct series s = line(up, 1000, 10, 5, 0);
    struct owner *o = &c.owners[home("up")];
    struct asked *a;

    cluster_live(&c, home("up"), &s, 1, (struct tsp_page){ 0 });
    o->fails = KL_EAGAIN;
    o->fail_times = 2;
    cluster_start(&c);
    a = get(&c, "up", 0, 100000);
    complete(a);
    ck_assert_uint_eq(a->n.count, 1);
    ck_assert_uint_eq(o->asked, 3);
    asked_free(a);
}
END_TEST

/* However many pages an answer brings: 1 is an owner that knows no bundles. */
START_TEST(the_partitions_of_one_owner_are_asked_together)
{
    struct series s = line(up, 1000, 10, 5, 0), t = line("__name__=down,job=a", 1000, 10, 5, 0);
    struct asked *a;
    unsigned      asked = 0;

    cluster_one_owner(&c);
    cluster_live(&c, 2, &s, 1, (struct tsp_page){ 0 });
    cluster_live(&c, 6, &t, 1, (struct tsp_page){ 0 });
    c.bundle_most = (unsigned)_i;
    cluster_start(&c);
    a = get(&c, "{job=\"a\"}", 0, 100000);
    complete(a);
    ck_assert_uint_eq(a->n.count, 2);
    for (uint32_t p = 0; p < PARTS; p++) {
        ck_assert_uint_ge(c.owners[p].asked, 1);
        asked += c.owners[p].asked;
    }
    ck_assert_uint_eq(asked, PARTS);                   /* nobody twice */
    asked_free(a);
}
END_TEST

START_TEST(one_of_an_owner_s_partitions_that_fails_is_named)
{
    struct series s = line(up, 1000, 10, 5, 0);
    struct asked *a;

    cluster_one_owner(&c);
    cluster_live(&c, 2, &s, 1, (struct tsp_page){ 0 });
    c.owners[_i].fails = KL_EIO;
    c.owners[_i].fail_times = 1;
    cluster_start(&c);
    a = get(&c, "{job=\"a\"}", 0, 100000);
    warns(a, _i == 0 ? "partition 0" : "partition 5");
    ck_assert_uint_eq(a->n.job.warning_count, 1);
    ck_assert_uint_eq(a->n.count, 1);
    asked_free(a);
}
END_TEST

START_TEST(an_owner_that_says_nothing_to_many_is_not_asked_for_each)
{
    struct asked *a;

    cluster_one_owner(&c);
    c.owners[0].silent = true;
    cluster_start(&c);
    a = get(&c, "{job=\"a\"}", 0, 100000);
    ck_assert_int_ne(a->n.job.failure.kind, PQL_OK);
    for (uint32_t p = 1; p < PARTS; p++)
        ck_assert_uint_eq(c.owners[p].asked, 0);
    asked_free(a);
}
END_TEST

/* _i 0: one partition is asked, 1: all of an owner's at once. */
START_TEST(a_slow_owner_s_question_is_put_to_another_member_and_each_sample_comes_once)
{
    struct series s = line(up, 1000, 10, 5, 0);
    struct owner *o = &c.owners[home("up")];
    struct asked *a;

    cluster_two_members(&c);
    c.options.hedge_percent = 10;
    cluster_live(&c, home("up"), &s, 1, (struct tsp_page){ 0 });
    for (uint32_t p = 0; p < PARTS; p++)
        c.owners[p].slow_ms = 1500;
    cluster_start(&c);
    a = asked_new(&c, TSP_SEL_SERIES, _i == 0 ? "up" : "{job=\"a\"}", 0, 100000);
    qr_submit(c.q, &a->n.job);
    kl_env_sim_run(c.sim, QR_HEDGE_FIRST_MS + 50);
    ck_assert_uint_eq(a->answers, 1);                  /* long before the owner answers */
    complete(a);
    ck_assert_uint_eq(a->n.count, 1);
    ck_assert_uint_eq(a->n.series[0].count, 5);
    ck_assert(o->asked >= 2 && c.owners[_i == 0 ? home("up") : 0].members_asked == 1);
    cluster_run(&c);                                   /* the owner's own comes, and is thrown away */
    asked_free(a);
}
END_TEST

START_TEST(no_more_than_some_questions_are_put_twice_however_slow_all_are)
{
    struct series s = line(up, 1000, 10, 5, 0);
    struct owner *o = &c.owners[home("up")];

    cluster_two_members(&c);
    c.options.hedge_percent = 10;
    cluster_live(&c, home("up"), &s, 1, (struct tsp_page){ 0 });
    o->slow_ms = 1900;                                 /* more than the longest time to a hedge */
    cluster_start(&c);
    for (int n = 0; n < 200; n++) {
        struct asked *a = get(&c, "up", 0, 100000);

        complete(a);
        ck_assert_uint_eq(a->n.count, 1);
        asked_free(a);
    }
    ck_assert_uint_ge(o->members_asked, 16);
    ck_assert_uint_le(o->members_asked, 16 + 200 / 9);
}
END_TEST

START_TEST(a_hedge_that_fails_leaves_it_to_the_owner_and_none_is_put_where_they_are_turned_off)
{
    static const char *const none[] = { "--features.hedging=0", NULL };
    struct series s = line(up, 1000, 10, 5, 0);
    struct owner *o = &c.owners[home("up")];
    struct asked *a;
    struct kl_config *config = NULL;
    struct kl_err     err;

    cluster_two_members(&c);
    c.options.hedge_percent = _i == 1 ? 0 : 10;
    ck_assert_int_eq(kl_config_load(kl_app_options, "f", kl_span("", 0), NULL, _i == 2 ? none : NULL, &config, &err), KL_OK);
    c.options.config = config;
    cluster_live(&c, home("up"), &s, 1, (struct tsp_page){ 0 });
    o->slow_ms = 1500;
    o->member_fails = KL_EIO;
    cluster_start(&c);
    a = get(&c, "up", 0, 100000);
    complete(a);
    ck_assert_uint_eq(a->n.count, 1);
    ck_assert_uint_eq(o->members_asked, _i == 0);
    asked_free(a);
    cluster_deinit(&c);
    kl_config_free(config);
    setup();                                           /* for the teardown */
}
END_TEST

START_TEST(one_partition_of_many_that_fails_is_named_in_a_warning)
{
    struct series s = line(up, 1000, 10, 5, 0);
    struct asked *a;

    cluster_live(&c, 2, &s, 1, (struct tsp_page){ 0 });
    c.owners[5].fails = KL_EIO;
    c.owners[5].fail_times = 1;
    cluster_start(&c);
    a = get(&c, "{job=\"a\"}", 0, 100000);
    warns(a, "partition 5");
    ck_assert_uint_eq(a->n.count, 1);
    asked_free(a);
}
END_TEST

START_TEST(who_wants_no_partial_answer_gets_unavailable)
{
    struct asked *a;

    c.owners[5].fails = KL_EIO;
    c.owners[5].fail_times = 1;
    cluster_start(&c);
    a = asked_new(&c, TSP_SEL_SERIES, "{job=\"a\"}", 0, 1000);
    a->n.job.partial = false;
    asked_run(a);
    ck_assert_int_eq(a->n.job.failure.kind, PQL_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(a->n.job.failure.text, "partition 5"));
    asked_free(a);
}
END_TEST

START_TEST(no_partition_at_all_is_unavailable_not_empty)
{
    struct asked *a;

    c.owners[home("up")].fails = KL_EIO;
    c.owners[home("up")].fail_times = 1;
    cluster_start(&c);
    a = get(&c, "up", 0, 1000);
    ck_assert_int_eq(a->n.job.failure.kind, PQL_UNAVAILABLE);
    asked_free(a);
}
END_TEST

START_TEST(a_newer_placement_table_is_read_and_its_partitions_asked)
{
    struct series     s = line(up, 1000, 10, 5, 0);
    uint32_t          p = home("up"), next = (p + 1) % PARTS;
    struct tsp_spread spread = { kl_span_str("t1"), kl_span_str("up"), 1, 0 };
    struct asked     *a;
    struct kl_err     err;

    cluster_start(&c);
    ck_assert_int_eq(tsp_placement_spread(c.placement, &spread, &err), KL_OK);
    tsp_placement_set_revision(c.placement, 9);
    cluster_put_placement(&c);
    cluster_live(&c, p, NULL, 0, (struct tsp_page){ .placement_revision = 9 });
    cluster_live(&c, next, &s, 1, (struct tsp_page){ .placement_revision = 9 });
    a = get(&c, "up", 0, 100000);
    complete(a);
    ck_assert_uint_eq(a->n.count, 1);
    asked_free(a);
}
END_TEST

START_TEST(a_spread_in_a_key_of_its_own_is_read_and_its_partitions_asked)
{
    struct series      s = line(up, 1000, 10, 5, 0);
    uint32_t           p = home("up"), next = (p + 1) % PARTS;
    struct tsp_spread  spread = { kl_span_str("t1"), kl_span_str("up"), 1, INT64_MAX };
    struct tsp_layout *l = tsp_layout_new();
    struct kl_buf      value = { 0 };
    struct asked      *a;
    struct kl_err      err;
    size_t             added;
    uint64_t           expect;
    char               key[64];

    cluster_start(&c);                                 /* its watch never hears of what comes now */
    ck_assert_int_eq(tsp_layout_add(l, tsp_spread_number(spread.tenant, spread.metric), &spread, 1, &value,
                                    &added, &expect, &err), KL_OK);
    tsp_spread_key(tsp_spread_number(spread.tenant, spread.metric), key, sizeof key);
    cluster_put(&c, key, kl_buf_span(&value));
    cluster_live(&c, p, NULL, 0, (struct tsp_page){ .placement_revision = c.kv_revision });
    cluster_live(&c, next, &s, 1, (struct tsp_page){ .placement_revision = c.kv_revision });
    a = get(&c, "up", 0, 100000);
    complete(a);
    ck_assert_uint_eq(a->n.count, 1);
    asked_free(a);
    kl_buf_deinit(&value);
    tsp_layout_free(l);
}
END_TEST

START_TEST(a_fetch_past_its_memory_is_refused_with_words)
{
    struct series s[8];
    struct asked *a;

    for (unsigned i = 0; i < 8; i++) {
        char *labels = malloc(64);

        snprintf(labels, 64, "__name__=up,job=%u", i);
        s[i] = line(labels, 1000, 7919, 600, 0.1 * i);
    }
    cluster_live(&c, home("up"), s, 8, (struct tsp_page){ 0 });
    c.options.query_memory_max_bytes = 4096;
    cluster_start(&c);
    a = get(&c, "up", 0, INT64_MAX);
    ck_assert_int_eq(a->n.job.failure.kind, PQL_EXECUTION);
    ck_assert_ptr_nonnull(strstr(a->n.job.failure.text, "memory"));
    asked_free(a);
    for (unsigned i = 0; i < 8; i++)
        free((char *)s[i].labels);
}
END_TEST

START_TEST(a_silent_owner_ends_the_request_at_its_deadline)
{
    struct asked *a;
    int64_t       begun;

    c.owners[home("up")].silent = true;
    cluster_start(&c);
    a = asked_new(&c, TSP_SEL_SERIES, "up", 0, 1000);
    a->n.job.timeout_ms = 1500;
    begun = kl_env_mono_ns(c.env) / 1000000;
    asked_run(a);
    ck_assert_int_eq(a->n.job.failure.kind, PQL_TIMEOUT);
    ck_assert_int_le(a->answered_ms - begun, 1600);
    asked_free(a);
}
END_TEST

START_TEST(a_client_that_left_ends_its_request)
{
    struct asked *a;
    int64_t       begun;

    c.owners[home("up")].silent = true;
    cluster_start(&c);
    a = asked_new(&c, TSP_SEL_SERIES, "up", 0, 1000);
    a->client_gone = true;
    begun = kl_env_mono_ns(c.env) / 1000000;
    asked_run(a);
    ck_assert_int_eq(a->n.job.failure.kind, PQL_CANCELED);
    ck_assert_int_le(a->answered_ms - begun, 2 * QR_TICK_MS);
    asked_free(a);
}
END_TEST

START_TEST(requests_wait_their_turn_and_past_the_queue_are_refused)
{
    enum { N = QR_WAITING_MAX + 8 };
    static struct asked *a[N];
    unsigned             fine = 0, refused = 0;

    c.options.concurrent_max = 4;
    cluster_start(&c);
    for (unsigned i = 0; i < N; i++) {
        a[i] = asked_new(&c, TSP_SEL_SERIES, "up", 0, 1000);
        a[i]->loose = true;
        qr_submit(c.q, &a[i]->n.job);
    }
    cluster_run(&c);
    for (unsigned i = 0; i < N; i++) {
        ck_assert_uint_eq(a[i]->answers, 1);
        fine += a[i]->n.job.failure.kind == PQL_OK;
        refused += a[i]->n.job.failure.kind == PQL_UNAVAILABLE;
        asked_free(a[i]);
    }
    ck_assert_uint_eq(fine + refused, N);
    ck_assert_uint_ge(refused, 1);
    ck_assert_uint_ge(fine, 4);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fetch: owners");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_query_that_names_its_metric_asks_its_partition_alone);
    tcase_add_test(t, a_set_of_names_asks_their_partitions_and_any_other_regex_asks_all);
    tcase_add_test(t, a_busy_owner_is_asked_again);
    tcase_add_loop_test(t, the_partitions_of_one_owner_are_asked_together, 1, PARTS + 1);
    tcase_add_loop_test(t, one_of_an_owner_s_partitions_that_fails_is_named, 0, 1);
    tcase_add_loop_test(t, one_of_an_owner_s_partitions_that_fails_is_named, 5, 6);
    tcase_add_test(t, an_owner_that_says_nothing_to_many_is_not_asked_for_each);
    tcase_add_loop_test(t,
                        a_slow_owner_s_question_is_put_to_another_member_and_each_sample_comes_once,
                        0, 2);
    tcase_add_test(t, no_more_than_some_questions_are_put_twice_however_slow_all_are);
    tcase_add_loop_test(t,
                        a_hedge_that_fails_leaves_it_to_the_owner_and_none_is_put_where_they_are_turned_off,
                        0, 3);
    tcase_add_test(t, one_partition_of_many_that_fails_is_named_in_a_warning);
    tcase_add_test(t, who_wants_no_partial_answer_gets_unavailable);
    tcase_add_test(t, no_partition_at_all_is_unavailable_not_empty);
    tcase_add_test(t, a_newer_placement_table_is_read_and_its_partitions_asked);
    tcase_add_test(t, a_spread_in_a_key_of_its_own_is_read_and_its_partitions_asked);
    tcase_add_test(t, a_fetch_past_its_memory_is_refused_with_words);
    tcase_add_test(t, a_silent_owner_ends_the_request_at_its_deadline);
    tcase_add_test(t, a_client_that_left_ends_its_request);
    tcase_add_test(t, requests_wait_their_turn_and_past_the_queue_are_refused);
    suite_add_tcase(s, t);

    return run_suite(s);
}
