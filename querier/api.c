#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "querier/api_priv.h"

static const struct { const char *name; unsigned status; } kinds[] = {
    [PQL_OK] = { "", 200 },
    [PQL_BAD_DATA] = { "bad_data", 400 },
    [PQL_EXECUTION] = { "execution", 422 },
    [PQL_TIMEOUT] = { "timeout", 503 },
    [PQL_CANCELED] = { "canceled", 503 },
    [PQL_UNAVAILABLE] = { "unavailable", 503 },
    [PQL_INTERNAL] = { "internal", 500 },
};

void qr_api_error(struct kl_http_request *r, enum pql_error kind, const char *fmt, ...)
{
    char          text[1400];
    struct kl_buf b;
    va_list       args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    kl_buf_init(&b, 64 * 1024);
    kl_buf_addf(&b, "{\"status\":\"error\",\"errorType\":\"%s\",\"error\":", kinds[kind].name);
    kl_json_cstr(&b, text);
    kl_buf_adds(&b, "}");
    if (kinds[kind].status == 503)
        kl_http_set(r, "Retry-After", "1");
    kl_http_answer_take(r, kinds[kind].status, "application/json", &b);
}

void qr_api_begin(struct kl_buf *b)
{
    kl_buf_adds(b, "{\"status\":\"success\",\"data\":");
}

static void notes(struct kl_buf *b, const char *name, const char *const *texts, size_t count)
{
    if (count == 0)
        return;
    kl_buf_addf(b, ",\"%s\":[", name);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            kl_buf_add8(b, ',');
        kl_json_cstr(b, texts[i]);
    }
    kl_buf_add8(b, ']');
}

void qr_api_end(struct kl_buf *b, const char *const *warnings, size_t warning_count,
                const char *const *infos, size_t info_count)
{
    notes(b, "warnings", warnings, warning_count);
    notes(b, "infos", infos, info_count);
    kl_buf_add8(b, '}');
}

void qr_api_data(struct kl_http_request *r, const char *json)
{
    struct kl_buf b;

    kl_buf_init(&b, 0);                                /* of our own words */
    qr_api_begin(&b);
    kl_buf_adds(&b, json);
    qr_api_end(&b, NULL, 0, NULL, 0);
    kl_http_answer_take(r, 200, "application/json", &b);
}

void qr_api_send(struct kl_http_request *r, const char *type, struct kl_buf *body_take)
{
    if (kl_buf_ok(body_take)) {
        kl_http_answer_take(r, 200, type, body_take);
        return;
    }
    qr_api_error(r, PQL_EXECUTION, "the answer is larger than %zu MiB: ask for less",
                 body_take->cap >> 20);
    kl_buf_deinit(body_take);
}

void qr_json_labels(struct kl_buf *b, struct kl_labels l)
{
    struct kl_cur   c = kl_labels_cur(l);
    struct kl_label x;
    char            comma = '{';

    while (kl_labels_next(&c, &x)) {
        kl_buf_add8(b, (uint8_t)comma);
        comma = ',';
        kl_json_str(b, x.name);
        kl_buf_add8(b, ':');
        kl_json_str(b, x.value);
    }
    if (comma == '{')
        kl_buf_add8(b, '{');
    kl_buf_add8(b, '}');
}

/* Of what was said twice of a partition, the later holds. False: they are too many. */
static bool add_after(struct qr_job *j, uint32_t partition, uint64_t seq)
{
    uint32_t i = 0;

    while (i < j->after_count && j->after[i].partition != partition)
        i++;
    if (i == QR_AFTER_MAX)
        return false;
    if (i == j->after_count) {
        j->after[i].partition = partition;
        j->after[i].seq = 0;
        j->after_count++;
    }
    if (seq > j->after[i].seq)
        j->after[i].seq = seq;
    return true;
}

/* A token as writes are answered with, or several, joined by commas: "3:120,7:88", or "strong". */
static bool parse_after(const char *text, struct qr_job *j)
{
    if (strcmp(text, "strong") == 0) {
        j->strong = true;
        return true;
    }
    while (*text != '\0') {
        char         *end;
        unsigned long partition;

        if (*text < '0' || *text > '9')
            return false;
        partition = strtoul(text, &end, 10);
        if (*end != ':' || end[1] < '0' || end[1] > '9' || partition >= TSP_PARTITIONS_MAX)
            return false;
        if (!add_after(j, (uint32_t)partition, strtoull(end + 1, &end, 10)))
            return false;
        text = *end == ',' ? end + 1 : end;
        if (*end != '\0' && *end != ',')
            return false;
    }
    return true;
}

bool qr_api_job(struct qr_http *h, struct kl_http_request *r, struct qr_job *j)
{
    const char *tenant = kl_http_header(r, "X-Scope-OrgID");
    const char *timeout = kl_http_param(r, "timeout", 0);
    const char *partial = kl_http_param(r, "partial_response", 0);
    const char *consistency = kl_http_param(r, "consistency", 0);
    const char *after = kl_http_header(r, "X-Koalemos-After");
    char        err[300];

    if (tenant == NULL || tenant[0] == '\0')
        tenant = "anonymous";
    if (!qr_tenant_ok(tenant)) {
        qr_api_error(r, PQL_BAD_DATA, "X-Scope-OrgID is no tenant: 1 to %d of A-Z a-z 0-9 _ . -",
                     TSP_TENANT_MAX);
        return false;
    }
    memcpy(j->tenant, tenant, strlen(tenant) + 1);
    snprintf(j->path, sizeof j->path, "%s", kl_http_path(r));
    snprintf(j->request_id, sizeof j->request_id, "%s", kl_http_id(r));
    j->above = *kl_http_trace(r);
    j->strong = h->q->o.strong;
    if (consistency != NULL && consistency[0] != '\0') {
        if (strcmp(consistency, "strong") != 0 && strcmp(consistency, "default") != 0) {
            qr_api_error(r, PQL_BAD_DATA, "invalid parameter \"consistency\": strong or default");
            return false;
        }
        j->strong = j->strong || consistency[0] == 's';
    }
    if (after != NULL && !parse_after(after, j)) {
        qr_api_error(r, PQL_BAD_DATA, "X-Koalemos-After is no token that a write was answered with");
        return false;
    }
    j->partial = partial == NULL || (strcmp(partial, "false") != 0 && strcmp(partial, "0") != 0);
    if (timeout != NULL && timeout[0] != '\0') {
        if (!qr_parse_duration(timeout, &j->timeout_ms, err, sizeof err)) {
            qr_api_error(r, PQL_BAD_DATA, "invalid parameter \"timeout\": %s", err);
            return false;
        }
        if (j->timeout_ms <= 0)
            j->timeout_ms = 1;                         /* none left: it times out at once */
    }
    return true;
}

bool qr_api_time(struct kl_http_request *r, const char *name, int64_t fallback_ms, int64_t *ms)
{
    const char *text = kl_http_param(r, name, 0);

    *ms = fallback_ms;
    if (text == NULL || text[0] == '\0' || qr_parse_time(text, ms))
        return true;
    qr_api_error(r, PQL_BAD_DATA, "invalid parameter \"%s\": invalid time value for '%s': "
                 "cannot parse \"%.300s\" to a valid timestamp", name, name, text);
    return false;
}

bool qr_api_limit(struct kl_http_request *r, uint32_t *limit)
{
    const char *text = kl_http_param(r, "limit", 0);
    char        err[300];

    *limit = 0;
    if (text == NULL || text[0] == '\0' || qr_parse_limit(text, limit, err, sizeof err))
        return true;
    qr_api_error(r, PQL_BAD_DATA, "invalid parameter \"limit\": %s", err);
    return false;
}

/* ---- listings ---- */

void qr_api_nothing(struct qr_listing *l, struct kl_buf *out)
{
    (void)l;
    (void)out;
}

static bool listing_gone(struct qr_job *j)
{
    struct qr_names *n = kl_container_of(j, struct qr_names, job);

    return kl_http_gone(kl_container_of(n, struct qr_listing, names)->r);
}

static void listing_release(struct qr_job *j)
{
    struct qr_names *n = kl_container_of(j, struct qr_names, job);

    qr_listing_free(kl_container_of(n, struct qr_listing, names));
}

/* Items until `out` holds more than `bytes`; false: that was the last piece. */
static bool listing_piece(struct qr_listing *l, size_t bytes, struct kl_buf *out)
{
    if (l->next_item == 0)
        l->render(l, out);
    for (; l->item != NULL && l->next_item < l->names.count; l->next_item++) {
        if (out->size > bytes)
            return true;
        l->item(l, l->next_item, out);
    }
    if (l->tail != NULL)
        l->tail(l, out);
    return false;
}

static bool listing_pour(struct qr_pour *p, struct kl_buf *out)
{
    return listing_piece(kl_container_of(p, struct qr_listing, pour), QR_POUR_PIECE, out);
}

static void listing_render(struct qr_listing *l)
{
    struct kl_buf out;

    kl_buf_init(&out, (size_t)l->h->q->o.query_memory_max_bytes);
    listing_piece(l, SIZE_MAX, &out);
    if (l->over_budget) {
        struct kl_err err;

        qr_over_budget(&l->names.job, &err);
        qr_api_error(l->r, PQL_EXECUTION, "%s", err.text);
        kl_buf_deinit(&out);
        return;
    }
    if (l->content_encoding != NULL && kl_buf_ok(&out))
        kl_http_set(l->r, "Content-Encoding", l->content_encoding);
    qr_api_send(l->r, l->content_type, &out);
}

static void listing_rendered(struct kl_env_task *task)
{
    qr_drop(&kl_container_of(task, struct qr_listing, task)->names.job);
}

static void listing_work(struct kl_env_task *task)
{
    struct qr_listing *l = kl_container_of(task, struct qr_listing, task);

    listing_render(l);
    task->run = listing_rendered;
    l->h->env->sched->post(l->names.job.shard->loop, task);
}

static bool listing_is_large(const struct qr_listing *l)
{
    size_t weight = l->names.count * 10;

    if (l->item == NULL)
        return false;
    for (size_t i = 0; i < l->names.count && l->names.what == TSP_SEL_SERIES; i++)
        weight += l->names.series[i].count;
    return weight > QR_RENDER_WHOLE;
}

/* Too little to write for a hop to a worker and back? */
static bool listing_is_small(const struct qr_names *n)
{
    size_t bytes = 0;

    if (n->what != TSP_SEL_NAMES && n->what != TSP_SEL_VALUES)
        return n->count < QR_RENDER_HERE / 5;
    for (size_t i = 0; i < n->count && i < QR_RENDER_HERE; i++)
        bytes += n->texts[i].size;
    return n->count < QR_RENDER_HERE && bytes < QR_INLINE_BYTES / 2;
}

static void listing_answer(struct qr_names *n)
{
    struct qr_listing *l = kl_container_of(n, struct qr_listing, names);

    if (n->job.failure.kind != PQL_OK) {
        qr_api_error(l->r, n->job.failure.kind, "%s", n->job.failure.text);
        return;
    }
    if (l->decide != NULL)
        l->decide(l);
    if (listing_is_large(l)) {
        l->pour.part = listing_pour;
        if (!qr_pour_start(&l->pour, l->h, &n->job, l->r, l->content_type))
            qr_api_error(l->r, PQL_UNAVAILABLE, QR_POURS_MANY);
    } else if (listing_is_small(n)) {
        listing_render(l);
    } else {
        qr_hold(&n->job);
        l->task.run = listing_work;
        l->h->env->sched->work(l->h->env->sched, &l->task);
    }
}

struct qr_listing *qr_listing_new(struct qr_http *h, struct kl_http_request *r,
                                  enum tsp_select_what what)
{
    struct qr_listing *l = kl_new(sizeof *l);

    l->h = h;
    l->r = r;
    l->content_type = "application/json";
    l->names.what = what;
    l->names.from_ms = INT64_MIN;
    l->names.to_ms = INT64_MAX;
    qr_names_init(&l->names);
    l->names.answer = listing_answer;
    l->names.job.gone = listing_gone;
    l->names.job.release = listing_release;
    if (!qr_api_job(h, r, &l->names.job)) {
        qr_listing_free(l);
        return NULL;
    }
    return l;
}

void qr_listing_free(struct qr_listing *l)
{
    if (l->extra != NULL)
        l->extra_free(l->extra);
    qr_names_deinit(&l->names);
    free(l->label);
    free(l->body);
    free(l);
}

bool qr_listing_select(struct qr_listing *l, const char *name)
{
    struct kl_err err;
    const char   *text;

    for (size_t i = 0; (text = kl_http_param(l->r, name, i)) != NULL; i++)
        if (qr_names_selector(&l->names, kl_span(text, kl_http_param_size(l->r, name, i)),
                              &err) != KL_OK) {
            qr_api_error(l->r, PQL_BAD_DATA, "invalid parameter \"%s\": %s", name, err.text);
            qr_listing_free(l);
            return false;
        }
    return true;
}

bool qr_listing_match(struct qr_listing *l, bool required)
{
    if (!qr_listing_select(l, "match[]"))
        return false;
    if (l->names.selector_count == 0 && required) {
        qr_api_error(l->r, PQL_BAD_DATA, "no match[] parameter provided");
        qr_listing_free(l);
        return false;
    }
    return true;
}

bool qr_listing_metric(struct qr_listing *l)
{
    const char     *text = kl_http_param(l->r, "metric", 0);
    struct kl_span  name = kl_span(text, text != NULL ? kl_http_param_size(l->r, "metric", 0) : 0);
    struct qr_names *n = &l->names;
    bool            room = true;

    if (text == NULL)
        return true;
    name.at = kl_arena_copy(&n->arena, name.at, name.size);
    room = name.at != NULL;
    for (size_t i = 0; i < n->selector_count && room; i++) {
        size_t             count = n->selectors[i].count;
        struct kl_matcher *m = kl_arena_alloc(&n->arena, (count + 1) * sizeof *m);

        if ((room = m != NULL)) {
            memcpy(m, n->selectors[i].matchers, count * sizeof *m);
            m[count] = (struct kl_matcher){ .op = KL_MATCH_EQ, .name = kl_span("__name__", 8), .value = name };
            n->selectors[i].matchers = m;
            n->selectors[i].count++;
        }
    }
    if (room)
        return true;
    qr_api_error(l->r, PQL_BAD_DATA, "match[] and metric are too long");
    qr_listing_free(l);
    return false;
}

bool qr_listing_range(struct qr_listing *l)
{
    if (qr_api_time(l->r, "start", INT64_MIN, &l->names.from_ms) &&
        qr_api_time(l->r, "end", INT64_MAX, &l->names.to_ms))
        return true;
    qr_listing_free(l);
    return false;
}

void qr_listing_go(struct qr_listing *l)
{
    qr_submit(l->h->q, &l->names.job);
}

/* ---- routes ---- */

void qr_api_route(struct qr_http *h, const char *method, const char *path,
                  void (*handle)(void *ctx, struct kl_http_request *r))
{
    struct kl_http_route route = { .method = method, .body_max_bytes = QR_BODY_MAX,
                                   .handle = handle, .ctx = h, .cors = true };

    h->paths = kl_resize(h->paths, (h->path_count + 1) * sizeof *h->paths);
    route.path = h->paths[h->path_count++] = kl_strdup(path);
    kl_http_route_add(h->server, &route);
}

void qr_api_routes(struct qr_http *h, const char *method, const char *suffix,
                   void (*handle)(void *ctx, struct kl_http_request *r))
{
    static const char *const prefixes[] = { "/api/v1", "/prometheus/api/v1" };
    char                     path[200];

    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        snprintf(path, sizeof path, "%s%s", prefixes[i], suffix);
        qr_api_route(h, method, path, handle);
    }
}

struct qr_http *qr_http_new(struct qr_querier *q, struct kl_http_server *s, struct kl_env *env)
{
    struct qr_http *h = kl_new(sizeof *h);

    h->q = q;
    h->env = env;
    h->server = s;
    qr_api_query_open(h);
    qr_api_labels_open(h);
    qr_api_exemplars_open(h);
    qr_api_openapi_open(h);
    qr_api_search_open(h);
    qr_api_features_open(h);
    qr_api_user_open(h);
    qr_api_blocks_open(h);
    qr_api_delete_open(h);
    qr_api_csv_open(h);
    qr_api_export_open(h);
    qr_api_read_open(h);
    qr_api_status_open(h);
    qr_api_tsdb_open(h);
    qr_api_cardinality_open(h);
    qr_api_ledger_open(h);
    qr_api_page_open(h);
    return h;
}

void qr_http_free(struct qr_http *h)
{
    if (h == NULL)
        return;
    for (size_t i = 0; i < h->path_count; i++)
        free(h->paths[i]);
    free(h->paths);
    free(h);
}
