#ifndef WORLD_H
#define WORLD_H
/*
 * Doormen on one simulated machine: virtual time, the local log, a configuration as YAML. A reader of
 * the log says what really arrived, series by series.
 */
#include "doorman/bootstrap.h"
#include "doorman/doorman.h"
#include "doorman/options.h"
#include "libkoal/app/app.h"
#include "libtsproto/record.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORLD_PARTITIONS = 2, WORLD_DOORMEN = 2, WORLD_SEEN_MAX = 4096 };

/* The options there are, with defaults that a test reaches. */
static const struct { const char *path, *fallback; } world_defaults[] = {
    { "doorman.linger", "0" },          { "doorman.inflight_bytes_max", "16MiB" },
    { "doorman.partition_inflight_bytes_max", "16MiB" }, { "doorman.append_timeout", "1s" },
    { "limits.label_count_max", "10" }, { "limits.name_bytes_max", "50" },
    { "limits.value_bytes_max", "50" }, { "limits.body_bytes_max", "1MiB" },
    { "limits.inflated_bytes_max", "1MiB" }, { "limits.past", "1h" },
};
static struct kl_option world_table[500];

static void world_options(void)
{
    size_t n = 0;

    for (; kl_app_options[n].path != NULL; n++) {
        ck_assert_uint_lt(n + 1, sizeof world_table / sizeof world_table[0]);
        world_table[n] = kl_app_options[n];
        for (size_t i = 0; i < sizeof world_defaults / sizeof world_defaults[0]; i++)
            if (strcmp(world_table[n].path, world_defaults[i].path) == 0)
                world_table[n].fallback = world_defaults[i].fallback;
    }
    world_table[n] = (struct kl_option){ 0 };
}

struct world {
    struct kl_env_sim      *sim;
    struct kl_env          *env;
    struct kl_env_disk_sim *disk;
    struct kl_env_dir      *root;
    struct kl_bus          *bus;
    struct kl_metrics      *metrics;
    struct kl_config       *config;
    struct kl_env_live     *live;                      /* NULL unless world_lives */
    struct dm_bootstrap    *bootstrap;
    struct dm_doorman      *doormen[WORLD_DOORMEN];
    unsigned                doorman_count;
    struct kl_env_loop     *loop;
    struct kl_bus_reader    readers[WORLD_PARTITIONS];
    struct tsp_record_reader *decoder;
    /* what the log holds */
    unsigned samples, defined;
    char     series[WORLD_SEEN_MAX][160];              /* as name{a=1,b=2}, each time it is defined */
    uint64_t dirty;
};
static struct world w;
static bool     world_lives;                           /* the configuration may change: world_reload */
static uint32_t world_remembered;                      /* series; 0: the doorman's default */

static void world_define(void *ctx, struct kl_span tenant, uint64_t ref, struct kl_fp fp, struct kl_labels l)
{
    struct kl_cur   c = kl_labels_cur(l);
    struct kl_span  name = kl_labels_get(l, kl_span_str("__name__"));
    struct kl_label x;
    char           *out = w.series[w.defined++ % WORLD_SEEN_MAX];
    size_t          n;
    const char     *comma = "";

    (void)ctx, (void)tenant, (void)ref;
    ck_assert_int_eq(kl_fp_cmp(fp, kl_labels_fp(l)), 0);
    n = (size_t)snprintf(out, sizeof w.series[0], "%.*s{", (int)name.size, (const char *)name.at);
    while (kl_labels_next(&c, &x) && n < sizeof w.series[0]) {
        if (kl_span_eq(x.name, kl_span_str("__name__")))
            continue;
        n += (size_t)snprintf(out + n, sizeof w.series[0] - n, "%s%.*s=%.*s", comma, (int)x.name.size,
                              (const char *)x.name.at, (int)x.value.size, (const char *)x.value.at);
        comma = ",";
    }
    if (n < sizeof w.series[0])
        snprintf(out + n, sizeof w.series[0] - n, "}");
}

static void world_floats(void *ctx, struct kl_span tenant, uint64_t ref, const int64_t *times,
                         const double *values, size_t n)
{
    (void)ctx, (void)ref, (void)times, (void)tenant, (void)values;
    w.samples += (unsigned)n;
}

static void world_record(struct kl_bus_reader *r, const struct kl_bus_record *rec)
{
    static const struct tsp_record_sink sink = { .define = world_define, .floats = world_floats };
    struct kl_err e;

    (void)r;
    ck_assert_int_eq(tsp_record_read(w.decoder, rec->bytes, &sink, NULL, &e), KL_OK);
}

static void world_caught_up(struct kl_bus_reader *r, uint64_t seq) { (void)r, (void)seq; }
static void world_broken(struct kl_bus_reader *r, enum kl_code code, uint64_t i, uint64_t f,
                         const struct kl_err *e)
{
    (void)r, (void)code, (void)i, (void)f;
    ck_abort_msg("the log broke: %s", e->text);
}

/* So many doormen, that hear of each other when there are several. */
static void world_start(const char *yaml, unsigned doormen, uint64_t seed)
{
    struct kl_bus_local_options bo = { .partitions = WORLD_PARTITIONS };
    struct dm_options     o;
    struct tsp_placement *p;
    struct kl_err         e;

    memset(&w, 0, sizeof w);
    w.sim = kl_env_sim_new(seed);
    w.env = kl_env_sim_env(w.sim);
    w.disk = kl_env_disk_sim_new();
    w.root = kl_env_disk_sim_root(w.disk);
    w.metrics = kl_metrics_new();
    w.decoder = tsp_record_reader_new();
    world_options();
    ck_assert_msg(kl_config_load(world_table, "test.yml", kl_span_str(yaml), NULL, NULL, &w.config, &e) ==
                  KL_OK, "%s", e.text);
    ck_assert_int_eq(kl_bus_local_open(w.env, w.root, &bo, &w.bus, &e), KL_OK);
    ck_assert_int_eq(dm_placement_parse(NULL, WORLD_PARTITIONS, &p, &e), KL_OK);
    w.bootstrap = dm_bootstrap_new(w.env, w.bus, p, NULL);
    dm_options_read(w.config, &o);
    o.metrics = w.metrics;
    o.remembered_series_max = world_remembered;
    if (world_lives)
        o.live = w.live = kl_env_live_new(w.config);
    if (doormen == 1)
        o.heartbeat_ms = 0;
    w.doorman_count = doormen;
    for (unsigned i = 0; i < doormen; i++)
        w.doormen[i] = dm_new(w.env, w.bus, &o);
    w.loop = w.env->sched->loop_new(w.env->sched, "test", 100);
    kl_env_sim_run(w.sim, 100);
    for (unsigned i = 0; i < WORLD_PARTITIONS; i++) {
        w.readers[i] = (struct kl_bus_reader){ .partition = i, .from_seq = 1, .loop = w.loop,
            .record = world_record, .caught_up = world_caught_up, .broken = world_broken };
        w.bus->read_open(w.bus, &w.readers[i]);
    }
}

static inline void world_stop(void)
{
    w.bus->close(w.bus);
    for (unsigned i = 0; i < w.doorman_count; i++)
        dm_free(w.doormen[i]);
    dm_bootstrap_free(w.bootstrap);
    w.env->sched->loop_free(w.loop);
    w.bus->free(w.bus);
    w.root->leave(w.root);
    kl_env_disk_sim_free(w.disk);
    kl_env_live_free(w.live);
    kl_config_free(w.config);
    kl_metrics_free(w.metrics);
    tsp_record_reader_free(w.decoder);
    kl_env_sim_free(w.sim);
}

/* What the file would say now. */
static inline void world_reload(const char *yaml)
{
    struct kl_config *c;
    struct kl_err     e;

    ck_assert_msg(kl_config_load(world_table, "test.yml", kl_span_str(yaml), NULL, NULL, &c, &e) == KL_OK,
                  "%s", e.text);
    kl_env_live_file(w.live, c);
    kl_config_free(c);
    kl_env_sim_run(w.sim, 1);
}

static void world_done(struct dm_push *p) { p->ctx = &w; }

/* A text push to one of the doormen, under way. */
static void world_begin(struct dm_push *p, unsigned doorman, const char *tenant, const char *text)
{
    *p = (struct dm_push){ .format = DM_TEXT, .body_size = strlen(text),
                           .now_ms = kl_env_now_ms(w.env), .done = world_done };
    snprintf(p->tenant, sizeof p->tenant, "%s", tenant);
    p->body = malloc(p->body_size + 1);
    memcpy(p->body, text, p->body_size);
    dm_push(w.doormen[doorman], 0, p);
}

/* And its answer, awaited. */
static inline struct dm_push world_push(unsigned doorman, const char *tenant, const char *text)
{
    struct dm_push p;

    world_begin(&p, doorman, tenant, text);
    for (int i = 0; i < 500 && p.ctx == NULL; i++)
        kl_env_sim_run(w.sim, 10);
    ck_assert_ptr_nonnull(p.ctx);
    return p;
}

/* Was it ever defined, as "name{a=1}"? */
static inline bool world_has(const char *series)
{
    kl_env_sim_run(w.sim, 50);
    for (unsigned i = 0; i < w.defined && i < WORLD_SEEN_MAX; i++)
        if (strcmp(w.series[i], series) == 0)
            return true;
    return false;
}

/* A line of /metrics, "name{...} " and its number; 0 where there is none. */
static inline double world_metric(const char *line)
{
    struct kl_buf b = { 0 };
    char          want[200];
    const char   *at;
    double        v = 0;

    snprintf(want, sizeof want, "\n%s", line);          /* not the line of HELP */
    kl_metrics_write(w.metrics, &b);
    kl_buf_add8(&b, 0);
    at = strstr(b.at, want);
    if (at != NULL)
        v = atof(at + strlen(want));
    kl_buf_deinit(&b);
    return v;
}
#endif
