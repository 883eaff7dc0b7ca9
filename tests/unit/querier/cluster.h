#ifndef TESTS_QUERIER_CLUSTER_H
#define TESTS_QUERIER_CLUSTER_H
/*
 * A querier with everything around it made up: a bus whose owners answer canned pages, a KV in an
 * array, a store over a simulated disk (or the caller's) with real filesets in it. What a test does
 * not set up, answers as an empty partition. Included by one test file at a time, so all is static.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "libblock/manifest.h"
#include "libkoal/env/dir.h"
#include "libkoal/env/env.h"
#include "libtsproto/placement.h"
#include "libtsproto/select.h"
#include "querier/qr_priv.h"

#define UNUSED __attribute__((unused))
enum { PARTS = 8, KEYS = 32, PAGES = 8 };

struct owner {
    struct kl_buf pages[PAGES];
    unsigned page_count, asked, next_page;
    enum kl_code fails;                                /* the next `fail_times` questions */
    unsigned fail_times;
    bool silent;                                       /* answers only when the question times out */
    uint8_t silent_what;                               /* so it does to questions of this kind */
    int64_t slow_ms;                                   /* the owner answers after this; its members at once */
    enum kl_code member_fails;
    unsigned members_asked;                            /* of `asked`, by a member's name */
    unsigned stops, member_stops;                      /* who stopped it by its name; not of `asked` */
    uint64_t last_asker, last_number, stopped_asker, stopped_number;   /* of aggregates: asked for, stopped */
    struct kl_buf by_what[TSP_SEL_PARTIAL + 1];     /* instead of `pages`, for such questions */
    uint8_t last_what;
    uint8_t last_consistency;
    uint64_t last_min_seq;
    char last_tenant[TSP_TENANT_MAX + 1];
};
struct cluster {
    struct kl_env_sim *sim;
    struct kl_env *env;
    struct kl_env_disk_sim *disk;
    struct kl_env_dir *root, *files, *objects;
    struct kl_store *store;
    struct kl_bus bus;
    struct { char key[KL_BUS_KEY_MAX + 1]; struct kl_buf value; uint64_t revision; } kv[KEYS];
    unsigned kv_count, kv_gets;
    uint64_t kv_revision;
    struct kl_bus_watch *watches[8];
    struct owner owners[PARTS];
    unsigned bundle_most;                              /* pages to one answer */
    struct tsp_placement *placement;
    struct qr_options options;
    struct qr_querier *q;
};

/* ---- the bus ---- */

struct later { struct kl_env_task task; struct kl_env_timer timer; void (*run)(void *); void *arg;
               struct kl_env_loop *loop; struct kl_env *env; int64_t after_ms; };

static void later_fire(struct kl_env_timer *t)
{
    struct later *l = kl_container_of(t, struct later, timer);

    l->run(l->arg);
    free(l);
}

static void later_task(struct kl_env_task *t)
{
    struct later *l = kl_container_of(t, struct later, task);

    if (l->after_ms > 0) {
        l->timer.fire = later_fire;
        l->env->sched->arm(l->loop, &l->timer, l->after_ms);
    } else {
        l->run(l->arg);
        free(l);
    }
}

static void later(struct kl_env *env, struct kl_env_loop *loop, int64_t after_ms,
                  void (*run)(void *), void *arg)
{
    struct later *l = kl_new(sizeof *l);

    *l = (struct later){ .task.run = later_task, .run = run, .arg = arg, .loop = loop, .env = env,
                         .after_ms = after_ms };
    env->sched->post(loop, &l->task);
}

static void ask_done(void *arg)
{
    struct kl_bus_ask *op = arg;

    op->done(op);
}

static bool note_stop(struct owner *o, const struct tsp_select *s, struct kl_bus_ask *op, bool member)
{
    if (s->what == TSP_SEL_PARTIAL && !member) {
        o->last_asker = s->push.asker;
        o->last_number = s->push.number;
    }
    if (s->what != TSP_SEL_STOP)
        return false;
    o->stops += !member;
    o->member_stops += member;
    o->stopped_asker = s->push.asker;
    o->stopped_number = s->push.number;
    op->code = KL_OK;
    op->answer = NULL;
    op->answer_size = 0;
    return true;
}

static void note_question(struct owner *o, const struct tsp_select *s)
{
    o->asked++;
    o->last_what = (uint8_t)s->what;
    o->last_consistency = (uint8_t)s->consistency;
    o->last_min_seq = s->min_seq;
    memcpy(o->last_tenant, s->tenant.at, s->tenant.size);
    o->last_tenant[s->tenant.size] = '\0';
}

static void put_page(struct owner *o, struct kl_buf *out)
{
    const struct kl_buf *page = NULL;

    if (o->by_what[o->last_what].size > 0)
        page = &o->by_what[o->last_what];
    else if (o->page_count > 0 && o->last_what == TSP_SEL_SERIES)
        page = &o->pages[o->next_page++ % o->page_count];
    if (page != NULL)
        kl_buf_add(out, page->at, page->size);
    else
        tsp_page_begin(out), tsp_page_end(out, &(struct tsp_page){ .more = false });
}

/* The pages of all that say something, up to `bundle_most` of them: the first is one of them. */
static void put_bundle(struct cluster *c, const struct tsp_select *s, struct kl_buf *out)
{
    struct kl_buf page = { 0 };

    put_page(&c->owners[s->partition], &page);
    if (c->bundle_most == 1) {
        kl_buf_add(out, page.at, page.size);           /* as one who knows no bundles */
        kl_buf_deinit(&page);
        return;
    }
    tsp_bundle_begin(out);
    tsp_bundle_add(out, s->partition, kl_buf_span(&page));
    for (uint32_t i = 0, n = 1; i < s->also_count && n < c->bundle_most; i++) {
        struct owner *o = &c->owners[s->also[i]];

        if (o->silent || o->fail_times > 0)
            continue;
        note_question(o, s);
        kl_buf_reset(&page);
        put_page(o, &page);
        tsp_bundle_add(out, s->also[i], kl_buf_span(&page));
        n++;
    }
    kl_buf_deinit(&page);
}

static void bus_ask(struct kl_bus *b, struct kl_bus_ask *op)
{
    struct cluster    *c = kl_container_of(b, struct cluster, bus);
    char               subject[KL_BUS_SUBJECT_MAX + 1];
    struct tsp_select *s = kl_new(sizeof *s);
    struct kl_arena    arena;
    struct owner      *o;
    int64_t            after_ms;
    bool               member = false;

    kl_arena_init(&arena, 1 << 20);
    ck_assert_msg(tsp_select_decode(op->question, &arena, s, &op->err) == KL_OK, "%s",
                  op->err.text);
    ck_assert_uint_lt(s->partition, PARTS);
    tsp_select_subject(subject, sizeof subject, s->partition);
    o = &c->owners[s->partition];
    if (s->what != TSP_SEL_STOP)
        note_question(o, s);
    if (strcmp(subject, op->subject) != 0) {
        const char *names[TSP_REPLICAS_MAX];

        member = tsp_placement_members(c->placement, s->partition, names, TSP_REPLICAS_MAX) > 1;
        tsp_select_member(subject, sizeof subject, s->partition, names[member]);
        member = member && strcmp(subject, op->subject) == 0;
        o->members_asked += member && s->what != TSP_SEL_STOP;
        tsp_select_member(subject, sizeof subject, s->partition, names[0]);
        ck_assert(member || strcmp(subject, op->subject) == 0);
    }
    op->code = KL_OK;
    after_ms = member ? 0 : o->slow_ms;
    if (note_stop(o, s, op, member)) {
        after_ms = 1;
    } else if ((o->silent || o->silent_what == o->last_what) && !member) {
        op->code = kl_fail(&op->err, KL_ETIMEOUT, "the owner says nothing");
        after_ms = op->timeout_ms;
    } else if (member && o->member_fails != KL_OK) {
        op->code = kl_fail(&op->err, o->member_fails, "a member says no");
    } else if (o->fail_times > 0) {
        o->fail_times -= s->also_count == 0;
        op->code = kl_fail(&op->err, o->fails, "the owner says no");
    } else {
        struct kl_buf answer = { 0 };

        if (s->also_count > 0)
            put_bundle(c, s, &answer);
        else
            put_page(o, &answer);
        op->answer = answer.at;
        op->answer_size = answer.size;
    }
    kl_arena_deinit(&arena);
    free(s);
    later(c->env, op->loop, after_ms, ask_done, op);
}

static void kv_done(void *arg)
{
    struct kl_bus_kv *op = arg;

    op->done(op);
}

static void bus_kv(struct kl_bus *b, struct kl_bus_kv *op)
{
    struct cluster *c = kl_container_of(b, struct cluster, bus);

    ck_assert_int_eq(op->kind, KL_BUS_KV_GET);
    c->kv_gets++;
    op->code = kl_fail(&op->err, KL_ENOENT, "no such key");
    for (unsigned i = 0; i < c->kv_count; i++)
        if (strcmp(c->kv[i].key, op->key) == 0) {
            op->code = KL_OK;
            op->got_size = c->kv[i].value.size;
            op->got = malloc(op->got_size);
            memcpy(op->got, c->kv[i].value.at, op->got_size);
            op->revision = c->kv[i].revision;
        }
    later(c->env, op->loop, 0, kv_done, op);
}

static void watch_begin(void *arg)
{
    struct kl_bus_watch *w = arg;
    struct cluster      *c = w->own;

    for (unsigned i = 0; i < c->kv_count; i++)
        if (strncmp(c->kv[i].key, w->prefix, strlen(w->prefix)) == 0)
            w->change(w, c->kv[i].key, kl_buf_span(&c->kv[i].value), c->kv[i].revision);
    w->current(w);
}

static void bus_watch(struct kl_bus *b, struct kl_bus_watch *w)
{
    struct cluster *c = kl_container_of(b, struct cluster, bus);

    w->own = c;
    later(c->env, w->loop, 0, watch_begin, w);
}

static void bus_unwatch(struct kl_bus *b, struct kl_bus_watch *w)
{
    (void)b;
    (void)w;
}

static bool bus_healthy(struct kl_bus *b, struct kl_err *err)
{
    (void)b;
    (void)err;
    return true;
}

/* ---- setting it up ---- */

static UNUSED void cluster_put(struct cluster *c, const char *key, struct kl_span value)
{
    unsigned i = 0;

    while (i < c->kv_count && strcmp(c->kv[i].key, key) != 0)
        i++;
    ck_assert_uint_lt(i, KEYS);
    c->kv_count += i == c->kv_count;
    snprintf(c->kv[i].key, sizeof c->kv[i].key, "%s", key);
    kl_buf_reset(&c->kv[i].value);
    kl_buf_add(&c->kv[i].value, value.at, value.size);
    c->kv[i].revision = ++c->kv_revision;
}

static UNUSED void cluster_put_placement(struct cluster *c)
{
    struct kl_buf b = { 0 };
    struct kl_err err;

    ck_assert_int_eq(tsp_placement_encode(c->placement, &b, &err), KL_OK);
    cluster_put(c, TSP_PLACEMENT_KEY, kl_buf_span(&b));
    kl_buf_deinit(&b);
}

static UNUSED void cluster_init(struct cluster *c, struct kl_env *real)
{
    struct kl_err err;

    memset(c, 0, sizeof *c);
    if (real == NULL)
        c->sim = kl_env_sim_new(1);
    c->env = real != NULL ? real : kl_env_sim_env(c->sim);
    c->disk = kl_env_disk_sim_new();
    c->root = kl_env_disk_sim_root(c->disk);
    ck_assert_int_eq(c->root->enter(c->root, "files", true, &c->files, &err), KL_OK);
    ck_assert_int_eq(c->root->enter(c->root, "objects", true, &c->objects, &err), KL_OK);
    c->store = kl_store_dir_new(c->objects);
    c->bus = (struct kl_bus){ .ask = bus_ask, .kv = bus_kv, .watch = bus_watch,
                              .unwatch = bus_unwatch, .healthy = bus_healthy, .env = c->env };
    c->placement = tsp_placement_new(PARTS);
    tsp_placement_set_revision(c->placement, 1);
    cluster_put_placement(c);
    c->options.timeout_ms = 10000;
    c->bundle_most = PARTS;
}

/* One owner for all partitions: their questions come together. */
static UNUSED void cluster_one_owner(struct cluster *c)
{
    const char   *name = "one";
    struct kl_err err;

    for (uint32_t p = 0; p < PARTS; p++)
        ck_assert_int_eq(tsp_placement_assign(c->placement, p, &name, 1, &err), KL_OK);
    cluster_put_placement(c);
}

/* Two members for all partitions. */
static UNUSED void cluster_two_members(struct cluster *c)
{
    const char *const names[] = { "one", "two" };
    struct kl_err     err;

    for (uint32_t p = 0; p < PARTS; p++)
        ck_assert_int_eq(tsp_placement_assign(c->placement, p, names, 2, &err), KL_OK);
    cluster_put_placement(c);
}

static UNUSED void cluster_run(struct cluster *c)
{
    kl_env_sim_run(c->sim, 60000);
}

static UNUSED void cluster_start(struct cluster *c)
{
    c->q = qr_new(c->env, &c->bus, c->store, &c->options);
    if (c->sim != NULL)
        kl_env_sim_run(c->sim, 10);
}

static UNUSED void cluster_deinit(struct cluster *c)
{
    qr_free(c->q);
    for (unsigned i = 0; i < PARTS; i++) {
        for (unsigned k = 0; k < PAGES; k++)
            kl_buf_deinit(&c->owners[i].pages[k]);
        for (unsigned k = 0; k <= TSP_SEL_PARTIAL; k++)
            kl_buf_deinit(&c->owners[i].by_what[k]);
    }
    for (unsigned i = 0; i < KEYS; i++)
        kl_buf_deinit(&c->kv[i].value);
    tsp_placement_free(c->placement);
    c->store->close(c->store);
    c->objects->leave(c->objects);
    c->files->leave(c->files);
    c->root->leave(c->root);
    kl_env_disk_sim_free(c->disk);
    if (c->sim != NULL)
        kl_env_sim_free(c->sim);
}

/* ---- series, pages, filesets ---- */

enum { SAMPLES_MAX = 600 };
struct series {
    const char *labels;                                /* "__name__=up,job=a" in canonical order */
    unsigned count;
    int64_t times[SAMPLES_MAX];
    double values[SAMPLES_MAX];
    unsigned chunk;                                    /* samples a chunk; 0: all in one */
};

static UNUSED struct kl_labels labels_of(const char *text, struct kl_buf *out)
{
    struct kl_labels_builder b;
    struct kl_err            err;
    const char              *at = text;

    kl_labels_start(&b);
    while (*at != '\0') {
        const char *eq = strchr(at, '='), *end = strchrnul(eq, ',');

        ck_assert_int_eq(kl_labels_add(&b, kl_span(at, (size_t)(eq - at)),
                                       kl_span(eq + 1, (size_t)(end - eq - 1)), &err), KL_OK);
        at = *end == ',' ? end + 1 : end;
    }
    ck_assert_int_eq(kl_labels_finish(&b, out, &err), KL_OK);
    return (struct kl_labels){ (const uint8_t *)out->at, out->size };
}

/* n samples from `from` every `step`, values base, base+1 ... */
static UNUSED struct series line(const char *labels, int64_t from, int64_t step, unsigned n,
                                 double base)
{
    struct series s = { .labels = labels, .count = n };

    ck_assert_uint_le(n, SAMPLES_MAX);
    for (unsigned i = 0; i < n; i++) {
        s.times[i] = from + (int64_t)i * step;
        s.values[i] = base + i;
    }
    return s;
}

static UNUSED unsigned chunk_size(const struct series *s)
{
    return s->chunk != 0 ? s->chunk : s->count > BLK_CHUNK_MAX ? BLK_CHUNK_MAX : s->count;
}

/* Appends one series to a page: all its chunks, in the order of its samples. */
static UNUSED void page_series(struct kl_buf *page, const struct series *s)
{
    struct kl_buf    canonical = { 0 }, chunk = { 0 };
    struct kl_labels l = labels_of(s->labels, &canonical);
    struct kl_fp     fp = kl_labels_fp(l);
    unsigned         step = chunk_size(s);

    kl_buf_add64(page, fp.hi);
    kl_buf_add64(page, fp.lo);
    kl_buf_addspan(page, kl_span(l.at, l.size));
    kl_buf_addv(page, (s->count + step - 1) / step);
    for (unsigned i = 0; i < s->count; i += step) {
        unsigned n = s->count - i < step ? s->count - i : step;

        kl_buf_reset(&chunk);
        blk_chunk_encode(s->times + i, s->values + i, NULL, n, &chunk);
        kl_buf_addz(page, s->times[i]);
        kl_buf_addv(page, (uint64_t)(s->times[i + n - 1] - s->times[i]));
        kl_buf_addv(page, n);
        kl_buf_add8(page, BLK_FLOATS);
        kl_buf_addspan(page, kl_buf_span(&chunk));
    }
    kl_buf_deinit(&canonical);
    kl_buf_deinit(&chunk);
}

static UNUSED struct kl_fp fp_of(const char *labels)
{
    struct kl_buf b = { 0 };
    struct kl_fp  fp = kl_labels_fp(labels_of(labels, &b));

    kl_buf_deinit(&b);
    return fp;
}

/* The partition's owner will answer this page next, after those given before. Series are sorted. */
static UNUSED void cluster_live(struct cluster *c, uint32_t partition, const struct series *series,
                                size_t count, struct tsp_page head)
{
    struct owner        *o = &c->owners[partition];
    struct kl_buf       *page = &o->pages[o->page_count++];
    const struct series *sorted[64];

    for (size_t i = 0; i < count; i++) {
        size_t at = i;

        for (; at > 0 && kl_fp_cmp(fp_of(sorted[at - 1]->labels), fp_of(series[i].labels)) > 0; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = &series[i];
    }
    tsp_page_begin(page);
    for (size_t i = 0; i < count; i++)
        page_series(page, sorted[i]);
    if (count > 0)
        head.cursor = fp_of(sorted[count - 1]->labels);
    tsp_page_end(page, &head);
}

/* A fileset of one series, in the store; its info as finished. */
static UNUSED struct blk_info cluster_fileset(struct cluster *c, const char *tenant,
                                              uint32_t partition, uint64_t id,
                                              const struct series *s)
{
    struct blk_info      info = { .partition = partition, .id = id, .incarnation = 7,
                                  .first_seq = 1 }, done;
    struct blk_writer   *w;
    struct kl_buf        canonical = { 0 }, bytes[8] = { 0 };
    struct blk_chunk_ref refs[8];
    struct kl_labels     l = labels_of(s->labels, &canonical);
    char                 path[BLK_PATH_MAX + 1];
    unsigned             n = 0, step = chunk_size(s);
    struct kl_err        err;

    snprintf(info.tenant, sizeof info.tenant, "%s", tenant);
    for (unsigned i = 0; i < s->count; i += step, n++) {
        unsigned k = s->count - i < step ? s->count - i : step;

        blk_chunk_encode(s->times + i, s->values + i, NULL, k, &bytes[n]);
        refs[n] = (struct blk_chunk_ref){ kl_buf_span(&bytes[n]), s->times[i],
                                          s->times[i + k - 1], k, BLK_FLOATS };
    }
    ck_assert_msg(blk_writer_open(c->files, &info, &w, &err) == KL_OK, "%s", err.text);
    ck_assert_int_eq(blk_writer_series(w, l, kl_labels_fp(l), refs, n, &err), KL_OK);
    ck_assert_int_eq(blk_writer_metadata(w, kl_span_str("stored"), 1, kl_span_str("seconds"),
                                         kl_span_str("of a fileset"), &err), KL_OK);
    ck_assert_msg(blk_writer_finish(w, &done, &err) == KL_OK, "%s", err.text);
    blk_fileset_path(&done, path);
    ck_assert_msg(blk_fileset_upload(c->files, path, c->store, &err) == KL_OK, "%s", err.text);
    for (unsigned i = 0; i < 8; i++)
        kl_buf_deinit(&bytes[i]);
    kl_buf_deinit(&canonical);
    return done;
}

/* Makes it the catalogue's of its partition. */
static UNUSED void cluster_manifest(struct cluster *c, const struct blk_manifest *m)
{
    struct blk_pointer  p = { .revision = m->revision, .epoch = m->epoch };
    struct kl_buf       b = { 0 };
    char                key[KL_STORE_KEY_MAX + 1];
    struct kl_err       err;

    blk_manifest_encode(m, &b);
    blk_manifest_key(m->partition, m->revision, key);
    ck_assert_int_eq(c->store->put(c->store, key, kl_buf_span(&b), &err), KL_OK);
    p.digest = kl_hash64(b.at, b.size);
    kl_buf_reset(&b);
    blk_pointer_encode(&p, &b);
    blk_pointer_key(m->partition, key, sizeof key);
    cluster_put(c, key, kl_buf_span(&b));
    kl_buf_deinit(&b);
}

static UNUSED void cluster_deleted(struct cluster *c, uint32_t partition, uint64_t revision,
                                   const struct blk_info *infos, size_t count,
                                   struct blk_deletion *const *deletions, size_t deletion_count)
{
    struct blk_manifest m = { .partition = partition, .revision = revision, .epoch = 1,
                              .incarnation = 7 };

    for (size_t i = 0; i < count; i++)
        blk_manifest_add(&m, &infos[i]);
    for (size_t i = 0; i < deletion_count; i++)
        blk_manifest_delete(&m, deletions[i]);         /* its reference */
    cluster_manifest(c, &m);
    blk_manifest_deinit(&m);
}

static UNUSED void cluster_catalogue(struct cluster *c, uint32_t partition, uint64_t revision,
                                     const struct blk_info *infos, size_t count)
{
    cluster_deleted(c, partition, revision, infos, count, NULL, 0);
}

/* Texts (names, values) or label sets, as the owner's answer to all questions of that kind. */
static UNUSED void cluster_texts(struct cluster *c, uint32_t partition, enum tsp_select_what what,
                                 const char *const *texts, size_t count)
{
    struct kl_buf *page = &c->owners[partition].by_what[what], canonical = { 0 };

    tsp_page_begin(page);
    for (size_t i = 0; i < count; i++) {
        if (what == TSP_SEL_LABELS) {
            struct kl_labels l;

            kl_buf_reset(&canonical);
            l = labels_of(texts[i], &canonical);
            kl_buf_add64(page, kl_labels_fp(l).hi);
            kl_buf_add64(page, kl_labels_fp(l).lo);
            kl_buf_addspan(page, kl_span(l.at, l.size));
        } else {
            kl_buf_addspan(page, kl_span_str(texts[i]));
        }
    }
    tsp_page_end(page, &(struct tsp_page){ 0 });
    kl_buf_deinit(&canonical);
}

/* ---- asking ---- */

struct asked {                                         /* one request and what came of it */
    struct qr_names n;
    struct cluster *c;
    unsigned answers;
    bool released, client_gone, loose;                 /* loose: released when it is answered */
    int64_t answered_ms;
};

static UNUSED void asked_answer(struct qr_names *n)
{
    struct asked *a = kl_container_of(n, struct asked, n);

    a->answers++;
    a->answered_ms = kl_env_mono_ns(a->c->env) / 1000000;
    if (!a->loose)
        qr_hold(&n->job);                              /* the test reads it; asked_free lets go */
}

static UNUSED void asked_release(struct qr_job *j)
{
    struct qr_names *n = kl_container_of(j, struct qr_names, job);

    kl_container_of(n, struct asked, n)->released = true;
}

static UNUSED bool asked_gone(struct qr_job *j)
{
    struct qr_names *n = kl_container_of(j, struct qr_names, job);

    return kl_container_of(n, struct asked, n)->client_gone;
}

static UNUSED struct asked *asked_new(struct cluster *c, enum tsp_select_what what,
                                      const char *selector, int64_t from_ms, int64_t to_ms)
{
    struct asked *a = kl_new(sizeof *a);
    struct kl_err err;

    a->c = c;
    a->n.what = what;
    a->n.from_ms = from_ms;
    a->n.to_ms = to_ms;
    qr_names_init(&a->n);
    a->n.answer = asked_answer;
    a->n.job.release = asked_release;
    a->n.job.gone = asked_gone;
    a->n.job.partial = true;
    snprintf(a->n.job.tenant, sizeof a->n.job.tenant, "t1");
    if (selector != NULL)
        ck_assert_msg(qr_names_selector(&a->n, kl_span_str(selector), &err) == KL_OK, "%s",
                      err.text);
    return a;
}

static UNUSED void asked_run(struct asked *a)
{
    qr_submit(a->c->q, &a->n.job);
    cluster_run(a->c);
    ck_assert_uint_eq(a->answers, 1);
}

static UNUSED void asked_free(struct asked *a)
{
    if (!a->loose)
        qr_drop(&a->n.job);
    ck_assert(a->released);
    qr_names_deinit(&a->n);
    free(a);
}

static UNUSED struct asked *get(struct cluster *c, const char *selector, int64_t from_ms,
                                int64_t to_ms)
{
    struct asked *a = asked_new(c, TSP_SEL_SERIES, selector, from_ms, to_ms);

    asked_run(a);
    return a;
}
#endif
