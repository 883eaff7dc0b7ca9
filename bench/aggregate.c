/*
 * How long an ingestor takes for an aggregate that a querier has pushed down to it, by how many workers it has: the local bus
 * and a real ingestor in this process, all series in one partition, all samples in memory.
 *
 *   aggregate FOLDER [SERIES [SAMPLES [ROUNDS]]]      50,000 series of 40 samples, 15 s apart; 15 rounds
 *
 * FOLDER is filled with a log and emptied by nobody. What is told: for each query and number of workers the median and the
 * least time from the question to its answer, and CPU of the process for one. The answers must be the same bytes.
 */
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ingestor/ingestor.h"
#include "libpromql/pql.h"
#include "libtsproto/placement.h"
#include "libtsproto/record.h"
#include "libtsproto/select.h"

enum { STEP = 15000, ROUNDS_MAX = 1000, QUERIES = 4, PER_RECORD = 2000, LOOKBACK = 300000 };

static const char T[] = "anonymous", METRIC[] = "node_cpu_seconds_total";
static const struct { const char *what, *text; uint32_t steps; } queries[QUERIES] = {
    { "sum by (mode) (rate([5m])), instant", "sum by (mode) (rate(node_cpu_seconds_total[5m]))", 1 },
    { "the same, 5 min by 15 s", "sum by (mode) (rate(node_cpu_seconds_total[5m]))", 20 },
    { "sum by (instance) (rate([5m])), 5 min by 15 s", "sum by (instance) (rate(node_cpu_seconds_total[5m]))", 20 },
    { "count, instant", "count(node_cpu_seconds_total)", 1 },
};

struct world {
    struct kl_env      *env;
    struct kl_env_loop *loop;
    struct kl_bus      *bus;
    struct kl_env_dir  *root, *bus_dir, *data_dir, *store_dir;
    struct kl_store    *store;
    struct kl_metrics  *metrics;
    struct ing_ingestor *ing;
};

static void must(bool fine, const char *what, const struct kl_err *err)
{
    if (fine)
        return;
    fprintf(stderr, "%s: %s\n", what, err->text);
    exit(1);
}

static double seconds(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- operations, one at a time ---- */

struct wait { struct kl_env_task task; _Atomic bool done; struct world *w; };
struct ask { struct wait wait; struct kl_bus_ask op; };
struct append { struct wait wait; struct kl_bus_append op; };
struct kv { struct wait wait; struct kl_bus_kv op; };

static void asked(struct kl_bus_ask *op) { atomic_store(&kl_container_of(op, struct ask, op)->wait.done, true); }
static void appended(struct kl_bus_append *op) { atomic_store(&kl_container_of(op, struct append, op)->wait.done, true); }
static void put(struct kl_bus_kv *op) { atomic_store(&kl_container_of(op, struct kv, op)->wait.done, true); }

static void run_ask(struct kl_env_task *t)
{
    struct ask *a = kl_container_of(kl_container_of(t, struct wait, task), struct ask, wait);

    a->wait.w->bus->ask(a->wait.w->bus, &a->op);
}

static void run_append(struct kl_env_task *t)
{
    struct append *a = kl_container_of(kl_container_of(t, struct wait, task), struct append, wait);

    a->wait.w->bus->append(a->wait.w->bus, &a->op);
}

static void run_put(struct kl_env_task *t)
{
    struct kv *a = kl_container_of(kl_container_of(t, struct wait, task), struct kv, wait);

    a->wait.w->bus->kv(a->wait.w->bus, &a->op);
}

static void await(struct world *w, struct wait *x, void (*run)(struct kl_env_task *t))
{
    struct timespec nap = { .tv_nsec = 20000 };

    x->w = w;
    x->task.run = run;
    w->env->sched->post(w->loop, &x->task);
    while (!atomic_load(&x->done))
        nanosleep(&nap, NULL);
}

/* ---- the world ---- */

static struct kl_env_dir *enter(struct world *w, const char *name)
{
    struct kl_env_dir *d;
    struct kl_err      err = { 0 };

    must(w->root->enter(w->root, name, true, &d, &err) == KL_OK, name, &err);
    return d;
}

static void place(struct world *w)
{
    struct tsp_placement *t = tsp_placement_new(1);
    const char           *owner = "a";
    struct kl_buf         b = { 0 };
    struct kl_err         err = { 0 };
    struct kv             kv = { .op = { .kind = KL_BUS_KV_PUT, .key = TSP_PLACEMENT_KEY, .expect = UINT64_MAX,
                                         .loop = w->loop, .done = put } };

    tsp_placement_assign(t, 0, &owner, 1, &err);
    tsp_placement_set_revision(t, 1);
    must(tsp_placement_encode(t, &b, &err) == KL_OK, "placement", &err);
    tsp_placement_free(t);
    kv.op.value = kl_buf_span(&b);
    await(w, &kv.wait, run_put);
    must(kv.op.code == KL_OK, "placement", &kv.op.err);
    kl_buf_deinit(&b);
}

static void open_world(struct world *w, const char *folder, unsigned workers)
{
    struct kl_bus_local_options o = { .partitions = 1, .fsync_ms = 1000 };
    struct ing_options          i = { .name = "a", .loops = 1, .partitions = 1, .window_ms = 7200000, .cut_delay_ms = 600000,
                                      .pushdown_max = 4, .pushdown_memory_max_bytes = 1 << 30 };
    struct kl_err               err = { 0 };
    char                        name[32];

    *w = (struct world){ .env = kl_env_real_new(workers), .metrics = kl_metrics_new() };
    w->loop = w->env->sched->loop_new(w->env->sched, "bench", 1000);
    must(kl_env_dir_real_open(folder, true, &w->root, &err) == KL_OK, folder, &err);
    snprintf(name, sizeof name, "bus-%u", workers);
    w->bus_dir = enter(w, name);
    snprintf(name, sizeof name, "data-%u", workers);
    w->data_dir = enter(w, name);
    w->store_dir = enter(w, "store");
    w->store = kl_store_dir_new(w->store_dir);
    must(kl_bus_local_open(w->env, w->bus_dir, &o, &w->bus, &err) == KL_OK, "bus", &err);
    place(w);
    i.metrics = w->metrics;
    w->ing = ing_new(w->env, w->bus, w->data_dir, w->store, &i);
    for (int n = 0; n < 1000 && !ing_ready(w->ing, &err); n++)
        nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
    must(ing_ready(w->ing, &err), "ingestor", &err);
}

static void close_world(struct world *w)
{
    w->bus->close(w->bus);
    ing_free(w->ing);
    w->env->sched->loop_free(w->loop);
    w->bus->free(w->bus);
    w->store->close(w->store);
}

/* ---- what is in it ---- */

static struct kl_fp labels_of(uint32_t n, struct kl_buf *out)
{
    static const char *const modes[] = { "idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user" };
    static struct kl_labels_builder b;
    struct kl_err err;
    char          instance[40], cpu[16];

    kl_buf_reset(out);
    snprintf(instance, sizeof instance, "node-%04" PRIu32 ".example.net:9100", n / 64);
    snprintf(cpu, sizeof cpu, "%" PRIu32, n / 8 % 8);
    kl_labels_start(&b);
    kl_labels_add(&b, kl_span_str("__name__"), kl_span_str(METRIC), &err);
    kl_labels_add(&b, kl_span_str("cpu"), kl_span_str(cpu), &err);
    kl_labels_add(&b, kl_span_str("instance"), kl_span_str(instance), &err);
    kl_labels_add(&b, kl_span_str("job"), kl_span_str("node"), &err);
    kl_labels_add(&b, kl_span_str("mode"), kl_span_str(modes[n % 8]), &err);
    must(kl_labels_finish(&b, out, &err) == KL_OK, "labels", &err);
    return kl_labels_fp((struct kl_labels){ (const uint8_t *)out->at, out->size });
}

static void send(struct world *w, struct tsp_record_writer *writer, uint64_t counter)
{
    struct tsp_incarnation who = { .bytes = { 7 } };
    struct kl_buf          bytes = { 0 };
    struct kl_err          err = { 0 };
    struct append          a = { .op = { .loop = w->loop, .done = appended } };

    must(tsp_record_finish(writer, who, counter, &bytes, &err) == KL_OK, "record", &err);
    tsp_record_start(writer);
    a.op.record = kl_buf_span(&bytes);
    await(w, &a.wait, run_append);
    must(a.op.code == KL_OK, "append", &a.op.err);
    kl_buf_deinit(&bytes);
}

static void fill(struct world *w, uint32_t series, uint32_t samples, int64_t last)
{
    struct tsp_record_writer *writer = tsp_record_writer_new();
    struct kl_buf             labels = { 0 };
    uint64_t                  counter = 0;

    tsp_record_start(writer);
    for (uint32_t k = 0; k < samples; k++) {
        int64_t at = last - (int64_t)(samples - 1 - k) * STEP;

        for (uint32_t n = 0; n < series; n++) {
            double v = (double)n + k * (1.0 + n % 13 / 8.0);

            if (k == 0) {
                struct kl_fp fp = labels_of(n, &labels);

                tsp_record_define(writer, kl_span_str(T), n + 1, fp,
                                  (struct kl_labels){ (const uint8_t *)labels.at, labels.size });
            }
            tsp_record_floats(writer, kl_span_str(T), n + 1, &at, &v, 1);
            if (n % PER_RECORD == PER_RECORD - 1 || n == series - 1)
                send(w, writer, ++counter);
        }
    }
    tsp_record_writer_free(writer);
    kl_buf_deinit(&labels);
}

/* ---- questions ---- */

static void question(const char *text, int64_t end_ms, uint32_t steps, struct kl_buf *out)
{
    struct pql_params      p = { .text = kl_span_str(text), .instant = steps == 1, .start_ms = end_ms - (int64_t)(steps - 1) * STEP,
                                 .end_ms = end_ms, .step_ms = STEP, .lookback_ms = LOOKBACK };
    struct pql_failure     failure = { .text = "" };
    struct pql_query      *q = pql_new(&p, &failure);
    const struct pql_need *need;
    struct tsp_select      s = { .what = TSP_SEL_PARTIAL, .tenant = kl_span_str(T), .consistency = TSP_READ_STRONG,
                                 .timeout_ms = 60000 };
    struct kl_err          err = { .text = "it is not to be pushed" };

    must(q != NULL && pql_step(q) == PQL_NEED && pql_needs(q, &need) == 1 && need->push != NULL, text, &err);
    s.from_ms = need->from_ms;
    s.to_ms = need->to_ms;
    s.matcher_count = need->matcher_count;
    memcpy(s.matchers, need->matchers, need->matcher_count * sizeof *need->matchers);
    s.push = (struct tsp_push){ .version = TSP_PUSH_VERSION, .text = need->push->text, .start_ms = need->push->start_ms,
                                .step_ms = need->push->step_ms, .steps = need->push->steps, .lookback_ms = LOOKBACK,
                                .samples_max = 1000000000, .partitions = 1 };
    must(tsp_select_encode(&s, out, &err) == KL_OK, text, &err);
    pql_free(q);
}

static int by_value(const void *a, const void *b)
{
    return *(const double *)a < *(const double *)b ? -1 : *(const double *)a > *(const double *)b;
}

/* The hash of the answer, without its head. */
static uint64_t measure(struct world *w, unsigned workers, unsigned q, int64_t last, int rounds)
{
    static double took[ROUNDS_MAX];
    struct kl_buf bytes = { 0 };
    double        cpu_s = seconds(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t      hash = 0;
    size_t        size = 0;

    question(queries[q].text, last, queries[q].steps, &bytes);
    for (int r = 0; r < rounds; r++) {
        struct ask a = { .op = { .question = kl_buf_span(&bytes), .timeout_ms = 60000, .loop = w->loop, .done = asked } };
        double     begun_s = seconds(CLOCK_MONOTONIC);

        tsp_select_subject(a.op.subject, sizeof a.op.subject, 0);
        await(w, &a.wait, run_ask);
        took[r] = seconds(CLOCK_MONOTONIC) - begun_s;
        must(a.op.code == KL_OK, queries[q].what, &a.op.err);
        size = a.op.answer_size;
        hash = kl_hash64((char *)a.op.answer + TSP_PAGE_HEAD_SIZE, size - TSP_PAGE_HEAD_SIZE);
        free(a.op.answer);
    }
    cpu_s = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_s;
    qsort(took, (size_t)rounds, sizeof *took, by_value);
    printf("%-48s %u worker%s: median %7.1f ms, least %7.1f, CPU %7.1f ms; %zu bytes\n", queries[q].what, workers,
           workers == 1 ? " " : "s", took[rounds / 2] * 1e3, took[0] * 1e3, cpu_s / rounds * 1e3, size);
    fflush(stdout);
    kl_buf_deinit(&bytes);
    return hash;
}

int main(int argc, char **argv)
{
    uint32_t     series = argc > 2 ? (uint32_t)atoi(argv[2]) : 50000, samples = argc > 3 ? (uint32_t)atoi(argv[3]) : 40;
    int          rounds = argc > 4 ? atoi(argv[4]) : 15;
    uint64_t     hashes[2][QUERIES];
    struct world w[2];
    int64_t      last;

    if (argc < 2 || series == 0 || samples == 0 || rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: aggregate FOLDER [SERIES [SAMPLES [ROUNDS]]]\n");
        return 2;
    }
    for (unsigned k = 0; k < 2; k++) {
        open_world(&w[k], argv[1], k + 1);
        if (k == 0)
            last = kl_env_now_ms(w[k].env) / STEP * STEP;
        fill(&w[k], series, samples, last);
    }
    for (unsigned q = 0; q < QUERIES; q++)
        for (unsigned k = 0; k < 2; k++) {
            measure(&w[k], k + 1, q, last, 1);         /* warm */
            hashes[k][q] = measure(&w[k], k + 1, q, last, rounds);
        }
    for (unsigned k = 0; k < 2; k++)
        close_world(&w[k]);
    if (memcmp(hashes[0], hashes[1], sizeof hashes[0]) != 0) {
        fprintf(stderr, "the answers differ\n");
        return 1;
    }
    return 0;
}
