/* Live pages and filesets become one series. */
#include "tests/unit/querier/fetch.h"

START_TEST(live_samples_come_whole)
{
    struct series s = line(up, 1000, 10, 300, 5);
    struct asked *a;

    s.chunk = 120;
    cluster_live(&c, home("up"), &s, 1, (struct tsp_page){ 0 });
    cluster_start(&c);
    a = get(&c, "up{job=\"a\"}", 0, 100000);
    complete(a);
    ck_assert_uint_eq(a->n.count, 1);
    ck_assert_uint_eq(a->n.series[0].count, 300);
    ck_assert_mem_eq(a->n.series[0].times_ms, s.times, 300 * sizeof s.times[0]);
    ck_assert_mem_eq(a->n.series[0].values, s.values, 300 * sizeof s.values[0]);
    ck_assert_ptr_null(a->n.series[0].hists);
    asked_free(a);
}
END_TEST

START_TEST(samples_outside_the_range_are_cut_off_at_both_ends)
{
    struct series s = line(up, 1000, 10, 100, 0);
    struct asked *a;

    cluster_live(&c, home("up"), &s, 1, (struct tsp_page){ 0 });
    cluster_start(&c);
    a = get(&c, "up", 1205, 1300);
    complete(a);
    ck_assert_uint_eq(a->n.series[0].count, 10);
    ck_assert_int_eq(a->n.series[0].times_ms[0], 1210);
    ck_assert_int_eq(a->n.series[0].times_ms[9], 1300);
    ck_assert_double_eq(a->n.series[0].values[0], 21);
    asked_free(a);
}
END_TEST

START_TEST(a_series_with_no_sample_in_range_is_not_there)
{
    struct series s = { .labels = up, .count = 2, .times = { 1000, 9000 }, .values = { 1, 2 } };
    struct asked *a;

    cluster_live(&c, home("up"), &s, 1, (struct tsp_page){ 0 });
    cluster_start(&c);
    a = get(&c, "up", 2000, 8000);
    complete(a);
    ck_assert_uint_eq(a->n.count, 0);
    asked_free(a);
}
END_TEST

START_TEST(pages_are_followed_to_the_last)
{
    const char   *names[] = { "__name__=up,job=a", "__name__=up,job=b", "__name__=up,job=c",
                              "__name__=up,job=d" };
    struct series s[4];
    struct asked *a;
    struct owner *o = &c.owners[home("up")];

    for (unsigned i = 0; i < 4; i++) {                 /* by fingerprint, as an owner pages */
        unsigned at = i;

        for (; at > 0 && kl_fp_cmp(fp_of(s[at - 1].labels), fp_of(names[i])) > 0; at--)
            s[at] = s[at - 1];
        s[at] = line(names[i], 1000, 10, 5, i);
    }
    for (unsigned i = 0; i < 4; i++)
        cluster_live(&c, home("up"), &s[i], 1, (struct tsp_page){ .more = i < 3 });
    cluster_start(&c);
    a = get(&c, "up", 0, 100000);
    complete(a);
    ck_assert_uint_eq(o->asked, 4);
    ck_assert_uint_eq(a->n.count, 4);
    for (size_t i = 1; i < 4; i++)
        ck_assert_int_lt(kl_labels_cmp(a->n.series[i - 1].labels, a->n.series[i].labels), 0);
    asked_free(a);
}
END_TEST

START_TEST(a_page_that_leads_nowhere_ends_the_asking)
{
    struct series s = line(up, 1000, 10, 5, 0);
    struct asked *a;

    cluster_live(&c, home("up"), &s, 1, (struct tsp_page){ .more = true });
    cluster_start(&c);
    a = get(&c, "up", 0, 100000);
    ck_assert_int_eq(a->n.job.failure.kind, PQL_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(a->n.job.failure.text, "leads nowhere"));
    ck_assert_uint_le(c.owners[home("up")].asked, 2);
    asked_free(a);
}
END_TEST

START_TEST(a_damaged_page_is_an_error_not_an_answer)
{
    struct series s = line(up, 1000, 10, 50, 0);
    struct owner *o = &c.owners[home("up")];
    struct asked *a;

    cluster_live(&c, home("up"), &s, 1, (struct tsp_page){ 0 });
    o->pages[0].size -= 3;
    cluster_start(&c);
    a = get(&c, "up", 0, 100000);
    ck_assert_int_eq(a->n.job.failure.kind, PQL_INTERNAL);
    ck_assert_uint_eq(a->n.count, 0);
    asked_free(a);
}
END_TEST

START_TEST(stored_and_live_samples_of_one_series_come_as_one)
{
    struct series   old = line(up, 1000, 10, 100, 0), new = line(up, 2000, 10, 100, 100);
    uint32_t        p = home("up");
    struct blk_info info = cluster_fileset(&c, "t1", p, 50, &old);
    struct asked   *a;

    cluster_catalogue(&c, p, 1, &info, 1);
    cluster_live(&c, p, &new, 1, (struct tsp_page){ .catalogue_revision = 1 });
    cluster_start(&c);
    a = get(&c, "up", 0, 100000);
    complete(a);
    ck_assert_uint_eq(a->n.count, 1);
    ck_assert_uint_eq(a->n.series[0].count, 200);
    for (unsigned i = 0; i < 200; i++) {
        ck_assert_int_eq(a->n.series[0].times_ms[i], 1000 + 10 * i);
        ck_assert_double_eq(a->n.series[0].values[i], i);
    }
    asked_free(a);
}
END_TEST

static struct blk_deletion *deletion(uint64_t seq, const char *tenant, const char *job, int64_t from_ms,
                                     int64_t to_ms)
{
    static uint64_t      number;
    struct kl_matcher    m = { KL_MATCH_EQ, kl_span_str("job"), kl_span_str(job), NULL };
    struct blk_deletion  like = { .number = ++number, .seq = seq, .incarnation = 7, .from_ms = from_ms,
                                  .to_ms = to_ms, .matcher_count = 1, .matchers = &m }, *d;
    struct kl_err        err;

    snprintf(like.tenant, sizeof like.tenant, "%s", tenant);
    ck_assert_int_eq(blk_deletion_new(&like, &d, &err), KL_OK);
    return d;
}

START_TEST(what_deletions_hide_of_filesets_before_them_is_in_no_answer)
{
    static const char   other[] = "__name__=up,job=b";
    struct series        first = line(up, 1000, 10, 100, 0), gone = line(other, 1000, 10, 100, 0),
                         later = line(up, 1500, 10, 10, 7000);
    uint32_t             p = home("up");
    struct blk_info      infos[] = { cluster_fileset(&c, "t1", p, 50, &first),
                                     cluster_fileset(&c, "t1", p, 51, &gone),
                                     cluster_fileset(&c, "t1", p, 90, &later) };
    struct blk_deletion *d[] = { deletion(60, "t1", "a", 1200, 1695), deletion(61, "t1", "b", 0, 5000),
                                 deletion(62, "t2", "a", 0, 5000) };
    struct asked        *a;

    cluster_deleted(&c, p, 1, infos, 3, d, 3);
    cluster_start(&c);
    a = get(&c, "up", 0, 100000);
    complete(a);
    ck_assert_uint_eq(a->n.count, 1);                  /* none of job b */
    ck_assert_uint_eq(a->n.series[0].count, 20 + 10 + 30);
    for (unsigned i = 0; i < 60; i++) {
        int64_t t = a->n.series[0].times_ms[i];

        ck_assert(t < 1200 || t > 1695 || (t >= 1500 && t < 1600 && a->n.series[0].values[i] >= 7000));
    }
    asked_free(a);
    a = asked_new(&c, TSP_SEL_VALUES, "up", 0, 100000);
    a->n.label = kl_span_str("job");
    asked_run(a);
    complete(a);
    ck_assert_uint_eq(a->n.count, 1);
    ck_assert(kl_span_eq(a->n.texts[0], kl_span_str("a")));
    asked_free(a);
    a = asked_new(&c, TSP_SEL_LABELS, "up", 1210, 1400);        /* where all is hidden */
    asked_run(a);
    complete(a);
    ck_assert_uint_eq(a->n.count, 1);                  /* there is some on both sides: labels go by chunks */
    asked_free(a);
    a = asked_new(&c, TSP_SEL_NAMES, "up{job=\"b\"}", 0, 100000);
    asked_run(a);
    complete(a);
    ck_assert_uint_eq(a->n.count, 0);
    asked_free(a);
}
END_TEST

START_TEST(of_two_values_for_one_time_the_later_log_position_wins)
{
    /* 1000..1990 in fileset 50 and, other values, in 60; the live head has 1500..1990 again. */
    struct series   first = line(up, 1000, 10, 100, 0), second = line(up, 1000, 10, 100, 1000);
    struct series   live = line(up, 1500, 10, 50, 5000);
    uint32_t        p = home("up");
    struct blk_info infos[2] = { cluster_fileset(&c, "t1", p, 60, &second),
                                 cluster_fileset(&c, "t1", p, 50, &first) };
    struct asked   *a;

    cluster_catalogue(&c, p, 1, infos, 2);
    cluster_live(&c, p, &live, 1, (struct tsp_page){ .catalogue_revision = 1 });
    cluster_start(&c);
    a = get(&c, "up", 0, 100000);
    complete(a);
    ck_assert_uint_eq(a->n.series[0].count, 100);
    for (unsigned i = 0; i < 100; i++)
        ck_assert_double_eq(a->n.series[0].values[i], i < 50 ? 1000 + i : 5000 + i - 50);
    asked_free(a);
}
END_TEST

START_TEST(within_a_live_answer_the_later_chunk_wins_and_late_samples_find_their_place)
{
    /* One series, three chunks: 0..90, then late 5,15,25, then 20 again with another value. */
    struct series s = { .labels = up, .chunk = 10 };
    struct asked *a;
    struct kl_buf page = { 0 }, canonical = { 0 }, chunk = { 0 };
    struct kl_labels l = labels_of(up, &canonical);
    struct owner *o = &c.owners[home("up")];
    struct { unsigned n; int64_t t[10]; double v[10]; } chunks[3] = {
        { 10, { 1000, 1010, 1020, 1030, 1040, 1050, 1060, 1070, 1080, 1090 },
          { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 } },
        { 3, { 1005, 1015, 1025 }, { 50, 51, 52 } },
        { 1, { 1020 }, { 99 } },
    };
    static const int64_t times[] = { 1000, 1005, 1010, 1015, 1020, 1025, 1030, 1040, 1050, 1060,
                                     1070, 1080, 1090 };
    static const double  values[] = { 0, 50, 1, 51, 99, 52, 3, 4, 5, 6, 7, 8, 9 };

    (void)s;
    tsp_page_begin(&page);
    kl_buf_add64(&page, kl_labels_fp(l).hi);
    kl_buf_add64(&page, kl_labels_fp(l).lo);
    kl_buf_addspan(&page, kl_span(l.at, l.size));
    kl_buf_addv(&page, 3);
    for (unsigned i = 0; i < 3; i++) {
        unsigned n = chunks[i].n;

        kl_buf_reset(&chunk);
        blk_chunk_encode(chunks[i].t, chunks[i].v, NULL, n, &chunk);
        kl_buf_addz(&page, chunks[i].t[0]);
        kl_buf_addv(&page, (uint64_t)(chunks[i].t[n - 1] - chunks[i].t[0]));
        kl_buf_addv(&page, n);
        kl_buf_add8(&page, BLK_FLOATS);
        kl_buf_addspan(&page, kl_buf_span(&chunk));
    }
    tsp_page_end(&page, &(struct tsp_page){ .cursor = kl_labels_fp(l) });
    o->pages[0] = page;
    o->page_count = 1;
    cluster_start(&c);
    a = get(&c, "up", 0, 100000);
    complete(a);
    ck_assert_uint_eq(a->n.series[0].count, 13);
    ck_assert_mem_eq(a->n.series[0].times_ms, times, sizeof times);
    ck_assert_mem_eq(a->n.series[0].values, values, sizeof values);
    asked_free(a);
    kl_buf_deinit(&canonical);
    kl_buf_deinit(&chunk);
}
END_TEST

START_TEST(histograms_and_start_times_come_with_their_samples)
{
    struct kl_hist_span span = { 0, 2 };
    double              counts[] = { 3, 4 };
    struct kl_hist      h[2] = { { .count = 7, .sum = 1.5, .pos_span_count = 1, .pos_count = 2,
                                   .pos_spans = &span, .pos = counts }, { 0 } };
    int64_t             ht[] = { 3000, 3010 }, hs[] = { 900, 900 }, ft[] = { 2000, 2010 };
    double              fv[] = { 1, 2 };
    struct kl_buf       page = { 0 }, canonical = { 0 }, chunk = { 0 };
    struct kl_labels    l = labels_of(up, &canonical);
    struct owner       *o = &c.owners[home("up")];
    struct asked       *a;

    h[1] = h[0];
    h[1].count = 8;
    tsp_page_begin(&page);
    kl_buf_add64(&page, kl_labels_fp(l).hi);
    kl_buf_add64(&page, kl_labels_fp(l).lo);
    kl_buf_addspan(&page, kl_span(l.at, l.size));
    kl_buf_addv(&page, 2);
    blk_chunk_encode(ft, fv, NULL, 2, &chunk);
    kl_buf_addz(&page, ft[0]), kl_buf_addv(&page, 10), kl_buf_addv(&page, 2);
    kl_buf_add8(&page, BLK_FLOATS), kl_buf_addspan(&page, kl_buf_span(&chunk));
    kl_buf_reset(&chunk);
    blk_chunk_encode_hists(ht, h, hs, 2, &chunk);
    kl_buf_addz(&page, ht[0]), kl_buf_addv(&page, 10), kl_buf_addv(&page, 2);
    kl_buf_add8(&page, BLK_HISTS), kl_buf_addspan(&page, kl_buf_span(&chunk));
    tsp_page_end(&page, &(struct tsp_page){ .cursor = kl_labels_fp(l) });
    o->pages[0] = page;
    o->page_count = 1;
    cluster_start(&c);
    a = get(&c, "up", 0, 100000);
    complete(a);
    ck_assert_uint_eq(a->n.series[0].count, 4);
    ck_assert_ptr_null(a->n.series[0].hists[1]);
    ck_assert_double_eq(a->n.series[0].values[1], 2);
    ck_assert_double_eq(a->n.series[0].hists[3]->count, 8);
    ck_assert_double_eq(a->n.series[0].hists[2]->pos[1], 4);
    ck_assert_int_eq(a->n.series[0].starts_ms[0], 0);
    ck_assert_int_eq(a->n.series[0].starts_ms[2], 900);
    asked_free(a);
    kl_buf_deinit(&canonical);
    kl_buf_deinit(&chunk);
}
END_TEST

START_TEST(metadata_of_live_heads_and_filesets_comes_each_once)
{
    struct series   s = line(up, 1000, 10, 10, 0);
    uint32_t        p = home("up");
    struct blk_info infos[2] = { cluster_fileset(&c, "t1", p, 50, &s),
                                 cluster_fileset(&c, "t1", p, 60, &s) };
    struct kl_buf  *page = &c.owners[3].by_what[TSP_SEL_METADATA];
    struct asked   *a;

    tsp_page_begin(page);
    kl_buf_addspan(page, kl_span_str("live"));
    kl_buf_add8(page, 2);
    kl_buf_addspan(page, kl_span_str(""));
    kl_buf_addspan(page, kl_span_str("of a head"));
    tsp_page_end(page, &(struct tsp_page){ 0 });
    cluster_catalogue(&c, p, 1, infos, 2);
    cluster_start(&c);
    a = asked_new(&c, TSP_SEL_METADATA, NULL, INT64_MIN, INT64_MAX);
    asked_run(a);
    complete(a);
    ck_assert_uint_eq(a->n.count, 2);
    ck_assert(kl_span_eq(a->n.metas[0].metric, kl_span_str("live")));
    ck_assert(kl_span_eq(a->n.metas[1].metric, kl_span_str("stored")));
    ck_assert(kl_span_eq(a->n.metas[1].unit, kl_span_str("seconds")));
    ck_assert(kl_span_eq(a->n.metas[1].help, kl_span_str("of a fileset")));
    ck_assert_uint_eq(a->n.metas[1].type, 1);
    asked_free(a);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fetch");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, live_samples_come_whole);
    tcase_add_test(t, samples_outside_the_range_are_cut_off_at_both_ends);
    tcase_add_test(t, a_series_with_no_sample_in_range_is_not_there);
    tcase_add_test(t, pages_are_followed_to_the_last);
    tcase_add_test(t, a_page_that_leads_nowhere_ends_the_asking);
    tcase_add_test(t, a_damaged_page_is_an_error_not_an_answer);
    tcase_add_test(t, stored_and_live_samples_of_one_series_come_as_one);
    tcase_add_test(t, what_deletions_hide_of_filesets_before_them_is_in_no_answer);
    tcase_add_test(t, of_two_values_for_one_time_the_later_log_position_wins);
    tcase_add_test(t, within_a_live_answer_the_later_chunk_wins_and_late_samples_find_their_place);
    tcase_add_test(t, histograms_and_start_times_come_with_their_samples);
    tcase_add_test(t, metadata_of_live_heads_and_filesets_comes_each_once);
    suite_add_tcase(s, t);

    return run_suite(s);
}
