#include "koalemos/reach.h"

#include "koalemos/serve_catalogue.h"
#include "koalemos/tool.h"
#include "libkoal/bus/options.h"
#include "libkoal/crypt/vault.h"
#include "libkoal/http/client.h"
#include "libkoal/store/options.h"
#include "libtsproto/layout.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRIES_MAX = 1000, ANSWER_MAX = 1 << 20 };

/* ---- asking the bus, and waiting ---- */

static void kv_done(struct kl_bus_kv *op)
{
    kl_app_wait_tell(kl_container_of(op, struct reach_question, kv)->wait);
}

static void info_done(struct kl_bus_info *op)
{
    kl_app_wait_tell(kl_container_of(op, struct reach_question, info)->wait);
}

static void begin(struct kl_env_task *task)
{
    struct reach_question *q = kl_container_of(task, struct reach_question, begin);

    if (q->about_log)
        q->bus->info(q->bus, &q->info);
    else
        q->bus->kv(q->bus, &q->kv);
}

/* ---- the same of a server that runs ---- */

static bool keep(void *ctx, struct kl_span bytes)
{
    struct kl_buf *b = ctx;

    kl_buf_add(b, bytes.at, bytes.size);
    return kl_buf_ok(b);
}

static void add_question(const struct reach_question *q, struct kl_buf *form)
{
    char          text[24];
    struct kl_buf hex = { 0 };

    if (q->about_log) {
        snprintf(text, sizeof text, "%" PRIu32, q->info.partition);
        kl_http_form_add(form, "log", kl_span_str(text));
        return;
    }
    kl_http_form_add(form, "key", kl_span_str(q->kv.key));
    if (q->kv.kind != KL_BUS_KV_PUT)
        return;
    snprintf(text, sizeof text, "%" PRIu64, q->kv.expect);
    kl_http_form_add(form, "expect", kl_span_str(text));
    for (size_t i = 0; i < q->kv.value.size; i++)
        kl_buf_addf(&hex, "%02x", ((const uint8_t *)q->kv.value.at)[i]);
    kl_http_form_add(form, "value", kl_buf_span(&hex));
    kl_buf_deinit(&hex);
}

/* Its answer, where it is one: a line of numbers, and of a key the value behind it. */
static bool take_answer(struct reach_question *q, const struct kl_buf *b)
{
    const char *line = memchr(b->at, '\n', b->size);
    char        text[100];
    size_t      n = line != NULL ? (size_t)(line - b->at) : sizeof text;

    if (n >= sizeof text)
        return false;
    memcpy(text, b->at, n);
    text[n] = '\0';
    if (q->about_log)
        return sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64, &q->info.incarnation, &q->info.first_seq,
                      &q->info.last_seq) == 3;
    if (sscanf(text, "%" SCNu64, &q->kv.revision) != 1)
        return false;
    if (q->kv.kind == KL_BUS_KV_GET) {
        q->kv.got_size = b->size - n - 1;
        q->kv.got = kl_resize(NULL, q->kv.got_size + 1);
        memcpy(q->kv.got, line + 1, q->kv.got_size);
    }
    return true;
}

static void ask_server(struct reach *r, struct reach_question *q)
{
    struct kl_buf        form = { 0 }, answer;
    char                 url[2000];
    struct kl_http_asked a = { .url = url, .take = keep, .ctx = &answer };
    struct kl_err        err;
    enum kl_code         code;

    kl_buf_init(&answer, ANSWER_MAX);
    add_question(q, &form);
    a.body = kl_buf_span(&form);
    snprintf(url, sizeof url, "%.*s" SERVE_CATALOGUE_PATH, tool_base(r->server), r->server);
    code = kl_http_client_ask(r->client, &a, &err);
    if (code == KL_OK && a.status == 404 && !q->about_log)
        code = kl_fail(&err, KL_ENOENT, "there is no key %s", q->kv.key);
    else if (code == KL_OK && a.status == 409)
        code = kl_fail(&err, KL_EEXIST, "%s was changed meanwhile", q->kv.key);
    else if (code == KL_OK && (a.status != 200 || !take_answer(q, &answer)))
        code = kl_fail(&err, KL_EIO, "%s answers %u %.300s", a.shown, a.status, a.words);
    *(q->about_log ? &q->info.code : &q->kv.code) = code;
    *(q->about_log ? &q->info.err : &q->kv.err) = err;
    kl_buf_deinit(&form);
    kl_buf_deinit(&answer);
}

void reach_ask(struct reach *r, struct reach_question *q)
{
    if (r->client != NULL) {
        ask_server(r, q);
        return;
    }
    q->begin.run = begin;
    q->bus = r->bus;
    q->wait = kl_app_wait_new();
    q->kv.loop = q->info.loop = r->loop;
    q->kv.done = kv_done;
    q->info.done = info_done;
    r->app->env->sched->post(r->loop, &q->begin);
    kl_app_wait_for(q->wait, INT64_C(86400000));       /* each has a bound of its own */
    kl_app_wait_free(q->wait);
}

/* ---- */

/* Looked at without making anything: in the place of a folder whose name is mistyped nothing is to appear. */
static bool holds_store(const struct reach *r, const char *path, struct kl_err *err)
{
    struct kl_env_dir *data = NULL, *objects = NULL;
    bool               holds = kl_vault_open(path, false, r->app->keys, false, &data, err) == KL_OK &&
                               kl_store_local(r->app->store_key, data, "store", false, &objects, err) == KL_OK;

    if (objects != NULL)
        objects->leave(objects);
    if (data != NULL)
        data->leave(data);
    return holds;
}

static enum kl_code open_local(struct reach *r, const char *path, struct kl_err *err)
{
    struct kl_bus_local_options local;

    if (r->standing && !holds_store(r, path, err))
        return kl_within(err, "data-dir %s", path);
    if (kl_vault_open(path, r->client == NULL, r->app->keys, r->client == NULL, &r->data, err) != KL_OK)
        return kl_within(err, "data-dir %s", path);
    if (r->client == NULL && r->data->lock(r->data, err) != KL_OK)
        return kl_within(err, "data-dir %s, which no server may use meanwhile", path);
    /* What the server is told of must be where it looks. */
    if (r->client != NULL && r->data->lock(r->data, err) == KL_OK)
        return kl_fail(err, KL_EINVAL, "data-dir %s is used by no server: it is not that of %s", path, r->server);
    if (kl_store_local(r->app->store_key, r->data, "store", true, &r->objects, err) != KL_OK)
        return kl_within(err, "data-dir %s", path);
    if (r->client != NULL)
        return KL_OK;
    kl_bus_local_options_read(r->app->config, &local);
    local.log = r->app->log;
    if (kl_bus_local_open(r->app->env, r->data, &local, &r->bus, err) != KL_OK)
        return kl_within(err, "open the log in %s", path);
    return KL_OK;
}

enum kl_code reach_open(struct reach *r, struct kl_app *app, bool writes, struct kl_err *err)
{
    const struct kl_config    *config = app->config;
    const char                *path = kl_config_text(config, "data-dir");
    struct kl_bus_nats_options nats;

    *r = (struct reach){ .app = app, .partitions = (uint32_t)kl_config_int(config, "partitions"),
                         .server = r->server, .token_file = r->token_file, .ca_file = r->ca_file,
                         .standing = r->standing };
    if (r->server != NULL)
        r->client = kl_http_client_new(&(struct kl_http_client_options){ .token_file = r->token_file,
                                                                         .ca_file = r->ca_file });
    if (path != NULL && path[0] != '\0') {
        if (open_local(r, path, err) != KL_OK)
            return err->code;
    } else if (r->client == NULL) {
        kl_bus_nats_options_read(config, &nats);
        nats.service = "koalemos";
        nats.log = app->log;
        if (kl_bus_nats_open(app->env, &nats, &r->bus, err) != KL_OK)
            return err->code;
    }
    if (r->client == NULL)
        r->loop = app->env->sched->loop_new(app->env->sched, "command", 16);
    return kl_store_open(&(struct kl_store_place){ .env = app->env, .config = config,
                                                   .local = r->objects, .keys = app->keys, .store_key = app->store_key, .writes = writes,
                                                   .log = app->log }, &r->store, err);
}

void reach_close(struct reach *r)
{
    if (r->bus != NULL)
        r->bus->close(r->bus);
    if (r->loop != NULL)
        r->app->env->sched->loop_free(r->loop);
    if (r->bus != NULL)
        r->bus->free(r->bus);
    if (r->store != NULL)
        r->store->close(r->store);
    if (r->objects != NULL)
        r->objects->leave(r->objects);
    if (r->data != NULL)
        r->data->leave(r->data);
    kl_http_client_free(r->client);
}

/* ---- placement ---- */

static enum kl_code see(struct reach *r, struct tsp_layout *layout, const char *key, struct kl_err *err)
{
    struct reach_question q = { .kv.kind = KL_BUS_KV_GET };

    memcpy(q.kv.key, key, strlen(key) + 1);
    reach_ask(r, &q);
    if (q.kv.code == KL_ENOENT)
        return KL_OK;
    if (q.kv.code != KL_OK) {
        *err = q.kv.err;
        return kl_within(err, "read %s", key);
    }
    err->code = KL_OK;
    tsp_layout_see(layout, key, kl_span(q.kv.got, q.kv.got_size), q.kv.revision, err);
    free(q.kv.got);
    return err->code == KL_OK ? KL_OK : kl_within(err, "read %s", key);
}

enum kl_code reach_placement(struct reach *r, struct tsp_placement **table, struct kl_err *err)
{
    struct tsp_layout    *layout = tsp_layout_new();
    struct tsp_placement *t = NULL;
    char                  key[KL_BUS_KEY_MAX + 1];
    enum kl_code          code = see(r, layout, TSP_PLACEMENT_KEY, err);

    for (uint32_t i = 0; i < TSP_SPREAD_KEYS && code == KL_OK; i++) {
        tsp_spread_key(i, key, sizeof key);
        code = see(r, layout, key, err);
    }
    if (code == KL_OK)
        t = tsp_layout_table(layout);
    tsp_layout_free(layout);
    if (code != KL_OK)
        return code;
    if (t == NULL)
        t = tsp_placement_new(r->partitions);
    if (tsp_placement_partitions(t) > r->partitions) { /* fewer: it is to be split */
        kl_fail(err, KL_EINVAL, "the cell has %" PRIu32 " partitions, and `partitions` is %" PRIu32,
                tsp_placement_partitions(t), r->partitions);
        tsp_placement_free(t);
        return err->code;
    }
    *table = t;
    return KL_OK;
}

/* ---- the catalogue ---- */

/* The log's incarnation, which a first manifest must have: another would be an alarm. */
static enum kl_code first_manifest(struct reach *r, uint32_t partition, struct blk_manifest *m,
                                   struct kl_err *err)
{
    struct reach_question q = { .about_log = true, .info.partition = partition };

    reach_ask(r, &q);
    if (q.info.code != KL_OK) {
        *err = q.info.err;
        return kl_within(err, "ask for the log's bounds");
    }
    *m = (struct blk_manifest){ .partition = partition, .incarnation = q.info.incarnation,
                                .replay_from = 1 };
    return KL_OK;
}

enum kl_code reach_manifest(struct reach *r, uint32_t partition, struct blk_manifest *m,
                            uint64_t *kv_revision, struct kl_err *err)
{
    struct reach_question q = { .kv.kind = KL_BUS_KV_GET };
    struct blk_pointer    at;

    blk_pointer_key(partition, q.kv.key, sizeof q.kv.key);
    reach_ask(r, &q);
    *kv_revision = q.kv.code == KL_OK ? q.kv.revision : 0;
    if (q.kv.code == KL_ENOENT)
        return first_manifest(r, partition, m, err);
    if (q.kv.code != KL_OK) {
        *err = q.kv.err;
        return kl_within(err, "read the catalogue's pointer");
    }
    err->code = KL_OK;
    blk_pointer_decode(kl_span(q.kv.got, q.kv.got_size), &at, err);
    free(q.kv.got);
    if (err->code != KL_OK)
        return kl_within(err, "the catalogue's pointer");
    return blk_manifest_read(r->store, partition, &at, m, err);
}

static enum kl_code try_commit(struct reach *r, uint32_t partition, uint64_t expect,
                               struct blk_manifest *m, struct kl_err *err)
{
    struct reach_question put = { .kv.kind = KL_BUS_KV_PUT, .kv.expect = expect };
    struct reach_question got = { .kv.kind = KL_BUS_KV_GET };
    struct blk_pointer    at, there;
    struct kl_buf         bytes = { 0 };
    struct kl_err         unheard;
    bool                  ours = false;

    m->revision++;
    if (blk_manifest_put(r->store, m, &at, err) != KL_OK)
        return err->code;
    blk_pointer_encode(&at, &bytes);
    blk_pointer_key(partition, put.kv.key, sizeof put.kv.key);
    put.kv.value = kl_buf_span(&bytes);
    reach_ask(r, &put);
    kl_buf_deinit(&bytes);
    if (put.kv.code == KL_OK)
        return KL_OK;
    /* It may have happened all the same: then what stands there is ours. */
    memcpy(got.kv.key, put.kv.key, sizeof got.kv.key);
    reach_ask(r, &got);
    if (got.kv.code == KL_OK) {
        ours = blk_pointer_decode(kl_span(got.kv.got, got.kv.got_size), &there, &unheard) == KL_OK &&
               there.revision == at.revision && there.digest == at.digest;
        free(got.kv.got);
    }
    *err = put.kv.err;
    return ours ? KL_OK : kl_within(err, "set the catalogue's pointer");
}

enum kl_code reach_commit(struct reach *r, uint32_t partition,
                          enum kl_code (*change)(void *ctx, struct blk_manifest *m, struct kl_err *err),
                          void *ctx, struct kl_err *err)
{
    enum kl_code code = KL_EEXIST;

    for (int n = 0; n < TRIES_MAX && code == KL_EEXIST; n++) {
        struct blk_manifest m = { 0 };
        uint64_t            expect;

        if (reach_manifest(r, partition, &m, &expect, err) != KL_OK)
            return err->code;
        code = change(ctx, &m, err);
        if (code != KL_OK) {
            blk_manifest_deinit(&m);
            return code;
        }
        code = try_commit(r, partition, expect, &m, err);
        blk_manifest_deinit(&m);
    }
    return code == KL_EEXIST ? kl_fail(err, KL_EAGAIN, "others write the catalogue all the time") : code;
}
