/* Live pages and filesets become one series; what is missing is named. */
#include "tests/unit/querier/cluster.h"

#include "libkoal/app/app.h"

static struct cluster c;
static const char     up[] = "__name__=up,job=a";

static void setup(void)    { cluster_init(&c, NULL); }
static void teardown(void) { cluster_deinit(&c); }

/* The one partition that holds `metric` of tenant t1. */
static uint32_t home(const char *metric)
{
    uint32_t first, count;

    tsp_placement_range(c.placement, kl_span_str("t1"), kl_span_str(metric), &first, &count);
    ck_assert_uint_eq(count, 1);
    return first;
}

static void ok(const struct asked *a)
{
    ck_assert_msg(a->n.job.failure.kind == PQL_OK, "%s", a->n.job.failure.text);
}

static void complete(const struct asked *a)
{
    ok(a);
    ck_assert_msg(a->n.job.warning_count == 0, "%s", a->n.job.warnings[0]);
}

static void warns(const struct asked *a, const char *part)
{
    ok(a);
    for (unsigned i = 0; i < a->n.job.warning_count; i++)
        if (strstr(a->n.job.warnings[i], part) != NULL)
            return;
    ck_abort_msg("no warning with \"%s\" among %u (%s)", part, a->n.job.warning_count,
                 a->n.job.warning_count > 0 ? a->n.job.warnings[0] : "");
}

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

START_TEST(a_catalogue_behind_the_live_answer_is_read_again)
{
    struct series   old = line(up, 1000, 10, 10, 0);
    uint32_t        p = home("up");
    struct blk_info info = cluster_fileset(&c, "t1", p, 50, &old);
    struct asked   *a;

    cluster_start(&c);
    /* Committed after the watch showed its state; the watch says nothing of it in this cluster. */
    cluster_catalogue(&c, p, 3, &info, 1);
    cluster_live(&c, p, NULL, 0, (struct tsp_page){ .catalogue_revision = 3 });
    a = get(&c, "up", 0, 100000);
    complete(a);
    ck_assert_uint_eq(a->n.count, 1);
    ck_assert_uint_eq(a->n.series[0].count, 10);
    asked_free(a);
}
END_TEST

START_TEST(a_catalogue_that_stays_behind_makes_the_answer_incomplete)
{
    struct asked *a;

    cluster_live(&c, home("up"), NULL, 0, (struct tsp_page){ .catalogue_revision = 9 });
    cluster_start(&c);
    a = get(&c, "up", 0, 100000);
    warns(a, "catalogue");
    asked_free(a);
}
END_TEST

static void remove_fileset(const struct blk_info *info)
{
    static const char *const objects[] = { "checkpoint", "meta", "data" };
    char                     path[BLK_PATH_MAX + 1], key[KL_STORE_KEY_MAX + 1];
    struct kl_err            err;

    blk_fileset_path(info, path);
    for (unsigned i = 0; i < 3; i++) {
        snprintf(key, sizeof key, "%s/%s", path, objects[i]);
        ck_assert_int_eq(c.store->remove(c.store, key, &err), KL_OK);
    }
}

START_TEST(a_fileset_replaced_meanwhile_is_found_in_the_newer_catalogue)
{
    struct series   s = line(up, 1000, 10, 10, 0);
    uint32_t        p = home("up");
    struct blk_info old = cluster_fileset(&c, "t1", p, 50, &s), new;
    struct asked   *a;

    cluster_catalogue(&c, p, 1, &old, 1);
    cluster_start(&c);
    new = cluster_fileset(&c, "t1", p, 51, &s);
    cluster_catalogue(&c, p, 2, &new, 1);
    remove_fileset(&old);
    a = get(&c, "up", 0, 100000);
    complete(a);
    ck_assert_uint_eq(a->n.count, 1);
    ck_assert_uint_eq(a->n.series[0].count, 10);
    asked_free(a);
}
END_TEST

START_TEST(a_lost_fileset_is_named)
{
    struct series   s = line(up, 1000, 10, 10, 0);
    uint32_t        p = home("up");
    struct blk_info info = cluster_fileset(&c, "t1", p, 50, &s);
    char            path[BLK_PATH_MAX + 1];
    struct asked   *a;

    cluster_catalogue(&c, p, 1, &info, 1);
    remove_fileset(&info);
    cluster_start(&c);
    a = get(&c, "up", 0, 100000);
    blk_fileset_path(&info, path);
    warns(a, path);
    asked_free(a);
}
END_TEST

START_TEST(a_corrupt_fileset_is_named_and_none_of_it_served)
{
    struct series   s = line(up, 1000, 10, 10, 0);
    uint32_t        p = home("up");
    struct blk_info info = cluster_fileset(&c, "t1", p, 50, &s);
    char            path[BLK_PATH_MAX + 1], key[KL_STORE_KEY_MAX + 1];
    struct asked   *a;
    struct kl_err   err;
    uint64_t        size;
    char           *bytes;

    blk_fileset_path(&info, path);
    snprintf(key, sizeof key, "%s/data", path);
    ck_assert_int_eq(c.store->head(c.store, key, &size, &err), KL_OK);
    bytes = malloc(size);
    ck_assert_int_eq(c.store->get(c.store, key, 0, bytes, size, &err), KL_OK);
    bytes[size / 2] ^= 0x10;
    ck_assert_int_eq(c.store->remove(c.store, key, &err), KL_OK);
    ck_assert_int_eq(c.store->put(c.store, key, kl_span(bytes, size), &err), KL_OK);
    free(bytes);
    cluster_catalogue(&c, p, 1, &info, 1);
    cluster_start(&c);
    a = get(&c, "up", 0, 100000);
    warns(a, path);
    ck_assert_uint_eq(a->n.count, 0);
    asked_free(a);
}
END_TEST

START_TEST(a_fileset_in_quarantine_is_named_where_its_time_is_asked_for_and_only_there)
{
    struct series   s = line(up, 1000, 10, 10, 0);
    uint32_t        p = home("up");
    struct blk_info info = cluster_fileset(&c, "t1", p, 50, &s);
    char            path[BLK_PATH_MAX + 1];
    struct asked   *a;

    blk_fileset_path(&info, path);
    info.quarantined = true;
    cluster_catalogue(&c, p, 1, &info, 1);
    cluster_start(&c);
    a = get(&c, "up", 0, 100000);
    warns(a, path);
    warns(a, "quarantine");
    ck_assert_uint_eq(a->n.count, 0);
    asked_free(a);
    a = get(&c, "up", 10000000, 20000000);
    complete(a);
    asked_free(a);
}
END_TEST

START_TEST(another_tenants_fileset_is_never_read)
{
    struct series   s = line(up, 1000, 10, 10, 0);
    uint32_t        p = home("up");
    struct blk_info info = cluster_fileset(&c, "t2", p, 50, &s);
    struct asked   *a;

    cluster_catalogue(&c, p, 1, &info, 1);
    cluster_start(&c);
    a = get(&c, "up", 0, 100000);
    complete(a);
    ck_assert_uint_eq(a->n.count, 0);
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
    Suite   *s = suite_create("fetch");
    TCase   *t = tcase_create("all");
    SRunner *r;
    int      failed;

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
    tcase_add_test(t, a_query_that_names_its_metric_asks_its_partition_alone);
    tcase_add_test(t, a_set_of_names_asks_their_partitions_and_any_other_regex_asks_all);
    tcase_add_test(t, metadata_of_live_heads_and_filesets_comes_each_once);
    tcase_add_test(t, a_busy_owner_is_asked_again);
    tcase_add_loop_test(t, the_partitions_of_one_owner_are_asked_together, 1, PARTS + 1);
    tcase_add_loop_test(t, one_of_an_owner_s_partitions_that_fails_is_named, 0, 1);
    tcase_add_loop_test(t, one_of_an_owner_s_partitions_that_fails_is_named, 5, 6);
    tcase_add_test(t, an_owner_that_says_nothing_to_many_is_not_asked_for_each);
    tcase_add_loop_test(t, a_slow_owner_s_question_is_put_to_another_member_and_each_sample_comes_once, 0, 2);
    tcase_add_test(t, no_more_than_some_questions_are_put_twice_however_slow_all_are);
    tcase_add_loop_test(t, a_hedge_that_fails_leaves_it_to_the_owner_and_none_is_put_where_they_are_turned_off, 0, 3);
    tcase_add_test(t, one_partition_of_many_that_fails_is_named_in_a_warning);
    tcase_add_test(t, who_wants_no_partial_answer_gets_unavailable);
    tcase_add_test(t, no_partition_at_all_is_unavailable_not_empty);
    tcase_add_test(t, a_catalogue_behind_the_live_answer_is_read_again);
    tcase_add_test(t, a_catalogue_that_stays_behind_makes_the_answer_incomplete);
    tcase_add_test(t, a_fileset_replaced_meanwhile_is_found_in_the_newer_catalogue);
    tcase_add_test(t, a_lost_fileset_is_named);
    tcase_add_test(t, a_corrupt_fileset_is_named_and_none_of_it_served);
    tcase_add_test(t, a_fileset_in_quarantine_is_named_where_its_time_is_asked_for_and_only_there);
    tcase_add_test(t, another_tenants_fileset_is_never_read);
    tcase_add_test(t, a_newer_placement_table_is_read_and_its_partitions_asked);
    tcase_add_test(t, a_spread_in_a_key_of_its_own_is_read_and_its_partitions_asked);
    tcase_add_test(t, a_fetch_past_its_memory_is_refused_with_words);
    tcase_add_test(t, a_silent_owner_ends_the_request_at_its_deadline);
    tcase_add_test(t, a_client_that_left_ends_its_request);
    tcase_add_test(t, requests_wait_their_turn_and_past_the_queue_are_refused);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
