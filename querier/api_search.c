/*
 * /search/{metric_names,label_names,label_values}: Prometheus 3.14's search API. All names or values
 * are fetched, scored on the workers a slice at a time (score.h), and the best or the first are told as
 * lines of JSON: batches, then a trailer that says whether there is more.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "libkoal/base/sorted.h"
#include "querier/api_priv.h"
#include "querier/score.h"

enum { LIMIT_USUAL = 100, LIMIT_MAX = 10 * 1000, BATCH_USUAL = 100, SLICE = 256 };
enum { BACK_MS = 60 * 60 * 1000, STEPS_HERE = 1000 * 1000 };     /* a millisecond or two */
enum order { BY_VALUE, BY_VALUE_DOWN, BY_SCORE };

struct finding {
    struct qr_listing *l;
    struct qr_search   search;
    const char        *field;                          /* "name" or "value" */
    enum order         order;
    int64_t            limit, batch;
    bool               scores_told, metadata;
    double            *scores;                         /* of each text; -1: not found */
    struct qr_fan      fan;
    struct qr_score_room rooms[PQL_WORKERS_MAX];
};

static void finding_free(void *extra)
{
    struct finding *f = extra;

    for (unsigned i = 0; i < PQL_WORKERS_MAX; i++)
        qr_score_room_deinit(&f->rooms[i]);
    qr_search_deinit(&f->search);
    free(f->scores);
    free(f);
}

/* ---- scoring ---- */

static void score_slice(struct qr_fan *fan, size_t item, unsigned worker)
{
    struct finding        *f = kl_container_of(fan, struct finding, fan);
    const struct qr_names *n = &f->l->names;
    size_t                 to = (item + 1) * SLICE < n->count ? (item + 1) * SLICE : n->count;

    for (size_t i = item * SLICE; i < to; i++) {
        if (atomic_load_explicit(&n->job.stop, memory_order_relaxed))
            return;
        f->scores[i] = qr_score(&f->search, n->texts[i], &f->rooms[worker]);
    }
}

static void scored(struct qr_fan *fan)
{
    qr_job_done(fan->job);
}

/* Too little for a hop to a worker and back? Names as they are, yes; values may be of thousands of bytes. */
static bool is_little(const struct finding *f)
{
    const struct qr_names *n = &f->l->names;
    uint64_t               steps = 0;

    for (size_t i = 0; i < n->count && i < SLICE && steps < STEPS_HERE; i++)
        steps += qr_score_steps(&f->search, n->texts[i]);
    return n->count <= SLICE && steps < STEPS_HERE;
}

static void refine(struct qr_names *n)
{
    struct qr_listing *l = kl_container_of(n, struct qr_listing, names);
    struct finding    *f = l->extra;

    f->scores = kl_resize(NULL, (n->count + 1) * sizeof *f->scores);
    f->fan.job = &n->job;
    f->fan.count = (n->count + SLICE - 1) / SLICE;
    f->fan.item = score_slice;
    f->fan.done = scored;
    if (qr_fan_run(&f->fan, is_little(f)))
        scored(&f->fan);
}

/* ---- the answer ---- */

struct found { struct kl_span text; double score; };

static int by_score(const void *a, const void *b)
{
    const struct found *x = a, *y = b;

    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return kl_span_cmp(x->text, y->text);
}

/* All that fit, in the order wanted. */
static struct found *collect(const struct finding *f, size_t *count)
{
    const struct qr_names *n = &f->l->names;
    struct found          *all = kl_resize(NULL, (n->count + 1) * sizeof *all);

    *count = 0;
    for (size_t i = 0; i < n->count; i++) {
        size_t at = f->order == BY_VALUE_DOWN ? n->count - 1 - i : i;

        if (f->scores[at] >= 0)
            all[(*count)++] = (struct found){ n->texts[at], f->scores[at] };
    }
    if (f->order == BY_SCORE)
        qsort(all, *count, sizeof *all, by_score);
    return all;
}

static const struct qr_meta *metadata_of(const struct qr_names *n, struct kl_span metric)
{
    size_t at = KL_FIRST(i, n->meta_count, kl_span_cmp(n->metas[i].metric, metric) >= 0);

    return at < n->meta_count && kl_span_eq(n->metas[at].metric, metric) ? &n->metas[at] : NULL;
}

static void text_field(struct kl_buf *out, const char *name, struct kl_span text)
{
    if (text.size == 0)
        return;
    kl_buf_addf(out, ",\"%s\":", name);
    kl_json_str(out, text);
}

static void record(const struct finding *f, const struct found *x, struct kl_buf *out)
{
    const struct qr_meta *m;

    kl_buf_addf(out, "{\"%s\":", f->field);
    kl_json_str(out, x->text);
    if (f->scores_told) {
        char text[KL_F64_TEXT_MAX];

        kl_buf_adds(out, ",\"score\":");
        kl_buf_add(out, text, kl_f64_text(x->score, text));
    }
    if (f->metadata && (m = metadata_of(&f->l->names, x->text)) != NULL) {
        text_field(out, "type", kl_span_str(qr_type_name(m->type)));
        text_field(out, "help", m->help);
        text_field(out, "unit", m->unit);
    }
    kl_buf_add8(out, '}');
}

static int by_words(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void render(struct qr_listing *l, struct kl_buf *out)
{
    struct finding *f = l->extra;
    struct qr_job  *j = &l->names.job;
    size_t          count, shown;
    struct found   *all = collect(f, &count);

    shown = (int64_t)count < f->limit ? count : (size_t)f->limit;
    qsort(j->warnings, j->warning_count, sizeof j->warnings[0], by_words);
    for (size_t i = 0; i == 0 || i < shown; i += (size_t)f->batch) {
        kl_buf_adds(out, "{\"results\":[");
        for (size_t k = i; k < shown && k - i < (size_t)f->batch; k++) {
            kl_buf_adds(out, k > i ? "," : "");
            record(f, &all[k], out);
        }
        kl_buf_add8(out, ']');
        qr_api_end(out, (const char *const *)j->warnings, i == 0 ? j->warning_count : 0, NULL, 0);
        kl_buf_add8(out, '\n');
    }
    kl_buf_addf(out, "{\"status\":\"success\",\"has_more\":%s}\n", count > shown ? "true" : "false");
    free(all);
}

/* ---- parameters, in Prometheus' order and words ---- */

static bool whole(struct kl_http_request *r, const char *name, int64_t least, int64_t most,
                  const char *words, int64_t *v)
{
    const char *text = kl_http_param(r, name, 0);
    char       *end;
    long long   got;

    if (text == NULL || text[0] == '\0')
        return true;
    got = strtoll(text, &end, 10);
    if ((text[0] == '+' || text[0] == '-' || (text[0] >= '0' && text[0] <= '9')) && *end == '\0' &&
        got >= least && got <= most) {
        *v = got;
        return true;
    }
    qr_api_error(r, PQL_BAD_DATA, "invalid %s \"%.100s\": must be %s", name, text, words);
    return false;
}

static bool truth(struct kl_http_request *r, const char *name, bool *v)
{
    static const char *const yes[] = { "1", "t", "T", "TRUE", "true", "True" };
    static const char *const no[] = { "0", "f", "F", "FALSE", "false", "False" };
    const char              *text = kl_http_param(r, name, 0);

    if (text == NULL || text[0] == '\0')
        return true;
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++)
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *v = strcmp(text, yes[i]) == 0;
            return true;
        }
    qr_api_error(r, PQL_BAD_DATA, "invalid %s \"%.100s\": must be boolean", name, text);
    return false;
}

static bool range(struct qr_listing *l)
{
    struct qr_names *n = &l->names;
    int64_t          now = kl_env_now_ms(l->h->env);

    if (!qr_api_time(l->r, "start", now - BACK_MS, &n->from_ms) ||
        !qr_api_time(l->r, "end", now, &n->to_ms))
        return false;
    if (n->to_ms >= n->from_ms)
        return true;
    qr_api_error(l->r, PQL_BAD_DATA, "end timestamp must not be before start timestamp");
    return false;
}

static bool fuzzing(struct finding *f, struct kl_http_request *r)
{
    const char *alg = kl_http_param(r, "fuzz_alg", 0);
    int64_t     threshold = 0;
    bool        exact = true;

    if (!whole(r, "fuzz_threshold", 0, 100, "0-100", &threshold))
        return false;
    if (alg != NULL && strcmp(alg, "jarowinkler") == 0) {
        f->search.alg = QR_FUZZ_JAROWINKLER;
    } else if (alg != NULL && alg[0] != '\0' && strcmp(alg, "subsequence") != 0) {
        qr_api_error(r, PQL_BAD_DATA, "unsupported fuzz_alg \"%.100s\": must be one of "
                     "[subsequence jarowinkler]", alg);
        return false;
    }
    f->search.threshold = (double)threshold / 100.0;
    if (!truth(r, "case_sensitive", &exact) || !truth(r, "include_score", &f->scores_told))
        return false;
    f->search.fold = !exact;
    return true;
}

static bool ordering(struct finding *f, struct kl_http_request *r, bool any_term)
{
    const char *by = kl_http_param(r, "sort_by", 0), *dir = kl_http_param(r, "sort_dir", 0);

    by = by == NULL ? "" : by;
    dir = dir == NULL ? "" : dir;
    if (dir[0] != '\0' && by[0] == '\0')
        qr_api_error(r, PQL_BAD_DATA, "sort_dir is only valid when sort_by is set");
    else if (dir[0] != '\0' && strcmp(by, "score") == 0)
        qr_api_error(r, PQL_BAD_DATA, "sort_dir is not supported for sort_by=score");
    else if (dir[0] != '\0' && strcmp(dir, "asc") != 0 && strcmp(dir, "dsc") != 0)
        qr_api_error(r, PQL_BAD_DATA, "invalid sort_dir \"%.100s\": must be \"asc\" or \"dsc\"", dir);
    else if (strcmp(by, "score") == 0 && !any_term)
        qr_api_error(r, PQL_BAD_DATA, "sort_by=score requires search[] to be set");
    else if (by[0] != '\0' && strcmp(by, "alpha") != 0 && strcmp(by, "score") != 0)
        qr_api_error(r, PQL_BAD_DATA, "invalid sort_by \"%.100s\" for %s: must be \"alpha\" or "
                     "\"score\"", by, strrchr(kl_http_path(r), '/') + 1);
    else {
        f->order = strcmp(by, "score") == 0 ? BY_SCORE
                   : strcmp(by, "alpha") == 0 && strcmp(dir, "dsc") == 0 ? BY_VALUE_DOWN : BY_VALUE;
        return true;
    }
    return false;
}

static bool bounds(struct finding *f, struct kl_http_request *r)
{
    if (!whole(r, "limit", 1, INT32_MAX, "a positive integer", &f->limit) ||
        !whole(r, "batch_size", 1, INT32_MAX, "a positive integer", &f->batch))
        return false;
    if (f->limit <= LIMIT_MAX)
        return true;
    qr_api_error(r, PQL_BAD_DATA, "limit %" PRId64 " exceeds the configured maximum (%d)", f->limit,
                 LIMIT_MAX);
    return false;
}

static bool terms(struct finding *f, struct kl_http_request *r)
{
    const char   *text;
    struct kl_err err;

    for (size_t i = 0; (text = kl_http_param(r, "search[]", i)) != NULL; i++)
        if (qr_search_term(&f->search, kl_span(text, kl_http_param_size(r, "search[]", i)), &err) !=
            KL_OK) {
            qr_api_error(r, PQL_BAD_DATA, "%s", err.text);
            return false;
        }
    return true;
}

static bool term_count(struct kl_http_request *r)
{
    size_t count = 0;

    while (kl_http_param(r, "search[]", count) != NULL)
        count++;
    if (count <= QR_TERMS_MAX)
        return true;
    qr_api_error(r, PQL_BAD_DATA, "too many search[] terms: got %zu, maximum is %d", count,
                 QR_TERMS_MAX);
    return false;
}

/* NULL: answered. */
static struct finding *begin(struct qr_http *h, struct kl_http_request *r,
                             enum tsp_select_what what, const char *field)
{
    struct qr_listing *l = qr_listing_new(h, r, what);
    struct finding    *f;

    if (l == NULL)
        return NULL;
    f = kl_new(sizeof *f);
    f->l = l;
    f->field = field;
    f->limit = LIMIT_USUAL;
    f->batch = BATCH_USUAL;
    l->extra = f;
    l->extra_free = finding_free;
    l->content_type = "application/x-ndjson; charset=utf-8";
    l->render = render;
    l->names.refine = refine;
    if (!range(l)) {
        qr_listing_free(l);
        return NULL;
    }
    if (!qr_listing_match(l, false))                   /* frees it itself */
        return NULL;
    if (!term_count(r) || !fuzzing(f, r) ||
        !ordering(f, r, kl_http_param(r, "search[]", 0) != NULL) || !bounds(f, r) || !terms(f, r)) {
        qr_listing_free(l);
        return NULL;
    }
    return f;
}

static void metric_names(void *ctx, struct kl_http_request *r)
{
    struct finding *f = begin(ctx, r, TSP_SEL_VALUES, "name");

    if (f == NULL)
        return;
    f->l->names.label = kl_span_str("__name__");
    if (!truth(r, "include_metadata", &f->metadata)) {
        qr_listing_free(f->l);
        return;
    }
    f->l->names.with_metadata = f->metadata;
    qr_listing_go(f->l);
}

static void label_names(void *ctx, struct kl_http_request *r)
{
    struct finding *f = begin(ctx, r, TSP_SEL_NAMES, "name");

    if (f != NULL)
        qr_listing_go(f->l);
}

static void label_values(void *ctx, struct kl_http_request *r)
{
    struct finding *f = begin(ctx, r, TSP_SEL_VALUES, "value");
    const char     *label = kl_http_param(r, "label", 0);

    if (f == NULL)
        return;
    if (label == NULL || label[0] == '\0') {
        qr_api_error(r, PQL_BAD_DATA, "missing required parameter \"label\"");
        qr_listing_free(f->l);
        return;
    }
    f->l->label = kl_strdup(label);
    f->l->names.label = kl_span_str(f->l->label);
    qr_listing_go(f->l);
}

void qr_api_search_open(struct qr_http *h)
{
    qr_api_routes(h, "GET,POST", "/search/metric_names", metric_names);
    qr_api_routes(h, "GET,POST", "/search/label_names", label_names);
    qr_api_routes(h, "GET,POST", "/search/label_values", label_values);
}
