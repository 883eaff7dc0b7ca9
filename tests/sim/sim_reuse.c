/*
 * Range queries out of pieces of earlier answers, read ahead for, are those of a querier that keeps none, bit for bit:
 * made-up samples, in order, late and much too late, flushed, merged, deleted, lost with a log; made-up
 * queries in between, each put to both. Replayable: SEED=n runs one life alone.
 */
#include "../unit/ingestor/world.h"

#include "libtsproto/logmark.h"
#include "tests/sim/kit.h"

enum { LIVES = 20, AT_ONCE = 5, PARTITIONS = 2, ROUNDS = 60, HOUR = 3600 * 1000, PAST = 75 * HOUR };

struct life {
    struct world  w;
    uint64_t      seed, draws;
    struct dm_doorman *d;
    struct kl_metrics *metrics;                        /* of the one that keeps */
    struct qr_querier *keeps, *forgets;
    uint64_t      wrong;
};

static uint64_t hits, steps, ahead;                    /* of all lives */
static struct { uint64_t hists, warnings, infos; } pieced;     /* answers that had some, and pieces */

static uint64_t draw(struct life *l) { return kit_draw(&l->draws); }

/* ---- writes ---- */

static void push(struct life *l, unsigned count, int64_t back_ms)
{
    struct kit_push *s = kl_new(sizeof *s);
    struct kl_buf  body = { 0 };

    for (unsigned i = 0; i < count; i++) {
        unsigned n = (unsigned)(draw(l) % 12);
        int64_t  t = w_now(&l->w) - (back_ms > 0 ? (int64_t)(draw(l) % (uint64_t)back_ms) : 0);
        double   v = draw(l) % 4 ? (double)(draw(l) % 1000) : (double)(int64_t)draw(l) / 1e9;

        kl_buf_addf(&body, "%s{host=\"h%u\",code=\"%u\"} %.17g %" PRId64 "\n",
                    n % 3 == 0 ? "a_total" : n % 3 == 1 ? "b" : "c_total", n, n % 4, v, t / 1000 * 1000);
    }
    kit_push(s, l->d, 0, body, (struct kl_fp){ 0 }, w_now(&l->w));
    ck_assert(w_until(&l->w, &s->done));
    ck_assert_uint_eq(s->p.status, 204);
    free(s);                                           /* the body was given away */
}

static struct kl_fp hist_labels(const char *name, const char *code, struct kl_buf *out)
{
    static struct kl_labels_builder b;
    struct kl_err err;

    kl_labels_start(&b);
    kl_labels_add(&b, kl_span_str("__name__"), kl_span_str(name), &err);
    kl_labels_add(&b, kl_span_str("code"), kl_span_str(code), &err);
    ck_assert_int_eq(kl_labels_finish(&b, out, &err), KL_OK);
    return kl_labels_fp((struct kl_labels){ (const uint8_t *)out->at, out->size });
}

/* Histograms into the log, as a doorman would put them: exponential ones of two schemas and of custom bounds,
 * counters that start again and gauges; now and then a float among them. */
static void push_hists(struct life *l, unsigned count, int64_t back_ms)
{
    static const struct kl_hist_span span = { 0, 3 };
    static const double bounds[] = { 0.1, 1, 10 };
    struct tsp_placement *one = tsp_placement_new(PARTITIONS);
    uint32_t              partition, more;

    for (unsigned i = 0; i < count; i++) {
        unsigned      n = (unsigned)(draw(l) % 6), kind = (unsigned)(draw(l) % 16);
        const char   *name = n % 3 == 0 ? "h" : n % 3 == 1 ? "h_total" : "g";
        int64_t       at = w_now(&l->w) - (back_ms > 0 ? (int64_t)(draw(l) % (uint64_t)back_ms) : 0);
        double        b[] = { (double)(draw(l) % 9), (double)(at / 60000 % 500), (double)(draw(l) % 3) }, v = b[1];
        bool          custom = n == 5 || kind == 14;
        struct kl_hist h = { .schema = custom ? KL_HIST_CUSTOM : n % 2 ? 2 : 3 - (int32_t)(kind % 2),
                             .reset = n % 3 == 2 ? KL_HIST_GAUGE : kind % 3, .count = b[0] + b[1] + b[2], .sum = b[1] * 1.7,
                             .pos_span_count = 1, .pos_spans = &span, .pos_count = 3, .pos = b,
                             .bound_count = custom ? 3 : 0, .bounds = custom ? bounds : NULL };
        struct kl_buf labels = { 0 };
        struct kl_fp  fp;
        char          code[12];

        snprintf(code, sizeof code, "%u", n % 4);
        fp = hist_labels(name, code, &labels);
        at = at / 1000 * 1000;
        tsp_record_define(l->w.writer, kl_span_str("anonymous"), n, fp,
                          (struct kl_labels){ (const uint8_t *)labels.at, labels.size });
        if (kind == 15)
            tsp_record_floats(l->w.writer, kl_span_str("anonymous"), n, &at, &v, 1);
        else
            tsp_record_hist(l->w.writer, kl_span_str("anonymous"), n, at, &h);
        tsp_placement_range(one, kl_span_str("anonymous"), kl_span_str(name), &partition, &more);
        w_send_wait(&l->w, partition);
        kl_buf_deinit(&labels);
    }
    tsp_placement_free(one);
}

/* Some series over some hours, from the log of each partition, and into its catalogue. */
static void delete(struct life *l)
{
    static const char *const codes[] = { "0", "1", "2", "3" };
    int64_t             from_ms = w_now(&l->w) - (int64_t)(draw(l) % (PAST / HOUR)) * HOUR;
    struct tsp_deletion d = { .from_ms = from_ms, .to_ms = from_ms + (int64_t)(draw(l) % 5) * HOUR,
                              .matcher_count = 1 };

    d.matchers[0] = (struct kl_matcher){ .op = KL_MATCH_EQ, .name = kl_span_str("code"),
                                         .value = kl_span_str(codes[draw(l) % 4]) };
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        tsp_record_delete(l->w.writer, kl_span_str("anonymous"), &d);
        w_send_wait(&l->w, p);
    }
    kl_env_sim_run(l->w.sim, 5000);
}

/* Some records of a partition's log are lost for good, it is said: answers over their time warn. */
static void lose(struct life *l, uint32_t partition)
{
    struct w_kv        kv = { .op = { .kind = KL_BUS_KV_GET, .loop = l->w.loop, .done = w_kv_done } };
    struct tsp_lost    lost = { .from_ms = w_now(&l->w) - (int64_t)(draw(l) % (PAST / HOUR)) * HOUR };
    struct tsp_logmark m;
    struct kl_buf      b = { 0 };
    struct kl_err      err;

    kl_env_sim_run(l->w.sim, 5000);                    /* the log has its mark */
    tsp_logmark_key(kv.op.key, sizeof kv.op.key, partition);
    l->w.bus->kv(l->w.bus, &kv.op);
    ck_assert(w_until(&l->w, &kv.done));
    ck_assert(kv.op.code == KL_OK && tsp_logmark_decode(kl_span(kv.op.got, kv.op.got_size), &m, &err) == KL_OK);
    free(kv.op.got);
    lost.to_ms = lost.from_ms + (int64_t)(draw(l) % 3) * HOUR;
    tsp_logmark_turn(&m, m.incarnation, &lost);
    tsp_logmark_encode(&m, &b);
    kv.op.kind = KL_BUS_KV_PUT;
    kv.op.value = kl_buf_span(&b);
    kv.op.expect = UINT64_MAX;
    kv.done = false;
    l->w.bus->kv(l->w.bus, &kv.op);
    ck_assert(w_until(&l->w, &kv.done));
    ck_assert_int_eq(kv.op.code, KL_OK);
    kl_buf_deinit(&b);
    kl_env_sim_run(l->w.sim, 5000);
}

/* ---- queries ---- */

static uint64_t counted(struct life *l, const char *name)
{
    return kl_metrics_add(l->metrics, KL_COUNTER, name, "", "")->bits;
}

static const char *const texts[] = {
    "a_total", "sum by (code) (b)", "rate(a_total[1h])", "sum(increase(c_total[2h]))", "b > 500", "b or a_total",
    "max_over_time(b[3h])", "a_total offset 1h", "c_total / on (host) group_left b", "avg_over_time(b[30m:10m])",
    "topk(2, a_total)", "quantile by (code) (0.7, c_total)", "absent(b{host=\"h1\"})", "count_values(\"v\", b)",
    "rate(b[1h])", "sum_over_time(b[90m]) + b", "stddev_over_time(a_total[4h])", "b @ end()", "b - start()",
    "max_over_time(rate(a_total[1h])[4h:])", "quantile_over_time(0.3, b[2h])", "deriv(b[2h])", "-b offset -20m",
    "double_exponential_smoothing(b[3h], 0.4, 0.4)", "changes(b[5h])", "last_over_time(b[1h])", "timestamp(b)",
    "label_replace(b, \"x\", \"$1\", \"host\", \"(.*)\")", "{code=\"1\"}", "b and a_total", "histogram_quantile(0.9, b)",
    "h", "sum(rate(h[2h]))", "histogram_quantile(0.9, sum by (code) (rate(h_total[1h])))", "g", "sum(h)", "avg(g)",
    "rate(h[90m])", "increase(h_total[3h])", "delta(g[2h])", "sum_over_time(g[2h])", "avg_over_time(h[90m])", "max(h)",
    "histogram_count(h_total)", "histogram_fraction(0, 2, h)", "h + ignoring(code) group_left h_total", "h - g", "h * 2",
    "topk(1, h)", "last_over_time(h[1h])", "max_over_time(h[2h])", "max_over_time(h_total[3h:20m])", "irate(h[2h])",
    "sum_over_time(rate(b[1h])[2h:10m])", "max_over_time(rate(h[1h])[20m:5m])", "quantile_over_time(2, b[1h])",
    "histogram_quantile(1.5, h)", "quantile(scalar(count(b)) / 4, a_total)", "h == h_total", "h > 1", "resets(h[3h])",
    "irate(a_total[2h])", "predict_linear(b[2h], 600)", "sort(b)", "limitk(2, b)", "quantile(2, b)",
};

static void ask(struct life *l, struct qr_querier *q, struct kit_query *a, const char *text, int64_t start_ms,
                int64_t end_ms, int64_t step_ms)
{
    kit_ask(a, q, (struct pql_params){ .text = kl_span_str(text), .start_ms = start_ms, .end_ms = end_ms,
                                       .step_ms = step_ms, .now_ms = w_now(&l->w) });
    ck_assert(w_until(&l->w, &a->released));
    ck_assert(a->answered);
}

/* Where they begin to differ. */
static void differ(struct life *l, struct kit_query *a, struct kit_query *b)
{
    size_t at = 0;

    kl_buf_add8(&a->got, 0);
    kl_buf_add8(&b->got, 0);
    while (at < a->got.size && at < b->got.size && a->got.at[at] == b->got.at[at])
        at++;
    at = at > 60 ? at - 60 : 0;
    ck_abort_msg("seed %" PRIu64 ": %.*s, [%" PRId64 ", %" PRId64 "] by %" PRId64 ", at %zu: with pieces "
                 "...%.200s..., without ...%.200s...", l->seed, (int)a->x.params.text.size,
                 (const char *)a->x.params.text.at, a->x.params.start_ms, a->x.params.end_ms,
                 a->x.params.step_ms, at, a->got.size > at ? (char *)a->got.at + at : "",
                 b->got.size > at ? (char *)b->got.at + at : "");
}

/* How an answer was made is not what it says: one out of pieces tells how these were. */
static void drop_rows_info(struct kit_query *a)
{
    const char *at = memmem(a->got.at, a->got.size, " read rows of ", 14), *line = at;

    if (at == NULL)
        return;
    while (*line != '\n')
        line--;
    a->got.size = (size_t)(line - (const char *)a->got.at);            /* it is the last one said */
}

static bool has(const struct kit_query *a, const char *what)
{
    return memmem(a->got.at, a->got.size, what, strlen(what)) != NULL;
}

static void compare(struct life *l)
{
    static const int64_t sizes[] = { 60000, 300000, 600000, 1800000, 420000, HOUR, 5 * HOUR };
    int64_t      step_ms = sizes[draw(l) % 7], now = w_now(&l->w);
    int64_t      end_ms = now / step_ms * step_ms - (int64_t)(draw(l) % 3) * HOUR / step_ms * step_ms;
    int64_t      hours = 1 + (int64_t)(draw(l) % (step_ms == 60000 ? 6 : step_ms < 420000 ? 30 : PAST / HOUR));
    const char  *text = texts[draw(l) % (draw(l) % 3 == 0 ? 6 : sizeof texts / sizeof *texts)];
    struct kit_query a, b;

    if (draw(l) % 3 == 0) {                            /* a dashboard: the same, a window further */
        text = texts[l->seed % 6];
        step_ms = l->seed % 2 == 0 ? 300000 : 420000;
        hours = l->seed % 4 < 2 ? 12 : 60;             /* with whole days */
        end_ms = now / step_ms * step_ms;
    } else if (draw(l) % 5 == 0)
        end_ms += (int64_t)(draw(l) % (uint64_t)step_ms);
    ask(l, l->forgets, &b, text, end_ms - hours * HOUR, end_ms, step_ms);
    drop_rows_info(&b);
    for (int i = 0; i < 2; i++) {
        uint64_t before = counted(l, "koalemos_querier_results_cache_hits_total");

        ask(l, l->keeps, &a, text, end_ms - hours * HOUR, end_ms, step_ms);
        drop_rows_info(&a);
        if (!kl_span_eq(kl_buf_span(&a.got), kl_buf_span(&b.got)))
            differ(l, &a, &b);
        if (counted(l, "koalemos_querier_results_cache_hits_total") > before) {
            pieced.hists += has(&a, "\"histograms\"");
            pieced.warnings += has(&a, "\nwarning: PromQL");
            pieced.infos += has(&a, "\ninfo: PromQL");
        }
        kl_buf_deinit(&a.got);
    }
    kl_buf_deinit(&b.got);
}

/* ---- a life ---- */

static void begin(struct life *l)
{
    struct dm_options o = kit_doorman(l->w.log, l->w.metrics);
    struct qr_options q = { .log = l->w.log, .results_cache_fresh_ms = 60000, .pushes = l->seed % 4 > 1 };
    struct kl_err     err = { 0 };

    l->d = dm_new(l->w.env, l->w.bus, &o);
    l->forgets = qr_new(l->w.env, l->w.bus, l->w.store, &q);
    q.results_cache_bytes = l->seed % 3 == 0 ? 100000 : 8 << 20;
    q.results_cache_least = l->seed % 5 == 4 ? 100 : 0;
    q.prefetch_max_bytes = l->seed % 3 == 1 ? 0 : l->seed % 3 == 2 ? 1 << 20 : 20000;
    q.metrics = l->metrics = kl_metrics_new();
    l->keeps = qr_new(l->w.env, l->w.bus, l->w.store, &q);
    for (int n = 0; n < 100 && !(dm_ready(l->d, &err) && qr_ready(l->keeps, &err) && qr_ready(l->forgets, &err)); n++)
        kl_env_sim_run(l->w.sim, 100);
    ck_assert_msg(dm_ready(l->d, &err) && qr_ready(l->keeps, &err), "%s", err.text);
}

static void live(uint64_t seed)
{
    struct life *l = kl_new(sizeof *l);

    l->seed = seed;
    l->draws = seed * 9000011;
    w_init(&l->w, seed, PARTITIONS);
    l->w.window_ms = 2 * HOUR;
    l->w.compacts = seed % 2 == 0;
    l->w.rollup_ms[0] = l->w.rollup_ms[1] = seed % 8 == 4 ? 1000 * (int64_t)HOUR : 0;
    l->w.retention_ms = seed % 6 == 2 ? 20 * (int64_t)HOUR : 0;    /* with merges; and where some series go before others */
    l->w.retention_rules = seed % 6 == 4 ? "[{\"match\":\"{code='1'}\",\"keep\":\"10h\"}]" : NULL;
    l->w.orphans_ms = 0;
    l->w.spill_least_bytes = 1;
    w_start(&l->w);
    w_ready(&l->w);
    begin(l);
    for (unsigned i = 0; i < 60; i++)
        push(l, 40, PAST);
    push_hists(l, 400, PAST);
    if (seed % 4 == 1)                                 /* before anything is kept: what holds is younger */
        lose(l, (uint32_t)(seed / 4 % PARTITIONS));
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned what = (unsigned)(draw(l) % 20);

        if (what < 6) {
            push(l, 1 + (unsigned)(draw(l) % 10), 60000);
        } else if (what == 6) {
            push(l, 1 + (unsigned)(draw(l) % 3), PAST);
        } else if (what == 7) {
            kit_flush(l->w.ing, l->w.loop);
        } else if (what < 13 && what > 8) {
            push_hists(l, 1 + (unsigned)(draw(l) % 4), what == 9 ? PAST : 60000);
        }
        if (what == 8)
            delete(l);
        if (draw(l) % 4 == 0)
            kl_env_sim_run(l->w.sim, (int64_t)(draw(l) % 600000));
        for (int i = 0; i < 3; i++)
            compare(l);
    }
    hits += counted(l, "koalemos_querier_results_cache_hits_total");
    steps += counted(l, "koalemos_querier_results_cache_steps_total");
    ahead += counted(l, "koalemos_querier_prefetch_used_bytes_total");
    kl_env_sim_run(l->w.sim, 120000);                  /* nothing is being read ahead any more */
    qr_free(l->keeps);
    qr_free(l->forgets);
    kl_metrics_free(l->metrics);
    dm_free(l->d);
    w_stop(&l->w);
    tsp_record_writer_free(l->w.writer);
    free(l);
}

START_TEST(answers_out_of_pieces_are_those_of_a_whole_evaluation)
{
    if (!kit_lives(_i, AT_ONCE, LIVES, live))
        return;
    ck_assert_msg(hits * 4 > steps, "%" PRIu64 " of %" PRIu64 " steps were not evaluated again", hits, steps);
    ck_assert_msg(ahead > 0, "nothing that was read ahead was used");
    ck_assert_msg(pieced.hists > 20 && pieced.warnings > 20 && pieced.infos > 20,
                  "answers out of pieces: %" PRIu64 " with histograms, %" PRIu64 " with warnings, %" PRIu64
                  " with infos", pieced.hists, pieced.warnings, pieced.infos);
}
END_TEST

const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }

int main(void)
{
    TCase *t = tcase_create("lives");

    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, answers_out_of_pieces_are_those_of_a_whole_evaluation, 0, LIVES / AT_ONCE);
    return kit_run("reuse", t);
}
