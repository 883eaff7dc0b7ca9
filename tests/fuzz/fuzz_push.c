/*
 * Any bytes as a push, of every format, through a whole gate: it must answer, and every record that
 * it makes must be one that a reader takes, with labels that are canonical. The first byte chooses the
 * format. Each push comes twice: the second time its series are remembered.
 */
#include "doorman/doorman.h"
#include "libtsproto/placement.h"
#include "libtsproto/record.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct world {
    struct kl_bus  bus;
    struct kl_buf  placement;
    struct kl_bus_watch *watch;
    struct kl_env_task   watched;
    struct tsp_record_reader *reader;
    uint64_t seq, samples;
    unsigned answered, status;
};
static struct world *world;                            /* the one of this call */

static void show(struct kl_env_task *t)
{
    (void)t;
    world->watch->change(world->watch, TSP_PLACEMENT_KEY, kl_buf_span(&world->placement), 1);
}

/* Nothing is ever seen of other keys than the placement table. */
static void watch(struct kl_bus *b, struct kl_bus_watch *w)
{
    if (strcmp(w->prefix, TSP_PLACEMENT_KEY) != 0)
        return;
    world->watch = w;
    world->watched.run = show;
    b->env->sched->post(w->loop, &world->watched);
}

static void unwatch(struct kl_bus *b, struct kl_bus_watch *w) { (void)b, (void)w; }

static void finish(struct kl_env_task *t)
{
    struct kl_bus_append *op = kl_container_of(t, struct kl_bus_append, task);

    op->done(op);
}

static void define(void *ctx, struct kl_span tenant, uint64_t ref, struct kl_fp fp, struct kl_labels l)
{
    struct kl_err err;

    (void)ctx, (void)tenant, (void)ref;
    if (kl_labels_check(l, &err) != KL_OK || kl_fp_cmp(fp, kl_labels_fp(l)) != 0 ||
        kl_labels_get(l, kl_span_str("__name__")).size == 0)
        abort();
}

static void floats(void *ctx, struct kl_span tenant, uint64_t ref, const int64_t *times,
                   const double *values, size_t n)
{
    (void)ctx, (void)tenant, (void)ref, (void)times, (void)values;
    world->samples += n;
}

static void append(struct kl_bus *b, struct kl_bus_append *op)
{
    static const struct tsp_record_sink sink = { .define = define, .floats = floats };
    struct kl_err err;

    if (op->record.size > KL_BUS_MESSAGE_MAX ||
        tsp_record_read(world->reader, op->record, &sink, NULL, &err) != KL_OK)
        abort();
    op->code = KL_OK;
    op->seq = ++world->seq;
    op->incarnation = 1;
    op->duplicate = false;
    op->task.run = finish;
    b->env->sched->post(op->loop, &op->task);
}

static void done(struct dm_push *p)
{
    world->answered++;
    world->status = p->status;
    if ((p->status != 204 && p->status != 400) || (p->status == 400) != (p->refused > 0) ||
        !kl_utf8_ok(kl_span_str(p->text)))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_env_sim *sim = kl_env_sim_new(1);
    struct world       w = { .bus = { .append = append, .watch = watch, .unwatch = unwatch,
                                      .env = kl_env_sim_env(sim) } };
    struct dm_options  o = { .limits = { .past_ms = 86400000, .future_ms = 600000 } };
    struct tsp_placement *table = tsp_placement_new(4);
    struct tsp_csv_format *csv;
    struct dm_doorman *d;
    struct kl_err      err;

    world = &w;
    w.reader = tsp_record_reader_new();
    if (tsp_placement_encode(table, &w.placement, &err) != KL_OK)
        abort();
    tsp_placement_free(table);
    if (tsp_csv_format_parse("1:metric:a,2:metric:b,3:label:c", &csv, &err) != KL_OK)
        abort();
    d = dm_new(w.bus.env, &w.bus, &o);
    kl_env_sim_run(sim, 1);
    for (unsigned i = 0; i < 2 && size > 0; i++) {
        struct dm_push p = { .format = (enum dm_format)(data[0] % DM_FORMATS), .tenant = "t",
                             .import = { .db = kl_span_str("d"), .csv = csv },
                             .body_size = size - 1, .body = malloc(size), .done = done,
                             .now_ms = kl_env_now_ms(w.bus.env) };
        memcpy(p.body, data + 1, size - 1);
        w.samples = 0;
        dm_push(d, 0, &p);
        kl_env_sim_run(sim, 1);
        if (w.answered != i + 1 || p.samples_stored != w.samples)
            abort();
    }
    dm_free(d);
    tsp_csv_format_free(csv);
    tsp_record_reader_free(w.reader);
    kl_buf_deinit(&w.placement);
    kl_env_sim_free(sim);
    return 0;
}
