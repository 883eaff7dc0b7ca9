#ifndef TEST_WORLD_H
#define TEST_WORLD_H
/*
 * A small simulated world around an ingestor: virtual time, a disk that crashes, the local bus, a
 * folder as a store, and a writer that speaks the log's language. Everything runs on one thread.
 * read_all asks as a querier does: live pages first, then the filesets of a catalogue as new.
 */
#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ingestor/ingestor.h"
#include "libblock/manifest.h"
#include "libkoal/bus/bus.h"
#include "libkoal/crypt/vault.h"
#include "libkoal/env/env.h"
#include "libkoal/store/store.h"
#include "libtsproto/logmark.h"
#include "libtsproto/placement.h"
#include "libtsproto/record.h"
#include "libtsproto/select.h"

enum { WORLD_WINDOW_MS = 60000, WORLD_CUT_DELAY_MS = 5000 };
enum { WORLD_SERIES_MAX = 64, WORLD_TIMES_MAX = 1 << 16 };

struct world {
    struct kl_env_sim      *sim;
    struct kl_env          *env;
    struct kl_env_disk_sim *disk;
    struct kl_keys         *keys;                      /* NULL: the disk is not encrypted */
    struct kl_env_dir      *root, *bus_dir, *data_dir, *store_dir;
    struct kl_bus          *bus;
    struct kl_store        *store;
    int64_t                 orphans_ms, deletion_ms, local_ms, rollup_ms[2];
    const char             *retention_rules;
    struct kl_store_faults *faults;                    /* NULL: the store is well */
    struct kl_env_loop     *loop;
    struct ing_ingestor    *ing;
    struct kl_metrics      *metrics;
    struct kl_log          *log;
    uint32_t                partitions;
    int64_t                 window_ms, log_keep_ms, fsync_ms;
    uint64_t                memory_max_bytes, spread_series;
    int64_t                 retention_ms, spread_window_ms;
    int                     disk_high, disk_low;
    uint64_t                compact_bytes;             /* 0: any */
    bool                    compacts;                  /* windows into fours, three small ones into one */
    int64_t                 snapshot_ms, stored_ms;    /* 0: no snapshots; none in the store */
    uint64_t                spill_least_bytes;
    struct tsp_incarnation  who;                       /* the writer's */
    uint64_t                counter;
    struct tsp_record_writer *writer;
};

static inline int64_t w_now(struct world *w) { return kl_env_now_ms(w->env); }

/* Steps until *flag, at most a virtual hour. */
static inline bool w_until(struct world *w, const bool *flag)
{
    int64_t until = kl_env_mono_ns(w->env) + INT64_C(3600000000000);

    while (!*flag)
        if (!kl_env_sim_step(w->sim, until))
            return false;
    return true;
}

/* ---- starting and stopping ---- */

struct w_kv { struct kl_bus_kv op; bool done; };
static inline void w_kv_done(struct kl_bus_kv *op) { kl_container_of(op, struct w_kv, op)->done = true; }

static inline void w_place(struct world *w, const char *owner)
{
    struct tsp_placement *t = tsp_placement_new(w->partitions);
    struct kl_buf         b = { 0 };
    struct kl_err         err;
    struct w_kv           kv = { 0 };

    for (uint32_t p = 0; p < w->partitions; p++)
        ck_assert_int_eq(tsp_placement_assign(t, p, &owner, 1, &err), KL_OK);
    tsp_placement_set_revision(t, 1 + (uint64_t)w_now(w));
    ck_assert_int_eq(tsp_placement_encode(t, &b, &err), KL_OK);
    tsp_placement_free(t);
    kv.op = (struct kl_bus_kv){ .kind = KL_BUS_KV_PUT, .key = TSP_PLACEMENT_KEY,
                                .value = kl_buf_span(&b), .expect = UINT64_MAX, .loop = w->loop,
                                .done = w_kv_done };
    w->bus->kv(w->bus, &kv.op);
    ck_assert(w_until(w, &kv.done));
    ck_assert_int_eq(kv.op.code, KL_OK);
    kl_buf_deinit(&b);
}

static inline struct kl_env_dir *w_enter(struct world *w, const char *name)
{
    struct kl_env_dir *d;
    struct kl_err      err = { 0 };

    ck_assert_msg(w->root->enter(w->root, name, true, &d, &err) == KL_OK, "%s", err.text);
    ck_assert_msg(w->root->sync_names(w->root, &err) == KL_OK, "%s", err.text);
    return d;
}

static inline void w_ingestor(struct world *w)
{
    struct ing_options o = { .name = "a", .loops = 2, .partitions = w->partitions,
                             .window_ms = w->window_ms, .cut_delay_ms = WORLD_CUT_DELAY_MS,
                             .log_keep_ms = w->log_keep_ms, .memory_max_bytes = w->memory_max_bytes,
                             .disk_high_percent = w->disk_high, .disk_low_percent = w->disk_low,
                             .retention_ms = w->retention_ms, .compact_files = 3,
                             .orphans_ms = w->orphans_ms, .deletion_ms = w->deletion_ms,
                             .local_retention_ms = w->local_ms,
                             .retention_rules = w->retention_rules,
                             .rollup_ms = { w->rollup_ms[0], w->rollup_ms[1] },
                             .compact_window_ms = 4 * w->window_ms,
                             .compact_bytes_max = !w->compacts ? 0 : w->compact_bytes > 0 ? w->compact_bytes : 1 << 30,
                             .snapshot_ms = w->snapshot_ms, .stored_ms = w->stored_ms,
                             .spill_least_bytes = w->spill_least_bytes,
                             .spread_series = w->spread_series, .census_ms = 1000,
                             .spread_window_ms = w->spread_window_ms,
                             .pushdown_max = 8, .pushdown_memory_max_bytes = 64 << 20,
                             .log = w->log, .metrics = w->metrics };

    w->ing = ing_new(w->env, w->bus, w->data_dir, w->store, &o);
}

/* False: the disk let nothing be opened (a simulated failure was armed). */
static inline bool w_start(struct world *w)
{
    struct kl_bus_local_options o = { .partitions = w->partitions, .fsync_ms = w->fsync_ms,
                                      .segment_bytes = 32 * 1024, .log = w->log };
    struct kl_err err = { 0 };

    w->env = kl_env_sim_env(w->sim);
    w->root = kl_env_disk_sim_root(w->disk);
    if (w->keys != NULL)
        w->root = kl_vault_new(w->root, w->keys);
    w->bus_dir = w_enter(w, "bus");
    w->data_dir = w_enter(w, "data");
    w->store_dir = w_enter(w, "store");
    w->store = kl_store_dir_new(w->store_dir);
    if (w->faults != NULL)
        w->store = kl_store_faulty_new(w->store, w->faults);
    w->loop = w->env->sched->loop_new(w->env->sched, "test", 1000);
    w->metrics = kl_metrics_new();
    ck_assert_msg(kl_bus_local_open(w->env, w->bus_dir, &o, &w->bus, &err) == KL_OK, "%s", err.text);
    w_place(w, "a");
    w_ingestor(w);
    w->env->random->fill(w->env->random, w->who.bytes, sizeof w->who.bytes);
    w->counter = 0;
    return true;
}

static inline void w_leave(struct world *w)
{
    w->store->close(w->store);
    w->store_dir->leave(w->store_dir);
    w->data_dir->leave(w->data_dir);
    w->bus_dir->leave(w->bus_dir);
    w->root->leave(w->root);
    kl_metrics_free(w->metrics);
}

/* The orderly end: the bus first, then what stands on it. */
static inline void w_stop(struct world *w)
{
    w->bus->close(w->bus);
    kl_env_sim_run(w->sim, 2000);
    ing_free(w->ing);
    w->env->sched->loop_free(w->loop);
    w->bus->free(w->bus);
    w_leave(w);
}

/* The process is gone in the middle of whatever it did; `power`: and so is what was not synced.
 * What it had in memory is not freed: a killed process frees nothing. */
static inline void w_crash(struct world *w, bool power, uint64_t seed)
{
    kl_env_sim_kill_all(w->sim);
    if (power)
        kl_env_disk_sim_crash(w->disk, seed);
    else
        kl_env_disk_sim_kill(w->disk);
}

static inline void w_init(struct world *w, uint64_t seed, uint32_t partitions)
{
    *w = (struct world){ .partitions = partitions, .window_ms = WORLD_WINDOW_MS };
    w->sim = kl_env_sim_new(seed);
    w->disk = kl_env_disk_sim_new();
    w->writer = tsp_record_writer_new();
}

static inline void w_deinit(struct world *w)
{
    tsp_record_writer_free(w->writer);
    kl_env_disk_sim_free(w->disk);
    kl_env_sim_free(w->sim);
}

static inline void w_ready(struct world *w)
{
    struct kl_err err = { 0 };

    for (int n = 0; n < 600 && !ing_ready(w->ing, &err); n++)
        kl_env_sim_run(w->sim, 100);
    ck_assert_msg(ing_ready(w->ing, &err), "%s", err.text);
}

/* ---- writing ---- */

/* Series n: http_requests_total{code="<n % 4>", host="h<n>"} and so on, canonical. */
static inline struct kl_fp w_labels(unsigned n, struct kl_buf *out)
{
    static struct kl_labels_builder b;
    char          host[16], code[16], name[32];
    struct kl_err err;
    size_t        before = out->size;

    snprintf(host, sizeof host, "h%u", n);
    snprintf(code, sizeof code, "%u", n % 4);
    snprintf(name, sizeof name, n % 2 ? "requests_total" : "temperature");
    kl_labels_start(&b);
    kl_labels_add(&b, kl_span_str("__name__"), kl_span_str(name), &err);
    kl_labels_add(&b, kl_span_str("code"), kl_span_str(code), &err);
    kl_labels_add(&b, kl_span_str("host"), kl_span_str(host), &err);
    ck_assert_int_eq(kl_labels_finish(&b, out, &err), KL_OK);
    return kl_labels_fp((struct kl_labels){ (const uint8_t *)out->at + before, out->size - before });
}

struct w_append { struct kl_bus_append op; struct kl_buf bytes; bool done; };
static inline void w_append_done(struct kl_bus_append *op)
{
    kl_container_of(op, struct w_append, op)->done = true;
}

static inline void w_define(struct world *w, const char *tenant, unsigned n)
{
    struct kl_buf b = { 0 };
    struct kl_fp  fp = w_labels(n, &b);

    tsp_record_define(w->writer, kl_span_str(tenant), n, fp,
                      (struct kl_labels){ (const uint8_t *)b.at, b.size });
    kl_buf_deinit(&b);
}

/* Sends what the record writer holds; `a` is done when it is acked or refused. */
static inline void w_send(struct world *w, uint32_t partition, struct w_append *a)
{
    struct kl_err err;

    *a = (struct w_append){ 0 };
    ck_assert_int_eq(tsp_record_finish(w->writer, w->who, ++w->counter, &a->bytes, &err), KL_OK);
    tsp_record_start(w->writer);
    a->op = (struct kl_bus_append){ .partition = partition, .record = kl_buf_span(&a->bytes),
                                    .loop = w->loop, .done = w_append_done };
    w->bus->append(w->bus, &a->op);
}

static inline uint64_t w_send_wait(struct world *w, uint32_t partition)
{
    struct w_append a;

    w_send(w, partition, &a);
    ck_assert(w_until(w, &a.done));
    ck_assert_msg(a.op.code == KL_OK, "%s", a.op.err.text);
    kl_buf_deinit(&a.bytes);
    return a.op.seq;
}

/* One sample of series n, with its definition. */
static inline uint64_t w_write(struct world *w, uint32_t partition, const char *tenant, unsigned n,
                               int64_t time_ms, double value)
{
    w_define(w, tenant, n);
    tsp_record_floats(w->writer, kl_span_str(tenant), n, &time_ms, &value, 1);
    return w_send_wait(w, partition);
}

/* A deletion, of `count` matchers. */
static inline uint64_t w_delete(struct world *w, uint32_t partition, const char *tenant,
                                const struct kl_matcher *m, uint32_t count, int64_t from_ms, int64_t to_ms)
{
    struct tsp_deletion d = { .from_ms = from_ms, .to_ms = to_ms, .matcher_count = count };

    memcpy(d.matchers, m, count * sizeof *m);
    tsp_record_delete(w->writer, kl_span_str(tenant), &d);
    return w_send_wait(w, partition);
}

struct w_flush { struct ing_flush f; bool done; };
static inline void w_flush_done(struct ing_flush *f) { kl_container_of(f, struct w_flush, f)->done = true; }

static inline enum kl_code w_flush(struct world *w, uint32_t *filesets, struct kl_err *err)
{
    struct w_flush f = { .f = { .loop = w->loop, .done = w_flush_done } };

    ing_flush(w->ing, &f.f);
    ck_assert(w_until(w, &f.done));
    *err = f.f.err;
    if (filesets != NULL)
        *filesets = f.f.fileset_count;
    return f.f.code;
}

/* ---- reading ---- */

struct w_sample { int64_t time_ms; double value; int64_t start_ms; bool hist; };
struct w_series {
    struct kl_fp fp;
    struct kl_buf labels;
    struct w_sample *at; size_t count, room;           /* rising times */
};
struct w_answer { struct w_series *series; size_t count, room; uint32_t pages; struct tsp_page page; };

static inline void w_answer_free(struct w_answer *a)
{
    for (size_t i = 0; i < a->count; i++) {
        kl_buf_deinit(&a->series[i].labels);
        free(a->series[i].at);
    }
    free(a->series);
    *a = (struct w_answer){ 0 };
}

static inline struct w_series *w_series_of(struct w_answer *a, struct kl_fp fp, struct kl_span labels)
{
    for (size_t i = 0; i < a->count; i++)
        if (kl_fp_cmp(a->series[i].fp, fp) == 0) {
            ck_assert(kl_span_eq(kl_buf_span(&a->series[i].labels), labels));
            return &a->series[i];
        }
    if (a->count == a->room) {
        a->room = a->room == 0 ? 8 : a->room * 2;
        a->series = kl_resize(a->series, a->room * sizeof *a->series);
    }
    a->series[a->count] = (struct w_series){ .fp = fp };
    kl_buf_add(&a->series[a->count].labels, labels.at, labels.size);
    return &a->series[a->count++];
}

/* The later call wins. */
static inline void w_put(struct w_series *s, struct w_sample x)
{
    size_t at = s->count;

    while (at > 0 && s->at[at - 1].time_ms >= x.time_ms)
        at--;
    if (at < s->count && s->at[at].time_ms == x.time_ms) {
        s->at[at] = x;
        return;
    }
    if (s->count == s->room) {
        s->room = s->room == 0 ? 16 : s->room * 2;
        s->at = kl_resize(s->at, s->room * sizeof *s->at);
    }
    memmove(s->at + at + 1, s->at + at, (s->count - at) * sizeof *s->at);
    s->at[at] = x;
    s->count++;
}

static inline void w_chunk(struct w_series *s, struct kl_span bytes, int64_t from_ms, int64_t to_ms)
{
    int64_t               times[BLK_CHUNK_MAX], starts[BLK_CHUNK_MAX];
    double                values[BLK_CHUNK_MAX];
    struct kl_hist        hists[BLK_CHUNK_MAX];
    struct kl_arena       arena;
    struct blk_chunk_head head;
    struct kl_err         err = { 0 };
    uint32_t              count;

    kl_arena_init(&arena, 64 << 20);
    ck_assert_msg(blk_chunk_peek(bytes, &head, &err) == KL_OK, "%s", err.text);
    if (head.kind == BLK_FLOATS)
        ck_assert_msg(blk_chunk_decode(bytes, times, values, starts, &count, &err) == KL_OK, "%s",
                      err.text);
    else
        ck_assert_msg(blk_chunk_decode_hists(bytes, &arena, times, hists, starts, &count, &err) ==
                      KL_OK, "%s", err.text);
    for (uint32_t i = 0; i < count; i++)
        if (times[i] >= from_ms && times[i] <= to_ms)
            w_put(s, (struct w_sample){ times[i], head.kind == BLK_FLOATS ? values[i] : hists[i].sum,
                                        starts[i], head.kind != BLK_FLOATS });
    kl_arena_deinit(&arena);
}

struct w_ask { struct kl_bus_ask op; bool done; };
static inline void w_ask_done(struct kl_bus_ask *op) { kl_container_of(op, struct w_ask, op)->done = true; }

/* One page; the answer is the caller's to free. */
static inline enum kl_code w_ask(struct world *w, const struct tsp_select *s, void **answer,
                                 size_t *size, struct kl_err *err)
{
    struct w_ask  a = { 0 };
    struct kl_buf q = { 0 };

    ck_assert_int_eq(tsp_select_encode(s, &q, err), KL_OK);
    a.op = (struct kl_bus_ask){ .question = kl_buf_span(&q), .timeout_ms = 10000, .loop = w->loop,
                                .done = w_ask_done };
    tsp_select_subject(a.op.subject, sizeof a.op.subject, s->partition);
    w->bus->ask(w->bus, &a.op);
    ck_assert(w_until(w, &a.done));
    kl_buf_deinit(&q);
    *answer = a.op.answer;
    *size = a.op.answer_size;
    *err = a.op.err;
    return a.op.code;
}

static inline enum kl_code w_live(struct world *w, struct tsp_select s, struct w_answer *out,
                                  struct kl_err *err)
{
    uint64_t revision = 0;

    do {
        void         *answer;
        size_t        size;
        struct kl_cur c;

        if (w_ask(w, &s, &answer, &size, err) != KL_OK)
            return err->code;
        ck_assert_msg(tsp_page_open(kl_span(answer, size), &out->page, &c, err) == KL_OK, "%s",
                      err->text);
        out->pages++;
        while (kl_cur_left(&c) > 0) {
            struct kl_fp     fp = { kl_cur_64(&c), 0 };
            struct w_series *x;
            uint64_t         count;

            fp.lo = kl_cur_64(&c);
            x = w_series_of(out, fp, kl_cur_span(&c));
            count = s.what == TSP_SEL_SERIES ? kl_cur_v(&c) : 0;
            for (uint64_t i = 0; i < count; i++) {
                kl_cur_z(&c);
                kl_cur_v(&c);
                kl_cur_v(&c);
                kl_cur_8(&c);
                w_chunk(x, kl_cur_span(&c), s.from_ms, s.to_ms);
            }
            ck_assert(!c.bad);
        }
        free(answer);
        if (out->page.catalogue_revision > revision)
            revision = out->page.catalogue_revision;
        s.has_cursor = true;
        s.cursor_fp = out->page.cursor;
    } while (out->page.more);
    out->page.catalogue_revision = revision;
    return KL_OK;
}

/* The catalogue of a partition as it is now; revision 0 without one. */
static inline void w_catalogue(struct world *w, uint32_t partition, struct blk_manifest *m)
{
    struct w_kv        kv = { .op = { .kind = KL_BUS_KV_GET, .loop = w->loop, .done = w_kv_done } };
    struct blk_pointer at;
    struct kl_err      err = { 0 };
    char               key[KL_STORE_KEY_MAX + 1];
    uint64_t           size;
    void              *bytes;

    *m = (struct blk_manifest){ 0 };
    blk_pointer_key(partition, kv.op.key, sizeof kv.op.key);
    w->bus->kv(w->bus, &kv.op);
    ck_assert(w_until(w, &kv.done));
    if (kv.op.code == KL_ENOENT)
        return;
    ck_assert_msg(kv.op.code == KL_OK, "%s", kv.op.err.text);
    ck_assert_int_eq(blk_pointer_decode(kl_span(kv.op.got, kv.op.got_size), &at, &err), KL_OK);
    free(kv.op.got);
    blk_manifest_key(partition, at.revision, key);
    ck_assert_msg(w->store->head(w->store, key, &size, &err) == KL_OK, "%s", err.text);
    bytes = malloc(size);
    ck_assert_int_eq(w->store->get(w->store, key, 0, bytes, size, &err), KL_OK);
    ck_assert(kl_hash64(bytes, size) == at.digest);
    ck_assert_msg(blk_manifest_decode(kl_span(bytes, size), m, &err) == KL_OK, "%s", err.text);
    free(bytes);
}

/* Every object of the store is one that the catalogues name, as there, gone, or theirs. */
struct w_objects { struct world *w; struct blk_manifest m[16]; unsigned strange; char first[256]; };
static inline void w_object(void *ctx, const char *key, uint64_t size)
{
    struct w_objects *o = ctx;
    char              path[BLK_PATH_MAX + 1];
    const char       *slash = strrchr(key, '/');
    struct blk_info   info;
    struct kl_err     err;
    bool              known = false;

    (void)size;
    if (strncmp(key, "catalogue/snapshots/", 20) == 0) {
        known = true;
    } else if (strncmp(key, "catalogue/", 10) == 0) {
        unsigned p = (unsigned)strtoul(key + 10, NULL, 10);

        known = strtoull(slash + 1, NULL, 10) == o->m[p].revision;
    } else {
        snprintf(path, sizeof path, "%.*s", (int)(slash - key), key);
        ck_assert_int_eq(blk_fileset_path_parse(path, &info, &err), KL_OK);
        known = blk_manifest_find(&o->m[info.partition], &info) < o->m[info.partition].fileset_count;
        for (uint32_t i = 0; i < o->m[info.partition].gone_count; i++)
            known |= strcmp(o->m[info.partition].gone[i].path, path) == 0;
    }
    if (!known && o->strange++ == 0)
        snprintf(o->first, sizeof o->first, "%s", key);
}
static inline void w_objects(struct world *w, struct w_objects *o)
{
    struct kl_err err = { 0 };

    *o = (struct w_objects){ .w = w };
    for (uint32_t p = 0; p < w->partitions; p++)
        w_catalogue(w, p, &o->m[p]);
    ck_assert_msg(w->store->list(w->store, "", w_object, o, &err) == KL_OK, "%s", err.text);
    for (uint32_t p = 0; p < w->partitions; p++)
        blk_manifest_deinit(&o->m[p]);
}

static inline int w_by_id(const void *a, const void *b)
{
    const struct blk_info *x = a, *y = b;

    if (x->incarnation != y->incarnation)
        return x->incarnation < y->incarnation ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* With what deletions hide left out, as a querier does; `raw`: whatever is there. */
static inline void w_stored_as(struct world *w, const struct tsp_select *s, struct w_answer *out, bool raw)
{
    struct blk_hide    *hide = blk_hide_new();
    struct blk_manifest m;
    struct kl_err       err = { 0 };
    char                tenant[BLK_TENANT_MAX + 1];

    snprintf(tenant, sizeof tenant, "%.*s", (int)s->tenant.size, (const char *)s->tenant.at);
    w_catalogue(w, s->partition, &m);
    ck_assert_uint_ge(m.revision, out->page.catalogue_revision);
    if (m.fileset_count > 0)
        qsort(m.filesets, m.fileset_count, sizeof *m.filesets, w_by_id);
    for (uint32_t i = 0; i < m.fileset_count; i++) {
        char                path[BLK_PATH_MAX + 1];
        struct blk_fileset *f;
        struct blk_select  *sel;
        struct blk_selected x;
        enum kl_code        code;

        const struct blk_deletion **concern = kl_resize(NULL, (m.deletion_count + 1) * sizeof *concern);
        struct blk_hidden          *spans = kl_resize(NULL, (m.deletion_count + 1) * sizeof *spans);
        uint32_t                    concern_count = 0;

        if (strcmp(m.filesets[i].tenant, tenant) != 0 || m.filesets[i].resolution_ms != 0) {
            free(concern);
            free(spans);
            continue;
        }
        if (!raw)
            concern_count = blk_manifest_concerning(&m, &m.filesets[i], concern);
        blk_fileset_path(&m.filesets[i], path);
        ck_assert_msg(blk_fileset_open_store(w->store, path, &f, &err) == KL_OK, "%s: %s", path,
                      err.text);
        ck_assert_msg(blk_select_open(f, s->matchers, s->matcher_count, s->from_ms, s->to_ms, true,
                                      &sel, &err) == KL_OK, "%s", err.text);
        while ((code = blk_select_next(sel, &x, &err)) == KL_OK) {
            struct w_series            *to = w_series_of(out, x.fp, kl_span(x.labels.at, x.labels.size));
            const struct blk_chunk_ref *left;
            uint32_t                    n = blk_deletions_hide(concern, concern_count, x.labels, spans), count;

            ck_assert_msg(blk_hide_chunks(hide, spans, n, x.chunks, x.chunk_count, &left, &count, &err) ==
                          KL_OK, "%s", err.text);
            for (uint32_t k = 0; k < count; k++)
                w_chunk(to, left[k].bytes, s->from_ms, s->to_ms);
        }
        ck_assert_msg(code == KL_ENOENT, "%s", err.text);
        blk_select_close(sel);
        blk_fileset_unref(f);
        free(concern);
        free(spans);
    }
    blk_hide_free(hide);
    blk_manifest_deinit(&m);
}
static inline void w_stored(struct world *w, const struct tsp_select *s, struct w_answer *out)
{
    w_stored_as(w, s, out, false);
}

/* Until the catalogue has the deletions of the log up to `seq`. */
static inline void w_deleted(struct world *w, uint32_t partition, uint64_t seq)
{
    for (int n = 0; n < 36000; n++) {
        struct blk_manifest m;
        uint64_t            at;

        w_catalogue(w, partition, &m);
        at = m.deleted_seq;
        blk_manifest_deinit(&m);
        if (at >= seq)
            return;
        kl_env_sim_run(w->sim, 100);
    }
    ck_abort_msg("the catalogue never had the deletion of record %" PRIu64, seq);
}

/* As a querier answers: the live head is asked first, but its samples win. */
static inline enum kl_code w_read_all(struct world *w, struct tsp_select s, struct w_answer *out,
                                      struct kl_err *err)
{
    struct w_answer live = { 0 };

    *out = (struct w_answer){ 0 };
    if (w_live(w, s, &live, err) != KL_OK) {
        w_answer_free(&live);
        return err->code;
    }
    out->page = live.page;
    w_stored(w, &s, out);
    for (size_t i = 0; i < live.count; i++) {
        struct w_series *to = w_series_of(out, live.series[i].fp, kl_buf_span(&live.series[i].labels));

        for (size_t k = 0; k < live.series[i].count; k++)
            w_put(to, live.series[i].at[k]);
    }
    out->pages = live.pages;
    w_answer_free(&live);
    return KL_OK;
}

static inline struct tsp_select w_all(uint32_t partition, const char *tenant)
{
    return (struct tsp_select){ .what = TSP_SEL_SERIES, .partition = partition,
                                .tenant = kl_span_str(tenant), .from_ms = INT64_MIN + 1,
                                .to_ms = INT64_MAX - 1, .consistency = TSP_READ_STRONG,
                                .timeout_ms = 5000 };
}

static inline const struct w_series *w_find(const struct w_answer *a, unsigned n)
{
    struct kl_buf b = { 0 };
    struct kl_fp  fp = w_labels(n, &b);

    kl_buf_deinit(&b);
    for (size_t i = 0; i < a->count; i++)
        if (kl_fp_cmp(a->series[i].fp, fp) == 0)
            return &a->series[i];
    return NULL;
}
static inline const struct w_sample *w_sample_at(const struct w_series *s, int64_t time_ms)
{
    for (size_t i = 0; s != NULL && i < s->count; i++)
        if (s->at[i].time_ms == time_ms)
            return &s->at[i];
    return NULL;
}
#endif
