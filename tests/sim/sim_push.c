/*
 * Aggregates made by ingestors are those of a querier that asks for the series, bit for bit, with the same
 * warnings, infos and statistics, in the same order: made-up samples, in order, late and odd, of series that are dense,
 * sparse and ended, native histograms among them; metrics that are spread over more partitions meanwhile; flushes; each
 * second made-up queries, each put to both. Replayable: SEED=n runs one life alone; KOA_SIM_SEEDS=500 runs as many,
 * from seed KOA_SIM_FROM on; KOA_TELL=1 tells each query.
 */
#include "../unit/ingestor/world.h"

#include <errno.h>

#include "libtsproto/layout.h"
#include "tests/sim/made_up.h"

enum { LIVES = 12, AT_ONCE = 3, PARTITIONS = 8, SECONDS = 120, METRICS = 8, HOSTS = 24 };
/* a counter, a gauge, small whole numbers, what is odd, what comes once a minute, what ends and comes back, native
 * histograms and floats in one, histograms alone */
enum { COUNTER, GAUGE, SMALL, ODD, SPARSE, STALE, MIXED, HISTS };

struct life {
    struct world  w;
    uint64_t      seed, draws;
    struct dm_doorman *d;
    struct kl_metrics *metrics;                        /* of the one that pushes */
    struct qr_querier *pushes, *fetches;
    struct tsp_layout *layout;
    uint8_t       spread[METRICS];
    unsigned      second;
};

static const char *const names[METRICS] = { "a_total", "b", "c_total", "d", "sparse", "stale", "mixed", "hists" };
static uint64_t asked, refused, answers, failures, notes;              /* of all lives */

static uint64_t draw(struct life *l) { return kit_draw(&l->draws); }

static void value(struct life *l, unsigned metric, struct kl_buf *body)
{
    static const char *const odd[] = { "null", "\"Infinity\"", "\"-Infinity\"", "-0", "0", "1e308", "-1.7e308", "5e-324",
                                       "\"NaN(0x7ff800000000beef)\"", "\"StaleNaN\"" };

    if (metric == ODD && draw(l) % 12 == 0)
        kl_buf_adds(body, odd[draw(l) % 10]);
    else if (metric == STALE && draw(l) % 4 == 0)
        kl_buf_adds(body, "\"StaleNaN\"");
    else if (metric == COUNTER)
        kl_buf_addf(body, "%.17g", (double)((w_now(&l->w) / 1000 * 7 + (int64_t)(draw(l) % 40)) % 997));
    else if (metric == SMALL)
        kl_buf_addf(body, "%" PRIu64, draw(l) % 10);
    else
        kl_buf_addf(body, "%.17g", (double)(int64_t)draw(l) / 1e12);
}

static void histogram(struct life *l, struct kl_buf *body, int64_t at)
{
    uint64_t n = draw(l) % 9 + (uint64_t)(at / 1000 % 500);

    kl_buf_addf(body, "\"histograms\":[{\"timestamp\":\"%" PRId64 "\",\"countInt\":\"%" PRIu64 "\",\"sum\":%.17g,\"schema\":%d,"
                "\"positiveSpans\":[{\"offset\":%d,\"length\":1}],\"positiveDeltas\":[\"%" PRIu64 "\"]%s}]", at, n,
                (double)n * 1.7, 1 + (int)(draw(l) % 2), (int)(draw(l) % 3), n,
                draw(l) % 3 == 0 ? ",\"resetHint\":\"GAUGE\"" : "");
}

static void push(struct life *l, unsigned count, int64_t back_ms)
{
    struct kit_push *s = kl_new(sizeof *s);
    struct kl_buf    body = { 0 };

    for (unsigned i = 0; i < count; i++) {
        unsigned n = (unsigned)(draw(l) % (METRICS * HOSTS)), metric = n % METRICS;
        int64_t  t = (w_now(&l->w) - (back_ms > 0 ? (int64_t)(draw(l) % (uint64_t)back_ms) : 0)) / 100 * 100;

        if ((metric == SPARSE && draw(l) % 8 > 0) || (metric >= MIXED && draw(l) % 3 > 0))
            continue;
        kl_buf_addf(&body, "{\"metric\":{\"__name__\":\"%s\",\"host\":\"h%u\",\"code\":\"%u\"},", names[metric],
                    n / METRICS, n / METRICS % 5);
        if (metric == HISTS || (metric == MIXED && draw(l) % 2 == 0)) {
            histogram(l, &body, t);
        } else {
            kl_buf_adds(&body, "\"values\":[");
            value(l, metric, &body);
            kl_buf_addf(&body, "],\"timestamps\":[%" PRId64 "]", t);
        }
        kl_buf_adds(&body, "}\n");
    }
    kit_push_as(s, l->d, 0, DM_JSONL, body, (struct kl_fp){ 0 }, w_now(&l->w));
    ck_assert(w_until(&l->w, &s->done));
    ck_assert_msg(s->p.status == 204 || s->p.status == 200, "%u: %s", s->p.status, s->p.text);
    free(s);                                           /* the body was given away */
}

/* A metric is spread over twice or four times the partitions, from a moment soon. */
static void spread(struct life *l)
{
    unsigned          metric = (unsigned)(draw(l) % METRICS);
    struct tsp_spread s = { .tenant = kl_span_str("anonymous"), .metric = kl_span_str(names[metric]),
                            .spread = (uint8_t)(l->spread[metric] + 1 + draw(l) % 2),
                            .valid_from_ms = w_now(&l->w) + (int64_t)(draw(l) % 8000) };
    uint32_t          number = tsp_spread_number(s.tenant, s.metric);
    struct w_kv       kv = { .op = { .kind = KL_BUS_KV_PUT, .loop = l->w.loop, .done = w_kv_done } };
    struct kl_buf     value = { 0 };
    struct kl_err     err;
    size_t            added;

    if (s.spread > 3)
        return;
    ck_assert_int_eq(tsp_layout_add(l->layout, number, &s, 1, &value, &added, &kv.op.expect, &err), KL_OK);
    ck_assert_uint_eq(added, 1);
    tsp_spread_key(number, kv.op.key, sizeof kv.op.key);
    kv.op.value = kl_buf_span(&value);
    l->w.bus->kv(l->w.bus, &kv.op);
    ck_assert(w_until(&l->w, &kv.done));
    ck_assert_msg(kv.op.code == KL_OK, "%s", kv.op.err.text);
    tsp_layout_see(l->layout, kv.op.key, kl_buf_span(&value), kv.op.revision, &err);
    l->spread[metric] = s.spread;
    kl_buf_deinit(&value);
}

/* ---- queries ---- */

static void answer(struct qr_query *x)
{
    struct kit_query        *a = kl_container_of(x, struct kit_query, x);
    const struct pql_result *r = x->result;

    kit_answer(x);
    for (size_t i = 0; r != NULL && i < r->series_count; i++)
        for (uint32_t k = 0; k < r->series[i].count; k++)
            kl_buf_addf(&a->got, " %016" PRIx64, kl_f64_bits(r->series[i].points[k].value));
    if (r != NULL)
        kl_buf_addf(&a->got, "\npeak %" PRIu64 " total %" PRIu64 " read %" PRIu64, r->samples_peak,
                    r->samples_total, r->samples_read);
    for (uint32_t i = 0; r != NULL && i < r->step_count; i++)
        kl_buf_addf(&a->got, " %" PRIu64 ":%" PRIu64, r->samples_per_step[i], r->reads_per_step[i]);
}

static void ask(struct life *l, struct qr_querier *q, struct kit_query *a, struct pql_params p)
{
    memset(a, 0, sizeof *a);
    qr_query_init(&a->x);
    a->x.answer = answer;
    a->x.job.release = kit_release;
    a->x.job.partial = a->x.job.strong = true;
    strcpy(a->x.job.tenant, "anonymous");
    a->x.params = p;
    qr_submit(q, &a->x.job);
    ck_assert(w_until(&l->w, &a->released));
    ck_assert(a->answered);
}

/* How to see it again. */
static void differ(struct life *l, const char *text, const struct pql_params *p, struct kit_query *pushed,
                   struct kit_query *fetched)
{
    size_t at = 0;

    kl_buf_add8(&fetched->got, 0);
    kl_buf_add8(&pushed->got, 0);
    while (at < pushed->got.size && at < fetched->got.size && pushed->got.at[at] == fetched->got.at[at])
        at++;
    at = at > 60 ? at - 60 : 0;
    ck_abort_msg("%s, [%" PRId64 ", %" PRId64 "] by %" PRId64 "%s: pushed ...%.300s\nfetched ...%.300s\n(second %u of a life "
                 "that SEED=%" PRIu64 " %s lives again)", text, p->start_ms, p->end_ms, p->step_ms, p->tally ? ", counted" : "",
                 pushed->got.size > at ? pushed->got.at + at : "", fetched->got.size > at ? fetched->got.at + at : "",
                 l->second, l->seed, program_invocation_name);
}

static bool has(const struct kit_query *a, const char *what)
{
    return memmem(a->got.at, a->got.size, what, strlen(what)) != NULL;
}

static void compare(struct life *l)
{
    struct kl_buf     t = { 0 };
    struct kit_query  a, b;
    int64_t           end = w_now(&l->w) - (int64_t)(draw(l) % 3) * 500;
    struct made_up    m = { .draws = &l->draws, .names = names, .name_count = METRICS - (draw(l) % 3 > 0) * 2,
                            .now_ms = w_now(&l->w), .out = &t };
    struct pql_params p = { .start_ms = end - (int64_t)(draw(l) % 120) * 1000, .end_ms = end,
                            .step_ms = 1000 * (1 + (int64_t)(draw(l) % 20)), .now_ms = w_now(&l->w),
                            .instant = draw(l) % 2 == 0, .tally = draw(l) % 2 == 0,
                            .lookback_ms = draw(l) % 4 == 0 ? 1 + (int64_t)(draw(l) % 60000) : 0 };

    mu_query(&m);
    if (getenv("KOA_TELL") != NULL)
        printf("%u: %s\n", l->second, t.at);
    p.text = kl_span_str(t.at);
    p.samples_per_step = p.tally && draw(l) % 2 == 0;
    if (p.instant)
        p.start_ms = p.end_ms;
    ask(l, l->fetches, &a, p);
    ask(l, l->pushes, &b, p);
    if (!kl_span_eq(kl_buf_span(&a.got), kl_buf_span(&b.got)))
        differ(l, t.at, &p, &b, &a);
    answers++;
    failures += has(&a, "failed, ");
    notes += has(&a, "\nwarning: ") || has(&a, "\ninfo: ");
    kl_buf_deinit(&a.got);
    kl_buf_deinit(&b.got);
    kl_buf_deinit(&t);
}

/* ---- a life ---- */

static uint64_t counted(struct life *l, const char *name)
{
    return kl_metrics_add(l->metrics, KL_COUNTER, name, "", "")->bits;
}

static void live(uint64_t seed)
{
    struct life      *l = kl_new(sizeof *l);
    struct dm_options o;
    struct qr_options q = { 0 };
    struct kl_err     err = { 0 };

    l->seed = seed;
    l->draws = seed * 9000011 + 7;
    w_init(&l->w, seed, PARTITIONS);
    l->w.window_ms = 7200000;
    l->w.spill_least_bytes = 1;
    l->w.snapshot_ms = seed % 3 == 0 ? 20000 : 0;
    w_start(&l->w);
    w_ready(&l->w);
    l->layout = tsp_layout_new();
    o = kit_doorman(l->w.log, l->w.metrics);
    l->d = dm_new(l->w.env, l->w.bus, &o);
    q.log = l->w.log;
    l->fetches = qr_new(l->w.env, l->w.bus, l->w.store, &q);
    q.pushes = true;
    q.metrics = l->metrics = kl_metrics_new();
    l->pushes = qr_new(l->w.env, l->w.bus, l->w.store, &q);
    for (int n = 0; n < 100 && !(dm_ready(l->d, &err) && qr_ready(l->pushes, &err) && qr_ready(l->fetches, &err)); n++)
        kl_env_sim_run(l->w.sim, 100);
    ck_assert_msg(dm_ready(l->d, &err) && qr_ready(l->pushes, &err), "%s", err.text);
    for (unsigned i = 0; i < 10; i++)
        push(l, 200, 200000);
    for (l->second = 0; l->second < SECONDS; l->second++) {
        push(l, 5 + (unsigned)(draw(l) % 40), draw(l) % 10 == 0 ? 60000 : 1000);
        if (draw(l) % 40 == 0)
            spread(l);
        if (draw(l) % 150 == 0)
            kit_flush(l->w.ing, l->w.loop);
        kl_env_sim_run(l->w.sim, 1000);
        compare(l);
        compare(l);
    }
    asked += counted(l, "koalemos_querier_pushdowns_total");
    refused += counted(l, "koalemos_querier_pushdowns_refused_total");
    qr_free(l->pushes);
    qr_free(l->fetches);
    kl_metrics_free(l->metrics);
    dm_free(l->d);
    tsp_layout_free(l->layout);
    w_stop(&l->w);
    tsp_record_writer_free(l->w.writer);
    free(l);
}

static unsigned lives(void)
{
    const char *text = getenv("KOA_SIM_SEEDS");

    return text == NULL ? LIVES : (unsigned)strtoul(text, NULL, 10);
}

START_TEST(each_second_across_spreads_an_aggregate_pushed_down_is_the_one_of_its_series)
{
    uint64_t made;

    if (!kit_lives(_i, AT_ONCE, lives(), live))
        return;
    made = asked - refused;
    if (getenv("KOA_TELL") != NULL)
        printf("%" PRIu64 " queries, %" PRIu64 " of them failed, %" PRIu64 " with warnings or infos; %" PRIu64
               " aggregates asked for, %" PRIu64 " of them refused\n", answers, failures, notes, asked, refused);
    ck_assert_msg(made > 100 && refused > 0 && failures * 5 < answers && notes > 20, "%" PRIu64 " queries, %" PRIu64
                  " failed, %" PRIu64 " with notes; %" PRIu64 " pushed, %" PRIu64 " of them refused", answers, failures,
                  notes, asked, refused);
}
END_TEST

const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }

int main(void)
{
    TCase *t = tcase_create("lives");

    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, each_second_across_spreads_an_aggregate_pushed_down_is_the_one_of_its_series, 0,
                        (int)((lives() + AT_ONCE - 1) / AT_ONCE));
    return kit_run("push", t);
}
