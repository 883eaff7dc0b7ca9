/* /query and /query_range; what needs only the text: /format_query, /parse_query. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "querier/api_priv.h"

enum { TEXT_ANSWER_MAX = 64 << 20, EXPLAINED_HERE = 50 };     /* operators, on the loop */
enum stats { STATS_NONE, STATS_SOME, STATS_ALL };

struct ask {                                           /* one /query or /query_range */
    struct qr_query x;
    struct qr_http *h;
    struct kl_http_request *r;
    char *text;
    enum stats stats;
    bool as_text;                                      /* /query_explain?format=text */
    struct kl_env_task task;
    struct qr_pour pour;
    struct pql_cursor cursor;                          /* of what has been poured */
};

static struct ask *ask_of(struct qr_job *j)
{
    return kl_container_of(kl_container_of(j, struct qr_query, job), struct ask, x);
}

static void ask_free(struct ask *a)
{
    qr_query_deinit(&a->x);
    free(a->text);
    free(a);
}

static void release(struct qr_job *j)
{
    ask_free(ask_of(j));
}

static bool gone(struct qr_job *j)
{
    return kl_http_gone(ask_of(j)->r);
}

static void seconds(struct kl_buf *b, const char *name, int64_t ns)
{
    kl_buf_addf(b, "\"%s\":%.9f", name, (double)ns * 1e-9);
}

static void per_step(struct kl_buf *b, const struct qr_query *x, const char *name,
                     const uint64_t *counts)
{
    kl_buf_addf(b, "\"%s\":[", name);
    for (uint32_t i = 0; i < x->result->step_count; i++) {
        kl_buf_adds(b, i > 0 ? ",[" : "[");
        kl_json_ms(b, x->params.start_ms + (int64_t)i * x->params.step_ms);
        kl_buf_addf(b, ",%" PRIu64 "]", counts[i]);
    }
    kl_buf_adds(b, "],");
}

static void stats(const struct ask *a, struct kl_buf *b)
{
    const struct qr_query *x = &a->x;
    int64_t queued = x->job.begun_ns - x->job.submitted_ns;
    int64_t eval = x->fetch_ns + x->decode_ns + x->eval_ns;

    kl_buf_adds(b, ",\"stats\":{\"timings\":{");
    seconds(b, "evalTotalTime", eval);
    kl_buf_add8(b, ',');
    seconds(b, "resultSortTime", 0);
    kl_buf_add8(b, ',');
    seconds(b, "queryPreparationTime", x->parse_ns + x->fetch_ns + x->decode_ns);
    kl_buf_add8(b, ',');
    seconds(b, "innerEvalTime", x->eval_ns);
    kl_buf_add8(b, ',');
    seconds(b, "execQueueTime", queued);
    kl_buf_add8(b, ',');
    seconds(b, "execTotalTime", eval + queued + x->parse_ns);
    kl_buf_addf(b, "},\"samples\":{");
    if (a->stats == STATS_ALL)
        per_step(b, x, "totalQueryableSamplesPerStep", x->result->samples_per_step);
    kl_buf_addf(b, "\"totalQueryableSamples\":%" PRIu64 ",", x->result->samples_total);
    if (a->stats == STATS_ALL)
        per_step(b, x, "samplesReadPerStep", x->result->reads_per_step);
    kl_buf_addf(b, "\"samplesRead\":%" PRIu64 ",\"peakSamples\":%" PRIu64 "}}",
                x->result->samples_read, x->result->samples_peak);
}

/* What comes after the result. */
static void tail(const struct ask *a, struct kl_buf *b)
{
    const struct pql_result *r = a->x.result;
    const char             **warnings;

    if (a->stats != STATS_NONE)
        stats(a, b);
    kl_buf_add8(b, '}');
    if (!r->limited) {
        qr_api_end(b, r->warnings, r->warning_count, r->infos, r->info_count);
        return;
    }
    warnings = kl_new((r->warning_count + 1) * sizeof *warnings);
    for (size_t i = 0; i < r->warning_count; i++)
        warnings[i] = r->warnings[i];
    warnings[r->warning_count] = "results truncated due to limit";
    qr_api_end(b, warnings, r->warning_count + 1, r->infos, r->info_count);
    free(warnings);
}

static bool piece(struct ask *a, size_t bytes, struct kl_buf *b)
{
    if (a->cursor.series == 0 && !a->cursor.begun) {
        qr_api_begin(b);
        kl_buf_add8(b, '{');
    }
    if (pql_result_json_piece(a->x.result, &a->cursor, bytes, b))
        return true;
    tail(a, b);
    return false;
}

static bool pour(struct qr_pour *p, struct kl_buf *out)
{
    return piece(kl_container_of(p, struct ask, pour), QR_POUR_PIECE, out);
}

static void render(struct ask *a)
{
    const struct pql_result *r = a->x.result;
    struct kl_buf            b;

    kl_buf_init(&b, (size_t)a->h->q->o.query_memory_max_bytes * 2);
    if (a->as_text) {
        qr_explain_text(&a->x, &b);
        qr_api_send(a->r, "text/plain; charset=utf-8", &b);
        return;
    }
    if (a->x.explain) {
        qr_api_begin(&b);
        qr_explain_json(&a->x, &b);
        qr_api_end(&b, r->warnings, r->warning_count, r->infos, r->info_count);
    } else {
        piece(a, SIZE_MAX, &b);
    }
    qr_api_send(a->r, "application/json", &b);
}

static void rendered(struct kl_env_task *task)
{
    qr_drop(&kl_container_of(task, struct ask, task)->x.job);
}

static void render_work(struct kl_env_task *task)
{
    struct ask *a = kl_container_of(task, struct ask, task);

    render(a);
    task->run = rendered;
    a->h->env->sched->post(a->x.job.shard->loop, task);
}

/* How large the answer is, about: points, where a native histogram weighs as many as it may print. */
static size_t weight(const struct pql_result *r)
{
    size_t points = r->string.size / 8;

    for (size_t i = 0; i < r->series_count && points < QR_RENDER_WHOLE; i++)
        points += (r->series[i].count > 0 && r->series[i].points[0].hist != NULL ? 50 : 1) *
                  (size_t)r->series[i].count + r->series[i].labels.size / 32;
    return points;
}

static void answer(struct qr_query *x)
{
    struct ask *a = kl_container_of(x, struct ask, x);
    size_t      points;

    if (x->result == NULL) {
        qr_api_error(a->r, x->job.failure.kind, "%s", x->job.failure.text);
        return;
    }
    points = !x->explain ? weight(x->result) : pql_operator_count(x->job.pql) > EXPLAINED_HERE ? QR_RENDER_HERE : 0;
    if (points < QR_RENDER_HERE) {
        render(a);
    } else if (points < QR_RENDER_WHOLE) {
        qr_hold(&x->job);
        a->task.run = render_work;
        a->h->env->sched->work(a->h->env->sched, &a->task);
    } else {
        a->pour.part = pour;
        if (!qr_pour_start(&a->pour, a->h, &x->job, a->r, "application/json"))
            qr_api_error(a->r, PQL_UNAVAILABLE, QR_POURS_MANY);
    }
}

/* What both kinds of query share; NULL: answered. */
static struct ask *ask_new(struct qr_http *h, struct kl_http_request *r)
{
    struct ask *a = kl_new(sizeof *a);

    a->h = h;
    a->r = r;
    qr_query_init(&a->x);
    a->x.answer = answer;
    a->x.job.gone = gone;
    a->x.job.release = release;
    a->x.params.now_ms = kl_env_now_ms(h->env);
    if (!qr_api_limit(r, &a->x.params.result_limit)) {
        ask_free(a);
        return NULL;
    }
    return a;
}

/* max_source_resolution: without it rollups are read where the answer stays the same; a duration: also
 * where it becomes near, of rows up to it; 0: never; auto: up to a fifth of the step. */
static bool source_resolution(struct ask *a)
{
    const char *text = kl_http_param(a->r, "max_source_resolution", 0);
    char        err[300];

    if (text == NULL || text[0] == '\0')
        return true;
    if (strcmp(text, "auto") == 0) {
        a->x.rows_max_ms = a->x.params.step_ms >= 5 ? a->x.params.step_ms / 5 : -1;
        return true;
    }
    if (qr_parse_duration(text, &a->x.rows_max_ms, err, sizeof err) && a->x.rows_max_ms >= 0)
        return true;
    qr_api_error(a->r, PQL_BAD_DATA, "invalid parameter \"max_source_resolution\": neither a duration nor auto: "
                 "\"%.100s\"", text);
    return false;
}

/* The rest of the parameters, in Prometheus' order, then off it goes. */
static void go(struct ask *a)
{
    const char *text = kl_http_param(a->r, "query", 0);
    const char *lookback = kl_http_param(a->r, "lookback_delta", 0);
    const char *level = kl_http_param(a->r, "stats", 0);
    size_t      size = text != NULL ? kl_http_param_size(a->r, "query", 0) : 0;
    char        err[300];

    if (!qr_api_job(a->h, a->r, &a->x.job)) {
        ask_free(a);
        return;
    }
    if (lookback != NULL && lookback[0] != '\0' &&
        !qr_parse_duration(lookback, &a->x.params.lookback_ms, err, sizeof err)) {
        qr_api_error(a->r, PQL_BAD_DATA, "error parsing lookback delta duration: %s", err);
        ask_free(a);
        return;
    }
    if (!source_resolution(a)) {
        ask_free(a);
        return;
    }
    if (level != NULL && level[0] != '\0')
        a->stats = strcmp(level, "all") == 0 ? STATS_ALL : STATS_SOME;
    a->x.params.tally = a->stats != STATS_NONE || a->x.explain;
    a->x.params.samples_per_step = a->stats == STATS_ALL;
    if (size > PQL_TEXT_MAX) {
        qr_api_error(a->r, PQL_BAD_DATA, "invalid parameter \"query\": %zu bytes, at most %d are "
                     "taken", size, PQL_TEXT_MAX);
        ask_free(a);
        return;
    }
    a->text = kl_new(size + 1);
    if (size > 0)
        memcpy(a->text, text, size);
    a->x.params.text = kl_span(a->text, size);
    a->x.job.text = a->x.params.text;
    a->x.job.range_from_ms = a->x.params.start_ms;
    a->x.job.range_to_ms = a->x.params.end_ms;
    a->x.job.step_ms = a->x.params.step_ms;
    qr_submit(a->h->q, &a->x.job);
}

static void go_instant(struct ask *a)
{
    if (!qr_api_time(a->r, "time", a->x.params.now_ms, &a->x.params.start_ms)) {
        ask_free(a);
        return;
    }
    a->x.params.instant = true;
    a->x.params.end_ms = a->x.params.start_ms;
    go(a);
}

static void query(void *ctx, struct kl_http_request *r)
{
    struct ask *a = ask_new(ctx, r);

    if (a != NULL)
        go_instant(a);
}

static bool must_time(struct kl_http_request *r, const char *name, int64_t *ms)
{
    const char *text = kl_http_param(r, name, 0);

    if (text != NULL && qr_parse_time(text, ms))
        return true;
    qr_api_error(r, PQL_BAD_DATA, "invalid parameter \"%s\": cannot parse \"%.300s\" to a valid "
                 "timestamp", name, text == NULL ? "" : text);
    return false;
}

/* start, end, step of a range; false: answered. */
static bool range(struct kl_http_request *r, struct pql_params *p)
{
    const char *step = kl_http_param(r, "step", 0);
    char        err[300];

    if (!must_time(r, "start", &p->start_ms) || !must_time(r, "end", &p->end_ms))
        return false;
    if (p->end_ms < p->start_ms) {
        qr_api_error(r, PQL_BAD_DATA, "invalid parameter \"end\": end timestamp must not be "
                     "before start time");
        return false;
    }
    if (!qr_parse_duration(step == NULL ? "" : step, &p->step_ms, err, sizeof err)) {
        qr_api_error(r, PQL_BAD_DATA, "invalid parameter \"step\": %s", err);
        return false;
    }
    if (p->step_ms <= 0) {
        qr_api_error(r, PQL_BAD_DATA, "invalid parameter \"step\": zero or negative query "
                     "resolution step widths are not accepted. Try a positive integer");
        return false;
    }
    if ((uint64_t)(p->end_ms - p->start_ms) / (uint64_t)p->step_ms > PQL_POINTS_MAX) {
        qr_api_error(r, PQL_BAD_DATA, "exceeded maximum resolution of 11,000 points per "
                     "timeseries. Try decreasing the query resolution (?step=XX)");
        return false;
    }
    return true;
}

static void go_range(struct ask *a)
{
    if (range(a->r, &a->x.params))
        go(a);
    else
        ask_free(a);
}

static void query_range(void *ctx, struct kl_http_request *r)
{
    struct ask *a = ask_new(ctx, r);

    if (a != NULL)
        go_range(a);
}

/* Runs it, and tells of the work instead of the result: over a range where `start` says so. */
static void query_explain(void *ctx, struct kl_http_request *r)
{
    struct ask *a = ask_new(ctx, r);
    const char *format = kl_http_param(r, "format", 0);

    if (a == NULL)
        return;
    a->x.explain = true;
    a->as_text = format != NULL && strcmp(format, "text") == 0;
    if (kl_http_param(r, "start", 0) != NULL)
        go_range(a);
    else
        go_instant(a);
}

/* ---- the text alone ---- */

static bool text_of(struct kl_http_request *r, struct kl_span *text)
{
    const char *at = kl_http_param(r, "query", 0);

    *text = kl_span(at == NULL ? "" : at, at == NULL ? 0 : kl_http_param_size(r, "query", 0));
    if (text->size <= PQL_TEXT_MAX)
        return true;
    qr_api_error(r, PQL_BAD_DATA, "invalid parameter \"query\": %zu bytes, at most %d are taken",
                 text->size, PQL_TEXT_MAX);
    return false;
}

static void format_query(void *ctx, struct kl_http_request *r)
{
    struct kl_span text;
    struct kl_buf  b, formatted;
    struct kl_err  err;

    (void)ctx;
    if (!text_of(r, &text))
        return;
    kl_buf_init(&formatted, TEXT_ANSWER_MAX);
    if (pql_format(text, &formatted, &err) != KL_OK) {
        qr_api_error(r, PQL_BAD_DATA, "invalid parameter \"query\": %s", err.text);
    } else {
        kl_buf_init(&b, TEXT_ANSWER_MAX);
        qr_api_begin(&b);
        kl_json_str(&b, kl_buf_span(&formatted));
        b.over = b.over || formatted.over;
        qr_api_end(&b, NULL, 0, NULL, 0);
        qr_api_send(r, "application/json", &b);
    }
    kl_buf_deinit(&formatted);
}

static void parse_query(void *ctx, struct kl_http_request *r)
{
    struct kl_span text;
    struct kl_buf  b;
    struct kl_err  err;

    (void)ctx;
    if (!text_of(r, &text))
        return;
    kl_buf_init(&b, TEXT_ANSWER_MAX);
    qr_api_begin(&b);
    if (pql_tree_json(text, &b, &err) != KL_OK) {
        qr_api_error(r, PQL_BAD_DATA, "invalid parameter \"query\": %s", err.text);
        kl_buf_deinit(&b);
    } else {
        qr_api_end(&b, NULL, 0, NULL, 0);
        qr_api_send(r, "application/json", &b);
    }
}

void qr_api_query_open(struct qr_http *h)
{
    qr_api_routes(h, "GET,POST", "/query", query);
    qr_api_routes(h, "GET,POST", "/query_range", query_range);
    qr_api_routes(h, "GET,POST", "/query_explain", query_explain);
    qr_api_routes(h, "GET,POST", "/format_query", format_query);
    qr_api_routes(h, "GET,POST", "/parse_query", parse_query);
}
