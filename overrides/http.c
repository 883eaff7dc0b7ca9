/*
 * What operators ask and wish of overrides, below /api/v1/koalemos/:
 *
 *   GET    overrides                      all tenants of whom something is said
 *   GET    overrides?tenant=T             one: what is said, its version, and all that holds for it
 *   POST   overrides?tenant=T             the body (YAML or JSON, as under a tenant in the file) instead of it
 *            merge=true, unset=OPTION...  over it, some taken back; merge=false is as none
 *            expect=N                     only where version N is in force (0: nothing is said): else 409
 *            by=, note=                   who (where no API key says it) and why: in the history
 *   GET    overrides/history?tenant=T     versions, newest first
 *   POST   overrides/rollback?tenant=T&to=N
 *   DELETE overrides?tenant=T             all of it, and its history
 *
 * A handler runs on a server thread and hands its request to the ov's loop.
 */
#include "overrides/ov_priv.h"

#include "libkoal/base/json.h"
#include "libkoal/http/http.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH "/api/v1/koalemos/overrides"
enum { UNSET_MAX = 200, BODY_MAX = 2 * TSP_OVERRIDE_ALL_MAX, OPTION_MAX = 128 };

struct ov_http { struct ov *o; _Atomic unsigned calls; };
struct call {
    struct kl_env_task task;
    struct ov_http *h;
    struct kl_http_request *r;
    void (*run)(struct call *call);
    struct ov_change change;
    struct kl_bus_kv kv;
    char *body;
    char  tenant[KL_TENANT_MAX + 1];
    const char *unset[UNSET_MAX + 1];
};

/* ---- answering ---- */

static void say(struct call *call, unsigned status, struct kl_buf *body)
{
    kl_http_answer_take(call->r, status, "application/json", body);
    atomic_fetch_sub(&call->h->calls, 1);
    free(call->body);
    free(call);
}

static void put_refusal(struct kl_buf *b, const char *type, const char *words)
{
    kl_buf_addf(b, "{\"status\":\"error\",\"errorType\":\"%s\",\"error\":", type);
    kl_json_cstr(b, words);
    kl_buf_adds(b, "}");
}

static void refuse(struct call *call, const struct kl_err *err)
{
    static const struct { enum kl_code code; unsigned status; const char *type; } by_code[] = {
        { KL_EINVAL, 400, "bad_data" }, { KL_ENOENT, 404, "not_found" }, { KL_EEXIST, 409, "conflict" },
        { KL_ELIMIT, 422, "execution" }, { KL_ECORRUPT, 500, "internal" }, { KL_EIO, 500, "internal" },
    };
    struct kl_buf b = { 0 };
    unsigned      status = 503;
    const char   *type = "unavailable";

    for (size_t i = 0; i < sizeof by_code / sizeof by_code[0]; i++)
        if (by_code[i].code == err->code) {
            status = by_code[i].status;
            type = by_code[i].type;
        }
    if (status == 503)
        kl_http_set(call->r, "Retry-After", "1");
    put_refusal(&b, type, err->text);
    say(call, status, &b);
}

static void finish(struct call *call, struct kl_buf *b)
{
    kl_buf_adds(b, "}");
    say(call, 200, b);
}

static void put_str(struct kl_buf *b, const char *name, const void *at, size_t size)
{
    kl_buf_addf(b, "\"%s\":", name);
    kl_json_str(b, kl_span(at, size));
    kl_buf_adds(b, ",");
}

static void put_time(struct kl_buf *b, int64_t ms)
{
    kl_buf_adds(b, "\"time\":");
    kl_json_ms(b, ms);
    kl_buf_adds(b, ",");
}

static void put_entry(const struct ov_entry *e, struct kl_buf *b)
{
    put_str(b, "tenant", e->tenant, e->tenant_size);
    kl_buf_addf(b, "\"version\":%" PRIu64 ",", e->version);
    put_time(b, e->time_ms);
    put_str(b, "by", e->by, e->by_size);
    kl_buf_adds(b, "\"overrides\":");
    kl_buf_add(b, e->all, e->all_size);                /* JSON, as it was checked */
}

/* ---- the questions ---- */

static void get_all(struct call *call)
{
    struct kl_buf b = { 0 };

    kl_buf_adds(&b, "{\"status\":\"success\",\"data\":[");
    for (size_t i = 0; i < call->h->o->count; i++) {
        kl_buf_adds(&b, i > 0 ? ",{" : "{");
        put_entry(&call->h->o->entries[i], &b);
        kl_buf_adds(&b, "}");
    }
    kl_buf_adds(&b, "]");
    finish(call, &b);
}

static void get_one(struct call *call)
{
    struct ov        *o = call->h->o;
    struct kl_config *c = kl_env_live_get(o->options.live);
    struct kl_buf     b = { 0 };
    struct ov_entry  *e;
    char              key[KL_BUS_KEY_MAX + 1];

    tsp_override_key(kl_span_str(call->tenant), key, sizeof key);
    e = ov_find(o, key);
    kl_buf_adds(&b, "{\"status\":\"success\",\"data\":{");
    if (e != NULL) {
        put_entry(e, &b);
    } else {
        put_str(&b, "tenant", call->tenant, strlen(call->tenant));
        kl_buf_adds(&b, "\"version\":0,\"overrides\":{}");
    }
    kl_buf_adds(&b, ",\"effective\":");
    kl_config_json(kl_config_tenant(c, kl_span_str(call->tenant)), true, &b);
    kl_buf_adds(&b, "}");
    kl_config_free(c);
    finish(call, &b);
}

static void on_history(struct kl_bus_kv *op)
{
    struct call        *call = kl_container_of(op, struct call, kv);
    struct tsp_override v = { .count = 0 };
    struct kl_err       err = op->err;
    struct kl_buf       b = { 0 };

    if ((op->code != KL_OK && op->code != KL_ENOENT) ||
        (op->code == KL_OK && tsp_override_read(kl_span(op->got, op->got_size), &v, &err) != KL_OK)) {
        free(op->got);
        err.code = err.code == KL_OK ? op->code : err.code;
        refuse(call, &err);
        return;
    }
    kl_buf_adds(&b, "{\"status\":\"success\",\"data\":{");
    put_str(&b, "tenant", call->tenant, strlen(call->tenant));
    kl_buf_adds(&b, "\"versions\":[");
    for (uint32_t i = 0; i < v.count; i++) {
        const struct tsp_override_version *x = &v.versions[i];

        kl_buf_addf(&b, "%s{\"version\":%" PRIu64 ",", i > 0 ? "," : "", x->number);
        put_time(&b, x->time_ms);
        put_str(&b, "by", x->by.at, x->by.size);
        put_str(&b, "note", x->note.at, x->note.size);
        if (x->of > 0)
            kl_buf_addf(&b, "\"rollbackTo\":%" PRIu64 ",", x->of);
        kl_buf_adds(&b, "\"overrides\":");
        kl_buf_add(&b, x->all.at, x->all.size);
        kl_buf_adds(&b, "}");
    }
    kl_buf_adds(&b, "]}");
    free(op->got);
    finish(call, &b);
}

static void get_history(struct call *call)
{
    call->kv = (struct kl_bus_kv){ .kind = KL_BUS_KV_GET, .loop = call->h->o->loop, .done = on_history };
    tsp_override_key(kl_span_str(call->tenant), call->kv.key, sizeof call->kv.key);
    call->h->o->bus->kv(call->h->o->bus, &call->kv);
}

static void on_changed(struct ov_change *c)
{
    struct call *call = kl_container_of(c, struct call, change);

    if (c->code != KL_OK) {
        c->err.code = c->code;
        refuse(call, &c->err);
        return;
    }
    kl_logf(call->h->o->options.log, KL_INFO, "overrides: of tenant %s there is version %" PRIu64 " now%s%s", c->tenant,
            c->version, c->by[0] != '\0' ? ", by " : "", c->by);
    get_one(call);
}

static void change(struct call *call)
{
    call->change.done = on_changed;
    ov_change(call->h->o, &call->change);
}

/* ---- the way there: on a server thread ---- */

static void run(struct kl_env_task *task)
{
    struct call *call = kl_container_of(task, struct call, task);

    call->run(call);
}

static void answer_now(struct kl_http_request *r, unsigned status, const char *type, const char *words)
{
    struct kl_buf b = { 0 };

    put_refusal(&b, type, words);
    kl_http_answer_take(r, status, "application/json", &b);
}

/* Its tenant is read, where one is given. NULL: answered. */
static struct call *new_call(struct ov_http *h, struct kl_http_request *r, void (*what)(struct call *call))
{
    const char  *tenant = kl_http_param(r, "tenant", 0);
    struct call *call;

    if (tenant != NULL && !kl_tenant_ok(kl_span_str(tenant))) {
        answer_now(r, 400, "bad_data", "tenant: 1 to 150 letters, digits, '.', '_' and '-'");
        return NULL;
    }
    if (atomic_fetch_add(&h->calls, 1) >= OV_CHANGES_MAX) {
        atomic_fetch_sub(&h->calls, 1);
        kl_http_set(r, "Retry-After", "1");
        answer_now(r, 503, "unavailable", "too many such requests at once");
        return NULL;
    }
    call = kl_new(sizeof *call);
    call->task.run = run;
    call->h = h;
    call->r = r;
    call->run = what;
    snprintf(call->tenant, sizeof call->tenant, "%s", tenant != NULL ? tenant : "");
    return call;
}

static void go(struct call *call) { call->h->o->env->sched->post(call->h->o->loop, &call->task); }

static void wrong(struct call *call, const char *words)
{
    struct kl_err err;

    kl_fail(&err, KL_EINVAL, "%s", words);
    refuse(call, &err);
}

static bool number_of(struct kl_http_request *r, const char *name, uint64_t *out)
{
    const char *text = kl_http_param(r, name, 0);
    char       *end;

    if (text == NULL)
        return true;
    if (*text < '0' || *text > '9')
        return false;
    *out = strtoull(text, &end, 10);
    return *end == '\0' && *out < UINT64_MAX;
}

/* Who and why: what does not fit, or would break a line, is refused. */
static bool text_of(struct kl_http_request *r, const char *name, char *out, size_t size)
{
    const char *text = kl_http_param(r, name, 0);

    out[0] = '\0';
    if (text == NULL)
        return true;
    for (const char *c = text; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return false;
    return (size_t)snprintf(out, size, "%s", text) < size;
}

/* What all changes have in common. False: answered. */
static bool read_change(struct call *call, enum ov_kind kind)
{
    struct ov_change *c = &call->change;

    c->kind = kind;
    c->expect = UINT64_MAX;
    strcpy(c->tenant, call->tenant);
    if (call->tenant[0] == '\0')
        wrong(call, "tenant: say of whom");
    else if (!number_of(call->r, "expect", &c->expect) || !number_of(call->r, "to", &c->to))
        wrong(call, "expect and to are numbers of versions");
    else if (!text_of(call->r, "by", c->by, sizeof c->by) || !text_of(call->r, "note", c->note, sizeof c->note))
        wrong(call, "by (100 bytes) or note (300 bytes) is too long, or more than a line");
    else {
        /* A key is who he is, whatever he says. */
        if (kl_http_key(call->r)[0] != '\0')
            snprintf(c->by, sizeof c->by, "key %s", kl_http_key(call->r));
        return true;
    }
    return false;
}

static void at_get(void *ctx, struct kl_http_request *r)
{
    struct call *call = new_call(ctx, r, kl_http_param(r, "tenant", 0) == NULL ? get_all : get_one);

    if (call != NULL)
        go(call);
}

static void at_history(void *ctx, struct kl_http_request *r)
{
    struct call *call = new_call(ctx, r, get_history);

    if (call == NULL)
        return;
    if (call->tenant[0] == '\0')
        wrong(call, "tenant: say of whom");
    else
        go(call);
}

/* Their texts are the request's, and live until it is answered. */
static bool read_unset(struct call *call)
{
    const char *name;
    size_t      i = 0;

    for (; i <= UNSET_MAX && (name = kl_http_param(call->r, "unset", i)) != NULL; i++) {
        if (i == UNSET_MAX || strlen(name) >= OPTION_MAX)
            return false;
        call->unset[i] = name;
    }
    call->change.unset = call->unset;
    return true;
}

static void at_set(void *ctx, struct kl_http_request *r)
{
    const char  *merge = kl_http_param(r, "merge", 0);
    bool         merges = merge != NULL && strcmp(merge, "true") == 0;
    struct call *call = new_call(ctx, r, change);
    size_t       size;

    if (call == NULL || !read_change(call, merges ? OV_MERGE : OV_SET))
        return;
    if (merge != NULL && !merges && strcmp(merge, "false") != 0) {     /* else what was said before is gone */
        wrong(call, "merge is true or false");
        return;
    }
    if (merges ? !read_unset(call) : kl_http_param(r, "unset", 0) != NULL) {
        wrong(call, "unset: names of options, at most 200, with merge=true");
        return;
    }
    kl_http_body_take(r, &call->body, &size);
    call->change.yaml = kl_span(call->body, size);
    go(call);
}

static void at_rollback(void *ctx, struct kl_http_request *r)
{
    struct call *call = new_call(ctx, r, change);

    if (call == NULL || !read_change(call, OV_ROLLBACK))
        return;
    if (call->change.to == 0)
        wrong(call, "to: say which version");
    else
        go(call);
}

static void at_forget(void *ctx, struct kl_http_request *r)
{
    struct call *call = new_call(ctx, r, change);

    if (call != NULL && read_change(call, OV_FORGET))
        go(call);
}

struct ov_http *ov_http_new(struct ov *o, struct kl_http_server *s)
{
    struct ov_http *h = kl_new(sizeof *h);
    const struct kl_http_route routes[] = {
        { "GET", PATH, 0, at_get, h, false },
        { "POST", PATH, BODY_MAX, at_set, h, true },
        { "DELETE", PATH, 0, at_forget, h, false },
        { "GET", PATH "/history", 0, at_history, h, false },
        { "POST", PATH "/rollback", 1024, at_rollback, h, false },
    };

    h->o = o;
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++)
        kl_http_route_add(s, &routes[i]);
    return h;
}

void ov_http_free(struct ov_http *h)
{
    if (h == NULL)
        return;
    assert(atomic_load(&h->calls) == 0);               /* each was answered when the bus closed */
    free(h);
}
